"""Tensors of a TorchScript file, without running or compiling anything of it.

A TorchScript archive is a zip file: code, a pickle that says which module holds which tensor, and the bytes
of the tensors. Only the last two are read, the pickle by an unpickler that knows tensors and nothing else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from talkgen.errors import FileError

_DTYPES = {"FloatStorage": np.float32, "DoubleStorage": np.float64, "LongStorage": np.int64}


class _Module:
    """Stand-in for a class of the archive's code; keeps the attributes of one object."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _rebuild(
    storage: np.ndarray, offset: int, shape: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    return torch.from_numpy(storage).as_strided(tuple(shape), tuple(stride), offset).clone()


class _TensorsOnly(pickle.Unpickler):
    """Modules, ordered dictionaries and tensors; anything else is refused by name."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """The few names that the tree of modules consists of."""
        if module.partition(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in {"build_intlist", "build_doublelist", "build_boollist"}:
            return list
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, reference: Any) -> np.ndarray:
        """The bytes of one storage."""
        _, dtype, key, *_ = reference
        return np.frombuffer(self.archive.read(f"{self.folder}/data/{key}"), dtype).copy()


def read_torchscript(file: Path) -> dict[str, Tensor]:
    """Path of modules → tensor, in the order of the file.

    Raises:
        FileError: not a TorchScript file, or its pickle holds anything but modules and tensors.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).split("/")[0]
            root = _TensorsOnly(archive, folder).load()
    except (OSError, EOFError, KeyError, StopIteration, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise FileError(file, f"is not a TorchScript file of tensors ({error}); fetch it again") from error
    return dict(_tensors(root, ""))


def _tensors(node: Any, path: str) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for name, value in getattr(node, "state", {}).items():
        if isinstance(value, Tensor):
            found.append((path + name, value))
        elif isinstance(value, _Module):
            found += _tensors(value, f"{path}{name}.")
    return found
