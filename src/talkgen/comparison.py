"""Contenders side by side: which clips, by which detector and recogniser, into which table.

Heavy libraries are imported where scoring begins, so that ``--help`` and refusals answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import DictConfig

from talkgen.configuration import RunFolder, build
from talkgen.errors import TalkgenError
from talkgen.inference.runs import run_config

if TYPE_CHECKING:
    from talkgen.data.clip import Clip
    from talkgen.data.datamodule import TalkingFaceData
    from talkgen.inference.contenders import Casting
    from talkgen.metrics import protocol as conditions
    from talkgen.metrics.contenders import Clips, Contender
    from talkgen.metrics.feature_cache import FeatureCache
    from talkgen.metrics.held_out import HeldOutClips
    from talkgen.metrics.identity_source import Gallery
    from talkgen.metrics.stopwatch import GenerationCost
    from talkgen.metrics.table import Cell, Table


@dataclass(frozen=True)
class Scored:
    """What is scored: held-out clips of a corpus, and the data that they come from."""

    data: TalkingFaceData
    clips: HeldOutClips

    @property
    def corpus(self) -> str:
        """Corpus, split and hash of the manifest, for the protocol line."""
        splits = " and ".join(sorted({clip.split for clip in self.clips.clips}))
        corpora = ", ".join(sorted({clip.corpus for clip in self.clips.clips}))
        return f"{corpora}, {splits} split (manifest {self.data.store.description['manifest_sha256'][:12]})"

    @property
    def crop(self) -> str:
        """How the face was cut out."""
        return f"as prepared, {self.clips.store.size} px"

    @property
    def codec(self) -> str:
        """What lies between a row's frames and its metrics."""
        return "none before scoring"


class Conditions(Protocol):
    """What a table needs to know of what it scores: ``Scored``, or files."""

    @property
    def clips(self) -> Clips:
        """What is scored."""

    @property
    def corpus(self) -> str:
        """Where it comes from."""

    @property
    def crop(self) -> str:
        """How the face was cut out."""

    @property
    def codec(self) -> str:
        """What lies between a row's frames and its metrics."""


class OpenMethod(Protocol):
    """A method with its networks, ready to make the rows of a table; see ``talkgen.compared_methods``.

    Attributes:
        run: whose config names the corpus.
        size: width and height of the frames that it makes, in pixels.
        window: frames that it makes at a time.
        rows: keys that the config's ``rows`` may name.
    """

    run: RunFolder
    size: int
    window: int
    rows: Sequence[str]

    def contenders(
        self, rows: Sequence[str], scored: Scored, casting: Casting, prefix: str
    ) -> list[Contender]:
        """Its rows, those of ``rows``, on clips at its own frame size; ``prefix`` begins their names."""


def open_data(cfg: DictConfig, run: RunFolder) -> TalkingFaceData:
    """The corpus of a run, or the one that the command names."""
    node = run_config(run).data
    if cfg.root:
        node.root = cfg.root
    data: TalkingFaceData = build(node)
    return data


def common_size(cfg: DictConfig, runs: Mapping[str, RunFolder]) -> int:
    """The frame size that all runs were trained at.

    Raises:
        TalkgenError: the runs work at different sizes.
    """
    opened = {name: open_data(cfg, folder) for name, folder in runs.items()}
    sizes = {name: other.window.size or other.store.size for name, other in opened.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size} px" for name, size in sizes.items())
        raise TalkgenError(f"runs that work at different frame sizes cannot share a table: {listed}")
    return next(iter(sizes.values()))


def open_clips(
    cfg: DictConfig, run: RunFolder, size: int, unswapped: bool = False, piece: int = 32
) -> Scored:
    """The held-out clips of a run's corpus.

    Args:
        cfg: of the command.
        run: whose corpus it is.
        size: pixels that frames are resized to.
        unswapped: leave out clips that are face swaps of others; those that have such a twin come first.
        piece: frames that contenders make at a time.

    Raises:
        TalkgenError: there are no clips to score.
    """
    from talkgen.metrics.held_out import HeldOutClips, choose_clips

    data = open_data(cfg, run)
    if cfg.frames is not None and cfg.frames < 1:
        raise TalkgenError(f"frames={cfg.frames}: at least one frame must be scored")
    if unswapped:
        chosen = _with_twins_first(data.store.clips, cfg.split, cfg.clips)
    else:
        chosen = choose_clips(data.store.clips, cfg.split, cfg.clips)
    return Scored(data, HeldOutClips(data.store, chosen, size, cfg.frames, piece))


def resized_scored(scored: Scored, size: int) -> Scored:
    """The same clips, in the same pieces, at another frame size."""
    from talkgen.metrics.held_out import HeldOutClips

    clips = scored.clips
    if clips.size == size:
        return scored
    return Scored(scored.data, HeldOutClips(clips.store, clips.clips, size, clips.limit, clips.piece))


def _with_twins_first(clips: Sequence[Clip], split: str | None, limit: int | None) -> list[Clip]:
    from talkgen.metrics.held_out import choose_clips

    own = choose_clips([clip for clip in clips if not clip.swap_of], split, None)
    if limit is None:
        return own
    twins = {clip.swap_of for clip in clips}
    known = [clip for clip in own if clip.id in twins]
    if limit <= len(known) or not known:
        return choose_clips(known or own, split, limit)
    others = [clip for clip in own if clip.id not in twins]
    more = min(limit - len(known), len(others))
    return known + (choose_clips(others, split, more) if more else [])


def open_device(name: str) -> str:
    """``auto`` is a GPU where there is one.

    Raises:
        TalkgenError: the device cannot be used.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise TalkgenError(f"device={name} cannot be used here: {str(error).splitlines()[0]}") from error
    return name


def compare(
    cfg: DictConfig,
    title: str,
    contenders: Sequence[Contender],
    scored: Conditions,
    out: Path,
    notes: Sequence[str] = (),
    gallery: Mapping[str, Any] | None = None,
    tasks: Mapping[str, str] | None = None,
    costs: Callable[[str], Sequence[GenerationCost]] | None = None,
) -> Table:
    """Score contenders by the metrics of the config; also writes ``sheet.png`` and ``sample.mp4``.

    Args:
        cfg: of the command.
        title: of the table.
        contenders: its rows, ground truth first.
        scored: clips.
        out: folder of the pictures.
        notes: sentences below the table.
        gallery: person → a picture, uint8 (1, size, size, 3) and its matrix (1, 2, 3) to the ArcFace
            template, for metrics of identity.
        tasks: name of a row → what it does; rows that do the same are compared with each other.
        costs: measures what generating costs a row, by its name; asked where columns want it.
    """
    from talkgen.metrics.feature_cache import remembering
    from talkgen.metrics.identity_source import IdentitySource, open_identity_source
    from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
    from talkgen.metrics.published import read_published
    from talkgen.metrics.required_weights import NeedsWeights
    from talkgen.metrics.scoring import score
    from talkgen.metrics.shared_features import SharedFeatures, named
    from talkgen.metrics.significance import compare_rows
    from talkgen.metrics.table import Column, Row, Table

    metrics = [[build(node) for node in cfg.metrics.values()] for _ in contenders]
    columns = [Column(m.column, m.digits, m.higher_is_better) for m in metrics[0]]
    published = [read_published(name) for name in cfg.published or []]
    lacking: dict[str, Exception] = {}
    digests: dict[str, str] = {}
    landmarks = open_landmark_source(cfg.landmarks)
    identity = (
        open_identity_source(cfg.recogniser, cfg.recognise_every) if _asked(metrics[0], "identity") else None
    )
    for need, opened in (("landmarks", landmarks), ("identity", identity)):
        if isinstance(opened, TalkgenError):
            lacking[need] = opened
        elif opened is not None:
            digests |= opened.weights
    for metric in metrics[0]:
        digests |= metric.digests if isinstance(metric, NeedsWeights) else {}
    source = None
    if isinstance(landmarks, LandmarkSource):
        seen_by = named(f"landmarks {type(landmarks).__name__}", landmarks.weights)
        source = SharedFeatures(landmarks, name=seen_by)
    recogniser = identity if isinstance(identity, IdentitySource) else None
    people: Gallery | None = None
    if recogniser is not None and gallery:
        people = _gallery(recogniser, gallery)
    clips = scored.clips
    with remembering(open_cache(cfg)):
        seen = score(contenders, metrics, clips, source, out, recogniser, people)

    if costs is not None and _asked(metrics[0], "cost"):
        _add_costs(contenders, metrics, costs)
    ids = [clip.id for clip in clips.clips]
    rows = [
        Row(contender.name, count, {m.column: _cell(m, ids, lacking) for m in row})
        for contender, row, count in zip(contenders, metrics, seen, strict=True)
    ]
    codec = f"{scored.codec}, but for the row H.264 crf {cfg.crf} (libx264, yuv420p)"
    protocol = make_protocol(scored, codec, [c.name for c in columns], digests)
    costs_of_one_run = {m.column for m in metrics[0] if "cost" in m.needs}  # they say nothing of chance
    judged = [column for column in columns if column.name not in costs_of_one_run]
    comparisons = compare_rows(rows, judged, tasks or {})
    every_note = [*notes, *_missing(metrics[0], lacking)]
    return Table(title, columns, rows, protocol, every_note, comparisons, published)


def _add_costs(
    contenders: Sequence[Contender],
    metrics: Sequence[Sequence[Any]],
    costs: Callable[[str], Sequence[GenerationCost]],
) -> None:
    from tqdm import tqdm

    for contender, row in tqdm(
        list(zip(contenders, metrics, strict=True)), unit="row", desc="measuring speed"
    ):
        for cost in costs(contender.name):
            for metric in row:
                if "cost" in metric.needs:
                    metric.update_cost(cost)


def listens(cfg: DictConfig) -> bool:
    """Whether a column of the table hears the sound, and can be measured."""
    from talkgen.metrics.required_weights import NeedsWeights

    metrics = [build(node) for node in cfg.metrics.values()]
    heard = [metric for metric in metrics if "sound" in metric.needs]
    return any(not isinstance(metric, NeedsWeights) or metric.lacking is None for metric in heard)


def open_cache(cfg: DictConfig) -> FeatureCache | None:
    """The folder of features that the command names; None where it wants none."""
    from talkgen.metrics.feature_cache import FeatureCache

    if not cfg.cache:
        return None
    return FeatureCache(cfg.cache, round(cfg.cache_gigabytes * 1e9))


def make_protocol(
    scored: Conditions, codec: str, columns: Sequence[str], weights: Mapping[str, str]
) -> conditions.Protocol:
    """The conditions of a table; see ``Protocol``."""
    from talkgen.metrics.protocol import Protocol

    clips = scored.clips
    return Protocol(
        corpus=scored.corpus,
        fps=[clip.fps for clip in clips.clips],
        frames=[clips.frame_count(number) for number in range(len(clips))],
        sizes_px=[clips.frame_size(number)[0] for number in range(len(clips))],
        crop=scored.crop,
        codec=codec,
        metrics=list(columns),
        weights=weights,
    )


def _gallery(recogniser: Any, pictures: Mapping[str, Any]) -> Gallery:
    import torch

    from talkgen.metrics.identity_source import Gallery

    return Gallery(list(pictures), torch.cat([recogniser(frame, warp) for frame, warp in pictures.values()]))


def _asked(metrics: Sequence[Any], need: str) -> bool:
    return any(need in metric.needs for metric in metrics)


def _cell(metric: Any, ids: Sequence[str], lacking: Mapping[str, Exception]) -> Cell:
    """The metric's cell; ``n/a`` where it could not be measured for want of a file or package."""
    from talkgen.metrics.table import NOT_AVAILABLE, Cell, measured_cell

    if _reasons(metric, lacking):
        return Cell(None, absent=NOT_AVAILABLE)
    return measured_cell(metric, ids)


def _reasons(metric: Any, lacking: Mapping[str, Exception]) -> list[Exception]:
    """Why a metric cannot be measured: what all metrics share is missing, or a file of its own."""
    from talkgen.metrics.required_weights import NeedsWeights

    own = metric.lacking if isinstance(metric, NeedsWeights) else None
    return [*(reason for need, reason in lacking.items() if need in metric.needs), *([own] if own else [])]


def _missing(metrics: Sequence[Any], lacking: Mapping[str, Exception]) -> list[str]:
    """One line for each thing that is missing: what to fetch for the columns that are ``n/a``."""
    columns: dict[str, list[str]] = {}
    for metric in metrics:
        for reason in _reasons(metric, lacking):
            columns.setdefault(str(reason), []).append(metric.column)
    return [f"n/a in {', '.join(names)}: {reason}" for reason, names in columns.items()]
