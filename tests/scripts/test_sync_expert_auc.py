"""The script that judges a sync expert: how sound is moved, and what is said of offsets."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from script_module import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("scripts/sync_expert_auc.py")


def clip(off: int) -> torch.Tensor:
    """Lips whose sound is early by ``off`` frames."""
    lips = torch.nn.functional.normalize(
        torch.randn(60, 16, generator=torch.Generator().manual_seed(off + 9))
    )
    return torch.stack([lips, lips.roll(-off, 0)])


def test_moved_sound_is_what_was_heard_before(script: ModuleType) -> None:
    pair = torch.arange(6.0).view(1, 6, 1).expand(2, 6, 1)
    lips, sound = script.moved(pair, 2)
    assert lips.flatten().tolist() == [2, 3, 4, 5] and sound.flatten().tolist() == [0, 1, 2, 3]
    lips, sound = script.moved(pair, -2)
    assert lips.flatten().tolist() == [0, 1, 2, 3] and sound.flatten().tolist() == [2, 3, 4, 5]


def test_offsets_are_compared_with_the_own_and_with_others(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lags.csv").write_text("a,-2\nb,1\nc,3\nunknown,9\n")
    script.show_offsets(["a", "b", "c"], [clip(-3), clip(0), clip(3)], tmp_path / "lags.csv")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "offsets: a -3, b +0, c +3"
    assert second == "sound moved by -5 to +5 frames: missed by 0.00 frames, by one at most in 100.0%"
    assert "3 videos" in third and "median difference -1.0" in third and "0.33 apart" in third
