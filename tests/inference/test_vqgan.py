"""Codes of stored frames, from a run to the batches of a dataset."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from talkgen.configuration import RunFolder
from talkgen.data import clip_preparation
from talkgen.data import prepare as prepare_module
from talkgen.data.clip_preparation import ClipPreparer, PrepareSettings
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.latent_data import LatentData
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings, resize_frames
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.inference.vqgan import load_frame_codes, load_vqgan
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan
from talkgen.preparation import main
from talkgen.video.writer import VideoWriter

SIZE = 32  # of the pictures that the network was trained on; the stored ones have 48
LENGTHS = {"a": 40, "b": 65}  # more than one batch of 32, and neither a whole number of them
SETTINGS: dict[str, Any] = {
    "channels": 8, "multipliers": [1, 1, 2], "blocks": 1, "latent_channels": 8, "codes": 300, "code_dim": 8,
}  # fmt: skip


def vqgan_run(folder: Path, seed: int, window_size: int | None = SIZE) -> VQGAN:
    """Write a run whose averaged weights are those of the returned network."""
    torch.manual_seed(seed)
    vqgan = build_vqgan(**SETTINGS, kmeans_vectors=0)
    with torch.no_grad():
        for codebook in (tensor for name, tensor in vqgan.state_dict().items() if "embed" in name):
            codebook.copy_(torch.randn_like(codebook))  # so that many codes are nearest to something
    node = {"_target_": "talkgen.models.vqgan.vqgan.build_vqgan", **SETTINGS, "kmeans_vectors": 0}
    system = {"_target_": "talkgen.systems.vqgan.VQGANSystem", "vqgan": node}
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    data = {"root": "gone", "window": {"size": window_size}}
    OmegaConf.save(OmegaConf.create({"system": system, "data": data}), run.config)
    weights = {f"vqgan.{key}": value for key, value in vqgan.state_dict().items()}
    trained = {name: value.clone() for name, value in weights.items()}
    first = next(iter(dict(vqgan.named_parameters())))
    trained[f"vqgan.{first}"].zero_()
    torch.save({"state_dict": trained, "ema": {f"vqgan.{first}": weights[f"vqgan.{first}"]}}, run.last)
    return vqgan.eval()


class StillFace:
    """Finds the face where it always is."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        points = (30 + (ARCFACE_TEMPLATE - [11, 1]) / 110 * 60).astype(np.float32)
        return [Face(np.array([30, 30, 90, 90], np.float32), 1.0, points)]

    def landmarks(self, frame: np.ndarray, face: Face) -> np.ndarray:
        return np.linspace(face.box[:2], face.box[2:], 68).astype(np.float32)


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clip_preparation, "make_detector", lambda name: StillFace())
    monkeypatch.setattr(clip_preparation, "make_landmarker", lambda name: StillFace())
    prepare_module._preparer.cache_clear()
    (tmp_path / "raw").mkdir()
    y, x = np.mgrid[:120, :120]
    for name, frames in LENGTHS.items():
        sound = 0.2 * np.random.default_rng(0).normal(size=frames * 640).astype(np.float32)
        with VideoWriter(tmp_path / f"raw/{name}.mp4", 25, 120, 120, audio=(sound, 16000), crf=12) as writer:
            for number in range(frames):
                wave = 127 + 60 * np.sin((x + 2 * number) / 9) * np.cos(y / 7)
                writer.write(np.stack([wave, wave[::-1], 255 - wave], -1).astype(np.uint8))
    return tmp_path / "raw"


def prepare_codes(films: Path, out: Path, run: Path, *more: str) -> Store:
    arguments = [
        "corpus=folder", f"source={films}", f"out={out}", "executor=serial", "progress=false",
        "settings.size=48", "settings.speech=energy", "settings.filters.min_sharpness=0",
        "settings.filters.min_speech_ratio=0", "settings.filters.min_face_pixels=10",
        "settings.features=[codes]", f"settings.codes={run}", *more,
    ]  # fmt: skip
    assert main(arguments) == 0
    return Store.open(out)


@pytest.mark.parametrize("codec", ["jpeg", "i420"])
def test_stored_codes_are_those_of_the_stored_frames(films: Path, tmp_path: Path, codec: str) -> None:
    vqgan = vqgan_run(tmp_path / "runs/vqgan", 0)
    store = prepare_codes(films, tmp_path / "out", tmp_path / "runs/vqgan", f"settings.codec={codec}")
    assert {clip.id: clip.frames for clip in store.clips} == LENGTHS
    for clip in store.clips:
        codes = store.array(clip, "codes")
        assert codes.dtype == np.uint16
        small = [
            cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for frame in store.frames(clip)
        ]
        images = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            expected = torch.cat([vqgan.encode(part).codes for part in images.split(32)]).numpy()
        assert codes.shape == expected.shape == (clip.frames, 8, 8)
        np.testing.assert_array_equal(codes, expected)
        assert len(np.unique(codes)) > 8

    # A dataset gives them by their name, with the frames that they are of.
    window = WindowSettings(frames=3, arrays=("codes",))
    data = TalkingFaceData(str(tmp_path / "out"), window, batch_size=2, workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    for row, (name, first) in enumerate(zip(batch["clip"], batch["frame"].tolist(), strict=True)):
        stored = store.array(store.clip(name), "codes", first, first + 3)
        np.testing.assert_array_equal(batch["codes"][row].numpy(), stored)
    assert vqgan.decode_codes(batch["codes"][0].long()).shape == (3, 3, SIZE, SIZE)


def test_a_run_and_each_of_its_checkpoints_can_be_named(tmp_path: Path) -> None:
    vqgan = vqgan_run(tmp_path / "runs/vqgan", 0)
    run = RunFolder(tmp_path / "runs/vqgan")
    for place in (run.path, run.last):
        network, size = load_vqgan(place)
        assert size == SIZE
        for name, value in vqgan.state_dict().items():
            assert torch.equal(network.state_dict()[name], value), name
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert not any(module.training for module in network.modules() if isinstance(module, nn.Module))
    codes = load_frame_codes(run.path)
    assert len(pickle.dumps(codes)) < 2000  # a path, not a network
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), np.uint8)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(codes))(frames), codes(frames))


def test_a_run_without_a_size_was_trained_on_what_its_store_holds(tmp_path: Path, tiny_store: Path) -> None:
    vqgan_run(tmp_path / "run", 0, window_size=None)
    config = OmegaConf.load(tmp_path / "run/config.yaml")
    config.data.root = str(tiny_store)
    OmegaConf.save(config, tmp_path / "run/config.yaml")
    assert load_vqgan(tmp_path / "run").size == 48


def test_a_store_keeps_to_one_vqgan(films: Path, tmp_path: Path) -> None:
    vqgan_run(tmp_path / "runs/vqgan", 0)
    prepare_codes(films, tmp_path / "out", tmp_path / "runs/vqgan")
    vqgan_run(tmp_path / "other", 1)
    (tmp_path / "other/checkpoints/last.ckpt").replace(tmp_path / "runs/vqgan/checkpoints/last.ckpt")
    with pytest.raises(TalkgenError, match=r"networks_sha256\.codes"):
        prepare_codes(films, tmp_path / "out", tmp_path / "runs/vqgan")


def test_a_cache_is_made_by_the_vqgan_of_a_run(tmp_path: Path, tiny_store: Path) -> None:
    vqgan = vqgan_run(tmp_path / "run", 0)
    encode = partial(load_frame_codes, str(tmp_path / "run"), device="cpu")
    data = LatentData(str(tiny_store), encode, batch_size=2)
    data.prepare_data()
    assert data.latents.folder.parent == tmp_path / "run/latents"
    assert (data.latents.size, data.latents.shape) == (SIZE, (8, 8))
    clip = data.store.clips[1]
    images = torch.from_numpy(resize_frames(data.store.frames(clip), SIZE)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = vqgan.encode_codes(images).numpy()
    # other batches round sums differently, and now and then another code is as near
    assert (data.latents.codes(clip.id) == expected).mean() > 0.99
    batch = next(iter(data.train_dataloader()))
    assert vqgan.decode_codes(batch["codes"].flatten(0, 1)).shape == (10, 3, SIZE, SIZE)

    # a run that was trained on needs new codes
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    torch.save({**content, "more": 1}, tmp_path / "run/checkpoints/last.ckpt")
    with pytest.raises(FileError, match="no complete latents"):
        LatentData(str(tiny_store), encode, batch_size=2).train_dataloader()


def test_half_precision_gives_other_codes_and_another_key(tmp_path: Path) -> None:
    vqgan_run(tmp_path / "run", 0)
    full = load_frame_codes(tmp_path / "run", device="cpu")
    half = load_frame_codes(tmp_path / "run", device="cpu", precision="bf16-mixed")
    assert full.key == full.sha256 != half.key and half.sha256 == full.sha256
    frames = np.random.default_rng(0).integers(0, 255, (4, SIZE, SIZE, 3), np.uint8)
    agreement = (full(frames) == half(frames)).mean()
    assert 0.5 < agreement < 1
    with pytest.raises(TalkgenError, match="32-true or bf16-mixed"):
        load_frame_codes(tmp_path / "run", precision="16")  # type: ignore[arg-type]


def test_half_a_request_is_refused(tmp_path: Path) -> None:
    for half in ({"features": ("codes",)}, {"codes": "runs/vqgan"}):
        with pytest.raises(ValueError, match=r"both features=\[codes\] and codes=RUN"):
            PrepareSettings(**half)  # type: ignore[arg-type]
    with pytest.raises(TalkgenError, match="not handed over"):
        ClipPreparer(tmp_path, PrepareSettings(features=("codes",), codes="runs/vqgan"))
    with pytest.raises(TalkgenError, match=r"train one: experiment=swaptalk_vqgan"):
        load_vqgan(tmp_path / "none")
