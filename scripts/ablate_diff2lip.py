#!/usr/bin/env python
"""Diff2Lip's ablations in one command: train each variant, score it, and put those of a sweep side by side.

    python scripts/ablate_diff2lip.py [--sweeps losses,sync_weight] [--seeds 3] [--base runs/diff2lip-demo] \\
        [--evaluate clips=12] [OVERRIDE …]

Every variant is a diffusion stage of its own; all share one sync expert (of ``--base``, or trained first) and
differ from ``base`` in a setting or two. The same command goes on where it was stopped: finished runs and
tables are left as they are. OVERRIDEs go to every run (``size=tiny data.root=…``).

Writes ``<sweep>.md`` and ``<sweep>.csv`` (mean ± standard deviation over seeds) to ``runs/<name>``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ablation import Ablation, Cells, Method, Variant, argument_parser, chosen, positive, run

EXPERT, DIFFUSION = "sync_expert", "diff2lip_diffusion"
OTHER = "another clip's sound"
WEIGHTS = "system.weights"
AUGMENTATION = "talkgen.systems.augmentation.VoiceAugmentation"


GAN_FROM_THE_START = (  # the demo's begins when the training ends
    "size.diff2lip_diffusion.discriminator_start=0",
    "size.diff2lip_diffusion.adversarial_start=0",
)


def _voice(noise: float) -> list[str]:
    return [f"system.augmentation={{_target_:{AUGMENTATION},gain:0.5,shift:4,noise:{noise}}}"]


def _terms(sync: float, perceptual: float, adversarial: float) -> list[str]:
    return [
        f"{WEIGHTS}.sync={sync}",
        f"{WEIGHTS}.perceptual={perceptual}",
        f"{WEIGHTS}.adversarial={adversarial}",
        *(GAN_FROM_THE_START if adversarial else ()),
    ]


def _frames(count: int) -> list[str]:
    """Windows of so many frames, as many frames a batch; the expert knows windows of five only."""
    return [
        f"data.window.frames={count}",
        f"data.batch_size={20 // count}",
        f"{WEIGHTS}.sync=0",
        f"{WEIGHTS}.adversarial=0.5",
        *GAN_FROM_THE_START,
        f"system.sequence.discriminator.in_channels={3 * count}",
    ]


CHANGES: dict[str, tuple[str, Sequence[str]]] = {
    "reconstruction": ("reconstruction only", _terms(0, 0, 0)),
    "with_sync": ("+ SyncNet", _terms(0.1, 0, 0)),
    "with_lpips": ("+ LPIPS", _terms(0.1, 0.25, 0)),
    "with_gan": ("+ sequence GAN", _terms(0.1, 0.25, 0.5)),
    **{f"sync_{w}": (f"sync {w}", [f"{WEIGHTS}.sync={w}"]) for w in (0, 0.03, 0.1, 0.3)},
    **{f"frames_{n}": (f"{n} frames", _frames(n)) for n in (1, 2, 5)},
    **{
        f"gap_{n}": (f"reference {n} frames away or more", [f"data.window.reference_gap={n}"])
        for n in (0, 5, 15)
    },
    **{f"mel_{n}": (f"{n} mel bands", [f"system.unet.mel_bins={n}"]) for n in (80, 40, 20)},
    "voice_as_is": ("voice as it is", ["system.augmentation=null"]),
    "voice_varied": ("voice varied", _voice(0)),
    "voice_noisy": ("voice varied, noise 0.5", _voice(0.5)),
    "unweighted": ("every timestep alike", ["system.loss.min_snr=null"]),
    "min_snr": ("min-SNR, γ = 5", ["system.loss.min_snr=5"]),
    **{
        f"predict_{what}": (f"predicts {what}", [f"size.diff2lip_diffusion.prediction={what}"])
        for what in ("noise", "velocity", "x0")
    },
    **{how: (how, [f"system.unet.conditioning={how}"]) for how in ("additive", "scale_shift")},
}
"""Variant → words, and overrides of the diffusion stage."""

VARIANTS = {
    "base": Variant("as the size says"),
    **{name: Variant(words, {DIFFUSION: overrides}) for name, (words, overrides) in CHANGES.items()},
}

SWEEPS: dict[str, tuple[str, ...]] = {
    "losses": ("reconstruction", "with_sync", "with_lpips", "with_gan"),
    "sync_weight": ("sync_0", "sync_0.03", "sync_0.1", "sync_0.3"),
    "frames": ("frames_1", "frames_2", "frames_5"),
    "reference_distance": ("gap_0", "gap_5", "gap_15"),
    "mel_resolution": ("mel_80", "mel_40", "mel_20"),
    "audio_noise": ("voice_as_is", "voice_varied", "voice_noisy"),
    "min_snr": ("unweighted", "min_snr"),
    "prediction": ("predict_noise", "predict_velocity", "predict_x0"),
    "conditioning": ("additive", "scale_shift"),
}
"""The first three steps of ``losses`` are the first experiments that the paper names."""


def score(ablation: Ablation, variant: Variant, folder: Path) -> Cells:
    """Columns of the right sound, and of the wrong one how well the mouth follows."""
    rows = ablation.evaluate(folder, "rows=[lip_sync,other_sound]", *variant.scoring)
    (own,) = (cells for name, cells in rows.items() if name.startswith("lip-sync") and OTHER not in name)
    (other,) = (cells for name, cells in rows.items() if name.startswith("lip-sync") and OTHER in name)
    mouth = {name: value for name, value in other.items() if name.startswith("mouth opening")}
    return {**own, **{f"{name.removesuffix(' ↑')}, {OTHER}": value for name, value in mouth.items()}}


METHOD = Method((EXPERT, DIFFUSION), (DIFFUSION,), VARIANTS, score)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    epilog = "; ".join(f"{name}: {', '.join(VARIANTS[v].words for v in vs)}" for name, vs in SWEEPS.items())
    parser = argument_parser(__doc__, epilog, "diff2lip-ablation", "diff2lip")
    parser.add_argument("--sweeps", default=",".join(SWEEPS), help="names, with commas; default: %(default)s")
    parser.add_argument("--seeds", type=positive, default=1, help="how often each variant is trained")
    parser.add_argument("--evaluate", nargs="*", default=[], help="KEY=VALUE for the evaluation")
    given = parser.parse_args(arguments)
    sweeps = chosen(parser, given.sweeps, SWEEPS, "sweep")
    return run(METHOD, given, {name: SWEEPS[name] for name in sweeps}, given.seeds, given.evaluate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
