"""Stages of work side by side: a stage runs in a thread of its own, a bounded number of results ahead."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
_LOOK_SECONDS = 0.1  # how often a waiting thread looks whether it is still wanted


class _End:
    """Nothing more comes; with an error, because it was raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """The same items, made in a thread of its own, at most ``depth`` of them waiting.

    Decoding, networks and encoding release Python's lock, so that stages which are laid around each other
    overlap while memory stays bounded. An error is raised where the item would have come. Who stops early
    stops the thread as well, and the generator that it runs is closed.
    """
    queue: Queue[T | _End] = Queue(depth)
    unwanted = threading.Event()

    def put(value: T | _End) -> bool:
        while not unwanted.is_set():
            with contextlib.suppress(Full):
                queue.put(value, timeout=_LOOK_SECONDS)
                return True
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
            else:
                put(_End())
        except BaseException as error:  # handed on to whoever waits, whatever it is
            put(_End(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            got = queue.get()
            if isinstance(got, _End):
                if got.error is not None:
                    raise got.error
                return
            yield got
    finally:
        unwanted.set()
        with contextlib.suppress(Empty):
            while True:
                queue.get_nowait()
        thread.join()
