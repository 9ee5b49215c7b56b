"""What the config of a run may have built: a run folder can come from anywhere, and ``_target_`` names code.

Hydra calls whatever a ``_target_`` names, ``os.system`` as well. A command that only uses a run builds what
is of this package, PyTorch's optimisers and modules, and what is of packages that were installed as plugins
or are named in ``$TALKGEN_TRUST``.
"""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from talkgen.errors import FileError

VARIABLE = "TALKGEN_TRUST"
_GROUPS = ("talkgen.configs", "talkgen.methods", "talkgen.compared_methods")
_PARTS = (  # of this package, which build and compute, and start nothing
    "audio", "data", "diffusion", "face3d", "faces", "inference", "losses", "metrics", "models", "systems",
)  # fmt: skip
_TORCH = ("torch.nn.", "torch.optim.")


def refuse_foreign_targets(node: Any, file: str | Path) -> None:
    """Refuse a config that names code which its user did not install.

    Args:
        node: plain mappings and lists.
        file: the config, for the error.

    Raises:
        FileError: names the target, and how to allow it.
    """
    for target in _targets(node):
        if not _is_trusted(target):
            package = target.split(".")[0]
            own = "" if package in ("talkgen", "torch") else f"; if it is yours, set {VARIABLE}={package}"
            raise FileError(
                file, f"was refused: it would call {target}, which is neither of talkgen nor of a plugin{own}"
            )


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for value in node:
            yield from _targets(value)


def _is_trusted(target: str) -> bool:
    names = target.split(".")
    if any(name.startswith("_") or not name.isidentifier() for name in names):
        return False
    packages = {value.split(".")[0].split(":")[0] for group in _GROUPS for value in _values(group)}
    packages |= {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    if names[0] in packages:
        return True
    if target.startswith(_TORCH):
        return _home(names).startswith(("torch.nn.", "torch.optim."))
    # not what a module merely imports: talkgen.training.subprocess.run
    return (
        names[0] == "talkgen"
        and len(names) > 2
        and names[1] in _PARTS
        and (names[-1] in _defined(".".join(names[:-1])) or _home(names).startswith("talkgen."))
    )


def _values(group: str) -> list[str]:
    return [entry.value for entry in entry_points(group=group)]


@lru_cache(maxsize=256)
def _defined(module: str) -> frozenset[str]:
    """Classes and functions that a module of this package defines, read off its source: importing all that a
    config names, Lightning with it, takes seconds of whoever builds one network."""
    try:
        spec = find_spec(module)
    except ImportError:  # what should be its package is a module
        return frozenset()
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return frozenset()
    kinds = (ast.ClassDef, ast.FunctionDef)
    body = ast.parse(Path(spec.origin).read_bytes()).body
    return frozenset(node.name for node in body if isinstance(node, kinds))


def _home(names: list[str]) -> str:
    """Module in which what a dotted name leads to was defined; empty where there is no such thing."""
    for length in range(len(names) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(names[:length]))
        except ImportError:
            continue
        for name in names[length:]:
            found = getattr(found, name, None)
        return f"{getattr(found, '__module__', '')}."
    return ""
