"""The table of SwapTalk: its parts alone, its cascades, and what they are measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from talkgen.comparison import Scored, compare, open_clips, open_device
from talkgen.configuration import RunFolder
from talkgen.errors import TalkgenError

if TYPE_CHECKING:
    from talkgen.inference.cascade import SwapTalk
    from talkgen.inference.contenders import Casting
    from talkgen.metrics.contenders import Contender
    from talkgen.metrics.table import Table

CASCADES = {
    "swap_sync": ("swap, then sync", "swap_sync", "latent"),
    "sync_swap": ("sync, then swap", "sync_swap", "latent"),
    "swap_sync_rgb": ("swap, then sync, in RGB", "swap_sync", "rgb"),
    "sync_swap_rgb": ("sync, then swap, in RGB", "sync_swap", "rgb"),
}
"""Key of the config → name of the row, order, space."""

ROWS = ("reconstruction", "copied", "lip_sync", "other_sound", "exact_swap", "swap", *CASCADES)
"""What ``rows`` of the config may name; ground truth is always there."""

WINDOWS_AT_ONCE = 8
"""Windows of frames that a row makes before the next row's turn."""


def score_swaptalk(cfg: DictConfig, folders: Mapping[str, Path], out: Path) -> Table:
    """Score methods, each the folder of its stages, with either module or both.

    Raises:
        TalkgenError: a row is misspelt, or the methods do not fit into one table.
    """
    from talkgen.inference.cascade import Cascade
    from talkgen.inference.contenders import Casting, ExactSwap
    from talkgen.inference.swaptalk import load_swaptalk, vqgan_of
    from talkgen.metrics.contenders import GroundTruth, Reencoded

    rows = list(cfg.rows) or list(ROWS)
    if unknown := [row for row in rows if row not in ROWS]:
        raise TalkgenError(f"rows={unknown[0]}: there are {', '.join(ROWS)}")
    device = open_device(cfg.device)
    models = {
        name: load_swaptalk(
            folder, Cascade(snap=cfg.snap), cfg.checkpoint, cfg.decoder, device, cfg.batch_frames
        )
        for name, folder in folders.items()
    }
    # Many windows at a time, each whole, so that a clip falls into the same ones as in use.
    piece = WINDOWS_AT_ONCE * math.lcm(*(model.window for model in models.values()))
    runs = {name: _run_of(vqgan_of(folder)) for name, folder in folders.items()}
    scored = open_clips(cfg, runs, unswapped=True, piece=piece)
    casting = Casting(scored.clips, _people(cfg, scored))
    contenders: list[Contender] = [GroundTruth(), Reencoded(cfg.crf)]
    if "exact_swap" in rows and any(casting.twin(number) for number in range(len(scored.clips))):
        contenders.append(ExactSwap("swap, exact result", casting))
    for name, model in models.items():
        contenders += _rows_of(model, f"{name}: " if len(models) > 1 else "", rows, scored, casting)
    title = f"SwapTalk on {len(scored.clips)} held-out clips"
    return compare(cfg, title, contenders, scored, out, _notes(cfg, scored, casting), _pictures(casting))


def _run_of(place: Path) -> RunFolder:
    return RunFolder(place.parents[1] if place.is_file() else place)


def _rows_of(
    model: SwapTalk, prefix: str, rows: Sequence[str], scored: Scored, casting: Casting
) -> list[Contender]:
    """The rows of one method that were asked for and that it has the modules for."""
    from talkgen.inference.cascade import Cascade
    from talkgen.inference.contenders import ClipCodes, CopiedReference, SwapTalkRow

    codes = ClipCodes(model, scored.clips)
    made: list[Contender] = []

    def add(key: str, name: str, variant: SwapTalk, **how: Any) -> None:
        if key in rows:
            made.append(SwapTalkRow(prefix + name, variant, codes, casting, **how))

    add("reconstruction", "VQGAN reconstruction", model, sound=None, swap=False, in_video=False)
    if model.lip_sync is not None:
        if "copied" in rows:
            made.append(CopiedReference(f"{prefix}reference's mouth copied", codes, casting))
        add("lip_sync", "lip-sync", model, sound="own", swap=False)
        add("other_sound", "lip-sync, another clip's sound", model, sound="other", swap=False)
    if model.face_swap is not None:
        add("swap", "face swap", model, sound=None, swap=True)
    if model.lip_sync is not None and model.face_swap is not None:
        for key, (name, order, space) in CASCADES.items():
            cascade = Cascade(order, space, model.cascade.snap)  # type: ignore[arg-type]
            add(key, name, model.variant(cascade), sound="own", swap=True)
    return made


def _people(cfg: DictConfig, scored: Scored) -> list[str]:
    """Identities of the gallery: those of the scored split, or of the whole corpus."""
    if cfg.gallery not in ("held_out", "all"):
        raise TalkgenError(f"gallery={cfg.gallery}: give held_out or all")
    splits = {clip.split for clip in scored.clips.clips}
    clips = [one for one in scored.data.store.clips if cfg.gallery == "all" or one.split in splits]
    return sorted({clip.identity for clip in clips})


def _pictures(casting: Casting) -> dict[str, Any]:
    """A picture of everyone in the gallery."""
    return {person: casting.aligned_picture(person) for person in casting.people}


def _notes(cfg: DictConfig, scored: Scored, casting: Casting) -> list[str]:
    """What the numbers of the rows with a face swap mean."""
    people, clips = len(casting.people), len(scored.clips)
    exact = sum(casting.twin(number) is not None for number in range(clips))
    who = "the identities of the split" if cfg.gallery == "held_out" else "all identities of the corpus"
    return [
        f"Identity: gallery of {people} people ({who}), one picture each; chance {100 / people:.1f} %. "
        f"One frame in {cfg.recognise_every} was looked at. Rows with a face swap should show the source, "
        "others the clip's own person.",
        f"PSNR, SSIM and LMD of rows with a face swap: against the exact swap, known for {exact} of {clips} "
        "clips. Mouth opening: against the target's own mouth, also where the sound is of another clip.",
    ]
