"""What a lip-sync module makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from talkgen.audio.alignment import mel_windows, per_frame_mel_window
from talkgen.data.clip import Clip
from talkgen.data.latent_data import LatentData
from talkgen.data.windows import resize_frames
from talkgen.systems.callbacks.samples import SAMPLE_RATE, choose_clips, evaluated
from talkgen.video.writer import VideoWriter


class MovesLips(Protocol):
    """A system that can show what it does."""

    def sample(self, codes: torch.Tensor, reference_codes: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Codes ``(t, h, w)`` and ``(r, h, w)``, mels ``(t, 1, 80, 16)`` → ``(t, 3, height, width)``."""


class LipVideos(Callback):
    """``step-0000000-<clip>.mp4``: ground truth | lips from its own sound | from the next clip's.

    The sound of the file is the clip's own: the picture in the middle should agree with it, the one on the
    right should not. Written every ``every`` batches and at the end, always of the same clips, on averaged
    weights where there are any. For systems that hear ``mel_per_frame``.

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
            data = trainer.datamodule.data  # type: ignore[attr-defined]
            held_out = data.clips("val")
            # a swapped clip has the sound of its original, which would be no other sound
            clips = choose_clips([clip for clip in held_out if clip.swap_of is None] or held_out, self.clips)
            with evaluated(trainer, pl_module):
                for clip, other in zip(clips, [*clips[1:], *clips[:1]], strict=True):
                    file = self.folder / f"step-{done:07d}-{clip.id.replace('/', '_')}.mp4"
                    self._write(data, clip, other, pl_module, file)

    def _write(self, data: LatentData, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        store, size, window = data.store, data.latents.size, data.window.frames
        count = min(clip.frames, round(self.seconds * clip.fps)) // window * window
        places = np.linspace(0, clip.frames - 1, max(1, data.window.reference_frames) + 2)[1:-1]
        references = self._codes(data, clip, places.round().astype(int), system)
        codes = self._codes(data, clip, np.arange(count), system)
        samples = min(round(count / clip.fps * SAMPLE_RATE), store.length(clip, "waveform"))
        waveform = store.array(clip, "waveform", 0, samples).astype(np.float32) / 32768
        heard = [torch.from_numpy(mels(data, who, count)).to(system.device) for who in (clip, other)]
        truth = resize_frames(store.frames(clip, 0, count), size)
        file.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(
            file, clip.fps, 3 * size, size, audio=(waveform, SAMPLE_RATE), synthetic=True
        ) as writer:
            for start in range(0, count, window):
                part = slice(start, start + window)
                made = [system.sample(codes[part], references, mel[part]) for mel in heard]
                shown = [((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8) for x in made]
                rows = [x.permute(0, 2, 3, 1).cpu().numpy() for x in shown]
                for pictures in zip(truth[part], *rows, strict=True):
                    writer.write(np.concatenate(pictures, axis=1))

    @staticmethod
    def _codes(data: LatentData, clip: Clip, frames: NDArray[np.int_], system: Any) -> torch.Tensor:
        codes = data.latents.codes_at(clip.id, [int(frame) for frame in frames])
        return torch.from_numpy(codes.astype(np.int64)).to(system.device)


def mels(data: LatentData, clip: Clip, frames: int) -> NDArray[np.float32]:
    """Mel windows ``(frames, 1, 80, 16)`` of the first frames of a clip, as batches hold them."""
    convention = data.window.mel_per_frame_convention
    starts = [per_frame_mel_window(frame, clip.fps, convention).start for frame in range(frames)]
    return mel_windows(data.store.array(clip, "mel"), starts)[:, None]
