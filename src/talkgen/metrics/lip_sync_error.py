"""LSE-C, LSE-D and the audio-visual offset by the published SyncNet (Prajwal et al. 2020, after Chung 2016).

Two ways to the same network. ``exact`` sends pictures and sound through the encoders of the published
scripts, which is what published numbers contain; ``lossless`` shows the network the frames as they are, which
is better for ablations. LSE-C depends on the length of a clip, because beyond its ends distances are taken to
zero vectors; ``ends="inside"`` leaves those out, under a name of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.audio.mfcc import syncnet_mfcc
from talkgen.audio.waveform import to_int16
from talkgen.metrics.footage import Footage
from talkgen.metrics.published_codecs import default_jpeg, published_crops, published_input
from talkgen.metrics.required_weights import weight_digests
from talkgen.metrics.shared_features import SharedFeatures, expert_device, named
from talkgen.metrics.sync_crop import SIZE, crop_track, face_boxes, fill_gaps
from talkgen.metrics.sync_distance import Ends, SyncScore, shifted_distances, sync_score
from talkgen.metrics.sync_metric import Reading, SyncMetric, generated_points
from talkgen.models.experts.syncnet_v2 import (
    DIM,
    FRAMES,
    SyncNetV2,
    embed_sound,
    embed_video,
    load_syncnet_v2,
)

CodecPath = Literal["exact", "lossless"]
Crop = Literal["track", "whole"]

SAMPLES_PER_FRAME = 640
"""At 16 kHz and 25 fps."""
WEIGHTS = "syncnet_v2"


def clip_vectors(
    network: SyncNetV2,
    frames: Sequence[NDArray[np.uint8]],
    sound: NDArray[np.int16],
    boxes: NDArray[np.floating] | None = None,
    path: CodecPath = "exact",
) -> Tensor:
    """What SyncNet makes of a clip, as ``evaluate`` of the published scripts.

    Args:
        network: with its weights.
        frames: uint8 RGB (h, w, 3) at 25 fps.
        sound: of the same seconds, 16 kHz.
        boxes: of the face in each frame (t, 4), NaN where it was missed: crops follow them as in
            ``run_pipeline.py``. None takes the whole frame as the face, as the scripts for LRS do.
        path: see the module.

    Returns:
        (2, windows, 1024): of the lips, of the sound. windows = min(frames, samples / 640) − 5, one less than
        there are, as published; none for clips too short, and where all boxes were missed.
    """
    none = torch.empty(2, 0, DIM)
    if boxes is None:
        seen = default_jpeg(frames) if path == "exact" else frames
        crops = [np.asarray(cv2.resize(frame, (SIZE, SIZE)), np.uint8) for frame in seen]
    else:
        filled = fill_gaps(boxes)
        if filled is None:
            return none
        if path == "exact":
            count = len(frames)
            frames, sound = published_input(frames, sound, 16000)
            filled = np.concatenate([np.repeat(filled[:1], len(frames) - count, 0), filled])
        track = crop_track(filled)
        crops = [track.crop(frame, number) for number, frame in enumerate(frames)]
        crops = published_crops(crops, SIZE) if path == "exact" else crops
    windows = min(len(crops), len(sound) // SAMPLES_PER_FRAME) - FRAMES
    if windows < 1:
        return none
    lip = embed_video(network, torch.from_numpy(np.stack(crops[: windows + FRAMES - 1])))
    return torch.stack([lip, embed_sound(network, torch.from_numpy(syncnet_mfcc(sound)), windows)])


@lru_cache
def _shared_vectors(path: CodecPath, tracked: bool) -> SharedFeatures:
    network = _network()

    def vectors(frames: Tensor, sound: Tensor, boxes: Tensor) -> Tensor:
        return clip_vectors(
            network, list(frames.numpy()), sound.numpy(), boxes.numpy() if tracked else None, path
        )

    name = f"syncnet_v2 {path} {'track' if tracked else 'whole'}"
    return SharedFeatures(vectors, name=named(name, weight_digests([WEIGHTS])))


@lru_cache(maxsize=1)
def _network() -> SyncNetV2:
    return load_syncnet_v2(WEIGHTS).to(expert_device())


class LipSyncError(SyncMetric):
    """LSE-C, LSE-D and the offset by ``syncnet_v2``, whose file must be on this machine.

    LSE-C ("Sync-C", "AV confidence") falls with the length of a clip: 6.1 at 29 frames where it is 7.2 at 75
    and 7.6 at 250. LSE-D is also called "Sync-D".

    Args:
        reading: ``"confidence"`` (LSE-C), ``"distance"`` (LSE-D) or ``"offset"``.
        path: ``"exact"``, the encoders of the published scripts, or ``"lossless"``.
        crop: ``"track"`` cuts the face out as the pipeline for videos in the wild does, by a box that comes
            from the landmarks; ``"whole"`` takes the frame for a face crop, as the scripts for LRS do.
        ends: ``"zeros"`` as published, or ``"inside"``: only shifts for which there is sound. LSE-C then
            does not fall with the length of a clip, but it is no published number.
    """

    names: ClassVar[Mapping[Reading, str]] = {
        "confidence": "LSE-C",
        "distance": "LSE-D",
        "offset": "abs AV offset",
    }
    weight_names = (WEIGHTS,)

    def __init__(
        self, reading: Reading, path: CodecPath = "exact", crop: Crop = "track", ends: Ends = "zeros"
    ) -> None:
        super().__init__(reading, f"{path},{crop}" if ends == "zeros" else f"{path},{crop},any length")
        for value, known in ((path, ("exact", "lossless")), (crop, ("track", "whole"))):
            if value not in known:
                raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        self.path: CodecPath = path
        self.crop: Crop = crop
        self.ends: Ends = ends
        self.needs = frozenset({"sound", "landmarks"} if crop == "track" else {"sound"})

    def score(self, frames: Tensor, sound: Tensor, pieces: Sequence[Footage]) -> SyncScore:
        """Of one clip."""
        boxes = torch.full((len(frames), 4), torch.nan, dtype=torch.float64)
        if self.crop == "track":
            boxes = torch.from_numpy(face_boxes(generated_points(pieces).numpy()))
        waveform = torch.from_numpy(to_int16(sound.numpy()))
        lip, audio = _shared_vectors(self.path, self.crop == "track")(frames, waveform, boxes)
        return sync_score(shifted_distances(lip, audio, ends=self.ends))
