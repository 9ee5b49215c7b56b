"""Checkpoints: safe loading, parts of them, published layouts, and plain weight files.

Nothing here ever runs code from a file: pickles are read with ``weights_only=True``, and what is not a
tensor, a number or a plain container is refused by name. A published file whose weights sit beside foreign
objects (an old trainer's callbacks, say) is read with ``foreign="drop"``, which puts inert stand-ins in
their place.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from talkgen.errors import FileError

# Where published files keep their weights, in the order in which they are looked for.
CONTAINERS = (
    "net_G_ema",
    "params_ema",
    "state_dict",
    "model_state_dict",
    "net_G",
    "params",
    "model",
    "weights",
)
# What wrappers (DataParallel, torch.compile, DDP) put before every key.
WRAPPERS = ("module.", "_orig_mod.")


# What the readers of PyTorch raise on damaged bytes, besides UnpicklingError.
_DAMAGED = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Layout:
    """How a published file holds the weights of one network.

    Args:
        container: key of the mapping that holds the weights; ``""`` means the file itself.
        prefix: in front of every key of this network; keys without it belong to other networks.
        drop: keys that start with one of these are left out (losses, averaged copies).
    """

    container: str = ""
    prefix: str = ""
    drop: tuple[str, ...] = ()


# Six layers of PIRenderer's editing net, whose results its published code throws away.
_PIRENDER_UNUSED = tuple(
    f"editing_net.decoder.res{size}.res{block}.{layer}."
    for size in range(3)
    for block in range(2)
    for layer in ("conv1", "norm1")
)

# Layouts with a name of their own; everything else goes through "auto".
LAYOUTS: dict[str, Layout] = {
    "wav2lip": Layout(container="state_dict", prefix="module."),
    "taming": Layout(container="state_dict", drop=("loss.", "model_ema.")),
    "pirender": Layout(container="net_G_ema", drop=_PIRENDER_UNUSED),
    "diff2lip": Layout(),
}


@dataclass(frozen=True)
class LoadReport:
    """What ``load_published`` did: number of tensors loaded, and the keys it left out on purpose."""

    loaded: int
    dropped: tuple[str, ...]


class _Foreign:
    """Inert stand-in for an object that a checkpoint names and talkgen does not build."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Foreign:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load_checkpoint(
    file: str | Path,
    foreign: Literal["refuse", "drop"] = "refuse",
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Read a checkpoint (``.safetensors``, or anything ``torch.save`` wrote) without running code from it.

    Args:
        file: the checkpoint.
        foreign: what to do about objects that are no tensors: ``"refuse"`` raises and names them, ``"drop"``
            replaces them by inert objects, so that the weights beside them can be used.
        device: where tensors go.

    Raises:
        FileError: the file is missing, truncated, not a checkpoint, or holds foreign objects.
    """
    file = Path(file)
    if not file.is_file():
        raise FileError(file, "no such checkpoint")
    if file.suffix == ".safetensors":
        return dict(_load_safetensors(file, device))
    check_whole(file)
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    try:
        if foreign == "drop" and zipfile.is_zipfile(file):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            stand_ins = [(type(name.rpartition(".")[2], (_Foreign,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(file, _pickle_cause(file, error, foreign)) from error
    except _DAMAGED as error:
        raise FileError(
            file, f"is truncated or not a checkpoint ({_first_line(error)}); fetch or export it again"
        ) from error
    if not isinstance(content, dict):
        raise FileError(file, f"holds a {type(content).__name__}, not a mapping of weights")
    return content


def check_whole(file: str | Path) -> None:
    """Compare every part of a checkpoint with the checksum that was written with it.

    PyTorch itself does not: where a disk or a copy turned a bit, it loads other weights and says nothing.
    Files without checksums (``.safetensors``, PyTorch's format before 1.6) pass.

    Raises:
        FileError: a part differs.
    """
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (*_DAMAGED, NotImplementedError, zlib.error) as error:
        raise FileError(file, f"is damaged ({_first_line(error)}); fetch or copy it again") from error
    if broken is not None:
        raise FileError(file, f"is damaged: {broken} differs from its checksum; fetch or copy it again")


def _load_safetensors(file: Path, device: str | torch.device) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file, device=str(device))
    except (SafetensorError, OSError) as error:
        raise FileError(
            file, f"is truncated or not a safetensors file ({_first_line(error)}); fetch it again"
        ) from error


def _pickle_cause(file: Path, error: Exception, foreign: str) -> str:
    """Say in one sentence why the safe unpickler stopped."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipfile.is_zipfile(file) else []
    except (*_DAMAGED, pickle.UnpicklingError):
        names = []
    if names and foreign == "refuse":
        return (
            f"was refused because it holds objects that are no tensors ({', '.join(sorted(names)[:5])}), and "
            'loading those could run code; if you trust where it came from, read it with foreign="drop" '
            "(keeps the tensors alone) or export its state_dict where it was made"
        )
    words = ("nsupported", "GLOBAL", "blocked")
    named = next((line for line in str(error).splitlines() if any(word in line for word in words)), None)
    if named is not None:
        return f"was refused because it is no plain mapping of tensors ({named.strip()[:200]})"
    return f"is truncated or not a checkpoint ({_first_line(error)}); fetch or export it again"


def _first_line(error: BaseException) -> str:
    """First line of an error's message, short enough for one sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def load_published(
    module: nn.Module,
    source: str | Path | Mapping[str, Any],
    layout: str | Layout = "auto",
    rename: Callable[[str], str] | None = None,
    name: str | Path | None = None,
) -> LoadReport:
    """Fill a network from a published checkpoint, strictly.

    ``load_published(syncnet, "lipsync_expert.pth", layout="wav2lip")``

    Args:
        module: a network whose keys are those of the published code.
        source: the file, or what was read from it.
        layout: a name in ``LAYOUTS``, a ``Layout``, or ``"auto"``: descend into the first known container,
            and strip wrappers' prefixes where every key has them.
        rename: published key → our key, for networks that use names of their own.
        name: what to call the source in errors; its path where it is a file.

    Returns:
        What was loaded and what was left out. ``num_batches_tracked`` may be missing: it is a counter, and
        files older than torch 0.4.1 have none.

    Raises:
        FileError: keys are missing, unexpected or mis-shaped; the message names them. The module then holds
            those that fit, as after PyTorch's own strict loading.
    """
    name = name or _name(source)
    weights, dropped = published_weights(source, layout)
    if rename is not None:
        weights = {rename(key): value for key, value in weights.items()}
    _load_strictly(module, weights, name)
    return LoadReport(len(weights), dropped)


def published_weights(
    source: str | Path | Mapping[str, Any], layout: str | Layout = "auto"
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights that a published file holds, without containers and prefixes, and the keys left out.

    Arguments are those of ``load_published``.
    """
    name = _name(source)
    content = load_checkpoint(source, "drop") if isinstance(source, str | Path) else source
    if layout == "auto":
        while container := next((k for k in CONTAINERS if isinstance(content.get(k), Mapping)), None):
            content = content[container]
        layout = Layout()
    elif isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"layout {layout!r} is unknown; there are auto, {', '.join(LAYOUTS)}")
        layout = LAYOUTS[layout]
    if layout.container and isinstance(content.get(layout.container), Mapping):
        content = content[layout.container]
    # A bare state dict without its container is as good: people re-save published files in this way.
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise FileError(
            name, f"holds no tensors at the top; its keys are {', '.join(map(str, content))[:200]}"
        )
    dropped = [key for key in weights if layout.drop and key.startswith(layout.drop)]
    weights = {key: value for key, value in weights.items() if key not in set(dropped)}
    if layout.prefix and any(key.startswith(layout.prefix) for key in weights):
        dropped += [key for key in weights if not key.startswith(layout.prefix)]
        weights = {
            k.removeprefix(layout.prefix): v for k, v in weights.items() if k.startswith(layout.prefix)
        }
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in weights):
            weights = {key.removeprefix(wrapper): value for key, value in weights.items()}
    return weights, tuple(dropped)


def _name(source: str | Path | Mapping[str, Any]) -> str | Path:
    """What to call a source in an error."""
    return source if isinstance(source, str | Path) else "checkpoint"


def _load_strictly(module: nn.Module, weights: Mapping[str, Tensor], name: str | Path) -> None:
    """Load weights whose keys and shapes must be those of the module; name every one that is not."""
    own = module.state_dict()
    shaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    fitting = {k: v for k, v in weights.items() if k not in own or v.shape == own[k].shape}
    # The module says itself what it misses: some hold state that is not always there.
    result = module.load_state_dict(fitting, strict=False)
    missing = [k for k in result.missing_keys if k not in weights and not k.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys or shaped:
        parts = [("missing", missing), ("unexpected", result.unexpected_keys), ("mis-shaped", shaped)]
        said = "; ".join(f"{len(keys)} {word}: {_some(keys)}" for word, keys in parts if keys)
        raise FileError(name, f"does not fit {type(module).__name__} ({said})")


def _some(keys: list[str], limit: int = 6) -> str:
    """The first few keys, and how many more there are."""
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def load_part(module: nn.Module, source: str | Path | Mapping[str, Any], part: str) -> LoadReport:
    """Fill a network from its part of a training checkpoint: the keys ``part.*`` of ``state_dict``.

    ``load_part(vqgan, "runs/vqgan/checkpoints/last.ckpt", "vqgan")``

    Raises:
        FileError: there is no such part (the message lists those there are), or it does not fit.
    """
    name = _name(source)
    content = load_checkpoint(source, "drop") if isinstance(source, str | Path) else source
    state = content.get("state_dict", content)
    if not any(key.startswith(f"{part}.") for key in state):
        parts = sorted({key.split(".")[0] for key in state})
        raise FileError(name, f"holds no part {part!r}; it holds {', '.join(parts)}")
    return load_published(module, state, Layout(prefix=f"{part}."), name=name)


def export_weights(module: nn.Module, file: str | Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a network's weights as a plain ``.safetensors`` file, under a temporary name first.

    Args:
        module: the network.
        file: where to; must end in ``.safetensors``.
        metadata: text kept in the file's header (what it is, licence, settings).
    """
    from safetensors.torch import save_file

    file = Path(file)
    if file.suffix != ".safetensors":
        raise FileError(file, "weights are exported as .safetensors; choose such a name")
    file.parent.mkdir(parents=True, exist_ok=True)
    # Cloned, since tied weights share memory and the format refuses that.
    weights = {key: value.detach().cpu().clone().contiguous() for key, value in module.state_dict().items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        save_file(weights, temporary, metadata=dict(metadata or {}))
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def import_weights(module: nn.Module, file: str | Path) -> LoadReport:
    """Fill a network from a file that ``export_weights`` wrote; strict, see ``load_published``."""
    return load_published(module, file, Layout())


def read_metadata(file: str | Path) -> dict[str, str]:
    """Text that ``export_weights`` put into the file's header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise FileError(file, f"cannot be read as safetensors ({_first_line(error)})") from error
