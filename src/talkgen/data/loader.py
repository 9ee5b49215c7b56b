"""Batches of windows that go on in the middle of an epoch after a restart, and that never hide a bad file."""

from __future__ import annotations

import atexit
import gc
import logging
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from talkgen.data.dataset import ClipWindows, collate
from talkgen.data.sampler import EpochSampler
from talkgen.data.windows import to_model_range
from talkgen.errors import TalkgenError

log = logging.getLogger(__name__)

_TOLERATED = 10  # bad samples that never stop a run, however few were drawn
_AGREE_EVERY = 50  # batches after which the processes of a run add up their bad samples
_SAY_RETRIES = 100  # the log says so often how many reads were repeated
_NAMED = 20  # bad samples that are named in the log; the others are only counted


def _start_worker(_: int) -> None:
    # What the main process left for its garbage collector is not this one's to collect: a video that was read
    # half way would wait forever for the threads of its decoder, which did not come along.
    gc.freeze()
    cv2.setNumThreads(0)  # one worker is one core
    # A scheduler or a terminal sends these to the whole process group. The main process saves and then ends
    # its workers; a worker that left before would take the run down instead.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(60))


def _end_workers(loader: weakref.ref[WindowLoader]) -> None:
    """At exit: before multiprocessing sends SIGTERM to what is left, and waits for it."""
    alive = loader()
    if alive is not None and alive._iterator is not None:
        alive._iterator._shutdown_workers()


class WindowLoader:
    """Batches of a dataset in the order of a sampler.

    Lightning saves `state_dict` with its checkpoints and restores it, so a run that was stopped after
    batch k of an epoch goes on with batch k + 1. The position counts batches that were handed out, not
    those that workers have prepared ahead. It is a number of samples that all processes have taken together,
    so another number of processes, or another batch size, may go on from it: no sample of the epoch comes
    twice and none is lost.

    A sample that cannot be read is replaced by the dataset; here it is counted and named in the log, and
    when more than `max_bad_fraction` of the samples were bad the run stops with an error. Processes that
    train together add up what they counted now and then and stop at the same batch: one that raised alone
    would leave the others waiting for its gradients.

    Args:
        dataset: where samples come from.
        sampler: their order.
        workers: processes that read ahead; 0 reads in this process.
        max_bad_fraction: share of bad samples that is tolerated.
        as_float: pictures come as float32 `b t 3 h w` in [-1, 1]; False: as uint8 `b t h w 3`, to be
        converted on
            the device.
        pin_memory: batches in page-locked memory, for copies to a GPU.
        prefetch: batches that each worker prepares ahead.
        renumber: called where an epoch goes on with batches of another size, with the difference of the
            number of batches that now count as done to the number that was counted.

    Attributes:
        bad_samples, drawn_samples: since the run began.
        retries: reads of a remote store that were repeated since this process began.
    """

    def __init__(
        self,
        dataset: ClipWindows,
        sampler: EpochSampler,
        workers: int = 0,
        max_bad_fraction: float = 0.01,
        as_float: bool = True,
        pin_memory: bool = False,
        prefetch: int = 2,
        renumber: Callable[[int], None] | None = None,
    ) -> None:
        if len(sampler) == 0:
            raise TalkgenError(
                f"{len(dataset)} samples do not fill one batch of {sampler.global_batch}; "
                "take a smaller batch_size, or drop_last=false"
            )
        self.dataset = dataset
        self.sampler = sampler
        self.max_bad_fraction = max_bad_fraction
        self.as_float = as_float
        self.bad_samples = 0
        self.drawn_samples = 0
        self._last_fault = ""
        self.retries = 0
        self._renumber = renumber
        self._epoch = -1  # of the position below
        self._taken = 0  # samples of that epoch that the batches before this run's had, on all processes
        self._batches = 0  # handed out since then
        self._keys = _Keys()
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=prefetch if workers > 0 else None,
            worker_init_fn=_start_worker,
        )
        if workers > 0:
            atexit.register(_end_workers, weakref.ref(self))

    def __len__(self) -> int:
        """Batches of a whole epoch, also where an epoch goes on in its middle."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # A generator: nothing below runs before the first batch is asked for. Lightning makes the iterator
        # first and sets the epoch afterwards.
        epoch = self.sampler.epoch
        if self._epoch != epoch or self.sampler.remaining(self._position()) == 0:
            self._epoch, self._taken, self._batches = epoch, 0, 0
        self._keys.batches = self.sampler.batches(epoch, self._position())
        for batch in self._loader:
            self._count(batch["clip"], batch.pop("faults"), batch.pop("retries"))
            self._batches += 1
            self._refuse_too_many()
            yield to_model_range(batch) if self.as_float else batch

    @property
    def batch_sampler(self) -> None:
        """None: `sampler` gives whole batches. Lightning asks, to see whether PyTorch shuffles."""
        return None

    @property
    def _iterator(self) -> Any:
        """PyTorch's iterator, under the name by which Lightning ends workers when it is done with a
        loader.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, value: Any) -> None:
        self._loader._iterator = value

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it is a position in."""
        taken = self._position()
        return {
            "epoch": self._epoch,
            "taken": taken,
            "batches": len(self) - self.sampler.remaining(taken),
            "bad_samples": self.bad_samples,
            "drawn_samples": self.drawn_samples,
            **self._identification(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; where the data have changed since, the epoch begins anew."""
        changed = [name for name, value in self._identification().items() if state.get(name) != value]
        if changed:
            log.warning("the epoch begins anew, because %s changed since the checkpoint", ", ".join(changed))
            return
        if "taken" not in state:  # of a version that counted batches
            state = {**state, "taken": state["batches"] * state["global_batch"]}
        self._epoch, self._taken, self._batches = state["epoch"], state["taken"], 0
        self.bad_samples, self.drawn_samples = state["bad_samples"], state["drawn_samples"]
        difference = len(self) - self.sampler.remaining(self._taken) - state["batches"]
        if difference and self._renumber is not None:
            log.info("%d samples of the epoch are done; batches are counted anew", self._taken)
            self._renumber(difference)

    def _position(self) -> int:
        """Samples of the epoch that all processes have taken."""
        return self._taken + self._batches * self.sampler.global_batch

    def _identification(self) -> dict[str, int]:
        sampler = self.sampler
        return {"seed": sampler.seed, "samples": sampler.length, "group": sampler.group}

    def _count(self, clips: list[str], faults: list[str], retries: int) -> None:
        self.drawn_samples += len(clips)
        if retries:
            self.retries += retries
            if self.retries // _SAY_RETRIES > (self.retries - retries) // _SAY_RETRIES:
                log.warning("%d reads of remote shards had to be repeated so far", self.retries)
        for fault in faults:
            self.bad_samples += 1
            if self.bad_samples <= _NAMED:
                log.warning("a bad sample was replaced: %s", fault)
            self._last_fault = fault

    def _refuse_too_many(self) -> None:
        """Stop the run where too many of its samples were bad, on every process after the same batch."""
        counted = (self.bad_samples, self.drawn_samples, self._last_fault)
        processes = [counted]
        if self.sampler.world > 1 and dist.is_available() and dist.is_initialized():
            if self._batches % _AGREE_EVERY and self.sampler.remaining(self._position()):
                return
            processes = [counted] * self.sampler.world
            dist.all_gather_object(processes, counted)
        bad, drawn = (sum(counts) for counts in list(zip(*processes, strict=True))[:2])
        if bad > max(_TOLERATED, self.max_bad_fraction * drawn):
            last = next((fault for _, _, fault in processes if fault), "see the log")
            raise TalkgenError(
                f"{bad} of {drawn} samples could not be read, more than "
                f"max_bad_fraction={self.max_bad_fraction} allows; the last: {last}. "
                "`talkgen prepare --check` lists every damaged file"
            )


class _Keys(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """Hands the keys of the current epoch to the workers, which outlive epochs.

    It does not know its loader: in a cycle of references PyTorch's workers would be collected without
    being told to end, and 5 s each be waited for them.
    """

    def __init__(self) -> None:
        self.batches: Sequence[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
