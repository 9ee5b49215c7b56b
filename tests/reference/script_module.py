"""A script of ``scripts/`` or ``benchmarks/`` as a module, for its tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_script(place: str, name: str | None = None) -> ModuleType:
    """Import ``place``, such as ``benchmarks/evaluation.py``, which finds the scripts beside it.

    Args:
        place: below the project's root.
        name: of the module; None: the file's.
    """
    file = ROOT / place
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # as running a script there does
    spec = importlib.util.spec_from_file_location(name or file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
