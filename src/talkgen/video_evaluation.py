"""Folders of videos, ours or somebody else's, side by side against ground truth."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from talkgen.comparison import compare, listens
from talkgen.configuration import build
from talkgen.data.executors import make_executor
from talkgen.errors import TalkgenError

if TYPE_CHECKING:
    from talkgen.data.executors import Executor
    from talkgen.faces.crop import CropSettings
    from talkgen.metrics.contenders import Contender
    from talkgen.metrics.corpus_pairs import CorpusPairs
    from talkgen.metrics.landmark_source import LandmarkSource
    from talkgen.metrics.table import Table
    from talkgen.metrics.video_clips import VideoClips
    from talkgen.metrics.video_pairs import PairedVideos

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredVideos:
    """What is scored: files, and where they come from."""

    clips: VideoClips
    truth: Path
    crop_name: str | None

    @property
    def corpus(self) -> str:
        """The folder of the truth, and a hash of the clips' names."""
        import hashlib

        names = "\n".join(file.id for file in self.clips.files)
        return f"videos of {self.truth.name} (list {hashlib.sha256(names.encode()).hexdigest()[:12]})"

    @property
    def crop(self) -> str:
        """How the face was cut out."""
        if self.crop_name:
            return f"{self.crop_name}, by the truth's landmarks"
        sizes = sorted({self.clips.frame_size(number)[::-1] for number in range(len(self.clips))})
        listed = ", ".join(f"{width}×{height}" for width, height in sizes[:4])
        return f"whole frames ({listed}{', …' if len(sizes) > 4 else ''})"

    @property
    def codec(self) -> str:
        """Those of the files: every row but the truth's own may have another."""
        from talkgen.video.reader import probe

        codecs = sorted({probe(file.video).codec for file in self.clips.files})
        return f"files as they are (true ones {', '.join(codecs)}), nothing after"


def score_videos(cfg: DictConfig, out: Path) -> Table:
    """One table of folders; see ``videos``, ``truth``, ``filelist`` of ``configs/evaluate.yaml``.

    Raises:
        TalkgenError: a folder, a list or a video is missing or does not fit.
    """
    from talkgen.metrics.contenders import FirstFrame, GroundTruth, OtherSound, Reencoded, VideoRow

    if cfg.truth is None:
        raise TalkgenError("videos are scored against true ones; name their folder with truth=FOLDER")
    folders = _folders(cfg)
    pairs = _limited(_paired(cfg, folders), cfg.clips)
    scored = ScoredVideos(_open_clips(cfg, pairs), Path(cfg.truth), cfg.crop)
    clips = scored.clips
    contenders: list[Contender] = [GroundTruth(), Reencoded(cfg.crf), FirstFrame()]
    if len(clips) > 1 and listens(cfg):
        contenders.insert(2, OtherSound(lambda number, *span: clips.sound(_other(clips, number), *span)))
    contenders += [VideoRow(name, files, pairs.own_sound) for name, files in pairs.rows.items()]
    out.mkdir(parents=True, exist_ok=True)
    executor = make_executor(cfg.executor, cfg.workers, cfg.ray_address)
    if cfg.cache and (cfg.workers > 1 or cfg.executor == "ray"):
        _look_ahead(cfg, pairs, executor)
    title = f"{' and '.join(pairs.rows)} on {len(clips)} videos"
    if cfg.get("protocol"):
        title = f"{cfg.protocol.title}: {title}"
    return compare(
        cfg,
        title,
        contenders,
        scored,
        out,
        _notes(cfg, pairs, clips),
        _people(cfg, clips),
        dict.fromkeys(pairs.rows, "videos"),
    )


def _look_ahead(cfg: DictConfig, pairs: PairedVideos, executor: Executor) -> None:
    """Fill the cache on disk with the features of all clips, by several workers; the table then is cheap.

    A clip that kills its process twice, or raises, is left to the table, which says what is wrong with it.
    """
    from functools import partial

    from omegaconf import OmegaConf
    from tqdm import tqdm

    settings = OmegaConf.to_yaml(cfg, resolve=True)
    work = executor.map(partial(_look_at, settings, pairs), range(len(pairs.files)))
    for number, fault in tqdm(work, total=len(pairs.files), unit="clip", desc="looking ahead"):
        if fault is not None:
            log.warning("%s is left to the table: %s", pairs.files[number].id, fault)


def _look_at(settings: str, pairs: PairedVideos, number: int) -> str | None:
    """Score one clip by all metrics for what it leaves in the cache; what went wrong, if anything."""
    import tempfile

    from omegaconf import OmegaConf

    from talkgen.metrics.contenders import GroundTruth, Reencoded, VideoRow
    from talkgen.metrics.video_pairs import PairedVideos

    cfg = OmegaConf.create(settings)
    assert isinstance(cfg, DictConfig)
    one = PairedVideos(
        [pairs.files[number]],
        {name: [row[number]] for name, row in pairs.rows.items()},
        [pairs.own_sound[number]],
    )
    try:
        scored = ScoredVideos(_open_clips(cfg, one), Path(cfg.truth), cfg.crop)
        rows: list[Contender] = [VideoRow(name, files, one.own_sound) for name, files in one.rows.items()]
        with tempfile.TemporaryDirectory() as folder:
            compare(cfg, "", [GroundTruth(), Reencoded(cfg.crf), *rows], scored, Path(folder))
    except TalkgenError as error:
        return str(error)
    return None


def _folders(cfg: DictConfig) -> dict[str, Path]:
    if isinstance(cfg.videos, str):
        return {Path(cfg.videos).name or "videos": Path(cfg.videos)}
    if not isinstance(cfg.videos, DictConfig) or not cfg.videos:
        raise TalkgenError("give videos=FOLDER, or videos={NAME: FOLDER, NAME: FOLDER}")
    return {str(name): Path(folder) for name, folder in cfg.videos.items()}


def _paired(cfg: DictConfig, folders: Mapping[str, Path]) -> PairedVideos:
    from talkgen.metrics.corpus_pairs import with_rows
    from talkgen.metrics.video_pairs import pair_by_list, pair_by_name

    if cfg.get("protocol"):
        return with_rows(protocol_pairs(cfg), folders)
    if cfg.filelist is None:
        return pair_by_name(Path(cfg.truth), folders)
    return pair_by_list(Path(cfg.filelist), Path(cfg.truth), folders)


def protocol_pairs(cfg: DictConfig) -> CorpusPairs:
    """Which clips drive which, by the protocol of the config on the corpus at ``truth``."""
    from talkgen.metrics.corpus_pairs import CorpusPairs

    node = cfg.protocol
    filelist = None if cfg.filelist is None else Path(cfg.filelist)
    clips = build(node.find_clips)(Path(cfg.truth))
    return CorpusPairs.of(clips, Path(cfg.truth), node.split, node.sound, node.source, filelist)


def write_protocol_jobs(cfg: DictConfig) -> int:
    """``jobs=FILE.csv``: what a method has to generate, as a table for ``talkgen generate batch=FILE.csv``.

    Raises:
        TalkgenError: no protocol or no corpus is named.
    """
    from talkgen.metrics.corpus_pairs import write_jobs

    if not cfg.get("protocol") or cfg.truth is None:
        raise TalkgenError("jobs=FILE.csv needs protocol=NAME and truth=FOLDER of the corpus")
    jobs = write_jobs(Path(cfg.jobs), protocol_pairs(cfg).limited(cfg.clips), cfg.fps)
    print(f"{jobs} videos to make: talkgen generate batch={cfg.jobs}; then videos={Path(cfg.jobs).parent}")
    return 0


def _limited(pairs: PairedVideos, limit: int | None) -> PairedVideos:
    """At most so many clips, spread over the list."""
    from talkgen.metrics.video_pairs import PairedVideos

    count = len(pairs.files)
    if limit is None or limit >= count:
        return pairs
    if limit < 1:
        raise TalkgenError(f"clips={limit}: at least one clip must be scored")
    step = (count - 1) / max(limit - 1, 1)
    kept = sorted({round(place * step) for place in range(limit)})
    return PairedVideos(
        [pairs.files[n] for n in kept],
        {name: [row[n] for n in kept] for name, row in pairs.rows.items()},
        [pairs.own_sound[n] for n in kept],
    )


def _open_clips(cfg: DictConfig, pairs: PairedVideos) -> VideoClips:
    from talkgen.metrics.video_clips import FrameStream, VideoClips

    limits = []
    for number, file in enumerate(pairs.files):
        made = [row[number] for row in pairs.rows.values()]
        lengths = [file.frames(cfg.fps).count]
        lengths += [FrameStream(one, cfg.fps).count for one in made if one is not None]
        limits.append(min(lengths + ([cfg.frames] if cfg.frames else [])))
    crop = _crop(cfg)
    detect = _detector(cfg) if crop else None
    return VideoClips(pairs.files, limits, cfg.fps, cfg.height, crop, detect)


def _crop(cfg: DictConfig) -> CropSettings | None:
    from talkgen.faces.crop import CROPS

    if cfg.crop is None:
        return None
    if cfg.crop not in CROPS:
        raise TalkgenError(f"crop={cfg.crop}: there are {', '.join(CROPS)}, or null for whole frames")
    settings = CROPS[cfg.crop]
    return replace(settings, size=cfg.height or settings.size)


def _detector(cfg: DictConfig) -> LandmarkSource:
    """For what cannot be done without one.

    Raises:
        TalkgenError: its weights are missing.
    """
    from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source

    source = open_landmark_source(cfg.landmarks)
    if not isinstance(source, LandmarkSource):
        raise source
    return source


def _other(clips: VideoClips, number: int) -> int:
    """The next clip, of another person if there is one."""
    later = [(number + step) % len(clips) for step in range(1, len(clips))]
    strangers = [one for one in later if clips.files[one].identity != clips.files[number].identity]
    return next(iter([*strangers, *later]), number)


def _people(cfg: DictConfig, clips: VideoClips) -> dict[str, Any]:
    """A picture of everyone: the middle frame of the first true video of each."""
    import numpy as np

    from talkgen.metrics.identity_source import warps_of
    from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source

    source = open_landmark_source(cfg.landmarks)
    if not isinstance(source, LandmarkSource):
        return {}
    people: dict[str, Any] = {}
    for number, file in enumerate(clips.files):
        if file.identity not in people:
            middle = clips.frame_count(number) // 2
            frame = clips.frames(number, middle, middle + 1)
            warp = warps_of(source(frame))
            if np.isfinite(warp).all():
                people[file.identity] = frame, warp
    return people


def _notes(cfg: DictConfig, pairs: PairedVideos, clips: VideoClips) -> list[str]:
    from talkgen.metrics.video_clips import FrameStream

    notes = []
    people = len({file.identity for file in pairs.files})
    notes.append(
        f"Identity: gallery of {people} people (a folder or a file each), the middle frame of a true "
        f"video of each; chance {100 / people:.1f} %. One frame in {cfg.recognise_every} was looked at."
    )
    lengths = {
        name: [FrameStream(file, cfg.fps).count for file in row if file is not None]
        for name, row in pairs.rows.items()
    }
    for name, row in pairs.rows.items():
        missing = [file.id for file, there in zip(pairs.files, row, strict=True) if there is None]
        if missing:
            notes.append(f"{name} lacks {len(missing)} of {len(row)} videos, among them {missing[0]}.")
        true = [
            file.frames(cfg.fps).count
            for file, there in zip(pairs.files, row, strict=True)
            if there is not None
        ]
        off = max(abs(a - b) for a, b in zip(lengths[name], true, strict=True))
        if off > 1:
            notes.append(
                f"{name}: lengths differ from the truth by up to {off} frames; the rest is not seen."
            )
    if any(file.wanted for file in pairs.files):
        notes.append(
            "Faces are swapped: identity columns ask for the source, and every other column takes the "
            "target's frames for true, as the paper does."
        )
    if not all(pairs.own_sound):
        strangers = len(pairs.own_sound) - sum(pairs.own_sound)
        notes.append(
            f"In {strangers} of {len(clips)} pairs the sound is another video's: these have no true frames, "
            "and only columns that need none count them."
        )
    return notes
