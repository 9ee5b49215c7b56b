"""Progressive distillation: what the student is taught, when it becomes the teacher, and that it learns."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.schedule import linear_schedule
from talkgen.errors import TalkgenError
from talkgen.models.diff2lip.inpainting import TrainedDenoiser
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.systems.diff2lip_distill import Diff2LipDistillSystem, StepPairs, picture_between
from talkgen.systems.diff2lip_windows import read_windows
from talkgen.systems.schedules import annealed_rounds

SIZE = 16


def make_unet() -> Diff2LipUNet:
    unet = Diff2LipUNet(SIZE, 8, (1, 2), 1, attention_resolutions=(), audio_channels=8)
    for parameter in unet.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return unet


def make_system(**arguments: object) -> Diff2LipDistillSystem:
    torch.manual_seed(0)
    teacher = TrainedDenoiser(make_unet(), GaussianDiffusion(linear_schedule(), "x0"))
    settings = {"steps": 6, "rounds": (4, 2, 1), "sampler": DDIM(1, spacing="trailing")}
    optimizer = functools.partial(torch.optim.Adam, lr=1e-3)
    return Diff2LipDistillSystem(make_unet(), teacher, optimizer, **settings | arguments)  # type: ignore[arg-type]


def make_batch(size: int = 4, frames: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.rand(size, *shape, generator=generator) * 2 - 1

    return {
        "video": draw(frames, 3, SIZE, SIZE), "reference": draw(1, 3, SIZE, SIZE), "mel": draw(1, 80, 16),
        "mel_per_frame": draw(frames, 1, 80, 16), "landmarks": 8 * draw(frames, 68, 2),
    }  # fmt: skip


def test_steps_of_the_student_are_two_of_the_teacher() -> None:
    pairs = StepPairs.draw(linear_schedule(), 4, 400, "cpu")
    drawn = set(zip(pairs.start.tolist(), pairs.middle.tolist(), pairs.stop.tolist(), strict=True))
    assert drawn == {(999, 874, 749), (749, 624, 499), (499, 374, 249), (249, 124, -1)}
    assert int((pairs.start == 999).sum()) == 100
    assert StepPairs.draw(linear_schedule(), 1, 1, "cpu").stop.tolist() == [-1]


def test_the_picture_between_leads_where_two_steps_led() -> None:
    schedule = linear_schedule()
    noisy, x0 = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    t, s = torch.tensor([749, 249]), torch.tensor([499, -1])
    alpha, sigma = schedule.alpha[t].view(-1, 1, 1, 1), schedule.sigma[t].view(-1, 1, 1, 1)
    epsilon = (noisy - alpha * x0) / sigma
    later = torch.stack(
        [schedule.alpha[499] * x0[0] + schedule.sigma[499] * epsilon[0], x0[1]]
    )  # one step of DDIM with belief x0
    torch.testing.assert_close(picture_between(schedule, noisy, later, t, s), x0, atol=1e-4, rtol=1e-3)


def test_a_teacher_that_knows_the_truth_teaches_it() -> None:
    """Two steps with the true picture lead to it, whatever the steps; outside the mask nothing counts."""
    system = make_system()
    windows = read_windows(make_batch(), 1)
    truth = torch.cat([windows.target, windows.target], 1)  # and a variance
    system.round_teacher.denoise = lambda *_: truth  # type: ignore[method-assign, assignment]
    for error in (0.0, 0.5):
        wrong = truth.clone()
        wrong[:, :, SIZE // 2 :] += error
        wrong[:, :, : SIZE // 2] += 9
        system.unet.denoise = lambda *_, wrong=wrong: wrong  # type: ignore[misc, method-assign, assignment]
        for steps in (4, 1):
            loss = float(system.loss(windows, steps))
            snr = system.diffusion.schedule.snr(
                StepPairs.draw(system.diffusion.schedule, steps, 4, "cpu").start
            )
            assert loss == pytest.approx(0.5 * error**2 * float(snr.clamp_min(1).mean()), rel=1e-4, abs=1e-6)


def test_the_student_becomes_the_teacher_at_the_end_of_a_round() -> None:
    system = make_system()
    first = [p.clone() for p in system.first_teacher.module.parameters()]
    with torch.no_grad():
        for parameter in system.unet.parameters():
            parameter.add_(0.01)
    system.begin_round(0)
    assert all(torch.equal(p, q) for p, q in zip(system.round_teacher.parameters(), first, strict=True))
    system.begin_round(1)
    pairs = zip(system.round_teacher.parameters(), system.unet.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs) and int(system.round) == 1
    assert all(
        torch.equal(p, q) for p, q in zip(system.first_teacher.module.parameters(), first, strict=True)
    )
    keys = {key.split(".")[0] for key in system.state_dict()}
    assert keys == {"unet", "round_teacher", "round"}  # what a run that is resumed needs
    assert not any(p.requires_grad for p in system.round_teacher.parameters())


def test_rates_fall_to_zero_in_every_round() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = annealed_rounds(optimizer, steps=8, rounds=2, warmup_steps=1)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.5, 0.75, 0.5, 0.25] * 2


def test_it_learns_two_steps_in_one() -> None:
    system = make_system(rounds=(1,))
    windows = read_windows(make_batch(4), 1)
    with torch.no_grad():  # a student that is far from its teacher
        system.unet.out[2].weight.neg_()

    def loss(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return system.loss(windows, 1)

    before = sum(float(loss(seed)) for seed in range(4))
    optimizer = torch.optim.Adam(system.unet.parameters(), 2e-3)
    for step in range(25):
        optimizer.zero_grad()
        loss(10 + step).backward()
        optimizer.step()
    assert sum(float(loss(seed)) for seed in range(4)) < 0.6 * before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rounds": (8, 2)}, "half of the one before"),
        ({"sampler": DDIM(4)}, "samples by DDIM in 1 trailing steps"),
        ({"diffusion": GaussianDiffusion(linear_schedule(), "velocity")}, "the teacher predicts x0"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(TalkgenError, match=said):
        make_system(**changed)
