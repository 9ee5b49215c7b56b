"""From a run folder, or a checkpoint in one, to a trained network.

Heavy libraries are imported where a network is loaded, so that refusals answer at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from talkgen.configuration import RunFolder, build
from talkgen.errors import FileError, TalkgenError
from talkgen.trusted_targets import refuse_foreign_targets


def run_config(folder: RunFolder) -> DictConfig:
    """The resolved config of a run.

    Raises:
        FileError: it cannot be read, or names no system; or it names code of nobody knows where.
    """
    try:
        config = OmegaConf.load(folder.config)
        str(config.system._target_)
    except (AttributeError, OmegaConfBaseException, RecursionError, ValueError, YAMLError) as error:
        raise FileError(folder.config, "is not the config of a talkgen run; delete the run") from error
    assert isinstance(config, DictConfig)  # what has a key is no list
    # The system itself is built by training alone, which composes its own config.
    try:
        OmegaConf.resolve(config)
    except (OmegaConfBaseException, RecursionError, ValueError) as error:
        raise FileError(folder.config, f"is not the config of a talkgen run ({error})") from error
    parts = OmegaConf.to_container(config)
    assert isinstance(parts, dict)
    built = {key: value for key, value in parts["system"].items() if key != "_target_"}
    refuse_foreign_targets([built, parts.get("data")], folder.config)
    return config


def checkpoint_file(folder: RunFolder, checkpoint: str = "best") -> Path:
    """A checkpoint of a run: ``"best"`` (the last one where there is no best) or ``"last"``.

    Raises:
        TalkgenError: another word was given.
    """
    if checkpoint not in ("best", "last"):
        raise TalkgenError(f"checkpoint is best or last, not {checkpoint!r}")
    return folder.best if checkpoint == "best" and folder.best.is_file() else folder.last


def load_network(folder: RunFolder, part: str, checkpoint: str | Path = "best") -> Any:
    """Rebuild a network of a run and fill it with its trained weights, averaged ones where there are any.

    Args:
        folder: the run.
        part: the network's name in the system, such as ``"vqgan"``.
        checkpoint: ``"best"``, ``"last"`` (see ``checkpoint_file``), or a file.

    Raises:
        TalkgenError: the config or the checkpoint cannot be used.
    """
    from torch import nn

    from talkgen.checkpoints import load_checkpoint, load_part

    file = checkpoint if isinstance(checkpoint, Path) else checkpoint_file(folder, checkpoint)
    system = run_config(folder).system
    if part not in system:
        raise FileError(folder.config, f"is of {system._target_}, which has no {part}; give another run")
    network = build(system[part])
    if not isinstance(network, nn.Module):
        raise FileError(folder.config, f"says nothing of how {part} is built; delete the run")
    content = load_checkpoint(file)
    weights = content["state_dict"] | content.get("ema", {})
    # Vectors that wait for k-means belong to training; a network that is used has no place for them.
    weights = {key: value for key, value in weights.items() if not key.endswith(".waiting")}
    load_part(network, {"state_dict": weights}, part)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Trained:
    """A checkpoint of a run; as small to send to another process as its path.

    Attributes:
        checkpoint: the file, absolute.
        sha256: of the file, which tells a network that was trained on from what it was.
    """

    checkpoint: Path
    sha256: str

    @property
    def folder(self) -> RunFolder:
        """The run that it lies in."""
        return RunFolder(self.checkpoint.parents[1])

    def image_size(self) -> int:
        """Pixels of the frames that the network was trained on.

        Raises:
            TalkgenError: the run says nothing of it, and its store is not there to be asked.
        """
        data = OmegaConf.select(run_config(self.folder), "data")
        size = OmegaConf.select(data, "window.size") if data is not None else None
        if size is not None:
            return int(size)
        from talkgen.data.store import Store

        root = OmegaConf.select(data, "root") if data is not None else None
        if root is None:
            raise FileError(self.folder.config, "names neither a size of frames nor a store")
        return Store.open(root).size


def find_trained(place: str | Path, part: str, experiment: str) -> Trained:
    """The checkpoint that a path means.

    Args:
        place: a run folder (its best checkpoint is taken), or one of the checkpoints in it.
        part: network that the run's system must have.
        experiment: what to call such a run in an error.

    Raises:
        TalkgenError: there is no such run, or it holds another network.
    """
    given = Path(place).absolute()
    file = given if given.is_file() else checkpoint_file(RunFolder(given))
    if not file.is_file() or not RunFolder(file.parents[1]).config.is_file():
        raise FileError(
            place, f"is neither a run folder nor a checkpoint in one; train one: experiment={experiment}"
        )
    system = run_config(RunFolder(file.parents[1])).system
    if part not in system:
        raise FileError(place, f"is a run of {system._target_}; give one of experiment={experiment}")
    return Trained(file, hashlib.sha256(file.read_bytes()).hexdigest())


def load_trained(run: str | Path, part: str, experiment: str) -> Any:
    """A trained network for a later stage, which a config can name (``_target_``).

    Args:
        run: see ``find_trained``.
        part: the network's name in its system.
        experiment: what trains it.

    Raises:
        TalkgenError: there is no such run, or its network cannot be loaded.
    """
    trained = find_trained(run, part, experiment)
    return load_network(trained.folder, part, trained.checkpoint)
