"""A trained motion stage in use: what is heard and a face at rest → motion of any length, or as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from talkgen.audio.alignment import frames_in, sample_range
from talkgen.audio.frame_features import FrameFeatures
from talkgen.configuration import RunFolder, build
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.sampler import Sampler
from talkgen.errors import TalkgenError
from talkgen.face3d.coefficients import ANGLE, EXPRESSION, SIZE, TRANSLATION
from talkgen.inference.runs import find_trained, load_network, run_config
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.motion_codec import RegionCodec
from talkgen.models.disenttalk.motion_space import MotionSpace
from talkgen.models.disenttalk.sampling import Guidance, Windowing, sample_window, sample_windows

Eye = Literal["sampled", "copied", "driven", "off"]
Array = NDArray[np.floating]

FPS = 25.0
PART, EXPERIMENT = "denoiser", "disenttalk_motion"
_HEARD_SECONDS = 10.0  # of sound that a stream looks back on when it listens


@dataclass(frozen=True)
class Motion:
    """What a motion run is in use.

    Attributes:
        denoiser: the network.
        space: of its motion, filled.
        diffusion: what the network's output means.
        codec: of its latents; None without one.
        morphable_model: what ``open_morphable_model`` takes.
    """

    denoiser: MotionDenoiser
    space: MotionSpace
    diffusion: GaussianDiffusion
    codec: RegionCodec | None
    morphable_model: str


class MotionGenerator:
    """Speech → the 257 coefficients of every frame, 25 a second.

        generator = load_motion("runs/disenttalk-demo/disenttalk_motion")
        heard = generator.hear(waveform)
        coefficients = generator.generate(heard, start=source_coefficients)

    The same seed gives the same motion on any machine of the same kind.

    Args:
        motion: networks and space.
        features: what the network was trained to hear.
        sampler: 10 to 25 steps.
        guidance: how much the sound counts.
        windowing: how long clips are cut.
        device: where it runs.
    """

    fps = FPS

    def __init__(
        self,
        motion: Motion,
        features: FrameFeatures,
        sampler: Sampler,
        guidance: Guidance | None = None,
        windowing: Windowing | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.motion = motion
        self.features = features
        self.sampler = sampler
        self.guidance = guidance or Guidance()
        self.windowing = windowing or Windowing()
        self.device = torch.device(device)
        modules = (motion.denoiser, motion.space, motion.diffusion, motion.codec)
        for module in modules:
            if module is not None:
                module.to(self.device).eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Of what a frame hears."""
        return self.motion.denoiser.audio_dim

    @property
    def morphable_model(self) -> str:
        """The model whose coefficients these are, for ``open_morphable_model``."""
        return self.motion.morphable_model

    def hear(self, waveform: Array, frames: int | None = None) -> NDArray[np.float32]:
        """What each frame of a sound hears.

        Args:
            waveform: float (samples,) at 16 kHz.
            frames: how many; None: as many as the sound lasts.
        """
        count = frames_in(len(waveform)) if frames is None else frames
        return self.features(waveform, count, FPS)

    def generate(
        self,
        features: Array,
        start: Array,
        eye: Eye = "sampled",
        eyes: Array | None = None,
        pose: Array | None = None,
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Motion of a clip of any length.

        Args:
            features: (frames, dim), see ``hear``.
            start: (257,) of the source's picture, or (n, 257) of some frames of the source: whose face it is,
                and how it looks at rest.
            eye: ``sampled``: the lids do what the network says; ``copied``: what ``eyes`` do, coefficients
                (n, 257), forwards and backwards; ``driven``: ``eyes`` (frames,) says how far they are closed,
                from 0 to 1; ``off``: they stay at rest.
            eyes: see there.
            pose: (n, 257), or (n, 6) of angles and translations, of a driving clip, forwards and backwards;
                None: the first one of ``start``.
            seed: of all chance.

        Returns:
            float32 (frames, 257).

        Raises:
            TalkgenError: an argument has another shape, or none where one is needed.
        """
        heard = self._heard(features)
        generator = torch.Generator().manual_seed(seed)
        windows = sample_windows(
            self.motion.denoiser, self.motion.diffusion, self.sampler, heard, self.windowing,
            self.guidance, generator,
        )  # fmt: skip
        finish = _Finish(self.motion, start, eye, eyes, pose)
        parts, first = [], 0
        for latent in windows:
            parts.append(finish(latent, first))
            first += len(latent)
        if first == 0:
            return np.zeros((0, SIZE), np.float32)
        return np.concatenate(parts)

    def stream(
        self,
        chunks: Iterable[Array],
        start: Array,
        eye: Eye = "sampled",
        eyes: Array | None = None,
        pose: Array | None = None,
        seed: int = 0,
        hop: int = 8,
    ) -> Iterator[NDArray[np.float32]]:
        """Frames (257,) in order, as soon as the sound that they need has come.

        Args:
            chunks: pieces of the sound, float (samples,) at 16 kHz, of any lengths.
            start, eye, eyes, pose, seed: see ``generate``.
            hop: frames that are made at a time: fewer come earlier and cost more.
        """
        finish = _Finish(self.motion, start, eye, eyes, pose)
        generator = torch.Generator().manual_seed(seed)
        windowing, first = self.windowing, 0
        carried: Tensor | None = None
        sound, dropped = np.zeros(0, np.float32), 0  # samples, and frames that were forgotten before them

        def make(last: int, keep: int) -> Iterator[NDArray[np.float32]]:
            """Frames from ``first`` on, ``keep`` of those that end before ``last``."""
            nonlocal carried, first
            before = 0 if carried is None else carried.shape[1]
            heard = self.features(sound, last - dropped, FPS)[first - before - dropped :]
            latent = sample_window(
                self.motion.denoiser, self.motion.diffusion, self.sampler, self._heard(heard)[None],
                self.guidance, carried, generator,
            )  # fmt: skip
            latent = latent[:, : before + keep]
            yield from finish(latent[0, before:], first)
            carried = latent[:, -windowing.carried :] if windowing.carried else None
            first += keep

        for chunk in chunks:
            sound = np.concatenate([sound, np.asarray(chunk, np.float32)])
            while dropped + frames_in(len(sound)) >= first + hop + windowing.lookahead:
                yield from make(first + hop + windowing.lookahead, hop)
            forget = max(first - windowing.carried - round(_HEARD_SECONDS * FPS) - dropped, 0)
            sound, dropped = sound[sample_range(0, forget).stop :], dropped + forget
        total = dropped + frames_in(len(sound))
        while first < total:
            last = min(first + hop + windowing.lookahead, total)
            yield from make(last, last - first if last == total else hop)

    def lookahead_seconds(self, hop: int = 8) -> float:
        """How much sound after a frame's own must have come before it is made, at most."""
        return (hop + self.windowing.lookahead) / FPS

    def _heard(self, features: Array) -> Tensor:
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise TalkgenError(f"this model hears {self.dim} numbers a frame, not {features.shape}")
        return torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(self.device)


class _Finish:
    """Latents of some frames → coefficients, with the source's face and others' eyes and pose."""

    def __init__(
        self, motion: Motion, start: Array, eye: Eye, eyes: Array | None, pose: Array | None
    ) -> None:
        begin = np.atleast_2d(np.asarray(start, np.float32))
        if begin.ndim != 2 or begin.shape[1] != SIZE or not len(begin):
            raise TalkgenError(f"start is (257,) or (n, 257) coefficients, not {np.shape(start)}")
        if eye not in get_args(Eye):
            raise TalkgenError(f"eye is one of {', '.join(get_args(Eye))}, not {eye!r}")
        if eye in ("copied", "driven") and eyes is None:
            raise TalkgenError(f"eye={eye} needs eyes")
        self.motion = motion
        self.eye = eye
        self.still = begin[0]
        self.rest = motion.space.rest(self._tensor(begin[:, EXPRESSION]))
        self.copied: Tensor | None = None
        self.closure: Tensor | None = None
        if eye == "copied" and eyes is not None:
            if eyes.ndim != 2 or eyes.shape[1] != SIZE:
                raise TalkgenError(f"eyes to copy are (n, 257) coefficients, not {eyes.shape}")
            expression = self._tensor(eyes[:, EXPRESSION])
            self.copied = motion.space.encode(expression, expression.mean(0))[:, motion.space.eyes]
        if eye == "driven" and eyes is not None:
            self.closure = self._tensor(eyes)
            if self.closure.ndim != 1:
                raise TalkgenError(f"eyes to drive are (frames,) of closure, not {eyes.shape}")
        self.pose = None if pose is None else pose_of(pose)

    def __call__(self, latent: Tensor, first: int) -> NDArray[np.float32]:
        """Coefficients (n, 257) of frames from number ``first`` on."""
        motion, space = self.motion, self.motion.space
        z = latent if motion.codec is None else motion.codec.decode(latent[None])[0]
        frames = np.arange(first, first + len(z))
        if self.eye != "sampled":
            z = z.clone()
            z[:, space.eyes] = 0
            if self.copied is not None:
                z[:, space.eyes] = self.copied[there_and_back(frames, len(self.copied))]
            if self.closure is not None:
                shut = self.closure[np.minimum(frames, len(self.closure) - 1)]
                z[:, space.eyes] = shut[:, None] * space.blink[space.eyes]
        made = np.tile(self.still, (len(z), 1))
        made[:, EXPRESSION] = space.decode(z, self.rest).cpu().numpy()
        if self.pose is not None:
            turned = self.pose[there_and_back(frames, len(self.pose))]
            made[:, ANGLE], made[:, TRANSLATION] = turned[:, :3], turned[:, 3:]
        return made

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.array(array, np.float32)).to(self.motion.space.mean.device)


def pose_of(track: Array) -> NDArray[np.float32]:
    """Angles and translations (n, 6) of coefficients (n, 257), or as they are.

    Raises:
        TalkgenError: another shape.
    """
    if track.ndim == 2 and len(track) and track.shape[1] == SIZE:
        return np.concatenate([track[:, ANGLE], track[:, TRANSLATION]], axis=1).astype(np.float32)
    if track.ndim == 2 and len(track) and track.shape[1] == 6:
        return track.astype(np.float32)
    raise TalkgenError(f"pose is (n, 257) coefficients or (n, 6), not {track.shape}")


def there_and_back(frames: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Which of ``length`` frames stands for each number, when they run forwards and backwards."""
    if length == 1:
        return np.zeros_like(frames)
    place = frames % (2 * length - 2)
    return np.where(place < length, place, 2 * length - 2 - place)


def load_motion(
    run: str | Path, device: str = "auto", steps: int | None = None, guidance: float | None = None
) -> MotionGenerator:
    """A trained motion stage.

    Args:
        run: folder of an ``experiment=disenttalk_motion``, or a checkpoint in one.
        device: ``auto``: a GPU where there is one.
        steps: of the sampler; None: as in training's validation.
        guidance: s, in the run's convention; None: the run's.

    Raises:
        TalkgenError: there is no such run, or it cannot be used.
    """
    trained = find_trained(run, PART, EXPERIMENT)
    config = run_config(trained.folder)
    system = config.system
    denoiser = load_network(trained.folder, PART, trained.checkpoint)
    space = load_network(trained.folder, "space", trained.checkpoint)
    codec = None if system.codec is None else build(system.codec)
    sampler: Any = build(system.sampler, **({} if steps is None else {"steps": steps}))
    rule: Guidance = build(system.guidance, **({} if guidance is None else {"scale": guidance}))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    carried = int(OmegaConf.select(system, "conditions.carried", default=10))
    frames = max(int(config.data.window.frames), carried + 10)
    windowing = Windowing(frames, carried, min(5, frames - carried - 1))
    motion = Motion(denoiser, space, build(system.diffusion), codec, _morphable_model(config, trained.folder))
    features = FrameFeatures(
        config.data.features.kind, config.data.features.network, "cpu" if device == "cpu" else device
    )
    return MotionGenerator(motion, features, sampler, rule, windowing, device)


def _morphable_model(config: DictConfig, run: RunFolder) -> str:
    from talkgen.data.disentangled import Disentangled

    place = Path(config.disentangled)
    if not place.exists():  # a method's folder that was moved has taken its stages along
        place = run.path.parent / place.name
    return Disentangled(place).description.morphable_model
