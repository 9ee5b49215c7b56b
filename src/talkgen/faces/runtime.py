"""What the optional face backends need to run: their packages, their files, ONNX Runtime sessions."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from talkgen import weights
from talkgen.errors import FileError, MissingPackage

# What the face-alignment package itself has downloaded when it was used outside talkgen.
_FACE_ALIGNMENT_FILES = {"s3fd": "s3fd-619a316812.pth", "fan_2d": "2DFAN4-11f355bf06.pth.tar"}


def require(module: str, package: str) -> Any:
    """Import an optional module.

    Raises:
        MissingPackage: with the line that installs ``package``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"{module} is not installed ({error}); install it with: pip install {package}"
        ) from error


def onnx_session(file: Path, threads: int = 1, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> Any:
    """An ONNX Runtime session with a stated number of threads (its default takes every core of the machine).

    Raises:
        FileError: if the file is no ONNX model.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=list(providers))
    except (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument) as error:
        raise FileError(file, f"is no ONNX model that can be run: {error}") from error


def face_alignment_weights(name: str) -> Path:
    """The weights folder's file, else the one in the cache of the face-alignment package; never a download.

    Raises:
        MissingWeights: if it lies in neither place.
    """
    import torch

    if not weights.available(name):
        cached = Path(torch.hub.get_dir()) / "checkpoints" / _FACE_ALIGNMENT_FILES[name]
        if cached.is_file():
            return cached
    return weights.find(name)
