"""How much memory a training step takes, without doing it; and what therefore fits on which card.

A step is played through with tensors that have shapes and no contents (PyTorch's ``FakeTensorMode``), and
every storage is counted from when it is made until it is let go. Branches that depend on contents take the
way that costs most. What is not counted: the CUDA context, workspaces of cuDNN and fragmentation; ``RESERVE``
and ``SLACK`` leave room for those. Memory is linear in the batch, so two batches tell it for all.

Footprints of every stage at size=paper lie beside this file (``memory_footprints.json``, made by
``benchmarks/memory_recipes.py``), so that a recipe is an arithmetic of three numbers.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from talkgen.errors import TalkgenError

FOOTPRINTS = Path(__file__).with_name("memory_footprints.json")
CARDS = (8, 12, 24, 48, 80)
"""GB of memory of common cards."""
RESERVE = 0.8e9  # bytes of a CUDA context with cuDNN and cuBLAS
SLACK = 0.1  # share of a card for fragmentation and workspaces


@dataclass(frozen=True)
class Footprint:
    """Peak bytes of a step in bf16-mixed: ``fixed + sample · batch``.

    Attributes:
        batch: of the config.
        group: windows of a clip that stand together; batches are multiples of it.
        contrastive: whether samples of a batch are compared with each other, so that parts of a batch teach
            less than the whole.
        fixed, sample: of an ordinary step.
        spare_fixed, spare_sample: with activations recomputed; None where no network can.
    """

    batch: int
    group: int
    contrastive: bool
    fixed: int
    sample: int
    spare_fixed: int | None = None
    spare_sample: int | None = None

    def peak(self, batch: int, checkpointing: bool = False) -> float:
        """Bytes of a step."""
        if checkpointing and self.spare_fixed is not None and self.spare_sample is not None:
            return self.spare_fixed + self.spare_sample * batch
        return self.fixed + self.sample * batch


@dataclass(frozen=True)
class Recipe:
    """What fits.

    Attributes:
        batch: samples at a time.
        accumulate: such batches in a step of the optimiser, which then sees what the config says.
        checkpointing: recompute activations.
        peak: bytes.
    """

    batch: int
    accumulate: int
    checkpointing: bool
    peak: float

    def overrides(self) -> str:
        """What to add to the command."""
        parts = ["precision=bf16-mixed", f"data.batch_size={self.batch}"]
        parts += ["checkpointing=true"] if self.checkpointing else []
        parts += [f"accumulate={self.accumulate}"] if self.accumulate > 1 else []
        return " ".join(parts)


def recipe(footprint: Footprint, card_bytes: float) -> Recipe | None:
    """The fastest way to the config's batch on a card; None where not even one sample fits.

    First without recomputing, then with, then in parts that are added up.
    """
    room = card_bytes * (1 - SLACK) - RESERVE
    ways = [False, True] if footprint.spare_fixed is not None else [False]
    parts = [
        n
        for n in range(1, footprint.batch + 1)
        if footprint.batch % n == 0 and footprint.batch // n % footprint.group == 0
    ]
    for number in parts:
        batch = footprint.batch // number
        for checkpointing in ways:
            peak = footprint.peak(batch, checkpointing)
            if peak <= room:
                return Recipe(batch, number, checkpointing, peak)
    return None


def footprints() -> dict[str, Footprint]:
    """Those that were measured, by experiment."""
    return {name: Footprint(**value) for name, value in json.loads(FOOTPRINTS.read_text()).items()}


def table(measured: Mapping[str, Footprint], cards: Sequence[int] = CARDS) -> list[str]:
    """Markdown: a row for each stage, a column for each card."""
    head = ["stage", "batch of the config", "GB for it", *(f"{card} GB" for card in cards)]
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|" + "---|" * len(cards)]
    for name, footprint in measured.items():
        cells = [name, str(footprint.batch), f"{footprint.peak(footprint.batch) / 1e9:.1f}"]
        for card in cards:
            found = recipe(footprint, card * 1e9)
            if found is None:
                cells.append("–")
                continue
            text = f"{found.batch}" + (f" × {found.accumulate}" if found.accumulate > 1 else "")
            text += ", checkpointing" if found.checkpointing else ""
            cells.append(text + f" ({found.peak / 1e9:.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def advice(experiment: str, card_bytes: float | None, measured: Mapping[str, Footprint]) -> list[str]:
    """Lines that say which recipe fits this machine.

    Args:
        experiment: a stage.
        card_bytes: memory of its GPU; None: there is none.
        measured: footprints.

    Raises:
        TalkgenError: the stage was not measured.
    """
    if experiment not in measured:
        raise TalkgenError(f"nothing is known of experiment={experiment}; stages are {', '.join(measured)}")
    footprint = measured[experiment]
    need = f"a step takes {footprint.peak(footprint.batch) / 1e9:.1f} GB at size=paper"
    if card_bytes is None:
        lines = [f"{experiment}: there is no GPU here; {need}. On cards of", ""]
        return lines + table({experiment: footprint})
    found = recipe(footprint, card_bytes)
    if found is None:
        return [
            f"{experiment}: {need}, and not one sample fits into {card_bytes / 1e9:.0f} GB: size=demo does"
        ]
    lines = [
        f"{experiment}: on this GPU ({card_bytes / 1e9:.0f} GB) {found.peak / 1e9:.1f} GB with",
        f"  python train.py experiment={experiment} size=paper trainer=gpu {found.overrides()}",
    ]
    if found.accumulate > 1 and footprint.contrastive:
        lines.append("  (it compares the samples of a batch with each other: in parts it learns slower)")
    return lines


# Measuring --------------------------------------------------------------------------------------------------


def measure(experiment: str, overrides: Sequence[str] = ("size=paper",)) -> Footprint:
    """The footprint of a stage, from two batches of an ordinary step and two of a recomputing one."""
    from talkgen.rehearsal import batch_shape, stage_config, stage_system
    from talkgen.systems.checkpointing import checkpoint_networks

    cfg = stage_config(experiment, overrides)
    shape = batch_shape(cfg)
    few = max(shape.group, 2)
    system = stage_system(cfg, overrides)

    def line() -> tuple[int, int]:
        low, high = step_bytes(system, cfg, (few, 2 * few))
        sample = (high - low) // few
        return low - few * sample, sample

    fixed, sample = line()
    spare: tuple[int, int] | tuple[None, None] = None, None
    try:
        checkpoint_networks(system)
    except TalkgenError:
        pass
    else:
        spare = line()
    contrastive = "sync_expert" in experiment
    return Footprint(int(cfg.data.batch_size), shape.group, contrastive, fixed, sample, *spare)


def step_bytes(system: Any, cfg: DictConfig, batches: Sequence[int]) -> list[int]:
    """Peak bytes of a step in bf16-mixed, for each of several batches.

    Args:
        system: of ``rehearsal.stage_system``; its parameters lose their contents.
        cfg: its config.
        batches: samples of each, ascending.
    """
    from lightning.pytorch import Callback, Trainer
    from torch._subclasses import FakeTensorMode

    from talkgen.rehearsal import RehearsalData, batch_shape, samples

    peak, costly = _modes()
    peaks: list[int] = []

    class Note(Callback):
        """Weights, their gradients and what later steps add: Adam's averages, EMA's."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            peaks.append(peak.peak)
            peak.peak = peak.now

    system.log = system.log_dict = _nothing
    shape = batch_shape(cfg)
    data = RehearsalData([samples(shape, range(batch)) for batch in batches], len(batches) + 1)
    data.batches.insert(0, data.batches[0])  # the first step makes the optimisers' averages
    trainer = Trainer(
        accelerator="cpu", devices=1, precision="bf16-mixed", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[Note()],
    )  # fmt: skip
    # Tensors without contents cannot be moved, and need not be.
    trainer.strategy.model_to_device = trainer.strategy.teardown = _nothing  # type: ignore[method-assign]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, peak, costly, _as_on_a_gpu():
        _empty_parameters(system, fake)
        trainer.fit(system, datamodule=data)
    trained = sum(p.numel() * p.element_size() for p in system.parameters() if p.requires_grad)
    return [value + (trained if cfg.callbacks.get("ema") is not None else 0) for value in peaks[1:]]


def _nothing(*args: Any, **kwargs: Any) -> None:
    """In place of logging and of moving tensors that have no contents."""


def _empty_parameters(system: Any, fake: Any) -> None:
    """Parameters and buffers without contents, each once, however many modules share it."""
    import torch
    from torch._subclasses import FakeTensor

    from talkgen.systems.compilation import all_modules

    made: dict[int, tuple[Any, Any]] = {}
    for module in list(all_modules(system)):
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is None:
                    continue
                if id(value) not in made:
                    with torch.no_grad():
                        known = (
                            value.detach()
                            if isinstance(value, FakeTensor)
                            else fake.from_tensor(value.detach())
                        )
                        empty = torch.empty_strided(known.shape, known.stride(), dtype=known.dtype)
                    if isinstance(value, torch.nn.Parameter):
                        empty = torch.nn.Parameter(empty, value.requires_grad)
                    made[id(value)] = value, empty  # the old one stays, or its id would be given anew
                held[name] = made[id(value)][1]


SINGLE = (
    "group_norm", "layer_norm", "softmax", "log_softmax", "mse_loss", "l1_loss", "smooth_l1_loss",
    "cosine_similarity", "cross_entropy", "normalize", "softplus",
)  # fmt: skip
"""Functions of ``torch.nn.functional`` that a GPU's autocast computes in float32, and a CPU's does not."""


@contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """Have a CPU's autocast keep as many bytes as a GPU's."""
    import torch
    import torch.nn.functional as F

    def full(value: Any) -> Any:
        half = isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16
        return value.float() if half else value

    def in_single(inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*args: Any, **kwargs: Any) -> Any:
            if torch.is_autocast_enabled("cpu"):
                args, kwargs = tuple(map(full, args)), {key: full(value) for key, value in kwargs.items()}
            return inner(*args, **kwargs)

        return outer

    held = {name: getattr(F, name) for name in SINGLE}
    try:
        for name, inner in held.items():
            setattr(F, name, in_single(inner))
        yield
    finally:
        for name, inner in held.items():
            setattr(F, name, inner)


def _modes() -> tuple[Any, Any]:
    """What counts storages, and what answers questions about contents."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    aten = torch.ops.aten

    class Peak(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.known: set[int] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for value in tree_leaves(out):
                if isinstance(value, torch.Tensor):
                    self.note(value.untyped_storage())
            return out

        def note(self, storage: Any) -> None:
            key = storage._cdata
            if key in self.known:
                return
            size = -(-storage.nbytes() // 512) * 512  # as CUDA's allocator rounds
            self.known.add(key)
            weakref.finalize(storage, self.gone, key, size)
            self.now += size
            self.peak = max(self.peak, self.now)

        def gone(self, key: int, size: int) -> None:
            self.known.discard(key)
            self.now -= size

    class Costly(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is aten._local_scalar_dense.default:
                return True if args[0].dtype is torch.bool else 1.0 if args[0].is_floating_point() else 1
            if func is aten.bincount.default:
                size = kwargs.get("minlength", args[2] if len(args) > 2 else 0)
                return torch.zeros(size, dtype=torch.long)
            if func is aten.nonzero.default:
                return torch.zeros(args[0].numel(), args[0].ndim, dtype=torch.long)
            if func is aten.index.Tensor:
                places: list[Any] = []
                for place in args[1]:
                    if place is not None and place.dtype is torch.bool:  # all are chosen
                        places += [torch.zeros(place.numel(), dtype=torch.long) for _ in range(place.ndim)]
                    else:
                        places.append(place)
                return func(args[0], places)
            return func(*args, **kwargs)

    return Peak(), Costly()


def write_footprints(measured: Mapping[str, Footprint]) -> None:
    """Keep them beside this file."""
    temporary = FOOTPRINTS.with_suffix(".part")
    temporary.write_text(
        json.dumps({name: asdict(value) for name, value in measured.items()}, indent=1) + "\n"
    )
    temporary.replace(FOOTPRINTS)
