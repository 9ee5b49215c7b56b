"""What the children of the nursery do: commands of talkgen, at times with something put in their way."""

from __future__ import annotations

import os
import signal
from typing import Any

from talkgen.cli import main


def warm_up() -> None:
    """Compile what numba compiles, once for all children."""
    from talkgen.data.corpora.demo import make_take
    from talkgen.data.corpora.demo_casting import DemoSettings, plan_clips

    settings = DemoSettings(
        identities=2, held_out=1, clips_per_identity=1, swaps_per_identity=1, seconds=1.0, size_pixels=64
    )
    for plan in plan_clips(settings)[:2]:
        make_take(plan, settings).frame(0)


def talkgen(arguments: list[str]) -> int:
    """A command as a user gives it."""
    return main(arguments)


def talkgen_with_squares(arguments: list[str]) -> int:
    """The same where a red square is a face, so that no weights are needed."""
    from square_faces import SquareDetector, SquareLandmarker

    from talkgen.data import clip_preparation
    from talkgen.inference import swaptalk

    swaptalk.make_detector = lambda name: SquareDetector()  # type: ignore[assignment]
    clip_preparation.make_detector = lambda name: SquareDetector()  # type: ignore[assignment]
    clip_preparation.make_landmarker = lambda name: SquareLandmarker()  # type: ignore[assignment]
    return main(arguments)


def _let_clock_jump() -> None:
    """Every look at the clock of the wall is years before or after the one before."""
    import itertools
    import time

    true, years = time.time, 365 * 24 * 3600.0
    jumps = itertools.cycle((0.0, 3 * years, -20 * years, 0.5, -1.0, 12 * years))
    time.time = lambda: true() + next(jumps)  # type: ignore[assignment]
    time.time_ns = lambda: int(time.time() * 1e9)  # type: ignore[assignment]


def jumping_talkgen(arguments: list[str]) -> int:
    """A command while the clock is set again and again."""
    _let_clock_jump()
    return talkgen(arguments)


def jumping_talkgen_with_squares(arguments: list[str]) -> int:
    """The same where a red square is a face."""
    _let_clock_jump()
    return talkgen_with_squares(arguments)


def prepare_with_crashes(arguments: list[str]) -> int:
    """Workers are processes of their own, which import this module, and with it what crashes them."""
    from talkgen.data import prepare

    prepare.prepare_item = crash_or_prepare
    return main(arguments)


def crash_or_prepare(job: Any) -> int:
    """What a worker does; on some clips it dies as of a crash in a decoder."""
    from talkgen.data.prepare import prepare_item

    if job.raw.notes.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return prepare_item(job)
