"""The words that change SwapTalk's VQGAN: compression, width, codebooks, halves, identity term."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from talkgen.cli import main
from talkgen.configuration import RunFolder, build, config_folder, options
from talkgen.inference.vqgan import load_vqgan
from talkgen.models.experts.iresnet import IResNet
from talkgen.models.vqgan.quantizer import HalvesQuantizer
from talkgen.models.vqgan.vqgan import VQGAN

VARIANTS = options("vqgan_variant")


def vqgan(*overrides: str) -> VQGAN:
    """The network of a config, without its weights."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=swaptalk_vqgan", *overrides])
    with torch.device("meta"):
        network: VQGAN = build(cfg.system.vqgan)
    return network


def millions(network: torch.nn.Module) -> float:
    """Parameters of encoder and decoder, and the two convolutions between them."""
    return sum(p.numel() for name, p in network.named_parameters() if "quantize" not in name) / 1e6


@pytest.mark.parametrize(
    ("variant", "factor", "size"), [("f16", 16, 71.8), ("f8", 8, 64.8), ("f16_light", 16, 18.6)]
)
def test_paper_variants_have_the_published_bodies(variant: str, factor: int, size: float) -> None:
    """Parameters as counted in taming-transformers' f16 and f8 for faces, codebook left out."""
    network = vqgan("size=paper", f"vqgan_variant={variant}")
    assert network.factor == factor
    assert millions(network) == pytest.approx(size, abs=0.15)


def test_f16_is_the_papers_default_and_f8_the_demos() -> None:
    assert vqgan("size=paper").factor == 16
    assert vqgan("size=demo").factor == vqgan("size=demo", "vqgan_variant=f8").factor == 8
    assert vqgan("size=demo", "vqgan_variant=f16").factor == 16


def test_codebooks_and_halves() -> None:
    standard, one, whole = (
        vqgan("size=demo", *v) for v in ([], ["vqgan_variant=one_codebook"], ["vqgan_variant=whole"])
    )
    assert standard.halves and isinstance(standard.quantize, HalvesQuantizer)
    assert one.halves and not isinstance(one.quantize, HalvesQuantizer)
    assert not whole.halves and isinstance(whole.quantize, HalvesQuantizer)


@pytest.mark.parametrize("size", options("size"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_of_every_size_can_be_cut_into_codes(variant: str, size: str) -> None:
    network = vqgan(f"size={size}", f"vqgan_variant={variant}")
    pixels = {"tiny": 32, "demo": 96, "demo_long": 96, "demo_gpu": 96, "paper": 320}[size]
    with torch.device("meta"):
        latent = network.eval().encode_continuous(torch.empty(1, 3, pixels, pixels))
    assert latent.shape[-2:] == (pixels // network.factor,) * 2


def train(store: Path, *arguments: str) -> int:
    common = ["train", "experiment=swaptalk_vqgan", "size=tiny", f"data.root={store}", "logger=csv"]
    rhythm = ["steps=2", "validate_every=2", "checkpoint_every=2", "trainer.log_every_n_steps=1"]
    return main([*common, *rhythm, *arguments])


@pytest.mark.parametrize("variant", ["f16", "one_codebook", "whole"])
def test_a_variant_trains_and_is_read_back(
    variant: str, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(tiny_store, f"vqgan_variant={variant}", "name=variant") == 0
    network = load_vqgan("runs/variant").network
    codes = network.encode_codes(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert codes.shape[1:] == (32 // network.factor,) * 2
    upper = torch.zeros(1, 3, 32, 32), torch.cat([torch.zeros(1, 3, 16, 32), torch.ones(1, 3, 16, 32)], dim=2)
    a, b = (network.encode_continuous(picture)[:, :, : codes.shape[1] // 2] for picture in upper)
    assert torch.equal(a, b) == network.halves  # whole pictures leak


def log(run: Path) -> dict[str, list[Any]]:
    with RunFolder(run).metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows if row[key]] for key in rows[0]}


def test_the_identity_term_acts_with_the_discriminator(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(IResNet(18, dim=16, width=4).state_dict(), "recogniser.pt")
    assert train(tiny_store, "system.identity.recogniser=recogniser.pt", "name=with") == 0
    assert train(tiny_store, "name=without") == 0
    values = log(Path("runs/with"))["train/identity"]
    assert len(values) == 1  # of two batches; size=tiny begins with the second
    assert 0 < float(values[0]) < 2
    assert "train/identity" not in log(Path("runs/without"))
    weights = torch.load(RunFolder(Path("runs/with")).last, weights_only=True)["state_dict"]
    assert not any(key.startswith("identity") for key in weights)


def test_without_the_weights_one_sentence_says_what_to_do(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "none"))
    assert train(tiny_store, "size.swaptalk_vqgan.identity=arcface_mbf") == 1
    said = capsys.readouterr().err
    assert "talkgen weights get arcface_mbf" in said and "Traceback" not in said
