"""Demo clips whose heads are turned to the side, as a small prepared store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import to_int16
from talkgen.data.clip import Clip
from talkgen.data.corpora.demo import Take, make_take
from talkgen.data.corpora.demo_casting import ClipPlan, DemoSettings
from talkgen.data.corpora.demo_performance import FPS
from talkgen.data.store import Store, StoreWriter
from talkgen.faces.alignment import crop_matrices, identity_warp
from talkgen.faces.crop import CropSettings, crop_frame, transform_points
from talkgen.faces.ibug import keypoints_from_landmarks


def turned(take: Take, yaw_degrees: float) -> Take:
    """The same performance with the head turned further to the subject's left."""
    pose = take.performance.pose
    angle = pose.angle.copy()
    angle[:, 1] += np.radians(yaw_degrees)
    performance = replace(take.performance, pose=replace(pose, angle=angle))
    landmarks = take.actor.landmarks(take.expressions, performance.pose)
    return replace(take, performance=performance, truth=replace(take.truth, landmarks=landmarks))


def write_turned_store(
    root: Path, plans: list[ClipPlan], settings: DemoSettings, yaw_degrees: float, crop: CropSettings
) -> Store:
    """Render clips of turned heads and store them as a preparation would; kept where they are there already.

    Args:
        root: folder of the store.
        plans: the clips.
        settings: seed, seconds and size of the pictures.
        yaw_degrees: by how much heads are turned.
        crop: of the store.
    """
    if not (root / "store.json").is_file():
        with StoreWriter(root) as writer:
            for plan in plans:
                take = turned(make_take(plan, settings), yaw_degrees)
                count = len(take.expressions)
                landmarks = take.truth.landmarks
                matrices = crop_matrices(landmarks, crop, FPS)
                frames = [crop_frame(take.frame(n), matrices[n], crop.size) for n in range(count)]
                inside = transform_points(matrices, landmarks)
                arrays: dict[str, np.ndarray] = {
                    "mel": mel_spectrogram(take.waveform)[:, : round(count * 3.2)],
                    "waveform": to_int16(take.waveform),
                    "landmarks": inside,
                    "identity_warp": identity_warp(keypoints_from_landmarks(inside)),
                    "crop_matrix": matrices,
                }
                clip = Clip(plan.id, "demo", "test", f"id{plan.face:03d}", count, FPS, crop.size)
                writer.add(clip, np.stack(frames), arrays)
    return Store.open(root)
