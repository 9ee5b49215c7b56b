"""DisentTalk in use: a source picture and a sound, perhaps the pose and the eyes of others, to a video."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.audio.alignment import frames_in
from talkgen.audio.waveform import load_waveform
from talkgen.configuration import RunFolder
from talkgen.data.windows import resize_frames
from talkgen.errors import FileError, TalkgenError
from talkgen.face3d.fitting import crop_camera
from talkgen.face3d.model_files import open_morphable_model
from talkgen.faces.blending import paste_back
from talkgen.faces.crop import crop_frame
from talkgen.faces.detection import make_detector
from talkgen.faces.landmarks import make_landmarker
from talkgen.inference.changed_video import Written
from talkgen.inference.fitted_face import FaceFitter
from talkgen.inference.mesh_preview import MeshPreview
from talkgen.inference.motion_renderer import MOTION_FPS, MeshRenderer, MotionRenderer
from talkgen.inference.request import is_picture
from talkgen.inference.runs import Trained, checkpoint_file, load_network
from talkgen.inference.stages import MOTION_STAGE, RENDERER_STAGE
from talkgen.inference.swaptalk import training_crop
from talkgen.inference.target_video import put_label, read_picture, scaled, whole_crop
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter

if TYPE_CHECKING:
    from talkgen.inference.motion import Eye, MotionGenerator
    from talkgen.inference.motion_renderer import FaceRenderer

SAMPLE_RATE = 16000
EYES = ("sampled", "copied", "driven", "off")


@dataclass(frozen=True, eq=False)
class DisentTalk:
    """The trained parts, and what they need of files.

    Attributes:
        motion: sound → coefficients.
        renderer: coefficients → pictures.
        fitter: pictures and videos → coefficients, of crops as the parts were trained on.
    """

    motion: MotionGenerator
    renderer: FaceRenderer
    fitter: FaceFitter


@dataclass(frozen=True)
class Source:
    """Who shall speak.

    Attributes:
        picture: the whole picture, uint8 (height, width, 3).
        crop: the face as the renderer takes it, uint8 (size, size, 3).
        coefficients: float32 (257,).
        matrix: float32 (2, 3), pixels of the picture → of the crop at the fitter's size.
    """

    picture: NDArray[np.uint8]
    crop: NDArray[np.uint8]
    coefficients: NDArray[np.float32]
    matrix: NDArray[np.float32]


@dataclass(frozen=True)
class Performance:
    """How the speech is performed.

    Attributes:
        eye: how the lids move, see ``MotionGenerator.generate``.
        eyes: coefficients (n, 257) to copy the eyes of, or how far the lids are closed (frames,), in [0, 1].
        pose: coefficients (n, 257) whose pose is taken; None: the head is held still.
        seed: of the motion that is drawn.
    """

    eye: Eye = "sampled"
    eyes: NDArray[np.float32] | None = None
    pose: NDArray[np.float32] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.eye not in EYES:
            raise TalkgenError(f"eye={self.eye}: give {', '.join(EYES)}")
        if self.eye in ("copied", "driven") and self.eyes is None:
            raise TalkgenError(f"eye={self.eye} needs eyes to follow: name a video with eye_source=FILE")

    @property
    def how(self) -> dict[str, Any]:
        """Keywords of ``MotionGenerator``."""
        return {"eye": self.eye, "eyes": self.eyes, "pose": self.pose, "seed": self.seed}


@dataclass(frozen=True)
class Latency:
    """How soon a stream begins.

    Attributes:
        heard_seconds: sound that had come before the first frame.
        worked_seconds: time from the first sound to the first frame, had all sound been there at once, with
            networks that are open.
        frames_per_second: of all frames, over the time that they took.
    """

    heard_seconds: float
    worked_seconds: float
    frames_per_second: float


def load_disenttalk(
    folder: str | Path,
    checkpoint: str = "best",
    device: str = "cpu",
    renderer: str = "auto",
    steps: int | None = None,
    guidance: float | None = None,
    batch_frames: int = 16,
    bf16: bool = False,
    ahead: int = 4,
    detector: str = "insightface",
    landmarker: str = "insightface",
    mesh_size: int = 256,
) -> DisentTalk:
    """DisentTalk from the folder of its stages, such as ``runs/disenttalk-demo``.

    Args:
        folder: of the method.
        checkpoint: ``"best"`` or ``"last"`` of the renderer.
        device: where networks run.
        renderer: ``trained``; ``mesh``, which draws the bare mesh; ``auto``: trained where there is one.
        steps, guidance: of the diffusion; None: as trained.
        batch_frames, bf16, ahead: see ``MotionRenderer``.
        detector, landmarker: names of backends.
        mesh_size: pixels of pictures of the mesh.

    Raises:
        TalkgenError: a stage is missing, or cannot be used.
    """
    from talkgen.inference.motion import load_motion

    motion = load_motion(Path(folder) / MOTION_STAGE, device, steps, guidance)
    crop = training_crop(Path(folder) / MOTION_STAGE)
    model = open_morphable_model(motion.morphable_model)
    fitter = FaceFitter(model, crop, make_detector(detector), make_landmarker(landmarker))
    made: FaceRenderer | None = open_renderer(folder, checkpoint, device, renderer, batch_frames, bf16, ahead)
    if made is None:
        made = MeshRenderer(MeshPreview(model, crop_camera(replace(crop, size=mesh_size)), samples=2))
    return DisentTalk(motion, made, fitter)


def open_renderer(
    folder: str | Path,
    checkpoint: str = "best",
    device: str = "cpu",
    renderer: str = "trained",
    batch_frames: int = 16,
    bf16: bool = False,
    ahead: int = 4,
) -> MotionRenderer | None:
    """The trained renderer of a method's folder; None where the mesh shall stand for it.

    Arguments are those of ``load_disenttalk``.

    Raises:
        TalkgenError: it was asked for and is not there, or cannot be used.
    """
    if renderer not in ("auto", "trained", "mesh"):
        raise TalkgenError(f"renderer={renderer}: give auto, trained or mesh")
    run = RunFolder(Path(folder) / RENDERER_STAGE)
    if renderer == "mesh" or (renderer == "auto" and not run.last.is_file()):
        return None
    if not run.last.is_file():
        raise FileError(
            folder,
            "has no trained renderer: python train.py experiment=disenttalk_renderer; or renderer=mesh",
        )
    file = checkpoint_file(run, checkpoint)
    size = Trained(file, "").image_size()
    return MotionRenderer(load_network(run, "renderer", file), size, device, batch_frames, bf16, ahead)


# From files to a file --------------------------------------------------------------------------------------


def open_source(model: DisentTalk, file: str | Path) -> Source:
    """The largest face of a picture, or of a video's first frame.

    Raises:
        FileError: it is neither, or shows no face.
    """
    if is_picture(file):
        return source_of(model, read_picture(file), file)
    first = next(iter(read_frames(file)), None)
    if first is None:
        raise FileError(file, "has no frame; give a picture of the face")
    return source_of(model, first, file)


def is_still(file: str | Path) -> bool:
    """Whether nothing moves in a video's first frames, so that its pose is not worth following."""
    first, *others = islice(read_frames(file), 5)
    return all(np.array_equal(first, other) for other in others)


def source_of(model: DisentTalk, picture: NDArray[np.uint8], name: str | Path = "the picture") -> Source:
    """The largest face of a picture that is there already.

    Raises:
        FileError: it shows no face.
    """
    fitted = model.fitter.picture(picture, name)
    crop = crop_frame(picture, fitted.matrices[0], model.fitter.crop.size)
    size = model.renderer.size
    return Source(picture, resize_frames(crop[None], size)[0], fitted.coefficients[0], fitted.matrices[0])


def frames_of(
    model: DisentTalk,
    source: Source,
    waveform: NDArray[np.float32],
    performance: Performance,
    fps: float = MOTION_FPS,
) -> Iterator[NDArray[np.uint8]]:
    """Frames uint8 (size, size, 3) of a sound of any length, one at a time."""
    features = model.motion.hear(waveform, max(1, frames_in(len(waveform), fps=MOTION_FPS)))
    coefficients = model.motion.generate(features, source.coefficients, **performance.how)
    yield from model.renderer.clip(source.crop, source.coefficients, coefficients, fps)


def stream_frames(
    model: DisentTalk,
    source: Source,
    chunks: Iterable[NDArray[np.float32]],
    performance: Performance,
) -> Iterator[NDArray[np.uint8]]:
    """Frames at 25 a second while sound comes in chunks of any length (samples,), 16 kHz."""
    rows = model.motion.stream(chunks, source.coefficients, **performance.how)
    yield from model.renderer.stream(source.crop, source.coefficients, rows)


def generate(
    model: DisentTalk,
    source: str | Path,
    audio: str | Path,
    out: str | Path,
    pose: str | Path | None = None,
    eye_source: str | Path | None = None,
    eye: Eye = "sampled",
    seed: int = 0,
    fps: float = MOTION_FPS,
    into: Literal["crop", "picture"] = "crop",
    streaming: bool = False,
    chunk_seconds: float = 0.2,
    label: str | None = None,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> tuple[Written, Latency | None]:
    """A video of the source, who says what is heard.

    It lasts as long as the sound, and its metadata says that it is synthetic.

    Args:
        model: the trained parts.
        source: picture of who shall speak, or a video in whose first frame they are seen.
        audio: audio or video file with the speech.
        out: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        pose: video whose head movements are taken, forwards and backwards; None: the head is held still.
        eye_source: video whose lids are followed, with ``eye="copied"``.
        eye: how the lids move, see ``MotionGenerator.generate``.
        seed: of the motion that is drawn.
        fps: frames a second, of any rate; a stream has 25.
        into: the ``crop`` alone, or the ``picture`` with the crop put back.
        streaming: take the sound in chunks, as if it came while it is spoken.
        chunk_seconds: length of the chunks.
        label: visible text in the corner of every frame; None: only the metadata tell.
        crf: H.264 quality.
        progress: show bars.
        watermark: whether the frames bear the invisible watermark of generated video.

    Returns:
        The file; and how soon the stream began, where it was one.

    Raises:
        TalkgenError: a file cannot be used, or there is no face in it.
    """
    if streaming and fps != MOTION_FPS:
        raise TalkgenError(f"a stream has {MOTION_FPS:g} frames a second; leave fps out")
    if not 1 <= fps <= 240:
        raise TalkgenError(f"fps={fps}: give 1 to 240 frames a second")
    waveform = load_waveform(audio)
    count = frames_in(len(waveform), fps=fps)
    if count < 1:
        raise FileError(audio, f"its sound lasts less than one frame at {fps:g} fps")
    who = open_source(model, source)
    follow = {name: None if file is None else model.fitter.video(file, progress=progress).coefficients
              for name, file in (("pose", pose), ("eyes", eye_source))}  # fmt: skip
    performance = Performance(eye=eye, seed=seed, **follow)
    clock = _Clock()
    if streaming:
        _warm_up(model, who)
        chunks = clock.heard(_chunks(waveform, round(chunk_seconds * SAMPLE_RATE)))
        frames = clock.shown(stream_frames(model, who, chunks, performance))
    else:
        frames = frames_of(model, who, waveform, performance, fps)
    height, width = who.picture.shape[:2] if into == "picture" else (model.renderer.size,) * 2
    paste = _Paste(who, model) if into == "picture" else None
    written = 0
    with (
        VideoWriter(out, fps, width, height, crf, audio, synthetic=True, watermark=watermark) as writer,
        tqdm(total=count, unit="frame", desc="generating", disable=not progress) as bar,
    ):
        for frame in frames:
            if written == count:
                break
            shown = frame if paste is None else paste(frame)
            writer.write(put_label(shown, label) if label else shown)
            written += 1
            bar.update()
    return Written(Path(out), written, 0, fps), clock.latency if streaming else None


def _warm_up(model: DisentTalk, source: Source) -> None:
    """Open what is opened at first use, before a stream begins: half a second of silence."""
    silence = [np.zeros(SAMPLE_RATE // 2, np.float32)]
    for _ in islice(stream_frames(model, source, silence, Performance(eye="off")), 2):
        pass


class _Paste:
    """Puts crops back into the source picture."""

    def __init__(self, source: Source, model: DisentTalk) -> None:
        size = model.renderer.size
        self.picture = source.picture
        self.matrix = scaled(source.matrix[None], size / model.fitter.crop.size)[0]
        self.mask = whole_crop(size)

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return paste_back(self.picture, crop, self.matrix, self.mask)


def _chunks(waveform: NDArray[np.float32], samples: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(waveform), samples):
        yield waveform[start : start + samples]


class _Clock:
    """Measures a stream from both ends."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._samples = 0
        self._first: tuple[float, float] | None = None
        self._frames = 0

    def heard(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """The same chunks, counted."""
        self._begun = time.perf_counter()
        for chunk in chunks:
            self._samples += len(chunk)
            yield chunk

    def shown(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """The same frames, timed."""
        for frame in frames:
            self._frames += 1
            if self._first is None:
                self._first = self._samples / SAMPLE_RATE, time.perf_counter() - self._begun
            yield frame

    @property
    def latency(self) -> Latency:
        """What was measured."""
        heard, worked = self._first or (0.0, 0.0)
        return Latency(heard, worked, self._frames / max(time.perf_counter() - self._begun, 1e-9))
