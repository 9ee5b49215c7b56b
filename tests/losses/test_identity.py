from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen import weights
from talkgen.losses.identity import IdentityLoss
from talkgen.models.experts.arcface import IdentityNetwork, load_arcface


class Corners(nn.Module):
    """A recogniser whose embedding is the mean of each quarter of the face."""

    def forward(self, faces: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(faces.mean(1, keepdim=True), 2).flatten(1)


IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def quarters(a: float, b: float, c: float, d: float, size: int = 112) -> Tensor:
    picture = torch.tensor([[a, b], [c, d]], dtype=torch.float32)
    return F.interpolate(picture[None, None], size=size, mode="nearest").expand(1, 3, -1, -1).clone()


def test_one_minus_cosine_by_hand() -> None:
    loss = IdentityLoss(IdentityNetwork(Corners()), samples=1)
    first, second = quarters(1, 0, 0, 0), quarters(1, 1, 0, 0)
    assert loss(first, first, IDENTITY).item() == pytest.approx(0, abs=1e-6)
    assert loss(first, second, IDENTITY).item() == pytest.approx(1 - 2**-0.5, abs=1e-5)
    assert loss(first, -first, IDENTITY).item() == pytest.approx(2, abs=1e-5)
    assert loss(first, quarters(0, 0, 1, 0), IDENTITY).item() == pytest.approx(1, abs=1e-5)


def test_faces_are_cut_by_the_warp_before_they_are_compared() -> None:
    loss = IdentityLoss(IdentityNetwork(Corners()), samples=1)
    large = torch.zeros(1, 3, 300, 300)
    large[..., 50:162, 120:232] = quarters(1, 2, 3, 4)
    cut = torch.tensor([[[1.0, 0, -120], [0, 1, -50]]])
    assert loss(large, quarters(1, 2, 3, 4), cut, IDENTITY).item() == pytest.approx(0, abs=1e-5)
    assert loss(large, quarters(1, 2, 3, 4), IDENTITY, IDENTITY).item() > 0.1


def test_the_gradient_goes_to_the_generated_face_only() -> None:
    loss = IdentityLoss(IdentityNetwork(Corners()))
    generated = torch.rand(2, 3, 128, 128, requires_grad=True)
    reference = torch.rand(2, 3, 128, 128, requires_grad=True)
    warp = torch.tensor([[[1.0, 0, -8], [0, 1, -8]]]).expand(2, -1, -1)
    loss(generated, reference, warp).backward()
    assert reference.grad is None and generated.grad is not None
    inside = generated.grad[..., 8:120, 8:120].abs()
    assert (inside > 0).float().mean() > 0.99
    assert generated.grad[..., :6, :].abs().max() == 0


def test_the_recogniser_is_not_in_a_checkpoint() -> None:
    assert not IdentityLoss(IdentityNetwork(nn.Linear(2, 2))).state_dict()


@pytest.mark.slow
def test_real_people(shared: Path) -> None:
    """Same person in different clips above 0.5, different people below 0.4."""
    if not all(weights.available(name) for name in ("arcface_mbf", "scrfd_500m")):
        pytest.skip("arcface_mbf or scrfd_500m is absent: talkgen weights get --set demo")
    from talkgen.faces.alignment import identity_warp
    from talkgen.faces.detection import make_detector
    from talkgen.video.reader import read_frames

    people = {"katiehill_a": 0, "katiehill_b": 0, "aoc_a": 1, "aoc_b": 1, "yir31_a": 2, "yir31_b": 2,
              "kanghui": 3, "may": 4, "hartzler": 5, "lizimeng": 6}  # fmt: skip
    detector = make_detector("insightface")
    loss = IdentityLoss(load_arcface("arcface_mbf"))
    directions = []
    for clip in people:
        frame = next(iter(read_frames(shared / "realclips" / "clips" / f"{clip}.mp4", start_seconds=1.0)))
        face = max(detector.detect(frame), key=lambda found: found.score)
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
        warp = torch.from_numpy(np.asarray(identity_warp(face.keypoints)))[None]
        with torch.no_grad():
            directions.append(loss.embed(image, warp)[0])
    cosines = torch.stack(directions) @ torch.stack(directions).T
    who = torch.tensor(list(people.values()))
    same = (who[:, None] == who[None]) & ~torch.eye(len(who), dtype=torch.bool)
    assert cosines[same].min() > 0.5
    assert cosines[who[:, None] != who[None]].max() < 0.4
