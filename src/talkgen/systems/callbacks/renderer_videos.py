"""What a renderer makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.data.clip import Clip
from talkgen.data.motion_pairs import MotionPairData
from talkgen.data.windows import as_model, as_uint8, resize_frames
from talkgen.systems.callbacks.clip_videos import CHUNK, ClipVideos, write_beside


class RendererVideos(ClipVideos):
    """Ground truth | the clip's first frame moved as the clip | another person moved so."""

    def write(self, data: MotionPairData, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        """Truth, and both people moved."""
        count = self.frames(clip)
        size = data.window.size or data.store.size
        truth = resize_frames(data.store.frames(clip, 0, count), size)
        stranger = resize_frames(data.store.frames(other, 0, 1), size)
        starts = data.coefficients.array(clip.id)[0], data.coefficients.array(other.id)[0]
        sources = as_model(torch.from_numpy(np.stack([truth[0], stranger[0]]))).to(system.device)
        padding = ((data.radius, data.radius), (0, 0))
        motion = np.pad(data.coefficients.array(clip.id), padding, mode="edge")

        def rows() -> Iterator[tuple[NDArray[np.uint8], ...]]:
            for start in range(0, count, CHUNK):
                stop = min(start + CHUNK, count)
                part = motion[start : stop + 2 * data.radius]
                moved = [
                    as_uint8(system.sample(source, start_of, part)).cpu().numpy()
                    for source, start_of in zip(sources, starts, strict=True)
                ]
                yield from zip(truth[start:stop], *moved, strict=True)

        write_beside(file, data.store, clip, count, rows())
