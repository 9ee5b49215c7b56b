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
from talkgen.generation_method import GenerationFiles, GenerationMethod, methods

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


def choose_method(runs: Path, name: str | None, method: GenerationMethod) -> Path:
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
