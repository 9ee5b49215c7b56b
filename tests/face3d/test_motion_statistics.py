"""Motion as numbers of unit variance: there and back, people's rest, and the direction of a blink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.errors import FileError, TalkgenError
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS
from talkgen.face3d.motion_statistics import MotionStatistics, lid_closure, motion_statistics
from talkgen.face3d.subspaces import LANDMARKS, disentangle, motion_energy, natural_edits
from talkgen.models.disenttalk.motion_space import MotionSpace

HEAD = build_head()
ENERGIES = {name: motion_energy(HEAD, name) for name in LANDMARKS}


def person(seed: int, frames: int = 200) -> np.ndarray:
    """Expressions of somebody with a rest of their own, who blinks."""
    random = np.random.default_rng(seed)
    generators = 0.2 * random.normal(size=(frames, 64)) + 0.1 * random.normal(size=64)
    shut = np.zeros(frames)
    shut[20::50] = shut[21::50] = 1
    for name in ("blink_left", "blink_right"):
        generators[:, GENERATORS.index(name)] = shut
    return HEAD.generators_to_coefficients(generators)


CLIPS = [person(seed) for seed in range(8)]
PEOPLE = [f"p{seed}" for seed in range(8)]
MOVING = np.concatenate([clip - clip.mean(0) for clip in CLIPS])
SPLIT = disentangle(ENERGIES, {"lip": 6, "eye": 4}, np.cov(MOVING.T))
STATISTICS = motion_statistics(CLIPS, PEOPLE, SPLIT, HEAD, rest_size=20)


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    made = MotionSpace([6, 4, 20]).double()
    made.set_from(STATISTICS)
    return made


def test_numbers_have_unit_variance_and_lead_back(space: MotionSpace) -> None:
    clips = [torch.from_numpy(clip) for clip in CLIPS]
    z = torch.cat([space.encode(clip, clip.mean(0)) for clip in clips])
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-2)
    rest = clips[0].mean(0)
    back = space.decode(space.encode(clips[0], rest), rest)
    # what the space can say it gives back exactly
    torch.testing.assert_close(space.encode(back, rest), space.encode(clips[0], rest))
    motion = SPLIT.part(CLIPS[0] - CLIPS[0].mean(0), "lip")
    lips = space.encode(rest + torch.from_numpy(motion), rest)
    assert float(lips[:, space.eyes].abs().max()) < 1e-6 * float(lips[:, space.lips].abs().max())


def test_a_blink_is_one_direction(space: MotionSpace) -> None:
    rest = torch.from_numpy(CLIPS[0].mean(0))
    open_and_shut = space.decode(torch.stack([0 * space.blink, space.blink]), rest).numpy()
    clip = np.concatenate([np.repeat(open_and_shut[:1], 40, 0), open_and_shut[1:]])
    closure = lid_closure(HEAD, clip)
    assert closure[0] == pytest.approx(0, abs=1e-6)
    assert 0.75 < closure[-1] < 1.5
    assert float(space.blink[space.lips].abs().max()) == 0


def test_the_rest_of_many_frames_is_their_mean_and_of_one_less_than_that(space: MotionSpace) -> None:
    held_out = [torch.from_numpy(person(seed, 400)) for seed in range(20, 30)]

    def distance(guess: torch.Tensor, clip: torch.Tensor) -> float:
        return float(space.encode(guess, clip.mean(0)).square().mean())

    shrunk = np.mean([distance(space.rest(clip[:1]), clip) for clip in held_out])
    naive = np.mean([distance(clip[0], clip) for clip in held_out])
    nobody = np.mean([distance(space.mean, clip) for clip in held_out])
    many = np.mean([distance(space.rest(clip), clip) for clip in held_out])
    assert shrunk < 0.9 * naive and shrunk < nobody
    assert many < 0.5 * shrunk


def test_landmarks_follow_the_model(space: MotionSpace) -> None:
    z = torch.randn(3, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rest = torch.from_numpy(CLIPS[0].mean(0))
    points = HEAD.landmarks68(np.zeros(80), space.decode(z, rest).numpy())
    still = HEAD.landmarks68(np.zeros(80), rest.numpy())
    np.testing.assert_allclose(space.landmarks(z), points - still, atol=1e-5)
    assert space.mouth(z, "landmarks").shape == (3, 60)
    torch.testing.assert_close(space.mouth(z, "subspace"), z[:, :6])


def test_without_regions_everything_is_one(tmp_path: Path) -> None:
    whole = motion_statistics(CLIPS, PEOPLE, None, HEAD, rest_size=30)
    assert (whole.names, whole.sizes) == (("global",), (30,))
    space = MotionSpace([30])
    space.set_from(whole)
    with pytest.raises(TalkgenError, match="no regions"):
        _ = space.eyes
    with pytest.raises(TalkgenError, match="disentangle and train with the same sizes"):
        MotionSpace([6, 4, 10]).set_from(STATISTICS)
    STATISTICS.save(tmp_path / "motion.npz")
    again = MotionStatistics.load(tmp_path / "motion.npz")
    np.testing.assert_array_equal(again.encode, STATISTICS.encode)
    assert (again.names, again.sizes) == (STATISTICS.names, STATISTICS.sizes)
    with pytest.raises(FileError, match="talkgen disentangle"):
        MotionStatistics.load(tmp_path / "lost.npz")


def test_natural_edits_move_their_own_region() -> None:
    edits = natural_edits(CLIPS, ENERGIES, ["lip", "eye"], pairs=50)
    for own in ("lip", "eye"):
        moved = {n: np.einsum("nk,kj,nj->n", edits[own], e, edits[own]) for n, e in ENERGIES.items()}
        usual = {n: np.einsum("nk,kj,nj->n", MOVING, e, MOVING).mean() for n, e in ENERGIES.items()}
        shares = {n: (moved[n] / usual[n]).mean() for n in ENERGIES}
        assert shares[own] == max(shares.values())
