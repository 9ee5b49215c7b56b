"""``python evaluate.py suite=robustness``: what noise, turned heads, hands and the like do to lips.

Every change is a name, a level and a function; methods generate from the changed clip, and are scored against
what its mouth really did. Sync columns listen to the clean sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from talkgen.compared_methods import METHODS, WINDOWS_AT_ONCE, method_of
from talkgen.comparison import OpenMethod, Scored, compare, open_clips, open_device, resized_scored
from talkgen.configuration import build, config_folder
from talkgen.data.changed_store import ChangedStore
from talkgen.data.clip import Clip
from talkgen.errors import TalkgenError
from talkgen.inference.contenders import Casting
from talkgen.metrics.contenders import AtSize, GroundTruth
from talkgen.metrics.curves import Curve, draw_curves
from talkgen.metrics.held_out import HeldOutClips
from talkgen.metrics.identity_source import open_identity_source
from talkgen.metrics.occluders import hand, microphone
from talkgen.metrics.sound_damage import band_limited, coarse, interrupted, low_bit_rate, noisy, silent

if TYPE_CHECKING:
    from talkgen.metrics.contenders import Contender, Generated
    from talkgen.metrics.table import Row, Table

ROW = "lip_sync"
"""Key of the rows that are scored: the method on the clip's own sound."""
SWAPPED = "swap_sync"
"""… and where the source's face matters: another person's is put in first."""


@dataclass(frozen=True)
class Change:
    """One point of a curve.

    Attributes:
        family: name of the curve.
        level: place on its axis.
        name: of the row.
        sound: of the waveform that drives.
        pictures: of the target's frames, with its landmarks.
        yaw_degrees: by how much the heads of clips that are rendered for this are turned.
        references: where a method's reference frames lie.
        language: of the clips that are scored.
        source: whose face is put in, of all people of the split: who is most ``alike`` to a recogniser, or
            most ``unlike``; None: the clip's own person stays.
        label: what stands at the place on the axis, of families that have no number; None: the level.
    """

    family: str
    level: float
    name: str
    sound: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    pictures: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]] | None = None
    yaw_degrees: float | None = None
    references: Literal["spread", "near", "far"] = "spread"
    language: str | None = None
    source: Literal["alike", "unlike"] | None = None
    label: str | None = None


CHANGES: tuple[Change, ...] = (
    Change("none", 0, "unchanged"),
    *(
        Change("noise, SNR dB", snr, f"noise, SNR {snr} dB", sound=partial(noisy, snr_db=snr))
        for snr in (20, 15, 10, 5, 0, -5)
    ),
    *(
        Change(
            "sample rate, kHz",
            rate / 1000,
            f"sound of {rate} Hz",
            sound=partial(band_limited, sample_rate=rate),
        )
        for rate in (8000, 4000, 2000)
    ),
    *(
        Change("bits a sample", bits, f"{bits} bits a sample", sound=partial(coarse, bits=bits))
        for bits in (8, 4)
    ),
    *(
        Change("kbit a second", rate, f"Opus, {rate} kbit/s", sound=partial(low_bit_rate, kilobits=rate))
        for rate in (32, 16, 8)
    ),
    Change(
        "others are heard",
        0,
        "laughter beside the speech",
        sound=partial(interrupted, by="laughter"),
        label="laughter",
    ),
    Change(
        "others are heard",
        1,
        "coughs beside the speech",
        sound=partial(interrupted, by="coughs"),
        label="coughs",
    ),
    Change("silence", 0, "silence", sound=silent, label="silence"),
    *(Change("yaw, °", yaw, f"head turned by {yaw}°", yaw_degrees=yaw) for yaw in (0, 15, 30, 45, 60)),
    Change("occluder", 0, "microphone before the mouth", pictures=microphone, label="microphone"),
    Change("occluder", 1, "hand before the mouth", pictures=hand, label="hand"),
    Change("reference", 0, "reference frames near", references="near", label="near"),
    Change("reference", 1, "reference frames far", references="far", label="far"),
    Change("language", 0, "English", language="en", label="English"),
    Change("language", 1, "Mandarin", language="zh", label="Mandarin"),
    Change("source", 0, "the face of who is most alike", source="alike", label="most alike"),
    Change("source", 1, "the face of who is most unlike", source="unlike", label="most unlike"),
)


class PlacedReferences(Casting):
    """A casting whose reference frames follow the scored ones at once, or end the clip.

    Args:
        clips: what is scored.
        people: see ``Casting``.
        near: at once.
    """

    def __init__(self, clips: HeldOutClips, people: list[str], near: bool) -> None:
        super().__init__(clips, people)
        self.near = near

    def references(self, number: int, count: int) -> list[int]:
        """Numbers of ``count`` frames of the clip."""
        first, last = self.clips.frame_count(number), self.clips.clips[number].frames
        start = min(first, max(last - count, 0)) if self.near else max(last - count, 0)
        return [min(start + place, last - 1) for place in range(count)]


class PlacedSources(Casting):
    """A casting whose swaps take the face of who is most alike, or most unlike.

    Args:
        clips: what is scored.
        vectors: person → unit vector of a picture.
        unlike: most unlike.
    """

    def __init__(self, clips: HeldOutClips, vectors: Mapping[str, Tensor], unlike: bool) -> None:
        super().__init__(clips, list(vectors))
        self.vectors = vectors
        self.unlike = unlike

    def twin(self, number: int) -> Clip | None:
        """None: the source is another one than that of the exact swap."""
        return None

    def source(self, number: int) -> str:
        """Identity that a swap of the clip shall show; its own where there is nobody else."""
        own = self.clips.clips[number].identity
        others = sorted(person for person in self.people if person != own)
        choose = min if self.unlike else max
        likeness = {person: float(self.vectors[person] @ self.vectors[own]) for person in others}
        return choose(others, key=likeness.__getitem__, default=own)


class CleanlyHeard:
    """A row beside the clean sound, whatever drove it.

    Args:
        contender: the row.
        clean: the clips as prepared.
    """

    def __init__(self, contender: Contender, clean: HeldOutClips) -> None:
        self.contender = contender
        self.clean = clean
        self.name, self.in_video = contender.name, contender.in_video

    def generate(self, clips: Any, number: int) -> Iterator[Generated]:
        """The row's frames."""
        pieces = self.contender.generate(clips, number)
        for (start, stop), piece in zip(clips.spans(number), pieces, strict=True):
            yield replace(piece, sound=self.clean.sound(number, start, stop))


def score_robustness(
    cfg: DictConfig, folders: Mapping[str, Path], out: Path, changes: Sequence[Change] = CHANGES
) -> Table:
    """One table of all changes, and ``curves.png``; the pictures of each change lie in ``changes/<number>``.

    Raises:
        TalkgenError: a method has no lips to score, or a family is misspelt.
    """
    from talkgen.metrics.table import Table

    with open_dict(cfg):
        cfg.published = []
    chosen = choose_changes(changes, list(cfg.changes))
    device = open_device(cfg.device)
    methods = {name: METHODS[str(method_of(path))].open(cfg, path, device) for name, path in folders.items()}
    if silent_ones := [name for name, method in methods.items() if ROW not in method.rows]:
        raise TalkgenError(f"{silent_ones[0]} makes no lips from sound")
    first = next(iter(methods.values()))
    piece = WINDOWS_AT_ONCE * int(np.lcm.reduce([method.window for method in methods.values()]))
    size = max(method.size for method in methods.values())
    scored = open_clips(cfg, first.run, size, unswapped=True, piece=piece)
    rows: list[Row] = []
    of_change: list[tuple[Change, str]] = []
    table: Table | None = None
    for number, change in enumerate(chosen):
        clean = _clean(cfg, change, scored, out)
        if clean is None:
            continue
        people = _people(clean)
        vectors = _vectors(cfg, clean, people) if change.source else {}
        contenders = _contenders(change, methods, clean, people, vectors)
        if not contenders:
            continue
        changed = _changed(change, clean)
        folder = out / "changes" / f"{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{number + 1} of {len(chosen)}: {change.name}", flush=True)
        rows_of_change = [GroundTruth(), *contenders]
        table = compare(cfg, change.name, rows_of_change, changed, folder, gallery=_pictures(clean, people))
        for row in table.rows[1:]:
            rows.append(replace(row, name=f"{change.name}: {row.name}"))
            of_change.append((change, row.name))
    if table is None:
        raise TalkgenError("none of the changes can be made on this corpus")
    curves = [
        Curve(
            change.family,
            change.level,
            method,
            {c: cell.value for c, cell in row.cells.items()},
            change.label,
        )
        for (change, method), row in zip(of_change, rows, strict=True)
    ]
    draw_curves(curves, [column.name for column in table.columns], out / "curves.png")
    title = f"Robustness of {' and '.join(methods)} on {len(scored.clips)} held-out clips"
    notes = [
        "Scored against what the mouth of the (changed) target did; sync columns hear the clean sound. "
        "Turned heads are clips that were rendered for this, of fewer people. With another source the face "
        "is swapped first, and CSIM asks for the source.",
        *table.notes,
    ]
    return Table(title, table.columns, rows, table.protocol, notes)


def choose_changes(changes: Sequence[Change], families: Sequence[str]) -> list[Change]:
    """Those whose family begins with one of the words, and the unchanged clips; all for no words.

    Raises:
        TalkgenError: no family begins so.
    """
    known = list(dict.fromkeys(change.family for change in changes))
    for word in families:
        if not any(family.startswith(word) for family in known):
            raise TalkgenError(f"changes={word}: there are {', '.join(known)}")
    words = ("none", *families)
    return [one for one in changes if not families or one.family.startswith(words)]


def _clean(cfg: DictConfig, change: Change, scored: Scored, out: Path) -> Scored | None:
    """The clips of a change before it; None where this corpus has none."""
    clips = scored.clips
    if change.yaw_degrees is not None:
        if not any(clip.corpus == "demo" for clip in clips.clips):
            return None
        return _turned(cfg, change.yaw_degrees, scored, out)
    if change.language is None:
        return scored
    own = [clip for clip in clips.clips if clip.language == change.language]
    if not own:
        return None
    return Scored(scored.data, HeldOutClips(clips.store, own, clips.size, clips.limit, clips.piece))


def _turned(cfg: DictConfig, yaw: float, scored: Scored, out: Path) -> Scored:
    from talkgen.data.corpora.demo_casting import plan_take
    from talkgen.data.corpora.demo_turned import write_turned_store
    from talkgen.faces.crop import CROPS

    node = OmegaConf.load(config_folder() / "corpus" / "demo.yaml")
    settings = build(node.corpus.generate.settings)
    settings = replace(settings, seconds=2.0)
    people = range(settings.identities - settings.tested, settings.identities)
    plans = [plan_take(settings, identity, 0) for identity in list(people)[: min(len(scored.clips), 3)]]
    crop = replace(CROPS[node.settings.crop], size=int(node.settings.size))
    store = write_turned_store(out / "turned" / f"{yaw:.0f}", plans, settings, yaw, crop)
    clips = scored.clips
    return Scored(scored.data, HeldOutClips(store, store.clips, clips.size, clips.limit, clips.piece))


def _changed(change: Change, clean: Scored) -> Scored:
    if change.sound is None and change.pictures is None:
        return clean
    clips = clean.clips
    store: Any = ChangedStore(clips.store, change.sound, change.pictures)
    return Scored(clean.data, HeldOutClips(store, clips.clips, clips.size, clips.limit, clips.piece))


def _people(clean: Scored) -> list[str]:
    """Everyone of the splits that are scored."""
    splits = {clip.split for clip in clean.clips.clips}
    return sorted({clip.identity for clip in clean.clips.store.clips if clip.split in splits})


def _pictures(clean: Scored, people: list[str]) -> dict[str, Any]:
    casting = Casting(clean.clips, people)
    return {person: casting.aligned_picture(person) for person in people}


def _vectors(cfg: DictConfig, clean: Scored, people: list[str]) -> dict[str, Tensor]:
    """Everyone's picture as a recogniser sees it; nobody's without its weights."""
    source = open_identity_source(cfg.recogniser)
    if isinstance(source, TalkgenError):
        return {}
    return {person: source(*picture)[0] for person, picture in _pictures(clean, people).items()}


def _contenders(
    change: Change,
    methods: Mapping[str, OpenMethod],
    clean: Scored,
    people: list[str],
    vectors: Mapping[str, Tensor],
) -> list[Contender]:
    """The rows of the methods that the change is for."""
    made: list[Contender] = []
    if change.source and len(vectors) < 2:
        return made
    changed = _changed(change, clean)
    key = SWAPPED if change.source else ROW
    for name, method in methods.items():
        own = resized_scored(changed, method.size)
        if change.source:
            casting: Casting = PlacedSources(own.clips, vectors, change.source == "unlike")
        elif change.references == "spread":
            casting = Casting(own.clips, people)
        else:
            casting = PlacedReferences(own.clips, people, change.references == "near")
        for row in method.contenders([key], own, casting, f"{name}: " if len(methods) > 1 else ""):
            sized: Contender = row if own is changed else AtSize(row, own.clips)
            made.append(CleanlyHeard(sized, clean.clips))
    return made
