"""A short version of ``make faults``: some of each kind, within a minute."""

from __future__ import annotations

from pathlib import Path

import hostile
import kills
import pytest
import surroundings
from fuzzing import fuzz
from nursery import Nursery
from tally import Tally

import studio


def assert_nothing_lost(tallies: list[Tally], tried: int) -> None:
    """All that was tried was survived or refused."""
    assert not [why for tally in tallies for why in tally.failures]
    assert sum(tally.survived + tally.refused for tally in tallies) >= tried


@pytest.mark.slow
def test_kill_9_in_a_batch_of_generate(nursery: Nursery, base: Path, tmp_path: Path) -> None:
    (scenario,) = kills.generate_scenarios(base)
    assert_nothing_lost([kills.kill_and_resume(nursery, scenario, 3, tmp_path)], 3)


@pytest.mark.slow
def test_kill_9_in_prepare(nursery: Nursery, base: Path, tmp_path: Path) -> None:
    (scenario,) = kills.prepare_scenarios(base)
    assert_nothing_lost([kills.kill_and_resume(nursery, scenario, 2, tmp_path)], 2)


@pytest.mark.slow
def test_a_turned_bit(nursery: Nursery, base: Path, tmp_path: Path) -> None:
    """Of a shard: named by --check. Of a checkpoint: the run does not go on from it."""
    assert_nothing_lost(surroundings.turned_bits(nursery, base, tmp_path, 2), 4)


@pytest.mark.slow
def test_damaged_files(nursery: Nursery, tmp_path: Path) -> None:
    """The first 100 of those of ``make faults``."""
    assert_nothing_lost(fuzz(nursery, tmp_path, 100, processes=1), 100)


def test_code_in_files_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_nothing_lost(hostile.pickled_code(tmp_path / "code"), 40)


def test_a_full_disk(nursery: Nursery, base: Path, tmp_path: Path) -> None:
    if why := surroundings.may_mount(tmp_path):
        pytest.skip(f"no disk can be mounted: {why}")
    (scenario,) = kills.generate_scenarios(base)
    wanted, _ = surroundings._undisturbed(nursery, scenario, tmp_path / "enough")
    tally = Tally("disk full")
    with surroundings.small_disk(tmp_path / "full", "16k") as change:
        folder = surroundings._begun(scenario, tmp_path / "full")
        ended = kills.run(nursery, scenario, folder)
        surroundings._refused_then_right(
            nursery, tally, scenario, ended, folder, wanted, lambda: change("size=200m"), "16k"
        )
    assert_nothing_lost([tally], 1)


def test_a_studio_under_attack(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    tallies = studio.attacked(tmp_path / "room", 60, 4, 1.0)
    assert_nothing_lost(tallies, 67)
    assert tallies[0].survived and tallies[0].refused


def test_what_counts_as_a_loss(tmp_path: Path) -> None:
    """What compares the results can see a difference."""
    for name in ("a", "b"):
        (tmp_path / name / "made").mkdir(parents=True)
        (tmp_path / name / "made" / "1.mp4").write_bytes(b"one")
        (tmp_path / name / ".lock").write_text(name)
    wanted = kills.bytes_of(tmp_path / "a")
    assert kills.differing(wanted, kills.bytes_of(tmp_path / "b")) == []
    (tmp_path / "b" / "made" / "1.mp4").write_bytes(b"other")
    (tmp_path / "b" / "made" / ".2.partial.mp4").touch()
    assert kills.differing(wanted, kills.bytes_of(tmp_path / "b")) == [
        "made/.2.partial.mp4 is left over",
        "made/1.mp4 differs",
    ]
    assert kills.differing(wanted, {}) == ["made/1.mp4 is missing"]
