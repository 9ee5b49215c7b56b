"""The package of docs/plugin_methods.md, installed from a temporary folder, trains and generates."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from talkgen.audio.waveform import save_waveform
from talkgen.cli import main
from talkgen.configuration import options
from talkgen.errors import TalkgenError
from talkgen.faces import detection
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.generation_method import GenerationMethod, methods
from talkgen.plugins import config_folders
from talkgen.video.reader import probe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plugin_methods.md"
FILES = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)```", PAGE.read_text(), re.S | re.M))


class Detector:
    def detect(self, frame: np.ndarray) -> list[Face]:
        return [
            Face(
                np.array([20, 10, 65, 55], np.float32), 0.9, (ARCFACE_TEMPLATE * 0.4 + (20, 10)).astype("f4")
            )
        ]


def install(folder: Path, entry_points: dict[str, dict[str, str]]) -> None:
    """What pip leaves of a package that needs no building."""
    information = folder / "tinylips-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tinylips\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items())
        for group, names in entry_points.items()
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture()
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for name in ("tinylips/__init__.py", "tinylips/configs/__init__.py"):
        (folder / name).touch()
    install(folder, tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"])
    monkeypatch.syspath_prepend(str(folder))
    yield folder


def test_the_page_holds_a_whole_package() -> None:
    configs = "tinylips/configs/experiment/tinylips.yaml"
    assert set(FILES) == {"pyproject.toml", configs, "tinylips/system.py", "tinylips/method.py"}
    code = [
        line
        for name, text in FILES.items()
        if name.endswith(".py")
        for line in text.splitlines()
        if line.strip()
    ]
    assert len(code) < 80


def test_it_trains_and_generates(
    package: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert "tinylips" in options("experiment") and "swaptalk" in options("experiment")
    monkeypatch.setattr(detection, "make_detector", lambda name: Detector())
    runs = f"paths.runs={tmp_path / 'runs'}"
    own = [f"data.root={tiny_store}", "data.workers=0", "logger=csv", "trainer.log_every_n_steps=1"]
    short = ["steps=2", "validate_every=2", "checkpoint_every=2"]
    assert main(["train", "experiment=tinylips", "data=folder", "size=tiny", runs, *own, *short]) == 0
    assert main(["runs", str(tmp_path / "runs")]) == 0
    assert re.search(r"tinylips-folder +tinylips +finished +2/2 +val/l1", capsys.readouterr().out)
    cv2.imwrite(str(tmp_path / "face.png"), np.full((64, 96, 3), 120, np.uint8))
    save_waveform(tmp_path / "speech.wav", np.zeros(4800, np.float32))
    given = [
        f"face={tmp_path / 'face.png'}",
        f"audio={tmp_path / 'speech.wav'}",
        f"out={tmp_path / 'out.mp4'}",
    ]
    assert main(["generate", "method=tinylips", runs, *given]) == 0
    assert (probe(tmp_path / "out.mp4").frames, probe(tmp_path / "out.mp4").width) == (7, 96)
    assert main(["generate", "method=tinylip", runs, *given]) == 1
    assert "tinylips" in capsys.readouterr().err
    assert main(["train", "experiment=tinylip"]) == 1
    assert "tinylips" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("group", "value", "said"),
    [
        ("talkgen.methods", "tinylips.gone:METHOD", "cannot be imported"),
        ("talkgen.methods", "json:loads", r"json:loads is no talkgen.generation_method.GenerationMethod"),
        ("talkgen.configs", "tinylips.gone", "there is no package tinylips.gone"),
    ],
)
def test_packages_that_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, value: str, said: str
) -> None:
    install(tmp_path, {group: {"tinylips": value}})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TalkgenError, match=said):
        methods() if group == "talkgen.methods" else config_folders()


def test_without_other_packages() -> None:
    assert [*methods()][:3] == ["swaptalk", "diff2lip", "disenttalk"]
    assert all(isinstance(method, GenerationMethod) for method in methods().values())
