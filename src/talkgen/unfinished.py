"""Names of files that are being written, and what is left of them where a process died in the middle.

A file is written under a hidden name beside its own and renamed when it is complete. The hidden name says
whose it is, so that the next process that writes into the folder can remove what nobody will finish.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import time
from functools import lru_cache
from pathlib import Path

_NAME = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.partial(\.\w+)?")
_ABANDONED_SECONDS = 24 * 3600.0  # of a machine that cannot be asked: a file that nobody wrote to for so long
_swept: set[tuple[int, Path]] = set()


def unfinished_name(file: str | Path, keep_suffix: bool = False) -> Path:
    """A hidden name in the same folder that nothing else uses, to be renamed to ``file`` when it is complete.

    The first call for a folder removes what processes that have died left in it.

    Args:
        file: the name in the end.
        keep_suffix: end in the suffix of ``file``, for writers that choose a format by it.
    """
    file = Path(file)
    if (os.getpid(), file.parent) not in _swept:
        _swept.add((os.getpid(), file.parent))
        sweep(file.parent)
    stem, suffix = (file.stem, file.suffix) if keep_suffix else (file.name, "")
    owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return file.with_name(f".{stem}.{owner}.partial{suffix}")


def sweep(folder: str | Path) -> list[Path]:
    """Remove unfinished files whose process has gone.

    Those of other machines (or containers) that write into the folder stay, until they are a day old.

    Returns:
        What was removed.
    """
    removed = []
    with contextlib.suppress(OSError):  # no such folder, or one that cannot be read: nothing to clean
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if ".partial" in entry.name]
        for name in found:
            file = Path(folder) / name
            if (match := _NAME.fullmatch(name)) and _is_abandoned(file, match):
                with contextlib.suppress(OSError):  # another process was faster, or it is not ours to remove
                    file.unlink()
                    removed.append(file)
    return removed


def _is_abandoned(file: Path, name: re.Match[str]) -> bool:
    if name["machine"] == _machine():
        return not _is_alive(int(name["process"]))
    with contextlib.suppress(OSError):
        return time.time() - file.stat().st_mtime > _ABANDONED_SECONDS
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


@lru_cache(maxsize=1)
def _machine() -> str:
    """Tells apart what has process numbers of its own: machines, their starts, and containers."""
    words = [platform.node()]
    with contextlib.suppress(OSError):  # Linux has these
        words.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        words.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
