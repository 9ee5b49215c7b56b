"""DisentTalk's noise: T = 400 timesteps."""

from __future__ import annotations

from talkgen.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_betas
from talkgen.errors import TalkgenError

_LEFT = 0.05  # of the signal's amplitude, at most, at the last timestep


def motion_schedule(kind: str = "cosine", steps: int = 400, force: bool = False) -> NoiseSchedule:
    """The schedule, whose end must be noise: generation begins there.

    Args:
        kind: ``cosine``, or ``linear``: β from 10⁻⁴ to 0.02, DDPM's numbers for 1000 timesteps. At 400 they
            leave 13 % of the signal's amplitude in x_T, so that a network which was trained with them is
            asked in use for what it has never seen.
        steps: T.
        force: take it all the same.

    Raises:
        TalkgenError: the schedule ends far from noise, or there is none of that kind.
    """
    if kind == "cosine":
        return cosine_schedule(steps)
    if kind != "linear":
        raise TalkgenError(f"the schedule is cosine or linear, not {kind!r}")
    scale = steps / 1000  # linear_betas would rescale them
    schedule = NoiseSchedule(linear_betas(steps, 1e-4 * scale, 2e-2 * scale))
    left = schedule.alpha_bar(steps - 1) ** 0.5
    if left > _LEFT and not force:
        raise TalkgenError(
            f"the linear schedule with {steps} timesteps leaves {100 * left:.0f} % of the signal's amplitude "
            "at its end, and generation begins with none: take kind=cosine, or force=true"
        )
    return schedule
