"""Stages side by side: order, bounds, errors, and an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from talkgen.inference.pipeline import prefetch


def test_items_come_in_order_from_another_thread() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            made.append(threading.get_ident())
            yield i

    assert list(prefetch(prefetch(items()))) == list(range(20))
    assert threading.get_ident() not in made and len(set(made)) == 1


def test_it_runs_ahead_by_no_more_than_its_depth() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    ahead = prefetch(items(), depth=2)
    assert next(ahead) == 0
    until = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < until:  # it works while nobody asks
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2]  # one is taken, two wait
    ahead.close()  # type: ignore[attr-defined]


def test_errors_arrive_where_the_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken stream")

    got = prefetch(items())
    assert next(got) == 1
    with pytest.raises(ValueError, match="broken stream"):
        next(got)


def test_who_stops_early_stops_the_thread_and_closes_what_it_ran() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    before = threading.active_count()
    for item in prefetch(items()):
        if item == 3:
            break
    assert closed.wait(2)
    assert threading.active_count() == before
