"""How ``talkgen generate`` uses Diff2Lip.

Heavy libraries are imported where work begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from talkgen.errors import TalkgenError
from talkgen.generation_method import Generate, GenerationFiles, GenerationMethod
from talkgen.inference.stages import is_diff2lip

if TYPE_CHECKING:
    from talkgen.inference.changed_video import Written


def open_diff2lip(cfg: DictConfig, folder: Path) -> Generate:
    """Diff2Lip from the folder of its stages, one of its runs, or a file of published weights.

    Raises:
        TalkgenError: a setting cannot be meant, or a source was given: only lips are changed.
    """
    from talkgen.comparison import open_device
    from talkgen.diffusion.ddim import DDIM
    from talkgen.inference.diff2lip import load_diff2lip, make_sampler
    from talkgen.inference.diff2lip_official import generate_official
    from talkgen.inference.diff2lip_video import generate
    from talkgen.inference.noise_maps import KINDS, NoiseMaps
    from talkgen.models.diff2lip.inpainting import FeatureCache

    how = cfg.diff2lip
    if how.noise not in KINDS:
        raise TalkgenError(f"diff2lip.noise={how.noise}: give {', '.join(KINDS)}")
    if not isinstance(how.reuse_features, int) or how.reuse_features < 1:
        raise TalkgenError(
            f"diff2lip.reuse_features={how.reuse_features}: give a number of steps, at least 1"
        )
    sampler = None if how.sampler is None else make_sampler(how.sampler, how.steps)
    model = load_diff2lip(
        folder,
        sampler=DDIM(25) if cfg.official_compat else sampler,
        checkpoint=cfg.checkpoint,
        noise=NoiseMaps("shared" if cfg.official_compat else how.noise),
        cache=FeatureCache(how.reuse_features) if how.reuse_features > 1 else None,
        device=open_device(cfg.device),
        batch_frames=cfg.batch_frames,
        bf16=cfg.bf16,
        compiled=how.compiled,
    )
    if cfg.official_compat:
        model.cover = "same"

    def make(files: GenerationFiles) -> Written:
        if files.source is not None:
            raise TalkgenError("diff2lip changes lips only; leave the source out")
        given = model, files.target, files.audio, files.out
        if cfg.official_compat:
            return generate_official(
                *given, detector=cfg.detector, voxceleb2=how.voxceleb2, crf=cfg.crf, watermark=cfg.watermark
            )
        return generate(
            *given,
            detector=cfg.detector,
            detect_every=cfg.detect_every,
            choose=cfg.choose,
            paste=cfg.paste,
            close_in_silence=how.close_in_silence,
            label=cfg.label,
            crf=cfg.crf,
            watermark=cfg.watermark,
        )

    return make


METHOD = GenerationMethod(is_diff2lip, open_diff2lip, "diff2lip")
