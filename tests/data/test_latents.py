"""The cache of codes: complete, bound to what made it, resumable; and the batches that are read from it."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from latent_encoders import LevelCodes, LevelIdentity

from talkgen.data import latents as latents_module
from talkgen.data.latent_data import LatentData
from talkgen.data.latents import LatentCache, latent_key, latents_folder
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings
from talkgen.errors import FileError, TalkgenError
from talkgen.systems.stream import StreamedData

LENGTHS = [30, 41, 20, 55, 33]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Store]) -> Store:
    return make_store(tmp_path_factory.mktemp("store"), LENGTHS)


def build(store: Store, encode: LevelCodes, **arguments: Any) -> LatentCache:
    return LatentCache.build(latents_folder(store, encode), store, encode, progress=False, **arguments)


def test_every_frame_of_every_clip_is_encoded_in_its_place(store: Store, tmp_path: Path) -> None:
    encode = LevelCodes(tmp_path)
    cache = build(store, encode)
    assert encode.batches == [16] * 11 + [3]  # across the borders of clips
    assert cache.shape == (2, 3) and cache.size == 16
    for clip in store.clips:
        codes = cache.codes(clip.id)
        levels = store.frames(clip)[:, 0, 0, 0].astype(int)
        assert codes.dtype == np.uint16 and codes.shape == (clip.frames, 2, 3)
        np.testing.assert_array_equal(codes[:, 0, 0], levels)
        np.testing.assert_array_equal(codes[:, 1, 2], levels + 1000)
    clip = store.clips[2]
    np.testing.assert_array_equal(cache.codes(clip.id, 3, 7), cache.codes(clip.id)[3:7])
    np.testing.assert_array_equal(cache.codes_at(clip.id, [9, 0, 9]), cache.codes(clip.id)[[9, 0, 9]])
    with pytest.raises(IndexError, match="20 frames"):
        cache.codes(clip.id, 15, 21)  # the next clip's
    with pytest.raises(IndexError):
        cache.codes_at(clip.id, [-1])


def test_a_complete_cache_is_not_made_again(store: Store, tmp_path: Path) -> None:
    build(store, LevelCodes(tmp_path))
    again = LevelCodes(tmp_path)
    build(store, again)
    assert again.batches == []


def test_a_killed_build_goes_on_where_it_was(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents_module, "_SAVE_SECONDS", -1.0)  # after each batch
    killed = LevelCodes(tmp_path, fail_after=64)
    with pytest.raises(KeyboardInterrupt):
        build(store, killed)
    folder = latents_folder(store, killed)
    with pytest.raises(FileError, match="no complete latents"):
        LatentCache.open(folder)
    rest = LevelCodes(tmp_path)
    cache = build(store, rest)
    assert sum(rest.batches) == sum(LENGTHS) - 64
    whole = build(store, LevelCodes(tmp_path / "whole"))
    assert (folder / "codes.npy").read_bytes() == (whole.folder / "codes.npy").read_bytes()
    assert sorted(file.name for file in folder.iterdir()) == [".lock", "codes.npy", "latents.json"]
    np.testing.assert_array_equal(cache.codes(store.clips[4].id), whole.codes(store.clips[4].id))


def test_the_key_names_network_precision_size_and_content(
    store: Store, tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    encode = LevelCodes(tmp_path)
    others = [dataclasses.replace(encode, key="other"), dataclasses.replace(encode, size=32)]
    other_store = make_store(tmp_path / "store", [30, 41, 20, 55, 34])
    keys = {latent_key(store, one) for one in [encode, *others]} | {latent_key(other_store, encode)}
    assert len(keys) == 4


def test_a_folder_holds_the_codes_of_one_network(store: Store, tmp_path: Path) -> None:
    LatentCache.build(tmp_path / "here", store, LevelCodes(tmp_path), progress=False)
    with pytest.raises(FileError, match="another VQGAN or another corpus"):
        LatentCache.build(tmp_path / "here", store, LevelCodes(tmp_path, key="other"), progress=False)


def test_progress_of_other_codes_is_not_used(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents_module, "_SAVE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        LatentCache.build(
            tmp_path / "here", store, LevelCodes(tmp_path, key="old", fail_after=64), progress=False
        )
    encode = LevelCodes(tmp_path, key="new")
    LatentCache.build(tmp_path / "here", store, encode, progress=False)
    assert sum(encode.batches) == sum(LENGTHS)


def test_identities_can_be_added_later(store: Store, tmp_path: Path) -> None:
    cache = build(store, LevelCodes(tmp_path))
    assert not cache.has_identities
    with pytest.raises(FileError, match="no identities"):
        cache.identity(store.clips[0].id)
    identify = LevelIdentity()
    cache = build(store, LevelCodes(tmp_path), identify=identify)
    direction = cache.identity(store.clips[0].id)
    assert direction.dtype == np.float32 and direction.shape == (512,)
    assert direction[1] == 1 and direction.sum() == 1
    build(store, LevelCodes(tmp_path), identify=identify)
    assert identify.calls == len(LENGTHS)  # once
    build(store, LevelCodes(tmp_path), identify=LevelIdentity(sha256="other"))
    assert json.loads((cache.folder / "latents.json").read_text())["clips"] == {
        clip.id: clip.frames for clip in store.clips
    }
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(cache)).codes(store.clips[1].id), cache.codes(store.clips[1].id)
    )
    assert len(pickle.dumps(cache)) < 1000


# --- batches --------------------------------------------------------------------------------------


def data(store: Store, folder: Path, window: WindowSettings | None = None, **arguments: Any) -> LatentData:
    root = str(store._source.name("."))  # type: ignore[attr-defined]
    return LatentData(root, lambda: LevelCodes(folder), window, **arguments)


def keys(batch: dict[str, Any]) -> tuple[Any, ...]:
    return (*batch["clip"], *batch["frame"].tolist(), int(batch["codes"].sum()))


def test_a_batch_is_as_documented(store: Store, tmp_path: Path) -> None:
    window = WindowSettings(size=64, reference_frames=2, shifted_mels=3, mel_per_frame=True)
    module = data(store, tmp_path, window, batch_size=3)
    module.prepare_data()
    batch = next(iter(module.train_dataloader()))
    shapes = {name: tuple(value.shape) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "codes": (3, 5, 2, 3), "reference_codes": (3, 2, 2, 3), "mel": (3, 1, 80, 16),
        "mel_per_frame": (3, 5, 1, 80, 16), "shifted_mel": (3, 3, 1, 80, 16), "shift": (3, 3),
        "landmarks": (3, 5, 68, 2), "identity_warp": (3, 5, 2, 3), "identity": (3,), "frame": (3,),
    }  # fmt: skip
    assert batch["codes"].dtype == batch["reference_codes"].dtype == torch.int64
    for number, name in enumerate(batch["clip"]):
        clip, frame = store.clip(name), int(batch["frame"][number])
        levels = store.frames(clip, frame, frame + 5)[:, 0, 0, 0]
        np.testing.assert_array_equal(batch["codes"][number, :, 0, 0], levels)
        # pixels of a picture twice as large as the stored ones
        points = store.array(clip, "landmarks", frame, frame + 5)
        np.testing.assert_allclose(batch["landmarks"][number], (points + 0.5) * 2 - 0.5, atol=1e-5)


def test_pixels_are_those_of_the_vqgan_unless_said_otherwise(store: Store, tmp_path: Path) -> None:
    module = data(store, tmp_path)
    module.prepare_data()
    sample = module.dataset("train")[0, 0]
    points = store.array(store.clips[0], "landmarks")[sample["frame"]]
    np.testing.assert_allclose(sample["landmarks"][0], (points + 0.5) / 2 - 0.5, atol=1e-5)


def test_batches_are_reproducible_resumable_and_shared_out(store: Store, tmp_path: Path) -> None:
    module = data(store, tmp_path, batch_size=4, seed=3)
    module.prepare_data()
    whole = [keys(batch) for batch in module.train_dataloader()]
    assert whole == [keys(batch) for batch in data(store, tmp_path, batch_size=4, seed=3).train_dataloader()]
    assert whole != [keys(batch) for batch in data(store, tmp_path, batch_size=4, seed=4).train_dataloader()]
    stopped = module.train_dataloader()
    iterator = iter(stopped)
    for _ in range(3):
        next(iterator)
    resumed = data(store, tmp_path, batch_size=4, seed=3).train_dataloader()
    resumed.load_state_dict(stopped.state_dict())
    assert [keys(batch) for batch in resumed] == whole[3:]
    with_workers = data(store, tmp_path, batch_size=4, seed=3, workers=1).train_dataloader()
    assert [keys(batch) for batch in with_workers] == whole


def test_what_cannot_be_done_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="codes cannot be mirrored"):
        data(store, tmp_path, WindowSettings(mirror=0.5))
    with pytest.raises(FileError, match="no complete latents"):
        data(store, tmp_path).train_dataloader()
    with pytest.raises(ValueError, match="without sound"):
        WindowSettings(sound=False, waveform=True)
    module = data(store, tmp_path, WindowSettings(arrays=("codes",)))
    module.prepare_data()
    with pytest.raises(TalkgenError, match=r"codes (in any case|.*)"):
        module.train_dataloader()


def test_codes_that_lie_elsewhere_must_be_those_of_the_vqgan(store: Store, tmp_path: Path) -> None:
    data(store, tmp_path, latents_folder=str(tmp_path / "here")).prepare_data()
    root = str(store._source.name("."))  # type: ignore[attr-defined]
    other = LatentData(root, lambda: LevelCodes(tmp_path, key="other"), latents_folder=str(tmp_path / "here"))
    with pytest.raises(FileError, match="another VQGAN"):
        other.train_dataloader()


class Counter(lightning.LightningModule):
    """Sees batches of codes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[Any, ...]] = []

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        self.seen.append(keys(batch))
        return (self.weight - batch["codes"].float().mean()).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_builds_the_cache_before_the_first_batch(store: Store, tmp_path: Path) -> None:
    module = data(store, tmp_path, batch_size=4)
    model = Counter()
    trainer = lightning.Trainer(
        max_epochs=1, limit_train_batches=3, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=module)
    assert len(model.seen) == 3
    assert LatentCache.open(latents_folder(store, LevelCodes(tmp_path)))


def test_a_run_does_not_go_on_with_other_codes(store: Store, tmp_path: Path) -> None:
    def fit(encode: LevelCodes, resume: Path | None = None) -> lightning.Trainer:
        module = LatentData(str(store._source.name(".")), lambda: encode, batch_size=4)  # type: ignore[attr-defined]
        trainer = lightning.Trainer(
            max_epochs=-1, max_steps=4 if resume else 2, accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Counter(), datamodule=StreamedData(module, 4), ckpt_path=resume, weights_only=True)
        return trainer

    fit(LevelCodes(tmp_path)).save_checkpoint(tmp_path / "last.ckpt")
    assert fit(LevelCodes(tmp_path), tmp_path / "last.ckpt").global_step == 4
    with pytest.raises(TalkgenError, match="its VQGAN or its corpus has changed"):
        fit(LevelCodes(tmp_path, key="trained on"), tmp_path / "last.ckpt")
