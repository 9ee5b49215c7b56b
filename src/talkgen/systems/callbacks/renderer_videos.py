"""What a renderer makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from talkgen.data.clip import Clip
from talkgen.data.motion_pairs import MotionPairData
from talkgen.data.windows import as_model, as_uint8, resize_frames
from talkgen.systems.callbacks.samples import CHUNK, SAMPLE_RATE, choose_clips, evaluated
from talkgen.video.writer import VideoWriter


class RendererVideos(Callback):
    """``step-0000000-<clip>.mp4``: ground truth | the clip's first frame moved as the clip | another person
    moved so.

    Written every ``every`` batches and at the end, always of the same held-out clips, on averaged weights
    where there are any.

    Args:
        folder: where the videos go.
        every: batches between two sets.
        clips: how many clips.
        seconds: length of each video.
    """

    def __init__(self, folder: str | Path, every: int, clips: int = 2, seconds: float = 3.0) -> None:
        self.folder = Path(folder)
        self.every = every
        self.clips = clips
        self.seconds = seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """How it looks now."""
        done = batch_idx + 1
        if trainer.is_global_zero and (done % self.every == 0 or done == trainer.num_training_batches):
            data: MotionPairData = trainer.datamodule.data  # type: ignore[attr-defined]
            clips = choose_clips([clip for clip in data.clips("val") if clip.swap_of is None], self.clips)
            with evaluated(trainer, pl_module):
                for clip, other in zip(clips, [*clips[1:], *clips[:1]], strict=True):
                    file = self.folder / f"step-{done:07d}-{clip.id.replace('/', '_')}.mp4"
                    self._write(data, clip, other, pl_module, file)

    def _write(self, data: MotionPairData, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        count = min(clip.frames, round(self.seconds * clip.fps))
        size = data.window.size or data.store.size
        truth = resize_frames(data.store.frames(clip, 0, count), size)
        stranger = resize_frames(data.store.frames(other, 0, 1), size)
        starts = data.coefficients.array(clip.id)[0], data.coefficients.array(other.id)[0]
        sources = as_model(torch.from_numpy(np.stack([truth[0], stranger[0]]))).to(system.device)
        padding = ((data.radius, data.radius), (0, 0))
        motion = np.pad(data.coefficients.array(clip.id), padding, mode="edge")
        audio = None  # of pictures
        if data.store.has(clip, "waveform"):
            samples = min(round(count / clip.fps * SAMPLE_RATE), data.store.length(clip, "waveform"))
            waveform = data.store.array(clip, "waveform", 0, samples).astype(np.float32) / 32768
            audio = (waveform, SAMPLE_RATE)
        file.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(file, clip.fps, 3 * size, size, audio=audio, synthetic=True) as writer:
            for start in range(0, count, CHUNK):
                stop = min(start + CHUNK, count)
                part = motion[start : stop + 2 * data.radius]
                rows = [
                    as_uint8(system.sample(source, start_of, part)).cpu().numpy()
                    for source, start_of in zip(sources, starts, strict=True)
                ]
                for pictures in zip(truth[start:stop], *rows, strict=True):
                    writer.write(np.concatenate(pictures, axis=1))
