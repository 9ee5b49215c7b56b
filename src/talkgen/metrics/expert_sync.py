"""What a trained sync expert of this package says of lips and sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.metrics.footage import Footage
from talkgen.metrics.whole_clip import WholeClip

Expert = Callable[[NDArray[np.uint8], NDArray[np.float32], NDArray[np.floating]], tuple[float, float]]


class ExpertSync(WholeClip):
    """Confidence of an expert: mean agreement of lips and sound at the best shift, less the median over all.

    Higher is better; near 0 where lips and sound have nothing to do with each other. It compares models on
    one corpus by one expert, and is no published number. A model that was trained with the expert's help is
    flattered by it.

    Args:
        expert: (frames (n, h, w, 3), sound, landmarks (n, 68, 2)) → offset in frames and confidence, such as
            ``talkgen.inference.av_offset.load_av_offset`` gives.
    """

    higher_is_better = True
    needs = frozenset({"sound", "corpus"})
    column = "sync[own expert]"

    def __init__(self, expert: Expert) -> None:
        super().__init__()
        self.expert = expert

    def clip_value(self, pieces: Sequence[Footage]) -> float:
        """The confidence of one clip."""
        frames = torch.cat([piece.generated for piece in pieces]).numpy()
        sound = torch.cat([piece.sound for piece in pieces if piece.sound is not None]).numpy()
        points = [piece.corpus_landmarks for piece in pieces if piece.corpus_landmarks is not None]
        return self.expert(frames, sound, torch.cat(points).numpy())[1]
