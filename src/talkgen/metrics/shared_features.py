"""What is made of frames, computed once however many metrics, rows and runs ask for it."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from talkgen import __version__
from talkgen.metrics.feature_cache import current_cache


def content_hash(*tensors: Tensor) -> bytes:
    """The same bytes for the same shapes, types and values."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(_tensor_hash(tensor))
    return digest.digest()


_hashes: dict[int, tuple[weakref.ref[Tensor], int, bytes]] = {}
"""By id: the tensor, how often it had been written to, its hash. Many metrics ask for that of one piece."""


def _tensor_hash(tensor: Tensor) -> bytes:
    # Tensors made under inference mode do not count what is written to them.
    version = -1 if tensor.is_inference() else tensor._version
    known = _hashes.get(id(tensor))
    if known is not None and known[0]() is tensor and known[1] == version >= 0:
        return known[2]
    digest = hashlib.blake2b(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(tensor.detach().cpu().contiguous().numpy().data)
    made, place = digest.digest(), id(tensor)
    if version >= 0:
        _hashes[place] = weakref.ref(tensor, lambda _: _hashes.pop(place, None)), version, made
    return made


def expert_device() -> torch.device:
    """Where networks of metrics run: the GPU where there is one. Their results come back to the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named(name: str, weights: Mapping[str, str] | None = None) -> str:
    """A name for :class:`SharedFeatures` that changes with the files that a function reads.

    Args:
        name: of what is computed, with its settings.
        weights: weight name → sha256.
    """
    return " ".join([name, *(f"{file}={digest}" for file, digest in sorted((weights or {}).items()))])


class SharedFeatures:
    """A function of tensors that remembers results by the content of what it was given.

    FID and KID ask for the features of the same frames, and every row of a table asks for those of the same
    ground truth. The last results are kept in memory; with a name they are kept on disk too, where a
    :class:`talkgen.metrics.feature_cache.FeatureCache` is in use.

    Args:
        function: takes tensors and gives a tensor.
        entries: results that are kept in memory.
        name: says what is computed, by which settings and weights (see :func:`named`); empty: not on disk.
    """

    def __init__(self, function: Callable[..., Tensor], entries: int = 16, name: str = "") -> None:
        self.function = function
        self.entries = entries
        self.name = name
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def __call__(self, *tensors: Tensor) -> Tensor:
        """The function's result for these tensors; not to be written to."""
        key = content_hash(*tensors)
        if key not in self._kept:
            self._kept[key] = self._from_disk(key, tensors)
            while len(self._kept) > self.entries:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _from_disk(self, key: bytes, tensors: tuple[Tensor, ...]) -> Tensor:
        cache = current_cache() if self.name else None
        place = hashlib.blake2b(f"{__version__} {self.name} ".encode() + key, digest_size=20).hexdigest()
        if cache is not None and (found := cache.get(place)) is not None:
            return torch.from_numpy(found)
        with torch.inference_mode():
            made = self.function(*tensors).cpu()
        if cache is not None:
            cache.put(place, made.numpy())
        return made
