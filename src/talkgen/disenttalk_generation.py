"""How ``talkgen generate`` uses DisentTalk.

Heavy libraries are imported where work begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from talkgen.errors import TalkgenError
from talkgen.generation_method import Generate, GenerationFiles, GenerationMethod
from talkgen.inference.stages import is_disenttalk

if TYPE_CHECKING:
    from talkgen.inference.changed_video import Written


def open_disenttalk(cfg: DictConfig, folder: Path) -> Generate:
    """DisentTalk from the folder of its stages. The target, where it moves, gives the pose of the head.

    Raises:
        TalkgenError: a setting cannot be meant, or a stage is missing.
    """
    from talkgen.comparison import open_device
    from talkgen.inference.disenttalk import generate, is_still, load_disenttalk

    how = cfg.disenttalk
    for key, values in (("eye", ("sampled", "copied", "off")), ("into", ("crop", "picture"))):
        if how[key] not in values:
            raise TalkgenError(f"disenttalk.{key}={how[key]}: give {', '.join(values)}")
    if not isinstance(how.ahead, int) or not 0 <= how.ahead <= 13:
        raise TalkgenError(f"disenttalk.ahead={how.ahead}: give 0 to 13 frames")
    model = load_disenttalk(
        folder,
        cfg.checkpoint,
        open_device(cfg.device),
        how.renderer,
        how.steps,
        how.guidance,
        cfg.batch_frames,
        cfg.bf16,
        how.ahead,
        cfg.detector,
    )

    def make(files: GenerationFiles) -> Written:
        pose = how.pose or (None if is_still(files.target) else files.target)
        written, latency = generate(
            model,
            files.source or files.target,
            files.audio or files.target,
            files.out,
            pose=pose,
            eye_source=how.eye_source,
            eye=how.eye,
            seed=how.seed,
            fps=how.fps,
            into=how.into,
            streaming=cfg.streaming,
            chunk_seconds=how.chunk_seconds,
            label=cfg.label,
            crf=cfg.crf,
            watermark=cfg.watermark,
        )
        if latency is not None:
            print(
                f"first frame after {latency.heard_seconds:.2f} s of sound and "
                f"{latency.worked_seconds:.2f} s of work; {latency.frames_per_second:.1f} frames a second"
            )
        return written

    return make


METHOD = GenerationMethod(is_disenttalk, open_disenttalk, "disenttalk")
