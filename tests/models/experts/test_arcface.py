"""Recognisers with their real weights (skipped by name where they are absent)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from talkgen import weights
from talkgen.errors import MissingWeights
from talkgen.models.experts.arcface import load_arcface


def needs(name: str) -> None:
    if not weights.available(name):
        pytest.skip(f"{name} is absent: talkgen weights get {name}")


@pytest.mark.parametrize("name", ["arcface_mbf", "edgeface_s", "arcface_r50"])
def test_the_numbers_of_onnxruntime(name: str) -> None:
    needs(name)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(weights.find(name)), providers=["CPUExecutionProvider"])
    faces = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    argument = session.get_inputs()[0].name
    expected = np.concatenate([session.run(None, {argument: faces[i : i + 1].numpy()})[0] for i in range(3)])
    with torch.no_grad():
        got = load_arcface(name)(faces)
    assert got.shape == (3, 512)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


def test_a_picture_can_be_moved_towards_a_person() -> None:
    needs("arcface_mbf")
    network = load_arcface("arcface_mbf")
    noise = torch.Generator().manual_seed(1)
    wanted = network.directions(torch.rand(1, 3, 112, 112, generator=noise) * 2 - 1).detach()
    picture = (torch.rand(1, 3, 112, 112, generator=noise) * 2 - 1).requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=0.02)
    cosines = []
    for _ in range(12):
        optimizer.zero_grad()
        cosine = F.cosine_similarity(network(picture), wanted).mean()
        (-cosine).backward()
        optimizer.step()
        cosines.append(cosine.item())
    assert cosines[0] < 0.85 and cosines[-1] > 0.95


def test_half_precision_around_it_does_not_coarsen_it() -> None:
    needs("arcface_mbf")
    network = load_arcface("arcface_mbf")
    faces = torch.rand(1, 3, 112, 112)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = network(faces)
    with torch.no_grad():
        torch.testing.assert_close(inside, network(faces))


def test_whole_pictures_are_refused() -> None:
    needs("arcface_mbf")
    with pytest.raises(ValueError, match="112"):
        load_arcface("arcface_mbf")(torch.zeros(1, 3, 256, 256))


def test_absent_weights_say_how_to_get_them(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match="talkgen weights get arcface_mbf"):
        load_arcface()
