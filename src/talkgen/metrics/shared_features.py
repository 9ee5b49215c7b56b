"""What a network makes of frames, computed once however many metrics and rows ask for it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor


def content_hash(*tensors: Tensor) -> bytes:
    """The same bytes for the same shapes, types and values."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def expert_device() -> torch.device:
    """Where networks of metrics run: the GPU where there is one. Their results come back to the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class SharedFeatures:
    """A function of tensors that remembers its last results by the content of what it was given.

    FID and KID ask for the features of the same frames, and every row of a table asks for those of the same
    ground truth.

    Args:
        function: takes tensors and gives a tensor.
        entries: results that are kept.
    """

    def __init__(self, function: Callable[..., Tensor], entries: int = 16) -> None:
        self.function = function
        self.entries = entries
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def __call__(self, *tensors: Tensor) -> Tensor:
        """The function's result for these tensors; not to be written to."""
        key = content_hash(*tensors)
        if key not in self._kept:
            with torch.inference_mode():
                self._kept[key] = self.function(*tensors).cpu()
            while len(self._kept) > self.entries:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
