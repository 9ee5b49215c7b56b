from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from talkgen.losses.lip_sync import (
    CosineBCELoss,
    SameClip,
    ShiftedInfoNCE,
    SyncLoss,
    cosines,
    shifted_cosines,
)
from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet


def unit(*shape: int, seed: int = 0, positive: bool = False) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x.abs() if positive else x, dim=-1)


def test_cosines_by_hand() -> None:
    audio = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    face = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    shifted = torch.stack([audio.flip(0), -audio], dim=1)
    together, apart = cosines(audio, face, shifted)
    torch.testing.assert_close(together, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(apart, torch.tensor([[1.0, -0.6], [0.0, -0.8]]))


def test_bce_by_hand_and_at_chance() -> None:
    audio = face = torch.tensor([[1.0, 0.0]])
    shifted = torch.tensor([[[0.5, math.sqrt(0.75)]]])  # cosine ½
    loss = CosineBCELoss()
    assert loss(audio, face, shifted).item() == pytest.approx(0.5 * math.log(2))
    half = torch.tensor([[0.5, math.sqrt(0.75)]])
    assert loss(half, face, shifted).item() == pytest.approx(loss.chance(1, 1))


def test_bce_refuses_embeddings_whose_cosine_is_no_probability() -> None:
    with pytest.raises(ValueError, match="final_relu"):
        CosineBCELoss()(unit(4, 8), unit(4, 8, seed=1), unit(4, 2, 8, seed=2))


@pytest.mark.parametrize("loss", [CosineBCELoss(), ShiftedInfoNCE()])
def test_losses_are_float32_under_autocast(loss: torch.nn.Module) -> None:
    audio, face = unit(4, 8, positive=True), unit(4, 8, seed=1, positive=True)
    shifted = unit(4, 3, 8, seed=2, positive=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(audio, face, shifted)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, loss(audio, face, shifted))


def test_infonce_by_hand() -> None:
    eye = torch.eye(3)
    audio, face, shifted = eye, eye, eye.roll(1, 0)[:, None]
    loss = ShiftedInfoNCE(temperature=1.0, symmetric=False)
    # own cosine 1; the shifted one and two other clips 0
    assert loss(audio, face, shifted).item() == pytest.approx(-math.log(math.e / (math.e + 3)))
    alone = ShiftedInfoNCE(temperature=1.0, across=False)
    assert alone(audio, face, shifted).item() == pytest.approx(-math.log(math.e / (math.e + 1)))


def test_infonce_chance_is_what_equal_embeddings_get() -> None:
    same = torch.tensor([[1.0, 0.0]]).repeat(6, 1)
    for across in (True, False):
        loss = ShiftedInfoNCE(across=across, symmetric=False)
        got = loss(same, same, same[:, None].repeat(1, 4, 1)).item()
        assert got == pytest.approx(loss.chance(batch=6, shifts=4))
    assert ShiftedInfoNCE(symmetric=False).chance(6, 4) == pytest.approx(math.log(10))


def test_same_clip_by_hand() -> None:
    """Windows at 0, 4 and 9 of one clip, and at 4 of another: 4 and 9 are exactly five apart."""
    windows = SameClip.of(torch.tensor([7, 7, 7, 3]), torch.tensor([0, 4, 9, 4]), min_shift=5)
    assert windows.near.nonzero().tolist() == [[0, 1], [1, 0]]
    assert windows.far.nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]


def test_windows_of_one_clip_are_shifted_audio() -> None:
    audio, face = unit(4, 8), unit(4, 8, seed=1)
    same = SameClip.of(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 4, 9, 4]))
    together, apart, counted = shifted_cosines(audio, face, unit(4, 2, 8, seed=2), same)
    assert apart.shape == counted.shape == (4, 2 + 4)
    assert counted[:, :2].all() and counted.sum() == 4 * 2 + 4
    assert apart[0, 2 + 2].item() == pytest.approx(float(face[0] @ audio[2]))
    assert together[3].item() == pytest.approx(float(face[3] @ audio[3]))
    assert shifted_cosines(audio, face, audio[:, None])[2].all()


def test_cosines_are_float32_under_autocast() -> None:
    """Else many of them would be equal, and comparing them a draw."""
    audio, face = unit(4, 8), unit(4, 8, seed=1)
    same = SameClip.of(torch.zeros(4), 5 * torch.arange(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = shifted_cosines(audio, face, audio[:, None], same)
    for got, expected in zip(inside, shifted_cosines(audio, face, audio[:, None], same), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_near_windows_are_no_candidates() -> None:
    """Faces and audio of two near windows agree fully; as candidates they would cost log 2."""
    audio = face = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    none = torch.zeros(3, 0, 2)
    same = SameClip.of(torch.tensor([0, 0, 1]), torch.tensor([10, 12, 0]))
    loss = ShiftedInfoNCE(temperature=0.1)
    held, masked = loss(audio, face, none), loss(audio, face, none, same)
    assert held.item() == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    assert masked.item() == pytest.approx(0, abs=1e-4)


def test_far_windows_are_the_candidates_where_other_clips_are_not() -> None:
    audio, face = torch.eye(4), torch.eye(4)
    same = SameClip.of(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 5, 10, 0]))
    loss = ShiftedInfoNCE(temperature=1.0, across=False)(audio, face, torch.zeros(4, 0, 4), same)
    # three windows with two others each, and one on its own
    assert loss.item() == pytest.approx(-0.75 * math.log(math.e / (math.e + 2)))


@pytest.mark.parametrize("across", [True, False])
def test_windows_that_are_left_out_leave_the_gradients_finite(across: bool) -> None:
    audio, face = unit(4, 8).requires_grad_(), unit(4, 8, seed=1).requires_grad_()
    loss = ShiftedInfoNCE(across=across)
    loss(audio, face, torch.zeros(4, 0, 8), SameClip.of(torch.zeros(4), 3 * torch.arange(4))).backward()
    for gradient in (audio.grad, face.grad, loss.log_temperature.grad):
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().sum() > 0


def test_symmetric_loss_is_the_mean_of_both_directions() -> None:
    audio, face, none = unit(5, 8), unit(5, 8, seed=1), torch.zeros(5, 0, 8)
    same = SameClip.of(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 2, 0, 9, 0]))
    one, both = ShiftedInfoNCE(symmetric=False), ShiftedInfoNCE()
    mean = (one(audio, face, none, same) + one(face, audio, none, same)) / 2
    torch.testing.assert_close(both(audio, face, none, same), mean)
    assert not torch.isclose(one(audio, face, none, same), one(face, audio, none, same))
    equal = torch.tensor([[1.0, 0.0]]).repeat(6, 1)
    got = both(equal, equal, equal[:, None].repeat(1, 4, 1)).item()
    assert got == pytest.approx(both.chance(batch=6, shifts=4)) == pytest.approx(math.log(60) / 2)


def test_bce_takes_windows_of_the_clip_as_shifted_audio() -> None:
    audio = face = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    same = SameClip.of(torch.tensor([0, 0, 1]), torch.tensor([0, 9, 0]))
    loss = CosineBCELoss()(audio, face, torch.zeros(3, 0, 2), same)
    assert loss.item() == pytest.approx(-0.5 * math.log(0.4))  # both faces have a cosine of 0.6


def test_temperature_is_learned_and_bounded() -> None:
    loss = ShiftedInfoNCE(temperature=0.001)
    assert loss.temperature.item() == pytest.approx(0.01)
    loss = ShiftedInfoNCE()
    loss(unit(4, 8), unit(4, 8, seed=1), unit(4, 2, 8, seed=2)).backward()
    assert loss.log_temperature.grad.abs() > 0


def test_training_separates_timing() -> None:
    """Embeddings that start at random learn which moment belongs together, with either loss."""
    torch.manual_seed(0)
    moments = torch.randn(64, 6)
    for loss, positive in ((CosineBCELoss(), True), (ShiftedInfoNCE(), False)):
        maps = [torch.nn.Linear(6, 64) for _ in range(2)]
        accuracies = []
        optimizer = torch.optim.Adam([p for m in maps for p in m.parameters()], lr=0.01)
        for step in range(200):
            now = torch.randperm(64)[:16]
            later = (now[:, None] + torch.tensor([3, 7, 11])) % 64
            audio, face, shifted = (
                F.normalize(m(x).relu() if positive else m(x), dim=-1, eps=1e-3)
                for m, x in ((maps[0], moments[now]), (maps[1], moments[now]), (maps[0], moments[later]))
            )
            value = loss(audio, face, shifted)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if step in (0, 199):
                together, apart = cosines(audio, face, shifted)
                accuracies.append((together[:, None] > apart).float().mean().item())
        assert accuracies[0] < 0.75 and accuracies[1] > 0.9


@pytest.mark.parametrize("final_relu", [True, False])
def test_sync_loss_moves_the_video_and_never_the_expert(final_relu: bool) -> None:
    torch.manual_seed(0)
    expert = SyncNet(width=0.0625, final_relu=final_relu)
    loss = SyncLoss(expert)
    loss.train()
    before = {key: value.clone() for key, value in expert.state_dict().items()}
    video = (torch.rand(2, 5, 3, 64, 64) * 2 - 1).requires_grad_()
    value = loss(video, torch.randn(2, 1, 80, 16))
    value.backward()
    assert torch.isfinite(value) and value > 0
    assert video.grad[..., 40:, :].abs().sum() > 0
    assert video.grad[..., :28, :].abs().sum() == 0  # the upper half is not seen
    assert not list(loss.parameters()) and not loss.state_dict()
    for key, value in expert.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_sync_loss_shows_the_expert_what_it_was_trained_on() -> None:
    torch.manual_seed(0)
    expert, view = SyncNet(width=0.0625, final_relu=False), LipView(-0.08, 0.08, motion=True)
    landmarks = (torch.rand(2, 5, 68, 2) * 40 + 12).sort(dim=2).values
    video = (torch.rand(2, 5, 3, 64, 64) * 2 - 1).requires_grad_()
    mel = torch.randn(2, 1, 80, 16)
    viewed = SyncLoss(expert, view=view)(video, mel, landmarks)
    torch.testing.assert_close(viewed, SyncLoss(expert)(view(video, landmarks), mel))
    assert viewed != SyncLoss(expert)(video, mel)
    viewed.backward()
    assert video.grad is not None and video.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="landmarks"):
        SyncLoss(expert, view=view)(video, mel)


@pytest.mark.parametrize("overlap", [0.0, 1e-30, 1e-12, 1e-6, 1.0])
def test_bce_on_the_cosine_stays_finite_where_the_logarithm_does_not(overlap: float) -> None:
    """Embeddings without a common component, and equal ones: −log is capped at 100, as in PyTorch."""
    audio = torch.tensor([[1.0, 0.0]])
    face = torch.tensor([[overlap, 1.0 - overlap]], requires_grad=True)
    unit = torch.nn.functional.normalize(face, dim=1)
    loss = CosineBCELoss()(audio, unit, audio[:, None])
    loss.backward()
    assert 0 <= float(loss.detach()) <= 100
    assert face.grad is not None and bool(face.grad.isfinite().all())
