"""The audio encoder of the lip-sync module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BANDS, STEPS = 80, 16
TOKENS = 4  # of a frame, 50 ms of its mel window each


class SpeechTokens(nn.Module):
    """What is heard around a frame → a few tokens that a picture's positions attend to.

    Convolutions along time, with the bands as channels: a mel window of 16 steps becomes 4 tokens, which know
    their place in it. A vector of speech features a frame (Whisper's, HuBERT's) becomes as many tokens by a
    linear layer.

    Attributes:
        size: of all tokens of a frame, laid end to end.

    Args:
        width: length of a token.
        features: length of a feature vector; None takes mel windows.
        dropout: of components of the tokens, in training.

    Shapes: mel ``(n, 1, 80, 16)`` or features ``(n, features)`` → ``(n, 4, width)``.
    """

    def __init__(self, width: int, features: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = features
        self.size = TOKENS * width
        if features is None:
            self.first = nn.Conv1d(BANDS, width, 5, padding=2)
            self.second = nn.Conv1d(width, width, 5, stride=2, padding=2)
            self.third = nn.Conv1d(width, width, 3, stride=2, padding=1)
        else:
            self.linear = nn.Linear(features, TOKENS * width)
        self.position = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, heard: Tensor) -> Tensor:
        """One frame a row."""
        if self.features is None:
            x = F.silu(self.first(heard.flatten(1, 2)))
            x = self.third(F.silu(self.second(x))).transpose(1, 2)
        else:
            x = self.linear(heard).unflatten(1, (TOKENS, -1))
        return self.dropout(self.norm(x + self.position))
