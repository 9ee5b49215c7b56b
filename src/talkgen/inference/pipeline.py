"""Stages of work side by side: a stage runs in a thread of its own, a bounded number of results ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class _End:
    """Nothing more comes; with an error, because it was raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """The same items, made in a thread of its own, at most ``depth`` ahead of the one that was taken last.

    Decoding, networks and encoding release Python's lock, so that stages which are laid around each other
    overlap while memory stays bounded: with a depth of 1 each stage holds one item. An error is raised where
    the item would have come. Who stops early stops the thread as well, and the generator that it runs is
    closed.
    """
    queue: SimpleQueue[T | _End] = SimpleQueue()
    room = threading.Semaphore(depth)
    unwanted = threading.Event()

    def work() -> None:
        iterator = iter(items)
        try:
            while True:
                room.acquire()
                if unwanted.is_set():
                    break
                queue.put(next(iterator))
        except StopIteration:
            queue.put(_End())
        except BaseException as error:  # handed on to whoever waits, whatever it is
            queue.put(_End(error))
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
            room.release()
            yield got
            del got  # before the wait for the next one
    finally:
        unwanted.set()
        room.release()
        thread.join()
