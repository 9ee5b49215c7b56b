from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from talkgen.data.swap_pairs import KINDS
from talkgen.errors import TalkgenError
from talkgen.losses.identity import IdentityLoss
from talkgen.losses.weights import FaceSwapWeights
from talkgen.models.experts.arcface import IdentityNetwork
from talkgen.models.swaptalk.face_swap import FaceSwap
from talkgen.models.swaptalk.identity_head import LatentIdentityHead
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan
from talkgen.systems.callbacks.swap_pictures import SwapPictures
from talkgen.systems.face_swap import FaceSwapSystem

DIM, CODES, CELLS = 4, 16, 4
KIND = {name: i for i, name in enumerate(KINDS)}


def vqgan() -> VQGAN:
    return build_vqgan(8, (1, 2, 2), 1, latent_channels=8, codes=CODES, code_dim=DIM)


def recogniser() -> IdentityLoss:
    body = nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(3 * 64, 512))
    return IdentityLoss(IdentityNetwork(body))


def build(**arguments: Any) -> FaceSwapSystem:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "face_swap": FaceSwap(DIM, width=16, layers=2, heads=2, grid=(CELLS, CELLS)),
        "vqgan": vqgan(),
        "weights": FaceSwapWeights(),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2),
        "identity": recogniser(),
        "identity_head": LatentIdentityHead(DIM, 8, (1,), 1, cells=2, grid=(CELLS, CELLS)),
    }
    system = FaceSwapSystem(**(defaults | arguments))
    system.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    system.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return system


def batch(kinds: tuple[str, ...] = KINDS, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    b = len(kinds)
    codes = torch.randint(CODES, (3, b, CELLS, CELLS), generator=generator)
    warp = torch.tensor([[7.0, 0.0, 0.0], [0.0, 7.0, 0.0]]).repeat(b, 1, 1)
    direction = torch.nn.functional.normalize(torch.randn(b, 512, generator=generator), dim=1)
    return {
        "target_codes": codes[0],
        "source_codes": codes[1],
        "label_codes": codes[2],
        "kind": torch.tensor([KIND[name] for name in kinds]),
        "target_warp": warp,
        "source_warp": warp,
        "source_identity": direction,
        "identity": torch.arange(b),
    }


def terms_of(system: FaceSwapSystem, samples: dict[str, Any], batch_idx: int = 0) -> dict[str, Tensor]:
    sample = system.look_up(samples)
    swapped = system(sample.target, sample.source)
    return system.latent_terms(swapped, sample) | system.identity_terms(swapped, sample, batch_idx)


def test_each_kind_of_sample_has_its_terms() -> None:
    system = build(weights=FaceSwapWeights(codes=0.5))
    everything = terms_of(system, batch())
    alone = {
        name: terms_of(system, {k: v[i : i + 1] for k, v in batch().items()}) for name, i in KIND.items()
    }
    assert everything.keys() == {
        "proxy", "reconstruction", "codes", "identity_source", "identity_label"
    }  # fmt: skip
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(everything["proxy"], (alone["teacher"]["proxy"] + alone["reverse"]["proxy"]) / 2)
    close(everything["reconstruction"], alone["same"]["reconstruction"])
    for name in ("codes", "identity_label"):
        close(everything[name], sum(alone[kind][name] for kind in KINDS[:3]) / 3)
    close(everything["identity_source"], sum(terms["identity_source"] for terms in alone.values()) / 4)
    assert alone["same"]["proxy"] == alone["teacher"]["reconstruction"] == 0
    assert alone["free"]["proxy"] == alone["free"]["identity_label"] == alone["free"]["codes"] == 0


def test_what_stands_in_the_label_of_a_free_sample_is_ignored() -> None:
    system = build(weights=FaceSwapWeights(codes=0.5))
    one, other = batch(), batch()
    other["label_codes"][KIND["free"]] = (one["label_codes"][KIND["free"]] + 1) % CODES
    for name, term in terms_of(system, one).items():
        torch.testing.assert_close(term, terms_of(system, other)[name])


def test_identity_is_decoded_every_so_often_and_read_by_the_head_in_between() -> None:
    system = build(decode_every=3)
    seen = [terms_of(system, batch(), i)["identity_source"].item() for i in range(6)]
    assert seen[0] == seen[3]
    assert seen[1] == seen[2] == seen[4] == seen[5] != seen[0]
    without_head = build(decode_every=3, identity_head=None)
    assert "identity_source" in terms_of(without_head, batch(), 3)
    assert "identity_source" not in terms_of(without_head, batch(), 4)
    head_alone = build(decode_every=0)
    assert terms_of(head_alone, batch(), 0)["identity_source"].item() == seen[1]
    assert terms_of(build(identity=None), batch()).keys() == {"proxy", "reconstruction"}


def test_samples_that_are_decoded_can_be_few() -> None:
    few = terms_of(build(decode_samples=2), batch())["identity_source"]
    first = terms_of(build(), {key: value[:2] for key, value in batch().items()})["identity_source"]
    torch.testing.assert_close(few, first)


@pytest.mark.parametrize("batch_idx", [0, 1])
def test_unknown_source_is_looked_at(batch_idx: int) -> None:
    """A source whose direction is zeros is seen by the same eyes as the result; others keep theirs."""
    system, samples = build(decode_every=2), batch()
    samples["source_identity"][0] = 0
    sample = system.look_up(samples)
    with torch.no_grad():
        seen = system._directions(sample.source, sample.source_warp, decoded=batch_idx == 0)
    known = {**samples, "source_identity": samples["source_identity"].clone()}
    known["source_identity"][0] = seen[0]
    one, other = (terms_of(system, given, batch_idx)["identity_source"] for given in (samples, known))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("batch_idx", [0, 1])
def test_gradients_reach_the_swapping_network_alone(batch_idx: int) -> None:
    system = build(decode_every=2)
    terms = terms_of(system, batch(), batch_idx)
    (terms["identity_source"] + terms["identity_label"]).backward()
    assert system.face_swap.out.weight.grad.any()
    assert {name.split(".")[0] for name, _ in system.named_parameters()} == {"face_swap"}
    frozen = (system.vqgan, system.frozen_head.module, system.identity.network.module)
    assert all(p.grad is None and not p.requires_grad for module in frozen for p in module.parameters())
    assert {key.split(".")[0] for key in system.state_dict()} == {"face_swap"}


def test_latents_of_other_sizes_are_refused() -> None:
    with pytest.raises(TalkgenError, match="face_swap takes latents of 6 channels, the VQGAN has 4"):
        build(face_swap=FaceSwap(6, width=16, layers=1, heads=2))
    with pytest.raises(TalkgenError, match="identity_head"):
        build(identity_head=LatentIdentityHead(6, 8, (1,), 1))


def test_training_learns_validation_measures_and_shows(tmp_path) -> None:
    torch.manual_seed(0)
    system = build(judge=recogniser(), decode_every=4)
    del system.log, system.log_dict
    held_out = [batch(("same", "teacher"), seed=0), batch(("free", "free"), seed=1)]
    train = [held_out[i % 2] for i in range(40)]  # learns them by heart
    logged: list[dict[str, Tensor]] = []

    class Notes(SwapPictures):
        def on_validation_end(self, trainer, pl_module) -> None:
            logged.append(dict(trainer.callback_metrics))

    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, val_check_interval=20,
        callbacks=[Notes(tmp_path, 3)],
    )  # fmt: skip
    loader = partial(torch.utils.data.DataLoader, batch_size=None)
    before = {key: value.clone() for key, value in system.vqgan.state_dict().items()}
    trainer.fit(system, loader(train), loader(held_out))
    assert all(value.equal(before[key]) for key, value in system.vqgan.state_dict().items())
    first, last = logged
    assert last["val/proxy"] < 0.8 * first["val/proxy"]
    numbers = {"distance", "proxy", "reconstruction", "psnr", "psnr_same"}
    numbers |= {f"{name}_{who}" for name in ("identity", "judge") for who in ("source", "target", "before")}
    assert {key.removeprefix("val/") for key in last if key.startswith("val/")} == numbers
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["step-0000020.png", "step-0000040.png"]
    sheet = cv2.imread(str(files[1]))[..., ::-1]
    assert sheet.shape == (4 + 3 * (16 + 18 + 4), 4 + 4 * (16 + 4), 3)  # three rows of four pictures of 16 px
    shown = system.pictures(batch(("teacher",), seed=0) | {"kind": torch.tensor([KIND["teacher"]])})
    assert shown["swapped"].shape == (1, 16, 16, 3) and shown["swapped"].dtype == torch.uint8
    assert (sheet[-20:-4, -20:-4] == 255).all()  # a free pair has no label to show


def test_numbers_that_nothing_gives_are_not_logged(tmp_path) -> None:
    system = build(identity=None, identity_head=None)
    del system.log, system.log_dict
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    loader = torch.utils.data.DataLoader([batch(("same", "same"))], batch_size=None)
    (found,) = trainer.validate(system, loader, verbose=False)
    assert found.keys() == {"val/distance", "val/reconstruction", "val/psnr_same"}
    assert found["val/distance"] == pytest.approx(found["val/reconstruction"])
