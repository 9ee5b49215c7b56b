"""Diff2Lip through the real entry points: ``python evaluate.py`` and ``talkgen generate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from talkgen import evaluation
from talkgen.audio.waveform import save_waveform
from talkgen.cli import main
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.inference import diff2lip_official, diff2lip_video
from talkgen.metrics.flicker import FlickerRatio, acceleration
from talkgen.metrics.footage import Footage
from talkgen.metrics.landmark_source import LandmarkSource
from talkgen.video.reader import probe
from talkgen.video.writer import VideoWriter


@pytest.fixture()
def eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the detector: the brightness of the lower half is how far the mouth is open."""

    class Eyes(LandmarkSource):
        def __init__(self) -> None:
            self.weights = {"eyes": "0" * 64}

        def __call__(self, frames: torch.Tensor) -> torch.Tensor:
            points = torch.zeros(len(frames), 68, 2)
            points[:, 36:42, 0], points[:, 42:48, 0] = 5, 25
            lower = frames.float()[:, frames.shape[1] // 2 :].mean((1, 2, 3))
            points[:, [65, 66, 67], 1] = lower[:, None] / 20
            return points

    import talkgen.metrics.landmark_source as landmarks

    monkeypatch.setattr(landmarks, "open_landmark_source", lambda backend: Eyes())


def test_the_table(tiny_diff2lip: Path, tiny_store: Path, tmp_path: Path, eyes: None) -> None:
    """Rows with both sounds."""
    arguments = [
        f"paths.runs={tiny_diff2lip.parent}", "run=diff2lip-tiny", "device=cpu", f"root={tiny_store}",
        "frames=12", f"out={tmp_path}", "clips=null",
    ]  # fmt: skip
    assert evaluation.main(arguments) == 0
    table: dict[str, Any] = json.loads((tmp_path / "table.json").read_text())
    rows = {row["name"]: row["cells"] for row in table["rows"]}
    for name in (
        "lip-sync in 2 steps",
        "lip-sync in 2 steps, another clip's sound",
        "reference's mouth copied",
    ):
        assert name in rows
    assert rows["ground truth"]["mouth opening r"]["value"] == pytest.approx(1)
    assert rows["ground truth"]["flicker[mouth]"]["value"] == pytest.approx(1)
    assert rows["lip-sync in 2 steps"]["PSNR[rgb]"]["value"] < 40


def footage(points: torch.Tensor, true: torch.Tensor) -> Footage:
    frames = torch.zeros(len(points), 8, 8, 3, dtype=torch.uint8)
    return Footage(
        0, frames, frames, generated_landmarks=points, ground_truth_landmarks=true, corpus_landmarks=true,
        sound=torch.zeros(len(points) * 640),
    )  # fmt: skip


def test_flicker_is_the_acceleration_of_lips_over_the_truth() -> None:
    time = torch.arange(20.0)
    true = torch.zeros(20, 68, 2)
    true[:, 48:, 1] = (0.5 * time**2)[:, None]  # acceleration 1
    assert float(acceleration(true[:, 48:])) == pytest.approx(1)
    trembling = true.clone()
    trembling[:, 48:, 1] += 0.75 * (-1.0) ** time[:, None]  # ± 3 more
    trembling[:, :48] = torch.randn(20, 48, 2)  # other points do not count
    metric = FlickerRatio()
    for start in (0, 10):
        metric.update(footage(trembling[start : start + 10], true[start : start + 10]))
    assert float(metric.compute()) == pytest.approx(3, abs=0.1)  # |1 ± 3| is 3 on the mean
    steady = FlickerRatio()
    steady.update(footage(torch.zeros(20, 68, 2), true))
    assert float(steady.compute()) == 0


# talkgen generate ------------------------------------------------------------------------------------------


class Detector:
    def detect(self, frame: np.ndarray) -> list[Face]:
        points = (ARCFACE_TEMPLATE * 0.4 + (20, 10)).astype(np.float32)
        return [Face(np.array([20, 10, 65, 55], np.float32), 0.9, points)]


@pytest.fixture()
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (diff2lip_video, diff2lip_official):
        monkeypatch.setattr(module, "make_detector", lambda name: Detector())
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    with VideoWriter(tmp_path / "target.mp4", 25, 96, 64) as writer:
        for _ in range(8):
            writer.write(picture)
    save_waveform(tmp_path / "speech.wav", np.zeros(8000, np.float32))
    return tmp_path


def command(inputs: Path, folder: Path, *more: str) -> list[str]:
    return [
        "generate", "method=diff2lip", f"target={inputs / 'target.mp4'}", f"audio={inputs / 'speech.wav'}",
        f"out={inputs / 'out.mp4'}", f"run={folder.name}", f"paths.runs={folder.parent}", "device=cpu", *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "frames"),
    [
        ((), 12),
        (("diff2lip.sampler=unipc", "diff2lip.steps=2", "diff2lip.noise=correlated", "bf16=true"), 12),
        (("diff2lip.sampler=ddim", "diff2lip.steps=4", "diff2lip.reuse_features=2", "paste=crop"), 12),
        (("official_compat=true",), 8),
    ],
)
def test_one_command(inputs: Path, tiny_diff2lip: Path, more: tuple[str, ...], frames: int) -> None:
    assert main(command(inputs, tiny_diff2lip, *more)) == 0
    info = probe(inputs / "out.mp4")
    assert (info.frames, info.width, info.height, info.has_audio) == (frames, 96, 64, True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("run=nothing", "'nothing' is no trained method in"),
        ("diff2lip.noise=pink", "diff2lip.noise=pink: give shared, correlated, independent"),
        ("diff2lip.sampler=euler", "sampler=euler: give dpm_solver, unipc, ddim"),
        ("diff2lip.reuse_features=0", "diff2lip.reuse_features=0: give a number"),
        ("source=target.mp4", "diff2lip changes lips only; leave the source out"),
    ],
)
def test_mistakes_are_one_sentence(
    inputs: Path, tiny_diff2lip: Path, changed: str, said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(inputs)
    assert main(command(inputs, tiny_diff2lip, changed)) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last


def test_the_method_is_scored_on_whole_clips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the experiment asks of the table goes through a command line, where None is ``null``."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from talkgen import training
    from talkgen.configuration import config_folder

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        asked = compose("train", overrides=["experiment=diff2lip"]).evaluate
        commands: list[list[str]] = []
        monkeypatch.setattr(training, "_run_process", lambda command: commands.append(command) or 0)
        monkeypatch.setattr(training, "overrides", list)
        assert training.run_stages([], "diff2lip-demo", tmp_path, asked) == 0
        (command,) = commands
        cfg = compose("evaluate", overrides=command[command.index("evaluate") + 1 :])
    assert cfg.frames is None and cfg.clips == 12
