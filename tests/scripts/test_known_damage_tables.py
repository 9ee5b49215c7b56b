"""The script behind docs/metrics.md's tables of damage: how sound is moved, and what is printed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from talkgen.metrics.psnr import PSNR

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "known_damage.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("known_damage", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["known_damage"] = module
    spec.loader.exec_module(module)
    return module


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
