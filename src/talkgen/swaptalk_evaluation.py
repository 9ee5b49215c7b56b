"""The rows of SwapTalk: its parts alone, and its cascades."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from talkgen.comparison import Scored
from talkgen.configuration import RunFolder

if TYPE_CHECKING:
    from talkgen.inference.cascade import SwapTalk
    from talkgen.inference.contenders import Casting
    from talkgen.metrics.contenders import Contender

CASCADES = {
    "swap_sync": ("swap, then sync", "swap_sync", "latent"),
    "sync_swap": ("sync, then swap", "sync_swap", "latent"),
    "swap_sync_rgb": ("swap, then sync, in RGB", "swap_sync", "rgb"),
    "sync_swap_rgb": ("sync, then swap, in RGB", "sync_swap", "rgb"),
}
"""Key of the config → name of the row, order, space."""

ROWS = ("reconstruction", "lip_sync", "other_sound", "swap", *CASCADES)


def open_method(cfg: DictConfig, folder: Path, device: str) -> OpenSwapTalk:
    """SwapTalk from the folder of its stages, with either module or both."""
    from talkgen.inference.cascade import Cascade
    from talkgen.inference.swaptalk import load_swaptalk, vqgan_of

    cascade = Cascade(snap=cfg.snap)
    model = load_swaptalk(folder, cascade, cfg.checkpoint, cfg.decoder, device, cfg.batch_frames)
    place = vqgan_of(folder)
    return OpenSwapTalk(model, RunFolder(place.parents[1] if place.is_file() else place))


class OpenSwapTalk:
    """See ``talkgen.comparison.OpenMethod``.

    Args:
        model: the trained parts.
        run: of the VQGAN, whose config names the corpus.
    """

    rows: Sequence[str] = ROWS

    def __init__(self, model: SwapTalk, run: RunFolder) -> None:
        self.model = model
        self.run = run
        self.size = model.size
        self.window = model.window

    def contenders(
        self, rows: Sequence[str], scored: Scored, casting: Casting, prefix: str
    ) -> list[Contender]:
        """The rows that were asked for and that the method has the modules for."""
        from talkgen.inference.cascade import Cascade
        from talkgen.inference.contenders import ClipCodes, SwapTalkRow

        model = self.model
        codes = ClipCodes(model, scored.clips)
        made: list[Contender] = []

        def add(key: str, name: str, variant: SwapTalk, **how: Any) -> None:
            if key in rows:
                made.append(SwapTalkRow(prefix + name, variant, codes, casting, **how))

        add("reconstruction", "VQGAN reconstruction", model, sound=None, swap=False, in_video=False)
        if model.lip_sync is not None:
            add("lip_sync", "lip-sync", model, sound="own", swap=False)
            add("other_sound", "lip-sync, another clip's sound", model, sound="other", swap=False)
        if model.face_swap is not None:
            add("swap", "face swap", model, sound=None, swap=True)
        if model.lip_sync is not None and model.face_swap is not None:
            for key, (name, order, space) in CASCADES.items():
                cascade = Cascade(order, space, model.cascade.snap)  # type: ignore[arg-type]
                add(key, name, model.variant(cascade), sound="own", swap=True)
        return made
