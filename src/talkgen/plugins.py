"""What other installed packages add, by their entry points; docs/plugin_methods.md shows a whole package.

=============================  =====================================================================
group                          value
=============================  =====================================================================
``talkgen.configs``            a package of YAML files, laid out as ``configs/``: ``mypackage.configs``
``talkgen.methods``            ``mypackage.module:NAME`` of a ``generation_method.GenerationMethod``
``talkgen.compared_methods``   ``mypackage.module:NAME`` of a ``compared_methods.ComparedMethod``
=============================  =====================================================================
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from talkgen.errors import TalkgenError

Kind = TypeVar("Kind")
_REPAIR = "repair or uninstall the package that brings it"


def installed(group: str, kind: type[Kind], own: Mapping[str, str] = MappingProxyType({})) -> dict[str, Kind]:
    """What packages name in a group: name of the entry point → object.

    Args:
        group: of entry points.
        kind: what they name.
        own: what this package would name there, name → value; found also where it is not installed anew.

    Raises:
        TalkgenError: one cannot be imported, or is no ``kind``.
    """
    found: dict[str, Kind] = {}
    entries = [EntryPoint(name, value, group) for name, value in own.items()]
    for entry in (*entries, *entry_points(group=group)):
        try:
            loaded = entry.load()
        except (ImportError, AttributeError) as error:
            raise TalkgenError(
                f"{entry.name!r} of {group} ({entry.value}) cannot be imported: {error}; {_REPAIR}"
            ) from error
        if not isinstance(loaded, kind):
            raise TalkgenError(f"{entry.value} is no {kind.__module__}.{kind.__name__}; {_REPAIR}")
        found[entry.name] = loaded
    return found


def config_packages() -> list[str]:
    """Packages that hold configs, such as ``mypackage.configs``."""
    return sorted({entry.value for entry in entry_points(group="talkgen.configs")})


def config_folders() -> list[Path]:
    """Their folders; nothing is imported but the packages that they lie in.

    Raises:
        TalkgenError: there is no such package.
    """
    return [_folder(entry) for entry in sorted(entry_points(group="talkgen.configs"))]


def _folder(entry: EntryPoint) -> Path:
    try:
        spec = importlib.util.find_spec(entry.value)
    except ImportError:
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise TalkgenError(f"there is no package {entry.value}, which talkgen.configs names; {_REPAIR}")
    return Path(places[0])
