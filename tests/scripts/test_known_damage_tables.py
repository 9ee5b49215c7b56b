"""The script behind docs/metrics.md's tables of damage: how sound is moved, and what is printed."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from script_module import load_script

from talkgen.metrics.psnr import PSNR


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("scripts/known_damage.py")


def test_sound_comes_late_or_early_and_keeps_its_length(script: ModuleType) -> None:
    sound = torch.arange(1.0, 7.0)
    assert script.shifted(sound, 0).tolist() == [1, 2, 3, 4, 5, 6]
    assert script.shifted(sound, 2).tolist() == [0, 0, 1, 2, 3, 4]
    assert script.shifted(sound, -2).tolist() == [3, 4, 5, 6, 0, 0]


def test_sound_is_moved_by_up_to_five_frames_to_both_sides(script: ModuleType) -> None:
    assert list(script.SHIFTS) == list(range(-5, 6))
    assert script.EXCHANGED in script.damages()


def test_columns_without_a_number_are_left_out(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.headings([PSNR()]) == ["PSNR[rgb] ↑"]
    script.show([["a", "none"], ["x", "1.0"], ["y", "n/a"]])
    assert capsys.readouterr().out.splitlines() == ["| a | none |", "|---|---:|", "| x | 1.0 |"]
