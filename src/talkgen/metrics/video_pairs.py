"""Which generated video belongs to which true one: by name, or by a list in the published format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from talkgen.data.corpora.layout import find_videos
from talkgen.errors import FileError, TalkgenError
from talkgen.metrics.video_clips import VideoFile


@dataclass(frozen=True)
class PairedVideos:
    """Attributes:

    files: the clips, in order.
    rows: name of a folder → its video of each clip, None where it has none.
    own_sound: clip for clip, whether the sound is the true video's own (False in cross-driven lists).
    """

    files: Sequence[VideoFile]
    rows: Mapping[str, Sequence[Path | None]]
    own_sound: Sequence[bool]


def pair_by_name(truth: Path, folders: Mapping[str, Path]) -> PairedVideos:
    """Every video below ``truth``, and what is called the same in each folder.

    ``anna/talk.mp4`` is the pair of ``anna/talk.mp4`` (any container), ``anna_talk.mp4``, ``anna.talk.mp4``,
    and of ``talk.mp4`` where no other true video has that name. The first folder is the identity.

    Raises:
        TalkgenError: ``truth`` holds no videos, or a folder none that fits.
    """
    names = find_videos(_folder(truth))
    if not names:
        raise FileError(truth, "holds no videos")
    last = Counter(PurePosixPath(name).stem for name in names)
    rows: dict[str, list[Path | None]] = {}
    for row, folder in folders.items():
        there = by_stem(folder)
        rows[row] = [
            first_of(there, aliases(_stem(name), last[PurePosixPath(name).stem] == 1)) for name in names
        ]
        need_some(row, folder, rows[row], [_stem(name) for name in names])
    files = [VideoFile(_stem(name), truth / name, PurePosixPath(_stem(name)).parts[0]) for name in names]
    return with_some_row(PairedVideos(files, rows, [True] * len(files)))


def pair_by_list(filelist: Path, truth: Path, folders: Mapping[str, Path]) -> PairedVideos:
    """The pairs of a list as Wav2Lip and Diff2Lip publish them: a line ``AUDIO VIDEO``, without ``.mp4``.

    Both are relative to ``truth``. What was made of them is called ``AUDIO_VIDEO.mp4`` in each folder, with
    full stops in the place of slashes, as the published scripts write it.

    Raises:
        FileError: a line is none, or names a file that is not there.
        TalkgenError: a folder has no video of the list.
    """
    if not filelist.is_file():
        raise FileError(filelist, "no such list")
    _folder(truth)
    files: list[VideoFile] = []
    own_sound: list[bool] = []
    for number, line in enumerate(filelist.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise FileError(filelist, f"line {number} is not AUDIO VIDEO: {line[:80]!r}")
        audio, video = (_stem(word) if word.endswith(".mp4") else word for word in words)
        places = [truth / f"{name}.mp4" for name in (audio, video)]
        for place in places:
            if not place.is_file():
                raise FileError(filelist, f"line {number} names {place}, which is not there")
        id_ = f"{audio.replace('/', '.')}_{video.replace('/', '.')}"
        files.append(VideoFile(id_, places[1], PurePosixPath(video).parts[0], places[0]))
        own_sound.append(audio == video)
    if not files:
        raise FileError(filelist, "is empty")
    rows: dict[str, list[Path | None]] = {}
    for row, folder in folders.items():
        there = by_stem(folder)
        rows[row] = [there.get(file.id) for file in files]
        need_some(row, folder, rows[row], [file.id for file in files])
    return with_some_row(PairedVideos(files, rows, own_sound))


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileError(folder, "no such folder")
    return folder


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def by_stem(folder: Path) -> dict[str, Path]:
    """Relative name without its end → file."""
    return {_stem(name): folder / name for name in find_videos(_folder(folder))}


def aliases(stem: str, unique: bool) -> list[str]:
    """Names under which the pair of a clip may lie."""
    flat = [stem, stem.replace("/", "_"), stem.replace("/", ".")]
    return [*flat, PurePosixPath(stem).name] if unique else flat


def first_of(there: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    """The file of the first name that is there."""
    return next((there[name] for name in names if name in there), None)


def need_some(row: str, folder: Path, found: Sequence[Path | None], wanted: Sequence[str]) -> None:
    """Refuse a folder without any of the videos that are wanted."""
    if not any(found):
        raise TalkgenError(
            f"{row}: no video in {folder} is called as one of the ground truth; wanted are {wanted[0]}.mp4"
            + (f" and {len(wanted) - 1} more" if len(wanted) > 1 else "")
        )


def with_some_row(pairs: PairedVideos) -> PairedVideos:
    """Without the clips that no folder has."""
    kept = [n for n in range(len(pairs.files)) if any(row[n] for row in pairs.rows.values())]
    return PairedVideos(
        [pairs.files[n] for n in kept],
        {name: [row[n] for n in kept] for name, row in pairs.rows.items()},
        [pairs.own_sound[n] for n in kept],
    )
