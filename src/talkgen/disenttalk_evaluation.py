"""The rows of DisentTalk: its renderer alone, and with motion from a sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from talkgen.comparison import Scored
from talkgen.configuration import RunFolder
from talkgen.inference.stages import MOTION_STAGE, RENDERER_STAGE

if TYPE_CHECKING:
    from talkgen.inference.contenders import Casting
    from talkgen.inference.motion import MotionGenerator
    from talkgen.inference.motion_renderer import MotionRenderer
    from talkgen.metrics.contenders import Contender

ROWS = ("reconstruction", "lip_sync", "other_sound")


def open_method(cfg: DictConfig, folder: Path, device: str) -> OpenDisentTalk:
    """DisentTalk from the folder of its stages; without trained motion its renderer alone."""
    from talkgen.inference.disenttalk import open_renderer

    renderer = open_renderer(folder, cfg.checkpoint, device, batch_frames=cfg.batch_frames)
    assert renderer is not None  # it is refused where there is none
    motion: MotionGenerator | None = None
    if RunFolder(folder / MOTION_STAGE).last.is_file():
        from talkgen.inference.motion import load_motion

        motion = load_motion(folder / MOTION_STAGE, device)
    return OpenDisentTalk(renderer, motion, RunFolder(folder / RENDERER_STAGE))


class OpenDisentTalk:
    """See ``talkgen.comparison.OpenMethod``.

    Args:
        renderer: coefficients → pictures.
        motion: sound → coefficients; None: rows that need it are left out.
        run: of the renderer, whose config names the corpus.
    """

    rows: Sequence[str] = ROWS
    window = 1

    def __init__(self, renderer: MotionRenderer, motion: MotionGenerator | None, run: RunFolder) -> None:
        self.renderer = renderer
        self.motion = motion
        self.run = run
        self.size = renderer.size

    def contenders(
        self, rows: Sequence[str], scored: Scored, casting: Casting, prefix: str
    ) -> list[Contender]:
        """The rows that were asked for and that the method has the modules for."""
        from talkgen.face3d.fitting import load_clip_fitter
        from talkgen.inference.disenttalk_contenders import ClipCoefficients, DisentTalkRow, RenderedClip

        model = None if self.motion is None else self.motion.morphable_model
        coefficients = ClipCoefficients(scored.clips.store, load_clip_fitter(model))
        made: list[Contender] = []
        if "reconstruction" in rows:
            made.append(RenderedClip(f"{prefix}renderer, true motion", self.renderer, coefficients))
        if self.motion is not None:
            for key, name in (("lip_sync", "talking"), ("other_sound", "talking, another clip's sound")):
                if key in rows:
                    sound = "own" if key == "lip_sync" else "other"
                    made.append(
                        DisentTalkRow(prefix + name, self.motion, self.renderer, coefficients, casting, sound)  # type: ignore[arg-type]
                    )
        return made
