from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from talkgen.cli import main
from talkgen.configuration import build as configured
from talkgen.configuration import compose_config
from talkgen.errors import TalkgenError
from talkgen.inference.swaptalk import load_swaptalk
from talkgen.losses.perceptual import GradientPyramidLoss
from talkgen.models.vqgan.light_decoder import LightDecoder
from talkgen.models.vqgan.vqgan import build_vqgan
from talkgen.systems.light_decoder import LightDecoderSystem

DIM, CODES, CELLS = 4, 16, 4


def build(**arguments: Any) -> LightDecoderSystem:
    torch.manual_seed(0)
    vqgan = build_vqgan(16, (1, 2, 2), 1, latent_channels=8, codes=CODES, code_dim=DIM, kmeans_vectors=0)
    with torch.no_grad():
        vqgan.quantize.upper.embedding.weight.normal_()  # type: ignore[union-attr]
        vqgan.quantize.lower.embedding.weight.normal_()  # type: ignore[union-attr]
    defaults: dict[str, Any] = {
        "decoder": LightDecoder(DIM, 8, (1, 2, 2), 1, 8),
        "vqgan": vqgan,
        "optimizer": partial(torch.optim.AdamW, lr=5e-3),
        "perceptual": GradientPyramidLoss(),
    }
    return LightDecoderSystem(**(defaults | arguments))


def batch(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {"codes": torch.randint(CODES, (4, 2, CELLS, CELLS), generator=generator)}


def distance(system: LightDecoderSystem) -> float:
    latent = system.vqgan.lookup(batch(999)["codes"].flatten(0, 1))
    with torch.no_grad():
        return float((system.decoder.decode(latent) - system.vqgan.decode(latent)).abs().mean())


def test_the_small_decoder_comes_to_give_the_same_pictures() -> None:
    system = build()
    before, teacher = distance(system), [p.clone() for p in system.vqgan.parameters()]
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    steps, held_out = (
        torch.utils.data.DataLoader([batch(seed) for seed in seeds], batch_size=None)  # type: ignore[arg-type]
        for seeds in (range(60), (1000,))
    )
    trainer.fit(system, steps, held_out)
    assert distance(system) < 0.6 * before
    assert all(torch.equal(old, new) for old, new in zip(teacher, system.vqgan.parameters(), strict=True))
    assert 5 < trainer.callback_metrics["val/psnr"] < 60


def test_it_is_smaller_and_fits_the_same_latents() -> None:
    system = build()
    latent = torch.randn(2, DIM, CELLS, CELLS)
    assert system.decoder.decode(latent).shape == system.vqgan.decode(latent).shape
    count = {
        name: sum(p.numel() for p in network.parameters())
        for name, network in (("light", system.decoder.decoder), ("full", system.vqgan.decoder))
    }
    assert count["light"] < 0.5 * count["full"]
    assert {key.split(".")[0] for key in system.state_dict()} == {"decoder", "scale"}
    with pytest.raises(TalkgenError, match="of 4 channels at 1/2, the VQGAN gives 4 at 1/4"):
        build(decoder=LightDecoder(DIM, 8, (1, 2), 1, 8))


def test_two_steps_through_the_command_and_then_in_use(
    tiny_method: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "size=tiny",
        f"data.root={tiny_store}",
        "data.workers=0",
        "logger=csv",
        "name=light",
        "steps=2",
    ]
    vqgan = shutil.copytree(tiny_method / "swaptalk_vqgan", tmp_path / "vqgan")  # codes are kept beside it
    arguments += [f"vqgan={vqgan}", "validate_every=2", "checkpoint_every=2"]
    assert main(["train", "experiment=swaptalk_light_decoder", *arguments]) == 0
    run = tmp_path / "runs" / "light"
    assert (run / "checkpoints/best.ckpt").is_file() and "val/psnr" in (run / "metrics.csv").read_text()
    fast, full = load_swaptalk(tiny_method, decoder=run), load_swaptalk(tiny_method)
    codes = torch.randint(CODES, (3, 8, 8))
    pictures = [one.pictures(codes, None, one.begin(None, None)) for one in (fast, full)]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()
    with pytest.raises(TalkgenError, match="give one of experiment=swaptalk_light_decoder"):
        load_swaptalk(tiny_method, decoder=tiny_method / "swaptalk_vqgan")


@pytest.mark.parametrize("size", ["tiny", "demo", "paper"])
def test_every_size_has_a_decoder_for_the_latents_of_its_vqgan(size: str) -> None:
    config = {
        stage: compose_config("train", {"experiment": stage, "size": size}, {}).system
        for stage in ("swaptalk_vqgan", "swaptalk_light_decoder")
    }
    with torch.device("meta"):
        vqgan = configured(config["swaptalk_vqgan"].vqgan)
        light = configured(config["swaptalk_light_decoder"].decoder)
    assert (light.factor, light.dim) == (vqgan.factor, vqgan.quantize.dim)
