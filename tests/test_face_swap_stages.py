"""The stages of the face swap through the real command, at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from talkgen import weights
from talkgen.cli import main
from talkgen.configuration import RunFolder
from talkgen.errors import TalkgenError
from talkgen.inference.runs import load_network, load_trained

WITHOUT_RECOGNISERS = (
    "system.identity=null", "system.identity_head=null", "system.judge=null", "data.identify=null"
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


def train(folder: Path, store: Path, experiment: str, *arguments: str) -> RunFolder:
    run = folder / "runs" / experiment
    settings = ["steps=2", "validate_every=2", "checkpoint_every=2", "size=tiny", "logger=csv"]
    settings.append("trainer.log_every_n_steps=1")
    places = [f"paths.runs={folder}/runs", f"name={experiment}", f"data.root={store}"]
    assert main(["train", f"experiment={experiment}", *settings, *places, "data.workers=0", *arguments]) == 0
    return RunFolder(run)


@pytest.fixture(scope="module")
def vqgan(folder: Path, tiny_store: Path) -> RunFolder:
    return train(folder, tiny_store, "swaptalk_vqgan")


@pytest.mark.parametrize("backbone", ["transformer", "unet", "dit"])
def test_face_swap_of_every_backbone_without_recognisers(folder, vqgan, tiny_store, backbone: str) -> None:
    run = train(
        folder / backbone, tiny_store, "swaptalk_face_swap", f"face_swap={backbone}", f"vqgan={vqgan.path}",
        *WITHOUT_RECOGNISERS,
    )  # fmt: skip
    assert "val/distance" in run.metrics.read_text().splitlines()[0]
    assert (run.samples / "step-0000002.png").is_file()
    network = load_network(run, "face_swap")
    trained_vqgan = load_trained(vqgan.path, "vqgan", "swaptalk_vqgan")
    latents = trained_vqgan.lookup(torch.randint(16, (2, 8, 8)))
    assert network(latents[:1], latents[1:]).shape == (1, 8, 8, 8)
    vectors = trained_vqgan.quantize.upper.embedding.weight
    assert network.scale.deviation.mean() != 1 and network.scale.deviation.mean() < 3 * vectors.std()


def test_head_and_then_face_swap_with_identity_losses(folder, vqgan, tiny_store) -> None:
    if not (weights.available("arcface_mbf") and weights.available("edgeface_s")):
        pytest.skip("needs arcface_mbf and edgeface_s (talkgen weights get)")
    head = train(folder, tiny_store, "swaptalk_identity_head", f"vqgan={vqgan.path}")
    assert "val/cosine" in head.metrics.read_text().splitlines()[0]
    run = train(
        folder, tiny_store, "swaptalk_face_swap", f"vqgan={vqgan.path}", f"identity_head={head.path}"
    )  # fmt: skip
    header = run.metrics.read_text().splitlines()[0]
    for name in ("train/identity_source", "train/identity_source_decoded", "val/distance"):
        assert name in header


def test_what_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(TalkgenError, match="experiment=swaptalk_vqgan"):
        load_trained(tmp_path / "nothing", "vqgan", "swaptalk_vqgan")
