"""Where the work of a preparation or an evaluation runs: one function mapped over many items."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from talkgen.errors import MissingPackage, TalkgenError

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_IN_FLIGHT = 3  # items handed out ahead, for each worker


class WorkerDied(Exception):
    """The process that worked on an item was killed or crashed, twice."""


class Executor(Protocol):
    """Anything that applies a function to items, in any order."""

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """Pairs of item and result as they are finished. What `function` raises is raised here."""
        ...


class SerialExecutor:
    """Everything in this process, one after the other.

    With one thread for each numerical library, as the workers of `ProcessExecutor`: sums in another order
    would differ in their last bits, and stores in their bytes.
    """

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """Pairs of item and result, in order."""
        for item in items:
            with threadpool_limits(limits=1):
                result = function(item)
            yield item, result


class ProcessExecutor:
    """Processes of this machine, each on one core.

    When a process dies (out of memory, a crash inside a decoder), the items that were under way are tried
    again, each alone in a fresh process; the one that kills that too gives `WorkerDied`, and all others go
    on.

    Args:
        workers: number of processes; None: one for every core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or _cores()

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """Pairs of item and result as they are finished."""
        remaining = iter(items)
        suspects: list[Item] = []
        while True:
            yield from self._run(function, remaining, suspects)
            if not suspects:
                return
            for item in suspects:
                lost: list[Item] = []
                yield from ProcessExecutor(1)._run(function, iter([item]), lost)
                for culprit in lost:
                    yield (
                        culprit,
                        WorkerDied("the worker process died twice on it (out of memory, or a crash)"),
                    )
            suspects = []

    def _run(
        self, function: Callable[[Item], Result], items: Iterator[Item], lost: list[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Until items are used up or a worker dies; items under way are then left in `lost`."""
        with _one_thread_each():
            pool = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(os.getpid(),),
            )
            running: dict[Future[Result], Item] = {}
            try:
                while True:
                    for item in islice(items, self.workers * _IN_FLIGHT - len(running)):
                        try:
                            running[pool.submit(function, item)] = item
                        except BrokenProcessPool:
                            lost.append(item)
                            break
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        item = running.pop(future)
                        try:
                            result = future.result()
                        except BrokenProcessPool:
                            lost.append(item)
                        else:
                            yield item, result
                    if lost:
                        lost.extend(running.values())
                        return
            finally:
                _stop(pool)


class RayExecutor:
    """A Ray cluster: this machine, or the one that `address` names. `out` must be seen by all its machines.

    Args:
        address: of a running cluster ("auto" finds it); None starts one here.
        workers: cores to use when one is started here; None: all.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """Pairs of item and result as they are finished. Ray itself tries an item again when a worker
        dies.
        """
        try:
            import ray
        except ImportError as error:
            raise MissingPackage("ray is not installed; `pip install 'talkgen[ray]'`") from error
        started = not ray.is_initialized()
        if started:
            cpus = None if self.address else self.workers
            variables = dict.fromkeys(_THREAD_VARIABLES, "1")
            if self.address is None:  # modules of the user's own are found as in this process
                variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
            try:
                ray.init(
                    address=self.address, num_cpus=cpus, runtime_env={"env_vars": variables},
                    log_to_driver=False, include_dashboard=False if self.address is None else None,
                    configure_logging=False,
                )  # fmt: skip
            except Exception as error:  # Ray has no class of its own for a cluster that does not start
                raise TalkgenError(f"no Ray cluster at {self.address or 'this machine'}: {error}") from error

        def apply(item: Item) -> Result:  # Ray takes functions alone, no other callables
            return function(item)

        task = ray.remote(num_cpus=1, max_retries=1)(apply)
        limit = _IN_FLIGHT * max(1, int(ray.cluster_resources().get("CPU", 1)))
        remaining = iter(items)
        running: dict[Any, Item] = {}
        try:
            while True:
                for item in islice(remaining, limit - len(running)):
                    running[task.remote(item)] = item
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1)
                for reference in done:
                    item = running.pop(reference)
                    try:
                        yield item, ray.get(reference)
                    except (
                        ray.exceptions.WorkerCrashedError,
                        ray.exceptions.OutOfMemoryError,
                        ray.exceptions.NodeDiedError,
                    ):
                        yield (
                            item,
                            WorkerDied("the worker process died twice on it (out of memory, or a crash)"),
                        )
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause or error from error
        finally:
            for reference in running:  # nobody waits for them any more
                ray.cancel(reference, force=True)
            if started:
                ray.shutdown()


def make_executor(name: str, workers: int | None = None, address: str | None = None) -> Executor:
    """An executor by name: `processes`, `serial` or `ray`.

    Raises:
        TalkgenError: no such name, or `workers` is no number of processes.
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise TalkgenError(f"workers={workers}: give a number of processes, or null for one a core")
    if name == "processes":
        return ProcessExecutor(workers)
    if name == "serial":
        return SerialExecutor()
    if name == "ray":
        return RayExecutor(address, workers)
    raise TalkgenError(f"no executor {name!r}; choose processes, serial or ray")


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Child processes begin with one thread for each numerical library: a worker is a core."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: what they have not finished is done again by the next run."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
