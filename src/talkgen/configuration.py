"""Where configs are, how a command composes one, and what a run folder holds.

A config key is a constructor's argument: classes never read a config. What a constructor cannot refuse
(a key beside the ``_target_`` nodes) is refused here, by name, with the nearest key that exists.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from talkgen.errors import TalkgenError, from_os_error
from talkgen.plugins import config_folders, config_packages

# Groups that change what others have said; they may only use keys which exist without them.
OVERLAYS = ("experiment", "debug", "local")


def config_folder() -> Path:
    """The folder of YAML files: inside an installed package, or ``configs/`` of the checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parents[1] / "configs"


def options(group: str) -> list[str]:
    """Names that ``group=…`` can take."""
    folders = [config_folder(), *config_folders()]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def _search_path() -> list[str]:
    """The override that has Hydra look into the configs of other packages; none where there are none."""
    packages = [f"pkg://{package}" for package in config_packages()]
    return [f"hydra.searchpath=[{','.join(packages)}]"] if packages else []


def hydra_command(config_name: str, run: Callable[[DictConfig], int | None], arguments: Sequence[str]) -> int:
    """Compose ``config_name`` with the overrides in ``arguments`` and call ``run`` with it.

    Args:
        config_name: file in the config folder, without ``.yaml``.
        run: takes the composed config; gives the exit code.
        arguments: Hydra overrides and flags (``--help``, ``--cfg job``, ``-m``).

    Raises:
        TalkgenError: raised by ``run``; or the config cannot be composed; or the operating system refused a
            file. With ``HYDRA_FULL_ERROR=1`` the last two come as they are, with their tracebacks.
    """
    import hydra
    from hydra.errors import HydraException

    codes: list[int] = []
    errors: list[TalkgenError] = []
    argv = sys.argv
    wanted = os.environ.get("HYDRA_FULL_ERROR")

    def raise_all(everything: bool) -> None:
        """Have Hydra raise errors (else it prints them and leaves the process), or do as the user wants."""
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if everything or wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = "1" if everything else str(wanted)

    def task(cfg: DictConfig) -> None:
        # Hydra has read its arguments by now; the processes of a distributed run start from the real ones.
        sys.argv = argv
        raise_all(False)  # processes that the run starts decide for themselves
        try:
            codes.append(run(cfg) or 0)
        except TalkgenError as error:
            errors.append(error)
        except (OSError, OmegaConfBaseException) as error:
            known = from_os_error(error) if isinstance(error, OSError) else _config_error(error)
            if known is None or wanted is not None:
                raise
            errors.append(known)
        finally:
            raise_all(True)

    given = list(arguments)
    if not any(argument.startswith("hydra.searchpath=") for argument in given):
        given = [*_search_path(), *given]
    sys.argv = [argv[0], *map(_quoted, given)]
    raise_all(True)
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(task)()
    except HydraException as error:
        if wanted is not None:
            raise
        raise _composition_error(error, config_name) from error
    finally:
        sys.argv = argv
        raise_all(False)
    if errors:
        raise errors[0]
    return max(codes, default=0)


def compose_config(config_name: str, choices: Mapping[str, str], values: Mapping[str, Any]) -> DictConfig:
    """The config of a command, made by a program: what stands in ``values`` is taken as it is.

    Args:
        config_name: file in the config folder, without ``.yaml``.
        choices: group → option.
        values: key, with full stops where it lies deeper → value.

    Raises:
        TalkgenError: there is no such group, option or key.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_folder())):
            chosen = [f"{group}={option}" for group, option in choices.items()]
            cfg = compose(config_name, overrides=[*_search_path(), *chosen])
        for key, value in values.items():
            OmegaConf.update(cfg, key, value.replace("${", "\\${") if isinstance(value, str) else value)
    except HydraException as error:
        raise _composition_error(error, config_name) from error
    except OmegaConfBaseException as error:
        raise _config_error(error) from error
    return cfg


def _quoted(override: str) -> str:
    """``key=value`` as Hydra reads it: paths with umlauts, brackets or the like need quotes there."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, separator, value = override.partition("=")
    if not separator or not value or key.startswith("-") or value[0] in "[{\"'":
        return override
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        quote = next((quote for quote in "\"'" if quote not in value), "")
        return f"{key}={quote}{value}{quote}"
    return override


def _composition_error(error: Exception, config_name: str) -> TalkgenError:
    """What was wrong with the overrides, in one sentence, with the nearest name that exists."""
    from hydra.errors import MissingConfigException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return TalkgenError(f"there is no {group}={option}; there are {group}={'|'.join(error.options)}")
    if key := re.search(r"Could not override '([^'@]+)", str(error)):
        near = difflib.get_close_matches(key[1], _every_key(config_name), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return TalkgenError(f"nothing reads the key {key[1]!r} of the config{hint}; --help lists every key")
    return _config_error(error)


def _config_error(error: Exception) -> TalkgenError:
    return TalkgenError(f"the config cannot be used: {str(error).strip().splitlines()[0].rstrip('.')}")


def _every_key(config_name: str) -> set[str]:
    """Dotted keys of a config and of its groups, for hints."""
    folder = config_folder()
    keys = set(_leaves(OmegaConf.to_container(OmegaConf.load(folder / f"{config_name}.yaml"))))
    for file in (file for place in (folder, *config_folders()) for file in place.glob("*/*.yaml")):
        keys.add(file.parent.name)
        keys |= {f"{file.parent.name}.{key}" for key in _leaves(OmegaConf.to_container(OmegaConf.load(file)))}
    return keys


def choices() -> dict[str, str | None]:
    """Option chosen for each group of the composed config, for example ``{"data": "demo"}``."""
    from hydra.core.hydra_config import HydraConfig

    chosen = HydraConfig.get().runtime.choices
    return {str(group): option for group, option in chosen.items() if not str(group).startswith("hydra/")}


def overrides() -> list[str]:
    """The overrides as given on the command line."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def check_keys(cfg: DictConfig, config_name: str) -> None:
    """Refuse a key that nothing reads.

    Hydra refuses unknown keys on the command line, and constructors refuse theirs, but a misspelt key in a
    plain mapping of an experiment file would be accepted in silence. Such files may therefore only set keys
    that exist without them.

    Raises:
        TalkgenError: names the key and the nearest one that exists.
    """
    from hydra import compose

    plain = [f"{group}={option}" for group, option in choices().items() if option and group not in OVERLAYS]
    known = compose(config_name, overrides=[*_search_path(), *plain])
    unknown = unknown_keys(cfg, known)
    if unknown:
        raise TalkgenError("; ".join(unknown))


def unknown_keys(given: DictConfig, known: DictConfig, prefix: str = "") -> list[str]:
    """A sentence for each key of ``given`` that ``known`` lacks; ``_target_`` nodes look after themselves."""
    sentences: list[str] = []
    for key in map(str, given):
        value = OmegaConf.to_container(given, resolve=False)[key]  # type: ignore[index, call-overload]
        if key not in known:
            if isinstance(value, Mapping) and "_target_" in value:
                continue
            near = difflib.get_close_matches(key, list(map(str, known)), 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            sentences.append(f"nothing reads the key {prefix + key!r} of the config{hint}")
        elif isinstance(value, Mapping) and "_target_" not in value:
            below = known._get_node(key)
            if isinstance(below, DictConfig) and not below._is_none():
                sentences += unknown_keys(given._get_node(key), below, f"{prefix}{key}.")  # type: ignore[arg-type]
    return sentences


def build(node: DictConfig, **arguments: Any) -> Any:
    """Instantiate a ``_target_`` node, lists and mappings as plain Python.

    Raises:
        TalkgenError: an argument is unknown or refused, or a file, weight or package is missing; the message
            names the key of the config.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        _check_partials(node, called_later=arguments.get("_partial_", False))
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, TalkgenError):
                raise cause from error
            cause = cause.__cause__
        key = re.search("full_key: (.+)", str(error))
        said = str(error.__cause__ or " ".join(str(error).split()))
        raise TalkgenError(f"the config cannot be used: {said}{f' ({key[1]})' if key else ''}") from error


def _check_partials(node: Any, prefix: str = "", called_later: bool = False) -> None:
    """Refuse arguments that a ``_partial_`` target does not have; they would be found when it is called."""
    from hydra.utils import get_method

    if not isinstance(node, DictConfig):
        return
    for key in map(str, node):
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            _check_partials(node[key], f"{prefix}.{key}" if prefix else key)
    if called_later or node.get("_partial_"):
        arguments = {str(key): None for key in node if not str(key).startswith("_")}
        try:
            inspect.signature(get_method(node._target_)).bind_partial(**arguments)
        except TypeError as error:
            raise TalkgenError(f"the config cannot be used: {node._target_} {error} ({prefix})") from error


@dataclass(frozen=True)
class RunFolder:
    """``runs/<name>``: everything that one training stage leaves behind.

    A method's stages are run folders inside the method's: ``runs/<name>/<stage>``.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config, as YAML."""
        return self.path / "config.yaml"

    @property
    def facts(self) -> Path:
        """Versions, git commit, hash of the corpus' manifest, and progress, as JSON."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """Every logged number: one row a step, one column a key."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """``last.ckpt``, ``best.ckpt`` and ``best.json``."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """``step-0000000-<clip>.mp4``: ground truth beside generated, with sound."""
        return self.path / "samples"

    @property
    def last(self) -> Path:
        """Checkpoint that the same command resumes from."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """Checkpoint with the best validation score."""
        return self.checkpoints / "best.ckpt"


def find_runs(runs: str | Path) -> list[RunFolder]:
    """Run folders with a checkpoint under ``runs``, stages of methods included, newest checkpoint first."""
    found = [RunFolder(last.parents[1]) for last in Path(runs).glob("**/checkpoints/last.ckpt")]
    found = [run for run in found if run.config.is_file()]
    return sorted(found, key=lambda run: run.last.stat().st_mtime, reverse=True)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], sections: Sequence[str]) -> list[str]:
    """``key: old → new`` for every value below ``sections`` that differs between two resolved configs."""
    before, after = (_leaves({key: config.get(key) for key in sections}) for config in (old, new))
    keys = sorted(before.keys() | after.keys())
    missing = "(absent)"
    pairs = ((key, before.get(key, missing), after.get(key, missing)) for key in keys)
    return [f"{key}: {was} → {now}" for key, was, now in pairs if was != now]


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping):
        below = (_leaves(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items())
        return functools.reduce(lambda a, b: a | b, below, {})
    return {prefix: node}
