"""``talkgen generate``: a trained method makes a video of a source picture, a target video and a sound.

Heavy libraries are imported where work begins, so that ``--help`` and refusals answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from talkgen.configuration import check_keys, find_runs, hydra_command
from talkgen.errors import FileError, TalkgenError
from talkgen.inference.stages import is_swaptalk

METHODS = ("swaptalk",)
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


def main(arguments: Sequence[str]) -> int:
    """``talkgen generate``.

    Args:
        arguments: Hydra overrides.
    """
    return hydra_command("generate", run, arguments)


def run(cfg: DictConfig) -> int:
    """Generate what the composed config asks for; see ``configs/generate.yaml``.

    Raises:
        TalkgenError: an input is missing or cannot be used, or there is no trained method.
    """
    check_keys(cfg, "generate")
    if cfg.method not in METHODS:
        raise TalkgenError(f"method={cfg.method}: there is {', '.join(METHODS)}")
    for key, values in (
        ("order", ("swap_sync", "sync_swap")),
        ("space", ("latent", "rgb")),
        ("paste", ("face", "crop")),
    ):
        if cfg[key] not in values:
            raise TalkgenError(f"{key}={cfg[key]}: give {' or '.join(values)}")
    for key in ("batch_frames", "detect_every"):
        if not isinstance(cfg[key], int) or cfg[key] < 1:
            raise TalkgenError(f"{key}={cfg[key]}: give a number of frames, at least 1")
    if cfg.target is None or cfg.out is None:
        raise TalkgenError(
            "say what to make: talkgen generate source=PICTURE target=VIDEO audio=SOUND out=FILE.mp4"
        )
    out = Path(cfg.out)
    if out.suffix.lower() not in SUFFIXES:
        raise FileError(out, f"cannot hold the video; name it {', '.join(SUFFIXES)}")
    for file in (cfg.source, cfg.target, cfg.audio):
        if file is not None and not Path(file).is_file():
            raise FileError(file, "no such file")
        if file is not None and out.exists() and out.samefile(file):
            raise FileError(out, "is one of the inputs; name another file")
    folder = choose_method(Path(cfg.paths.runs), cfg.run)
    out.parent.mkdir(parents=True, exist_ok=True)

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
    generate(
        model,
        cfg.source,
        cfg.target,
        cfg.audio,
        out,
        detector=cfg.detector,
        detect_every=cfg.detect_every,
        choose=cfg.choose,
        paste=cfg.paste,
        label=cfg.label,
        crf=cfg.crf,
    )
    print(f"written to {out}")
    return 0


def choose_method(runs: Path, name: str | None) -> Path:
    """The folder of the method that is used: ``name``, or the one that was trained last.

    Raises:
        TalkgenError: there is none; the message lists those that there are.
    """
    trained = list(dict.fromkeys(run.path.parent for run in find_runs(runs) if is_swaptalk(run.path.parent)))
    if name is None and trained:
        return trained[0]
    if name is not None:
        for folder in (runs / name, Path(name)):
            if is_swaptalk(folder):
                return folder
    there = f"; there are {', '.join(folder.name for folder in trained)}" if trained else ""
    what = f"{name!r} is no trained method in {runs}" if name else f"there is no trained method in {runs}"
    raise TalkgenError(f"{what}{there}; train one with: python train.py experiment=swaptalk")
