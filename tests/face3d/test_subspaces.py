"""Subspaces: parts add up, and on the built-in head, whose true movements are known, each has its region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkgen.errors import FileError
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS
from talkgen.face3d.subspaces import (
    LANDMARKS,
    STYLETALK_LIP,
    Subspaces,
    disentangle,
    index_subspaces,
    indices_of_edits,
    motion_energy,
    region_shares,
)

HEAD = build_head()
ENERGIES = {name: motion_energy(HEAD, name) for name in LANDMARKS}
SIZES = {"lip": 6, "eye": 4}
INDICES = {"lip": 13, "eye": 8}  # DisentTalk's
REGIONS = {"lip": HEAD.lip_generators, "eye": HEAD.eye_generators, "brow": HEAD.brow_generators}


def acted(seed: int, frames: int = 2000) -> np.ndarray:
    """Expressions of people who move everything by their own measure, independently."""
    random = np.random.default_rng(seed)
    strengths = random.uniform(0.1, 0.5, 64)
    generators = random.normal(size=(frames, 64)) * strengths
    expression = HEAD.generators_to_coefficients(generators)
    return expression - expression.mean(0)


TRAIN, HELD_OUT = acted(0), acted(1)
SPLIT = disentangle(ENERGIES, SIZES, np.cov(TRAIN.T))


def test_regions_are_parted_on_people_who_were_not_seen() -> None:
    shares = region_shares(SPLIT, HELD_OUT, ENERGIES)
    for own in SIZES:
        assert shares[own, own].kept >= 0.7
        for other in LANDMARKS:
            if other != own:
                assert shares[own, other].moved <= 0.15
    assert shares["global", "brow"].kept > 0.9


def test_true_movements_lie_in_their_part() -> None:
    """What moves the lips and nothing else is all in the lips' part; a blink is in the lids'."""
    for name, region in (("jaw_open", "lip"), ("wide", "lip"), ("blink_left", "eye"), ("blink_right", "eye")):
        movement = HEAD.mixing[:, GENERATORS.index(name)][None]
        shares = {
            part: region_shares(SPLIT, movement, {region: ENERGIES[region]})[part, region] for part in SIZES
        }
        assert shares[region].kept > 0.7, name
        assert all(share.moved < 0.05 for part, share in shares.items() if part != region), name


def test_it_beats_indices() -> None:
    ours = region_shares(SPLIT, HELD_OUT, ENERGIES)
    fixed = region_shares(index_subspaces({"lip": STYLETALK_LIP}), HELD_OUT, ENERGIES)
    edits = {name: HEAD.mixing[:, list(REGIONS[name])].T for name in SIZES}
    chosen = indices_of_edits(edits, TRAIN.std(0), INDICES)
    ruled = region_shares(index_subspaces(chosen), HELD_OUT, ENERGIES)
    for others in (fixed, ruled):
        assert others["lip", "eye"].moved > 5 * ours["lip", "eye"].moved + 0.05
        assert others["lip", "lip"].kept < ours["lip", "lip"].kept
    assert ruled["eye", "lip"].moved > ours["eye", "lip"].moved


def test_parts_add_up_and_can_be_exchanged() -> None:
    a, b = HELD_OUT[:10], HELD_OUT[10:20]
    total = sum(SPLIT.part(a, name) for name in ("lip", "eye", "global"))
    np.testing.assert_allclose(total, a, atol=1e-9)
    for name, other in (("lip", "eye"), ("eye", "lip"), ("lip", "global")):
        np.testing.assert_allclose(SPLIT.part(SPLIT.part(a, name), name), SPLIT.part(a, name), atol=1e-8)
        np.testing.assert_allclose(SPLIT.part(SPLIT.part(a, name), other), 0, atol=1e-8)
    mixed = SPLIT.exchange(a, b, ["eye"])
    np.testing.assert_allclose(SPLIT.part(mixed, "eye"), SPLIT.part(b, "eye"), atol=1e-8)
    np.testing.assert_allclose(SPLIT.part(mixed, "lip"), SPLIT.part(a, "lip"), atol=1e-8)
    assert SPLIT.amounts(a, "lip").shape == (10, 6)
    np.testing.assert_allclose(
        SPLIT.amounts(a, "eye") @ SPLIT.directions[6:], SPLIT.part(a, "eye"), atol=1e-9
    )
    with pytest.raises(ValueError, match="no region 'nose'"):
        SPLIT.part(a, "nose")


def test_amounts_have_unit_variance_where_nothing_else_is_read() -> None:
    alone = disentangle(ENERGIES, {"lip": 1}, np.cov(TRAIN.T))
    assert SPLIT.directions.shape == SPLIT.readers.shape == (10, 64)
    assert SPLIT.readers @ SPLIT.directions.T == pytest.approx(np.eye(10), abs=1e-8)
    assert alone.amounts(TRAIN, "lip").std() == pytest.approx(1.0, abs=1e-3)


def test_the_rule_takes_the_largest_and_no_index_twice() -> None:
    edits = {
        "lip": np.array([[1.0, -3.0, 0.1, 0.0], [1.0, -3.0, 0.1, 0.0]]),
        "eye": np.array([[0, 5.0, 1, 0.5]]),
    }
    sigma = np.array([1.0, 2.0, 0.01, 1.0])
    assert indices_of_edits(edits, sigma, {"lip": 2, "eye": 1}) == {"lip": (2, 1), "eye": (3,)}
    assert indices_of_edits(edits, sigma, {"lip": 2, "eye": 1}, floor=0.5) == {"lip": (1, 0), "eye": (2,)}


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    covariance = np.cov(TRAIN.T)
    with pytest.raises(ValueError, match="64 coefficients"):
        disentangle(ENERGIES, {"lip": 60, "eye": 5}, covariance)
    with pytest.raises(ValueError, match="no energy of nose"):
        disentangle(ENERGIES, {"nose": 5}, covariance)
    with pytest.raises(ValueError, match="nothing to be parted"):
        disentangle({"lip": ENERGIES["lip"]}, {"lip": 5}, covariance)
    with pytest.raises(ValueError, match="different numbers"):
        index_subspaces({"lip": (1, 2), "eye": (2, 3)})
    with pytest.raises(ValueError, match="places"):
        indices_of_edits({"lip": HELD_OUT}, TRAIN.std(0), {"lip": 65})
    with pytest.raises(FileError, match="holds no subspaces"):
        Subspaces.load(tmp_path / "lost.npz")


def test_they_are_saved_and_loaded(tmp_path: Path) -> None:
    SPLIT.save(tmp_path / "subspaces.npz")
    again = Subspaces.load(tmp_path / "subspaces.npz")
    assert (again.names, again.sizes) == (SPLIT.names, SPLIT.sizes)
    np.testing.assert_array_equal(again.part(HELD_OUT, "eye"), SPLIT.part(HELD_OUT, "eye"))
    assert [file.name for file in tmp_path.iterdir()] == ["subspaces.npz"]
