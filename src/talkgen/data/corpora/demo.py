"""The demo corpus: synthetic people who speak English and Mandarin, with the truth about every frame.

Layout::

    <out>/demo.json                 settings that made it
    <out>/clips.jsonl               one `RawClip` a line
    <out>/videos/<clip>.mp4         25 fps, H.264, speech as AAC
    <out>/truth/<clip>.npz          see `FrameTruth`

A clip whose ``swap_of`` is set is a perfect face swap: performance, pose, light, hair, clothes and room of
the clip that it names (the target), with the face of another identity (the source).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.audio.speech import SILENCE, Phoneme, speak
from talkgen.data.clip import RawClip
from talkgen.data.corpora.demo_casting import ClipPlan, DemoSettings, cast, identity_name, plan_clips, style
from talkgen.data.corpora.demo_performance import FPS, Performance, perform
from talkgen.data.executors import ProcessExecutor, SerialExecutor, WorkerDied
from talkgen.data.files import write_atomically
from talkgen.data.manifest import read_manifest, write_manifest
from talkgen.errors import FileError, TalkgenError
from talkgen.face3d.actor import Actor
from talkgen.face3d.coefficients import Coefficients
from talkgen.face3d.head import build_head
from talkgen.face3d.rasterizer import Camera
from talkgen.unfinished import unfinished_name
from talkgen.video.writer import VideoWriter

SAMPLE_RATE = 16000
LISTING = "clips.jsonl"


@dataclass(frozen=True)
class FrameTruth:
    """What is known about every frame of a clip; the fields are the arrays of its ``.npz``.

    Attributes:
        landmarks: float32 (frames, 68, 2) iBUG, pixels of the video.
        truth_coefficients: float32 (frames, 257) id, exp, tex, angle, gamma, trans (`face3d.coefficients`).
        truth_generators: float32 (frames, 64) true movements in the order of ``head_motion.GENERATORS``:
            0-15 lips, 16-23 eyes, 24-29 brows, then others.
        truth_pose: float32 (frames, 6) pitch, yaw, roll in radians; x, y, z in decimetres.
        truth_lip_opening: float32 (frames,) between the inner lips, decimetres.
        truth_lip_width: float32 (frames,) between the corners of the mouth, decimetres.
        truth_eye_opening: float32 (frames, 2) left, right; height over width of the opening.
        truth_blink: uint8 (frames,) 1 while a blink has the lids more than half closed.
        truth_viseme: int16 (frames,) index into ``talkgen.audio.visemes.VISEMES``.
        truth_phoneme: int16 (frames,) index into ``demo_performance.PHONEMES``.
        truth_loudness: float32 (frames,) in [0, 1].
    """

    landmarks: NDArray[np.float32]
    truth_coefficients: NDArray[np.float32]
    truth_generators: NDArray[np.float32]
    truth_pose: NDArray[np.float32]
    truth_lip_opening: NDArray[np.float32]
    truth_lip_width: NDArray[np.float32]
    truth_eye_opening: NDArray[np.float32]
    truth_blink: NDArray[np.uint8]
    truth_viseme: NDArray[np.int16]
    truth_phoneme: NDArray[np.int16]
    truth_loudness: NDArray[np.float32]


@dataclass(frozen=True)
class Take:
    """A clip that can be drawn frame by frame.

    Attributes:
        plan: what it is.
        waveform: float32 (samples,) at 16 kHz, as long as the frames.
        performance: the motion.
        expressions: (frames, 64) coefficients.
        actor: draws it.
        truth: what is known.
    """

    plan: ClipPlan
    waveform: NDArray[np.float32]
    performance: Performance
    expressions: NDArray[np.float64]
    actor: Actor
    truth: FrameTruth

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Draw one frame, uint8 (size, size, 3)."""
        return self.actor.draw(self.expressions[index], self.performance.pose, index)


def utter(plan: ClipPlan, settings: DemoSettings) -> tuple[NDArray[np.float32], tuple[Phoneme, ...]]:
    """The sound track of a clip and its phonemes: sentences with pauses, cut at the clip's length."""
    random = np.random.default_rng([settings.seed, 5, plan.performer, plan.take])
    samples = round(settings.seconds * FPS) * SAMPLE_RATE // FPS
    waveform = (random.normal(size=samples) * 3e-4).astype(np.float32)  # the room is never quite silent
    end = samples / SAMPLE_RATE
    at = float(random.uniform(0.15, 0.40)) if plan.lead_seconds is None else plan.lead_seconds
    phonemes = [Phoneme(SILENCE, 0.0, at)]
    for sentence in plan.sentences:
        if at >= end - 0.2:
            break
        speech = speak(sentence, plan.language, plan.voice)  # type: ignore[arg-type]
        first = round(at * SAMPLE_RATE)
        piece = speech.waveform[: samples - first] * 0.9
        waveform[first : first + len(piece)] += piece
        for item in speech.phonemes:
            if at + item.start_seconds < end:
                phonemes.append(
                    Phoneme(item.symbol, at + item.start_seconds, min(at + item.end_seconds, end))
                )
        pause = float(random.uniform(0.20, 0.50))
        at = phonemes[-1].end_seconds
        if at < end:
            phonemes.append(Phoneme(SILENCE, at, min(at + pause, end)))
            at += pause
    if phonemes[-1].end_seconds < end:
        phonemes.append(Phoneme(SILENCE, phonemes[-1].end_seconds, end))
    fade = int(0.015 * SAMPLE_RATE)
    waveform[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return np.clip(waveform, -1, 1), tuple(phonemes)


def make_take(plan: ClipPlan, settings: DemoSettings) -> Take:
    """Cast, speak, act: everything of a clip but its pictures."""
    model = build_head()
    frames = round(settings.seconds * FPS)
    waveform, phonemes = utter(plan, settings)
    performance = perform(
        phonemes, waveform, SAMPLE_RATE, frames, [settings.seed, 6, plan.performer, plan.take]
    )
    face = cast(settings, plan.face)
    skull = None if plan.face == plan.performer else cast(settings, plan.performer)
    styling = style(settings, plan.performer, plan.take)
    actor = Actor(face, styling, Camera(size=settings.size_pixels), skull=skull)
    expressions = model.generators_to_coefficients(performance.generators)
    still = model.landmarks68(face.identity, expressions)
    across = np.linalg.norm(still[:, (36, 42)] - still[:, (39, 45)], axis=-1)
    upper, lower = (
        0.5 * (still[:, (37, 43)] + still[:, (38, 44)]),
        0.5 * (still[:, (41, 47)] + still[:, (40, 46)]),
    )
    pose = performance.pose
    coefficients = Coefficients(
        identity=np.tile(face.identity, (frames, 1)),
        expression=expressions,
        texture=np.tile(face.texture, (frames, 1)),
        angle=pose.angle,
        gamma=np.tile(styling.gamma, (frames, 1)),
        translation=pose.translation,
    )
    truth = FrameTruth(
        landmarks=actor.landmarks(expressions, pose),
        truth_coefficients=coefficients.pack().astype(np.float32),
        truth_generators=performance.generators.astype(np.float32),
        truth_pose=np.concatenate([pose.angle, pose.translation], axis=1).astype(np.float32),
        truth_lip_opening=np.linalg.norm(still[:, 62] - still[:, 66], axis=-1).astype(np.float32),
        truth_lip_width=np.linalg.norm(still[:, 48] - still[:, 54], axis=-1).astype(np.float32),
        truth_eye_opening=(np.maximum(upper - lower, 0.0)[..., 1] / across)[:, ::-1].astype(np.float32),
        truth_blink=performance.blink.astype(np.uint8),
        truth_viseme=performance.viseme,
        truth_phoneme=performance.phoneme,
        truth_loudness=performance.loudness.astype(np.float32),
    )
    return Take(plan, waveform, performance, expressions, actor, truth)


def raw_clip(plan: ClipPlan) -> RawClip:
    """Line of the listing for a clip."""
    return RawClip(
        id=plan.id,
        corpus="demo",
        split=plan.split,
        video=f"videos/{plan.id}.mp4",
        identity=identity_name(plan.face),
        language=plan.language,
        truth=f"truth/{plan.id}.npz",
        swap_of=plan.swap_of,
        notes=f"voice {plan.voice.name}: {' '.join(plan.sentences)}",
    )


def write_video(
    waveform: NDArray[np.float32], takes: Sequence[Take], file: Path, settings: DemoSettings
) -> None:
    """Draw takes one after the other into a video with a sound track."""
    size = settings.size_pixels
    with VideoWriter(
        file,
        FPS,
        size,
        size,
        crf=settings.crf,
        audio=(waveform, SAMPLE_RATE),
        preset="veryfast",
        synthetic=True,
        watermark=False,
    ) as writer:
        for take in takes:
            for index in range(len(take.expressions)):
                writer.write(take.frame(index))


def make_clip(plan: ClipPlan, settings: DemoSettings, out: Path) -> str:
    """Write video and truth of one clip, unless both are there; the truth is written last. Returns the
    clip's id."""
    video, truth = out / "videos" / f"{plan.id}.mp4", out / "truth" / f"{plan.id}.npz"
    if video.exists() and truth.exists():
        return plan.id
    take = make_take(plan, settings)
    write_video(take.waveform, [take], video, settings)
    partial_file = unfinished_name(truth, keep_suffix=True)
    np.savez(partial_file, **{item.name: getattr(take.truth, item.name) for item in fields(FrameTruth)})
    partial_file.replace(truth)
    return plan.id


def generate_demo(
    out: str | Path, settings: DemoSettings | None = None, workers: int | None = None, progress: bool = True
) -> list[RawClip]:
    """Make the demo corpus, or what is missing of it.

    Args:
        out: folder; finished clips in it are kept.
        settings: size and seed; None for the defaults (about three minutes of video).
        workers: processes; None for one a core, 1 stays in this process.
        progress: show a bar with the time left.

    Returns:
        The clips, also written to ``clips.jsonl``.

    Raises:
        FileError: the folder holds a demo corpus of other settings.
        MissingPackage: the speech synthesiser is not installed (``pip install talkgen[demo]``).
    """
    out, settings = Path(out), settings or DemoSettings()
    for folder in ("videos", "truth"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _claim(out, settings)
    plans = plan_clips(settings)
    workers = min(workers or os.cpu_count() or 1, len(plans))
    executor = ProcessExecutor(workers) if workers > 1 else SerialExecutor()
    work = partial(make_clip, settings=settings, out=out)
    with tqdm(total=len(plans), desc="demo corpus", unit="clip", disable=not progress) as bar:
        for plan, made in executor.map(work, plans):
            if isinstance(made, WorkerDied):
                raise TalkgenError(f"{out}: clip {plan.id} cannot be made: {made}")
            bar.update()
    clips = [raw_clip(plan) for plan in plans]
    write_manifest(out / LISTING, clips)
    return clips


def _claim(out: Path, settings: DemoSettings) -> None:
    """Write the settings, or check that those in the folder are the same."""
    file = out / "demo.json"
    if file.exists():
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FileError(file, "is not JSON; delete the folder and make the corpus again") from error
        if there != settings.as_dict():
            raise FileError(
                file,
                f"the demo corpus here has other settings ({there}); choose another folder or delete it",
            )
    else:
        write_atomically(file, (json.dumps(settings.as_dict(), indent=1) + "\n").encode())


def find_clips(source: str | Path) -> list[RawClip]:
    """The clips of a demo corpus.

    Args:
        source: folder that `generate_demo` filled.

    Raises:
        FileError: there is no complete demo corpus, or its listing cannot be read.
    """
    listing = Path(source) / LISTING
    if not listing.is_file():
        raise FileError(
            listing,
            "is missing: this is no finished demo corpus; make one with `talkgen prepare corpus=demo`",
        )
    return read_manifest(listing, RawClip)
