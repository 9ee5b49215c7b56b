"""Group normalisation of Diff2Lip's networks."""

from __future__ import annotations

import math

from torch import nn


def group_norm(channels: int, smallest: int = 4) -> nn.GroupNorm:
    """32 groups as published, fewer where a group would have less than ``smallest`` channels.

    A group of one channel would take away whatever is added to that channel everywhere, which is how time
    and audio reach a residual block: a narrow network with 32 groups would hear nothing.
    """
    return nn.GroupNorm(math.gcd(32, max(1, channels // smallest)), channels)
