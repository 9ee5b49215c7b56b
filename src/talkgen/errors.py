"""Errors that a user can act on. The command line prints them as one sentence, without a traceback."""

from __future__ import annotations

import errno
from pathlib import Path


class TalkgenError(Exception):
    """Something the user can put right; the message says what is wrong and how to cure it."""


class FileError(TalkgenError):
    """A file that cannot be used.

    Args:
        file: the file, as the user named it (path or URL).
        cause: what is wrong with it, in words, and the cure where one is known.
    """

    def __init__(self, file: str | Path, cause: str) -> None:
        super().__init__(f"{file}: {cause}")
        self.file = str(file)
        self.cause = cause

    def __reduce__(self) -> tuple[type[FileError], tuple[str, str]]:
        """Errors travel between worker processes, so they are rebuilt from both arguments."""
        return type(self), (self.file, self.cause)


class MissingWeights(TalkgenError):
    """A pretrained file that is not here; the message gives its place and the command that gets it."""


class MissingPackage(TalkgenError):
    """An optional dependency that is not installed; the message gives the ``pip install`` line."""


_CURES = {
    errno.ENOSPC: "make room, or choose another disk",
    errno.EDQUOT: "make room, or choose another disk",
    errno.EACCES: "choose a folder of your own, or change its permissions",
    errno.EPERM: "choose a folder of your own, or change its permissions",
    errno.EROFS: "choose a folder that can be written to",
    errno.EEXIST: "choose another name",
    errno.ENOTDIR: "choose another name",
    errno.EISDIR: "give a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
}


def from_os_error(error: OSError) -> TalkgenError | None:
    """What the user can do about a refusal of the operating system; None where that is not known."""
    cure = _CURES.get(error.errno or 0)
    if cure is None:
        return None
    place = f"{error.filename}: " if error.filename else ""
    return TalkgenError(f"{place}{error.strerror}; {cure}")
