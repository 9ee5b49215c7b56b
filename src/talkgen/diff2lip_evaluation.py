"""The rows of Diff2Lip in a table: with the right sound, and with another clip's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from talkgen.comparison import Scored
from talkgen.configuration import RunFolder

if TYPE_CHECKING:
    from talkgen.inference.contenders import Casting
    from talkgen.inference.diff2lip import Diff2Lip
    from talkgen.metrics.contenders import Contender


def open_method(cfg: DictConfig, folder: Path, device: str) -> OpenDiff2Lip:
    """Diff2Lip from the folder of its stages; the distilled network stands beside the other where it is."""
    from talkgen.inference.diff2lip import load_diff2lip, run_of
    from talkgen.inference.stages import DISTILLED_STAGE, diff2lip_run

    how = {"checkpoint": cfg.checkpoint, "device": device, "batch_frames": cfg.batch_frames}
    models = {"": load_diff2lip(folder, **how)}
    if diff2lip_run(folder / DISTILLED_STAGE):
        models["distilled, "] = load_diff2lip(folder / DISTILLED_STAGE, **how)
    return OpenDiff2Lip(models, run_of(folder))


class OpenDiff2Lip:
    """See ``talkgen.comparison.OpenMethod``.

    Args:
        models: beginning of a row's name → network.
        run: of the first, whose config names the corpus.
    """

    rows: Sequence[str] = ("lip_sync", "other_sound")
    window = 1

    def __init__(self, models: dict[str, Diff2Lip], run: RunFolder) -> None:
        self.models = models
        self.run = run
        # What is generated is put into crops as they are stored.
        self.size = max(max(model.size, model.crop.size) for model in models.values())

    def contenders(
        self, rows: Sequence[str], scored: Scored, casting: Casting, prefix: str
    ) -> list[Contender]:
        """The rows that were asked for."""
        from talkgen.inference.diff2lip_contenders import Diff2LipRow

        made: list[Contender] = []
        for name, model in self.models.items():
            start = f"{prefix}{name}{calls_of(model)}"
            if "lip_sync" in rows:
                made.append(Diff2LipRow(start, model, casting, "own"))
            if "other_sound" in rows:
                made.append(Diff2LipRow(f"{start}, another clip's sound", model, casting, "other"))
        return made


def calls_of(model: Diff2Lip) -> str:
    """How often the network is called for a frame, in words."""
    calls = len(model.sampler.timesteps(model.diffusion.schedule))
    return f"lip-sync in {calls} step{'s' if calls > 1 else ''}"
