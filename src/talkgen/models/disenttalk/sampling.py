"""Motion out of noise: a window, and a clip of any length window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.sampler import Denoise, Sampler
from talkgen.diffusion.schedule import Estimate
from talkgen.models.disenttalk.denoiser import MotionDenoiser

Convention = Literal["u+s(c-u)", "c+s(c-u)"]


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, with c what the network says with the sound and u what it says without.

    Attributes:
        scale: s.
        convention: ``u+s(c-u)`` (DreamTalk; 1 is no guidance), or ``c+s(c-u)`` (SAiD; 0 is no guidance).
    """

    scale: float = 1.0
    convention: Convention = "u+s(c-u)"

    def __post_init__(self) -> None:
        if self.convention not in ("u+s(c-u)", "c+s(c-u)"):
            raise ValueError(f"the convention is u+s(c-u) or c+s(c-u), not {self.convention!r}")

    @property
    def factor(self) -> float:
        """s in the form u + s (c − u)."""
        return self.scale if self.convention == "u+s(c-u)" else 1 + self.scale

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.factor != 1


@dataclass(frozen=True)
class Windowing:
    """How a clip of any length is cut.

    Attributes:
        frames: of a window.
        carried: frames of the window before that a window begins with, as they are.
        lookahead: frames at the end of a window that only serve to hear what comes, and are thrown away.
    """

    frames: int = 100
    carried: int = 10
    lookahead: int = 5

    def __post_init__(self) -> None:
        if min(self.carried, self.lookahead) < 0 or self.frames <= self.carried + self.lookahead:
            raise ValueError(f"a window of {self.frames} frames keeps none: {self}")

    @property
    def kept(self) -> int:
        """New frames of a window."""
        return self.frames - self.carried - self.lookahead


def guided(
    denoiser: MotionDenoiser,
    diffusion: GaussianDiffusion,
    heard: Float[Tensor, "b t a"],
    guidance: Guidance,
    carried: Float[Tensor, "b p n"] | None = None,
) -> Denoise:
    """The network as a sampler asks for it.

    What depends on the sound alone is computed here, once for all timesteps; with guidance both branches are
    one batch.

    Args:
        denoiser: the network.
        diffusion: what its output means.
        heard: of the window.
        guidance: how much the sound counts.
        carried: the first frames of the window; they stay as they are.
    """
    b, t = heard.shape[:2]
    dropped = None
    if guidance.active:
        heard = torch.cat([heard, heard])
        dropped = torch.arange(2 * b, device=heard.device) >= b
    memory = denoiser.remember(heard, dropped)
    count = 0 if carried is None else carried.shape[1]
    known = (torch.arange(t, device=heard.device) < count).to(heard.dtype).expand(b, t)

    def denoise(x: Tensor, timestep: int) -> Estimate:
        shown = x if carried is None else torch.cat([carried, x[:, count:]], dim=1)
        timesteps = torch.full((len(heard),), timestep, device=x.device)
        if not guidance.active:
            output = denoiser.denoise(shown, timesteps, memory, known)
        else:
            both = denoiser.denoise(shown.repeat(2, 1, 1), timesteps, memory, known.repeat(2, 1))
            with_sound, without = both.chunk(2)
            output = without + guidance.factor * (with_sound - without)
        estimate = diffusion.estimate(output, x, timesteps[:b])
        if carried is None:
            return estimate
        x0 = torch.cat([carried, estimate.x0[:, count:]], dim=1)
        return diffusion.schedule.estimate(x0, x, timesteps[:b], "x0")

    return denoise


@torch.no_grad()
def sample_window(
    denoiser: MotionDenoiser,
    diffusion: GaussianDiffusion,
    sampler: Sampler,
    heard: Float[Tensor, "b t a"],
    guidance: Guidance | None = None,
    carried: Float[Tensor, "b p n"] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b t n"]:
    """Motion of one window; see ``guided``. ``generator`` is on the CPU, whatever the device, so that a seed
    means the same everywhere."""
    shape = (*heard.shape[:2], sum(denoiser.sizes))
    noise = torch.randn(shape, generator=generator).to(heard)
    denoise = guided(denoiser, diffusion, heard, guidance or Guidance(), carried)
    own = generator if heard.device.type == "cpu" else None  # of samplers that add noise of their own
    return sampler.sample(diffusion.schedule, denoise, noise, own)


def sample_windows(
    denoiser: MotionDenoiser,
    diffusion: GaussianDiffusion,
    sampler: Sampler,
    heard: Float[Tensor, "t a"],
    windowing: Windowing,
    guidance: Guidance | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Float[Tensor, "w n"]]:
    """Motion of a clip of any length, the new frames of one window after the other."""
    position, carried = 0, None
    while position < len(heard):
        before = 0 if carried is None else carried.shape[1]
        stop = min(position - before + windowing.frames, len(heard))
        window = heard[None, position - before : stop]
        motion = sample_window(denoiser, diffusion, sampler, window, guidance, carried, generator)
        new = motion[0, before:]
        if stop < len(heard):
            new = new[: len(new) - windowing.lookahead]
        yield new
        carried = motion[:, : before + len(new)][:, -windowing.carried :] if windowing.carried else None
        position += len(new)
