"""How ``talkgen generate`` uses SwapTalk.

Heavy libraries are imported where work begins.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from talkgen.generation_method import Generate, GenerationMethod
from talkgen.inference.stages import is_swaptalk


def open_swaptalk(cfg: DictConfig, folder: Path) -> Generate:
    """SwapTalk from the folder of its stages."""
    from talkgen.comparison import open_device
    from talkgen.inference.cascade import Cascade
    from talkgen.inference.swaptalk import generate, load_swaptalk

    model = load_swaptalk(
        folder,
        Cascade(cfg.order, cfg.space, cfg.snap),
        cfg.checkpoint,
        cfg.decoder,
        open_device(cfg.device),
        cfg.batch_frames,
        cfg.bf16,
    )
    return lambda files: generate(
        model,
        files.source,
        files.target,
        files.audio,
        files.out,
        detector=cfg.detector,
        detect_every=cfg.detect_every,
        choose=cfg.choose,
        paste=cfg.paste,
        label=cfg.label,
        crf=cfg.crf,
        watermark=cfg.watermark,
    )


METHOD = GenerationMethod(is_swaptalk, open_swaptalk, "swaptalk")
