"""What the model makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.windows import as_uint8, resize_frames
from talkgen.systems.callbacks.ema import EMA
from talkgen.video.writer import VideoWriter

SAMPLE_RATE = 16000
CHUNK = 16  # frames that go through the network at once


class Samples(Protocol):
    """A system that can show what it does."""

    def sample(self, video: torch.Tensor) -> torch.Tensor:
        """``(t, 3, h, w)`` in [-1, 1] → generated, the same shape."""


class SampleVideos(Callback):
    """``step-0000000-<clip>.mp4``: ground truth on the left, generated on the right, with the clip's sound.

    Written before the first batch, every ``every`` batches and at the end, always of the same clips: the
    first of each held-out identity in turn. Averaged weights are used where there are any.

    Args:
        folder: where the videos go.
        every: batches between two sets.
        size: pixels of the pictures that the system takes.
        clips: how many clips.
        seconds: length of each video.
    """

    def __init__(
        self, folder: str | Path, every: int, size: int, clips: int = 2, seconds: float = 3.0
    ) -> None:
        self.folder = Path(folder)
        self.every = every
        self.size = size
        self.clips = clips
        self.seconds = seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """How it looks before training."""
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready == 0:
            self._write_all(trainer, pl_module, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """How it looks now."""
        done = batch_idx + 1
        if done % self.every == 0 or done == trainer.num_training_batches:
            self._write_all(trainer, pl_module, done)

    def _write_all(self, trainer: Trainer, system: LightningModule, batches: int) -> None:
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule.data  # type: ignore[attr-defined]
        files = []
        with evaluated(trainer, system):
            for clip in choose_clips(data.clips("val"), self.clips):
                file = self.folder / f"step-{batches:07d}-{clip.id.replace('/', '_')}.mp4"
                self._write(data, clip, system, file)
                files.append(file)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and files:
                logger.log_video("samples", [str(file) for file in files], step=batches)

    def _write(self, data: TalkingFaceData, clip: Clip, system: Any, file: Path) -> None:
        store = data.store
        count = min(clip.frames, round(self.seconds * clip.fps))
        truth = resize_frames(store.frames(clip, 0, count), self.size)
        audio = None  # of pictures
        if store.has(clip, "waveform"):
            samples = min(round(count / clip.fps * SAMPLE_RATE), store.length(clip, "waveform"))
            audio = (store.array(clip, "waveform", 0, samples).astype(np.float32) / 32768, SAMPLE_RATE)
        file.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(file, clip.fps, 2 * self.size, self.size, audio=audio, synthetic=True) as writer:
            dtype = next(system.parameters()).dtype
            for start in range(0, count, CHUNK):
                part = truth[start : start + CHUNK]
                video = torch.from_numpy(part).permute(0, 3, 1, 2).to(system.device, dtype)
                generated = system.sample(video / 127.5 - 1)
                for left, right in zip(part, as_uint8(generated).cpu().numpy(), strict=True):
                    writer.write(np.concatenate([left, right], axis=1))


@contextlib.contextmanager
def evaluated(trainer: Trainer, system: LightningModule) -> Iterator[None]:
    """The system in eval mode, on averaged weights where a callback keeps them, without gradients."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, EMA)]  # type: ignore[attr-defined]
    training = system.training
    system.eval()
    for average in averages:
        average.swap(system)
    try:
        with torch.no_grad():
            yield
    finally:
        for average in averages:
            average.swap(system)
        system.train(training)


def choose_clips(clips: list[Clip], count: int) -> list[Clip]:
    """``count`` clips of as many identities as there are: the first of each, then the second of each, …"""
    turns: dict[str, int] = {}
    ranked = []
    for clip in clips:
        turn = turns.get(clip.identity, 0)
        turns[clip.identity] = turn + 1
        ranked.append((turn, clip))
    return [clip for _, clip in sorted(ranked, key=lambda pair: pair[0])[:count]]
