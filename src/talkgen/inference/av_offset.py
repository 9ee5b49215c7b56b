"""How far sound and picture of a clip are apart, by a trained sync expert.

As in SyncNet ("Out of time: automated lip sync in the wild", Chung and Zisserman, 2016): windows of the
picture are compared with windows of the sound at every shift, and the shift at which they agree best, on the
mean over the clip, is the offset. Two things differ. Agreement is the cosine of the embeddings, not their
distance. And a shift is judged by the windows that have a partner; there they are compared with zeros at the
ends of the clip too, which makes the confidence depend on its length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from talkgen.audio.alignment import mel_window, mel_windows
from talkgen.audio.mel import mel_spectrogram
from talkgen.configuration import build
from talkgen.data.windows import as_model, resize_frames, resize_points
from talkgen.inference.runs import Trained, find_trained, load_network, run_config
from talkgen.models.experts.syncnet import FRAMES, SyncNet, syncnet_input

MAX_SHIFT = 15  # frames
MIN_WINDOWS = 5  # that a shift is judged by
_BATCH_WINDOWS = 32


def clip_offset(audio: Tensor, face: Tensor, max_shift: int = MAX_SHIFT) -> tuple[float, float]:
    """Offset and confidence of a clip from its embeddings.

    Args:
        audio: unit vectors ``(n, d)`` of the sound of windows that begin at frames 0, 1, 2, ….
        face: the same of the picture.
        max_shift: greatest offset that is looked for, in frames.

    Returns:
        The offset in frames, positive where the sound is early (it leads the picture; the sign of SyncNet's
        published script), and the confidence: mean cosine there less the median over all shifts. A clip of
        fewer than ``MIN_WINDOWS + 1`` windows cannot be judged: 0 and 0.
    """
    count = len(face)
    reach = min(max_shift, count - MIN_WINDOWS)
    if reach < 1:
        return 0.0, 0.0
    cosines = (face @ audio.T).double()
    # Diagonal k: picture at t, sound at t + k. Sound that is early by o lies at t − o.
    means = {-k: float(cosines.diagonal(k).mean()) for k in range(-reach, reach + 1)}
    best = max(means, key=lambda offset: (means[offset], -abs(offset)))  # the nearest of equals
    return float(best), means[best] - float(np.median(list(means.values())))


@dataclass(frozen=True)
class _Expert:
    """A network and how it was shown faces in training."""

    network: SyncNet
    view: Any
    channel_order: str
    size: int


@lru_cache(maxsize=1)
def _open(trained: Trained) -> _Expert:
    system = run_config(trained.folder).system
    view = None if system.get("view") is None else build(system.view)
    order = str(OmegaConf.select(system, "channel_order", default="bgr"))
    network = load_network(trained.folder, "expert", trained.checkpoint)
    return _Expert(network, view, order, trained.image_size())


@dataclass(frozen=True)
class AVOffset:
    """Offset and confidence of clips of 25 frames a second, by the sync expert of a run.

    Picklable: another process loads the network from the run when it first needs it.

    Attributes:
        trained: the expert's checkpoint.
        max_shift: greatest offset that is looked for, in frames.
    """

    trained: Trained
    max_shift: int = MAX_SHIFT

    @property
    def sha256(self) -> str:
        """Of the checkpoint."""
        return self.trained.sha256

    def __call__(
        self, frames: NDArray[np.uint8], waveform: NDArray[np.float32], landmarks: NDArray[np.floating]
    ) -> tuple[float, float]:
        """See ``clip_offset``.

        Args:
            frames: crops ``(n, size, size, 3)``, RGB.
            waveform: their sound, 16 kHz.
            landmarks: ``(n, 68, 2)`` in pixels of ``frames``.
        """
        audio, face = self.embed(frames, waveform, landmarks)
        return clip_offset(audio, face, self.max_shift)

    def embed(
        self, frames: NDArray[np.uint8], waveform: NDArray[np.float32], landmarks: NDArray[np.floating]
    ) -> tuple[Tensor, Tensor]:
        """Unit vectors ``(n − 4, d)`` of sound and picture of every window, as in training."""
        columns = [mel_window(start) for start in range(len(frames) - FRAMES + 1)]
        if not columns:
            return torch.empty(0, 1), torch.empty(0, 1)
        steps = columns[0].stop - columns[0].start
        mels = mel_windows(mel_spectrogram(waveform), [c.start for c in columns], steps)
        return self.embed_windows(frames, torch.from_numpy(mels).unsqueeze(1), landmarks)

    @torch.inference_mode()
    def embed_windows(
        self, frames: NDArray[np.uint8], mels: Tensor, landmarks: NDArray[np.floating]
    ) -> tuple[Tensor, Tensor]:
        """The same from the mel windows ``(n − 4, 1, 80, 16)``."""
        expert = _open(self.trained)
        points = torch.from_numpy(resize_points(landmarks, expert.size / frames.shape[1]))
        audio, face = [torch.empty(0, expert.network.dim)], [torch.empty(0, expert.network.dim)]
        for inside in torch.arange(len(mels)).split(_BATCH_WINDOWS):
            first, last = int(inside[0]), int(inside[-1]) + FRAMES
            pictures = as_model(torch.from_numpy(resize_frames(frames[first:last], expert.size)))
            within = inside[:, None] + torch.arange(FRAMES)
            video = pictures[within - first]
            if expert.view is not None:
                video = expert.view(video, points[within])
            audio.append(expert.network.embed_audio(mels[inside]))
            face.append(expert.network.embed_face(syncnet_input(video, expert.channel_order)))
        return torch.cat(audio), torch.cat(face)


def load_av_offset(run: str | Path) -> AVOffset:
    """The expert of a run folder, or of a checkpoint in one.

    Raises:
        TalkgenError: there is none, or it cannot be loaded; said now, not in the middle of a corpus.
    """
    offset = AVOffset(find_trained(run, "expert", "sync_expert"))
    _open(offset.trained)
    return offset
