"""What a generator of lips in pictures makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from talkgen.audio.alignment import mel_windows, per_frame_mel_window
from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.windows import resize_frames
from talkgen.systems.callbacks.samples import CHUNK, SAMPLE_RATE, choose_clips, evaluated
from talkgen.video.writer import VideoWriter


class Dubs(Protocol):
    """A system that can show what it does."""

    def sample(self, video: torch.Tensor, reference: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """``(t, 3, h, w)``, ``(r, 3, h, w)`` in [-1, 1], mels ``(t, 1, 80, 16)`` → ``(t, 3, h, w)``."""


class DubbedVideos(Callback):
    """``step-0000000-<clip>.mp4``: ground truth | lips from its own sound | from the next clip's.

    The sound of the file is the clip's own: the picture in the middle should agree with it, the one on the
    right should not. Written every ``every`` batches and at the end, always of the same clips, on averaged
    weights where there are any. References come from the rest of the clip, where there is one.

    Args:
        folder: where the videos go.
        every: batches between two sets.
        clips: how many clips.
        seconds: length of each video.
    """

    def __init__(self, folder: str | Path, every: int, clips: int = 2, seconds: float = 2.0) -> None:
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
            data = trainer.datamodule.data  # type: ignore[attr-defined]
            clips = choose_clips(data.clips("val"), self.clips)
            with evaluated(trainer, pl_module):
                for clip, other in zip(clips, [*clips[1:], *clips[:1]], strict=True):
                    file = self.folder / f"step-{done:07d}-{clip.id.replace('/', '_')}.mp4"
                    self._write(data, clip, other, pl_module, file)

    def _write(self, data: TalkingFaceData, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        store, window = data.store, data.window
        size = window.size or store.size
        count = min(clip.frames, round(self.seconds * clip.fps))
        rest = count if clip.frames - count >= window.reference_frames else 0
        places = np.linspace(rest, clip.frames - 1, max(1, window.reference_frames) + 2)[1:-1]
        references = resize_frames(store.frames_at(clip, [round(place) for place in places]), size)
        truth = resize_frames(store.frames(clip, 0, count), size)
        samples = min(round(count / clip.fps * SAMPLE_RATE), store.length(clip, "waveform"))
        waveform = store.array(clip, "waveform", 0, samples).astype(np.float32) / 32768
        starts = [
            per_frame_mel_window(frame, clip.fps, window.mel_per_frame_convention).start
            for frame in range(count)
        ]
        heard = [mel_windows(store.array(who, "mel"), starts)[:, None] for who in (clip, other)]
        file.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(
            file, clip.fps, 3 * size, size, audio=(waveform, SAMPLE_RATE), synthetic=True
        ) as writer:
            for start in range(0, count, CHUNK):
                part = slice(start, start + CHUNK)
                made = [
                    _to_pictures(
                        system.sample(
                            _to_model(truth[part], system),
                            _to_model(references, system),
                            torch.from_numpy(mel[part]).to(system.device),
                        )
                    )
                    for mel in heard
                ]
                for pictures in zip(truth[part], *made, strict=True):
                    writer.write(np.concatenate(pictures, axis=1))


def _to_model(frames: NDArray[np.uint8], system: LightningModule) -> torch.Tensor:
    """uint8 ``(n, h, w, 3)`` → ``(n, 3, h, w)`` in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).to(system.device).float() / 127.5 - 1


def _to_pictures(video: torch.Tensor) -> NDArray[np.uint8]:
    """The way back."""
    pictures = ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pictures.permute(0, 2, 3, 1).cpu().numpy()
