from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from talkgen.checkpoints import (
    Layout,
    export_weights,
    import_weights,
    load_checkpoint,
    load_part,
    load_published,
    read_metadata,
)
from talkgen.errors import FileError


def touch(file: str) -> None:
    Path(file).touch()


class Bomb:
    """Unpickling it calls a function that leaves something behind."""

    def __init__(self, target: Path, call: Callable[[str], None]) -> None:
        self.target, self.call = target, call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, (str(self.target),)


class Callback:
    """Something an old trainer leaves beside the weights."""

    def __init__(self) -> None:
        self.best = 3


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("foreign", ["refuse", "drop"])
@pytest.mark.parametrize("call", [os.mkdir, touch])
def test_code_in_a_checkpoint_never_runs(
    tmp_path: Path, legacy: bool, foreign: str, call: Callable[[str], None]
) -> None:
    file, target = tmp_path / "bomb.ckpt", tmp_path / "ran"
    content = {"state_dict": net().state_dict(), "x": Bomb(target, call)}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    if foreign == "drop" and call is touch and not legacy:
        assert load_checkpoint(file, foreign)["state_dict"].keys() == net().state_dict().keys()
    else:
        with pytest.raises(FileError, match=r"refused.*(mkdir|touch)"):
            load_checkpoint(file, foreign)
    assert not target.exists()
    torch.load(file, weights_only=False)
    assert target.exists()  # the bomb is a real one


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    file, target = tmp_path / "bomb.pkl", tmp_path / "ran"
    file.write_bytes(pickle.dumps(Bomb(target, touch)))
    with pytest.raises(FileError, match=r"bomb\.pkl"):
        load_checkpoint(file)
    assert not target.exists()


def test_foreign_objects_are_named_or_dropped(tmp_path: Path) -> None:
    file = tmp_path / "old.ckpt"
    torch.save({"callbacks": {Callback: Callback()}, "state_dict": net().state_dict()}, file)
    with pytest.raises(FileError, match=r'Callback.*foreign="drop"'):
        load_checkpoint(file)
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_published(fresh, file)
    assert same(fresh, net())


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, part: float) -> None:
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    if suffix == "ckpt":
        torch.save(net().state_dict(), whole)
    else:
        export_weights(net(), whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(part * len(content))])
    with pytest.raises(FileError, match=rf"cut\.{suffix}: is truncated"):
        load_checkpoint(cut)


def test_missing_file_and_other_content(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(FileError, match="holds a list"):
        load_checkpoint(tmp_path / "list.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(FileError, match=r"no tensors at the top.*epoch"):
        load_published(net(), tmp_path / "empty.pt")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {}},
        lambda state: {"net_G": {"x": torch.zeros(1)}, "net_G_ema": state, "iteration": 5},
        lambda state: {"model": {f"module._orig_mod.{k}": v for k, v in state.items()}},
        lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
    ],
)
def test_wrapped_weights_are_found(wrap: Any) -> None:
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_published(fresh, wrap(net().state_dict()))
    assert same(fresh, net())


def test_report_names_every_kind_of_misfit() -> None:
    state = net().state_dict()
    state["2.weight"] = state.pop("1.weight")
    state["0.bias"] = torch.zeros(5)
    with pytest.raises(FileError) as error:
        load_published(net(), state)
    said = str(error.value)
    assert "1 missing: 1.weight" in said
    assert "1 unexpected: 2.weight" in said
    assert "1 mis-shaped: 0.bias (5,) instead of (4,)" in said


def test_layouts_drop_and_rename() -> None:
    state = {f"g.{key}": value for key, value in net().state_dict().items()} | {"d.weight": torch.zeros(1)}
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    report = load_published(fresh, {"w": state}, Layout("w", prefix="g."))
    assert same(fresh, net()) and report.dropped == ("d.weight",) and report.loaded == 7
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_published(fresh, state, Layout(drop=("d.",)), rename=lambda key: key.removeprefix("g."))
    assert same(fresh, net())
    with pytest.raises(ValueError, match="tamming"):
        load_published(fresh, state, "tamming")


def test_part_of_a_training_checkpoint(tmp_path: Path) -> None:
    state = {f"vqgan.{key}": value for key, value in net().state_dict().items()}
    file = tmp_path / "last.ckpt"
    torch.save({"state_dict": state | {"discriminator.w": torch.zeros(1)}, "epoch": 2}, file)
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_part(fresh, file, "vqgan")
    assert same(fresh, net())
    with pytest.raises(FileError, match=r"no part 'swap'; it holds discriminator, vqgan"):
        load_part(fresh, file, "swap")


def test_export_and_import(tmp_path: Path) -> None:
    module = net()
    module.add_module("tied", module[0])
    file = export_weights(module, tmp_path / "new" / "net.safetensors", {"licence": "none"})
    assert [entry.name for entry in file.parent.iterdir()] == ["net.safetensors"]
    assert read_metadata(file) == {"licence": "none"}
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    fresh.add_module("tied", fresh[0])
    import_weights(fresh, file)
    assert same(fresh, module)
    with pytest.raises(FileError, match="safetensors"):
        export_weights(module, tmp_path / "net.pt")


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = export_weights(net(), tmp_path / "net.safetensors")
    before = file.read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        args[1].write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        export_weights(nn.Linear(2, 2), file)
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt", "x.safetensors"])
def test_damaged_files_are_named_whatever_is_wrong_with_them(name: str, tmp_path: Path) -> None:
    file, weights = tmp_path / name, {"a": torch.arange(50.0)}
    if file.suffix == ".safetensors":
        save_file(weights, file)
    else:
        torch.save(weights, file, _use_new_zipfile_serialization=name == "zip.pt")
    sound, rng = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for attempt in range(150):
        damaged = bytearray(sound)
        if attempt % 2:
            del damaged[int(rng.integers(len(damaged))) :]
        else:
            for place in rng.integers(len(damaged), size=4):
                damaged[place] = int(rng.integers(256))
        file.write_bytes(damaged)
        try:
            load_checkpoint(file, "drop")
        except FileError:
            refused += 1
    assert refused >= 75  # bytes that are changed inside a tensor cannot be seen


def test_a_turned_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    """PyTorch itself loads it as another number."""
    file = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(1000)}}, file)
    content = bytearray(file.read_bytes())
    place = content.find(np.ones(100, np.float32).tobytes())
    content[place + 41] ^= 4
    file.write_bytes(content)
    assert not torch.equal(torch.load(file, weights_only=True)["state_dict"]["weight"], torch.ones(1000))
    with pytest.raises(FileError, match=r"a\.ckpt: is damaged"):
        load_checkpoint(file)
