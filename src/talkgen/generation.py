"""``talkgen generate``: a trained method makes a video of a source picture, a target video and a sound.

Heavy libraries are imported where work begins, so that ``--help`` and refusals answer at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from talkgen.configuration import check_keys, find_runs, hydra_command
from talkgen.errors import FileError, TalkgenError
from talkgen.generation_method import Generate, GenerationFiles, GenerationMethod, installed_methods
from talkgen.inference.stages import is_diff2lip, is_disenttalk, is_swaptalk

if TYPE_CHECKING:
    from talkgen.inference.changed_video import Written
    from talkgen.inference.request import Request

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


def main(arguments: Sequence[str]) -> int:
    """``talkgen generate``.

    Args:
        arguments: Hydra overrides.
    """
    return hydra_command("generate", run, [as_words(argument) for argument in arguments])


def as_words(argument: str) -> str:
    """``text=…`` in quotes: what is to be said may hold commas, brackets and all else that Hydra reads."""
    key, separator, words = argument.partition("=")
    if key != "text" or not separator or words in ("", "null"):
        return argument
    escaped = words.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'text="{escaped}"'


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


METHODS: dict[str, GenerationMethod] = {
    "swaptalk": GenerationMethod(is_swaptalk, open_swaptalk, "swaptalk"),
    "diff2lip": GenerationMethod(is_diff2lip, open_diff2lip, "diff2lip"),
    "disenttalk": GenerationMethod(is_disenttalk, open_disenttalk, "disenttalk"),
}
"""The methods of this package; others bring theirs as entry points."""


def methods() -> dict[str, GenerationMethod]:
    """Every method that there is, by name."""
    return METHODS | installed_methods()


def run(cfg: DictConfig) -> int:
    """Generate what the composed config asks for; see ``configs/generate.yaml``.

    Returns:
        0, or 1 where a line of a batch could not be made.

    Raises:
        TalkgenError: an input is missing or cannot be used, or there is no trained method.
    """
    check_keys(cfg, "generate")
    known = methods()
    if cfg.method is not None and cfg.method not in known:
        raise TalkgenError(f"method={cfg.method}: there is {', '.join(known)}")
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
    requests = requested(cfg)
    runs = Path(cfg.paths.runs)
    method = known[cfg.method or method_of(known, runs, cfg.run)]
    folder = choose_method(runs, cfg.run, method)
    print(f"with {folder}")
    generate = method.open(cfg, folder)

    def make(request: Request) -> Written:
        from talkgen.inference.preview import write_preview
        from talkgen.inference.request import as_files

        check_output(request.out)
        request.check()
        request.out.parent.mkdir(parents=True, exist_ok=True)
        with as_files(request) as (target, audio):
            written = generate(GenerationFiles(request.source, target, audio, request.out))
        if cfg.preview:
            write_preview(written.file)
        return written

    begun = time.perf_counter()
    if cfg.batch is None:
        written = make(requests[0][1])
        print(f"written to {written.file}: {summary([written], time.perf_counter() - begun)}")
        return 0
    from talkgen.inference.batch import rejects_file, run_batch

    outcome = run_batch(requests, make, rejects_file(cfg.batch), cfg.overwrite)
    print(
        f"{len(outcome.written)} written, {len(outcome.skipped)} there already, "
        f"{len(outcome.rejected)} rejected: {summary(outcome.written, time.perf_counter() - begun)}"
    )
    if outcome.rejected:
        print(f"reasons are in {rejects_file(cfg.batch)}; the same command tries these again")
    return 1 if outcome.rejected else 0


def requested(cfg: DictConfig) -> list[tuple[int, Request]]:
    """What a config asks for: one video, or the lines of a batch.

    Raises:
        TalkgenError: it does not say what to make, or says it twice; or a file is missing.
    """
    from talkgen.inference.request import Request

    def path(value: str | None) -> Path | None:
        return None if value is None else Path(value)

    if cfg.face is not None and cfg.target is not None:
        raise TalkgenError("face and target are two names of one thing; give one of them")
    target = path(cfg.face if cfg.face is not None else cfg.target)
    text = None if cfg.text is None else str(cfg.text)
    if cfg.batch is not None:
        from talkgen.inference.batch import read_batch

        if target or cfg.audio or cfg.out or text:
            raise TalkgenError(
                "batch=FILE names faces, sounds and outputs; leave face, audio, text, out away"
            )
        return read_batch(cfg.batch, path(cfg.source), cfg.language, cfg.voice)
    if target is None or cfg.out is None:
        raise TalkgenError(
            "say what to make: talkgen generate source=PICTURE target=VIDEO audio=SOUND out=FILE.mp4, or "
            'talkgen generate face=PICTURE_OR_VIDEO text="WORDS" out=FILE.mp4'
        )
    request = Request(target, Path(cfg.out), path(cfg.source), path(cfg.audio), text, cfg.language, cfg.voice)
    check_output(request.out)
    request.check()
    return [(0, request)]


def check_output(out: Path) -> None:
    """Refuse a name that no video can have.

    Raises:
        FileError: for such a name.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise FileError(out, f"cannot hold the video; name it {', '.join(SUFFIXES)}")


def summary(written: Sequence[Written], seconds: float) -> str:
    """How much was made, and how fast: ``real time`` is seconds of work for a second of video."""
    frames, missed = sum(one.frames for one in written), sum(one.without_face for one in written)
    lasting = sum(one.seconds for one in written)
    factor = f", {seconds / lasting:.1f} × real time" if lasting else ""
    return f"{frames} frames, {missed} without a face; {lasting:.1f} s of video in {seconds:.1f} s{factor}"


def method_of(known: Mapping[str, GenerationMethod], runs: Path, name: str | None) -> str:
    """The method of a folder, or the one that was trained last; SwapTalk where there is none."""
    newest = [place for run in find_runs(runs) for place in (run.path, run.path.parent)]
    places = newest if name is None else [runs / name, Path(name)]
    return next((key for place in places for key in known if known[key].is_trained(place)), "swaptalk")


def choose_method(runs: Path, name: str | None, method: GenerationMethod = METHODS["swaptalk"]) -> Path:
    """The folder of the method that is used: ``name``, or the one that was trained last.

    Raises:
        TalkgenError: there is none; the message lists those that there are.
    """
    places = [place for run in find_runs(runs) for place in (run.path, run.path.parent)]
    trained = [place for place in dict.fromkeys(places) if method.is_trained(place)]
    if name is None and trained:
        return trained[0]
    if name is not None:
        for folder in (runs / name, Path(name)):
            if method.is_trained(folder):
                return folder
    there = f"; there are {', '.join(folder.name for folder in trained)}" if trained else ""
    what = f"{name!r} is no trained method in {runs}" if name else f"there is no trained method in {runs}"
    raise TalkgenError(f"{what}{there}; train one with: python train.py experiment={method.experiment}")
