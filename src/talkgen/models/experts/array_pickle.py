"""Pickles of dictionaries and numpy arrays, as flax's users publish weights; nothing else is let in."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from talkgen.errors import FileError


class _ArraysOnly(pickle.Unpickler):
    """A pickle of dictionaries and numpy arrays; anything else in it is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that a pickled array consists of."""
        # numpy 2 moved multiarray; __reduce__ gives the function under whatever name it has now
        allowed = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
        if module.partition(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return allowed[name]


def read_arrays(file: Path) -> dict[str, Any]:
    """A dictionary, of dictionaries, of arrays.

    Raises:
        FileError: not such a file.
    """
    try:
        with file.open("rb") as stream:
            content = _ArraysOnly(stream).load()
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise FileError(file, f"is not a file of arrays ({error})") from error
    if not isinstance(content, dict):
        raise FileError(file, f"holds a {type(content).__name__}, not a dictionary of arrays")
    return content
