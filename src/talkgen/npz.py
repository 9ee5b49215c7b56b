"""Reading an ``.npz`` that may come from anywhere: it runs no code, and takes no more memory than is due."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from talkgen.errors import FileError

# What is compressed further than this was made to fill the memory of whoever opens it. Arrays of zeros get to
# 1000, so a file may hold some of them.
_GREATEST_RATIO = 200
_ALWAYS_ALLOWED_BYTES = 64 * 2**20

_DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,  # of a compression that Python does not know
    OSError,
    OverflowError,
    RuntimeError,  # of an encrypted file
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(file: str | Path, names: Container[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a file.

    Args:
        file: what ``numpy.savez`` or ``savez_compressed`` wrote.
        names: of the arrays that are wanted; None: all.

    Raises:
        FileError: it is missing or damaged; or holds pickled objects, which could run code; or far more than
            its size allows.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > _ALWAYS_ALLOWED_BYTES + _GREATEST_RATIO * Path(file).stat().st_size:
                raise FileError(
                    file, f"would unpack to {unpacked / 1e9:.1f} GB; no sound file of its size does"
                )
            for member in members:
                name = member.filename.removesuffix(".npy")
                if member.filename.endswith(".npy") and (names is None or name in names):
                    arrays[name] = _read_member(archive, member)
    except _DAMAGED as error:
        raise FileError(file, f"cannot be read as arrays ({error}); make or fetch it again") from error
    return arrays


def array_names(file: str | Path) -> set[str]:
    """Names of the arrays of a file.

    Raises:
        FileError: it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except _DAMAGED as error:
        raise FileError(file, f"cannot be read as arrays ({error}); make or fetch it again") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds pickled objects, which could run code")
        count = 1
        for length in shape:
            count *= length  # a Python number, which does not turn over
        content = stream.read()
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(content):
        raise ValueError(f"{member.filename} states {shape} of {dtype} and holds {len(content)} bytes")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T.copy() if fortran_order else array.reshape(shape).copy()
