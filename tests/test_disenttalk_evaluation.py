"""DisentTalk's rows: by ``python evaluate.py`` where there is a renderer, and with motion from a sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from talkgen import evaluation
from talkgen.compared_methods import method_of
from talkgen.configuration import RunFolder, build
from talkgen.data.store import Store
from talkgen.face3d.coefficients import ANGLE, EXPRESSION
from talkgen.face3d.model_files import open_morphable_model
from talkgen.inference.contenders import Casting
from talkgen.inference.disenttalk_contenders import (
    SOUNDS,
    TRUTH,
    ClipCoefficients,
    DisentTalkRow,
    RenderedClip,
    exact_motion,
)
from talkgen.metrics.held_out import HeldOutClips

RENDERER = {
    "_target_": "talkgen.models.pirender.pirenderer.PIRenderer",
    "descriptor": 8, "warp_channels": 4, "warp_most_channels": 8, "warp_down": 3, "warp_up": 1,
    "edit_channels": 4, "edit_most_channels": 8, "edit_layers": 2, "edit_blocks": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def method(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method's folder with an untrained renderer alone."""
    folder = tmp_path_factory.mktemp("runs") / "disenttalk-tiny"
    run = RunFolder(folder / "disenttalk_renderer")
    run.checkpoints.mkdir(parents=True)
    window = {"_target_": "talkgen.data.windows.WindowSettings", "size": 32}
    data = {
        "_target_": "talkgen.data.motion_pairs.MotionPairData", "root": str(tiny_store), "window": window,
        "coefficients": str(folder / "nowhere"),
    }  # fmt: skip
    torch.manual_seed(0)
    network = build(OmegaConf.create(RENDERER))
    system = {"_target_": "talkgen.systems.renderer.RendererSystem", "renderer": RENDERER}
    OmegaConf.save(OmegaConf.create({"system": system, "data": data}), run.config)
    weights = {f"renderer.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": weights}, run.last)
    return folder


def test_the_table_of_a_renderer(method: Path, tiny_store: Path, tmp_path: Path) -> None:
    assert method_of(method) == "disenttalk"
    arguments = [
        f"paths.runs={method.parent}", "run=disenttalk-tiny", "device=cpu", f"root={tiny_store}", "frames=4",
        f"out={tmp_path}", "metrics=reconstruction", "clips=1",
    ]  # fmt: skip
    assert evaluation.main(arguments) == 0
    table: dict[str, Any] = json.loads((tmp_path / "table.json").read_text())
    names = [row["name"] for row in table["rows"]]
    assert "renderer, true motion" in names and not any("talking" in name for name in names)
    assert (tmp_path / "sheet.png").is_file()


class Echo:
    """Renders nothing: a frame says which motion it was given."""

    size = 32

    def clip(self, source, start, coefficients, fps=25.0):
        for row in coefficients:
            frame = np.zeros((32, 32, 3), np.uint8)
            frame[0, 0] = (
                source[0, 0, 0],
                round(float(row[EXPRESSION][0]) * 10),
                round(float(row[ANGLE][1]) * 100),
            )
            yield frame


class Motion:
    morphable_model = "demo"

    def hear(self, waveform, frames=None):
        return np.full((frames, 1), np.abs(waveform).max(), np.float32)

    def generate(self, features, start, eye, pose, seed):
        made = np.tile(start, (len(features), 1))
        made[:, EXPRESSION] = features * 10
        made[:, ANGLE] = pose[:, ANGLE]
        return made


class Fitter:
    """The angle counts frames."""

    def __init__(self, sha256: str = "of another model") -> None:
        self.sha256 = sha256

    def __call__(self, landmarks: np.ndarray, crop: Any) -> np.ndarray:
        made = np.zeros((len(landmarks), 257), np.float32)
        made[:, ANGLE] = np.arange(len(landmarks))[:, None] / 100
        return made


coefficients = Fitter()


@pytest.fixture()
def clips(tiny_store: Path) -> HeldOutClips:
    store = Store.open(tiny_store)
    return HeldOutClips(store, [clip for clip in store.clips if clip.split != "train"], 32, 12, 5)


def frames_of(row: Any, clips: HeldOutClips) -> tuple[torch.Tensor, list[Any]]:
    made = list(row.generate(clips, 0))
    assert [len(one.frames) for one in made] == [5, 5, 2]
    return torch.cat([one.frames for one in made]), [one.sound for one in made]


def test_the_first_frame_moves_as_the_clip(clips: HeldOutClips) -> None:
    row = RenderedClip("renderer", Echo(), ClipCoefficients(clips.store, coefficients))  # type: ignore[arg-type]
    frames, sounds = frames_of(row, clips)
    assert frames[:, 0, 0, 2].tolist() == list(range(12))
    assert (frames[:, 0, 0, 0] == clips.frames(0, 0, 5)[0, 0, 0, 0]).all()
    assert sounds == [None] * 3


def test_rows_hear_their_own_sound_or_anothers(clips: HeldOutClips) -> None:
    casting = Casting(clips, sorted({clip.identity for clip in clips.clips}))
    shared = ClipCoefficients(clips.store, coefficients)  # type: ignore[arg-type]
    heard = []
    for sound in ("own", "other"):
        row = DisentTalkRow("talking", Motion(), Echo(), shared, casting, sound)  # type: ignore[arg-type]
        frames, sounds = frames_of(row, clips)
        assert frames[:, 0, 0, 2].tolist() == list(range(12))  # the clip's own pose
        heard.append(int(frames[0, 0, 0, 1]))
        assert [one is None for one in sounds] == [sound == "own"] * 3
    assert heard[0] == round(float(np.abs(clips.waveform(0)).max()) * 100)
    other = casting.sound(0, 0, 12)
    assert other is not None and heard[1] == round(float(other.abs().max()) * 100)


class KnownMotion:
    """A store that knows the motion of nine frames, and which sound is spoken in each."""

    arrays: ClassVar = {TRUTH: np.full((9, 257), 2, np.float32), SOUNDS: np.arange(9, dtype=np.int16)}

    def has(self, clip: Any, name: str) -> bool:
        return name in self.arrays

    def length(self, clip: Any, name: str) -> int:
        return len(self.arrays[name])

    def array(self, clip: Any, name: str, start: int, stop: int) -> np.ndarray:
        return self.arrays[name][start:stop]


def test_exact_motion_is_that_of_the_same_model_alone(clips: HeldOutClips) -> None:
    digest = open_morphable_model("demo").sha256()
    generated = np.ones((12, 257), np.float32)
    clip = clips.clips[0]
    known = ClipCoefficients(KnownMotion(), Fitter(digest))  # type: ignore[arg-type]
    exact = exact_motion(known, clip, generated)
    assert exact is not None and exact.sounds is not None
    assert exact.generated.unique().tolist() == [1] and exact.truth.unique().tolist() == [2]
    assert exact.sounds.tolist() == list(range(9))  # as far as both go
    late = exact_motion(known, clip, generated[:8], first=4)
    assert late is not None and late.sounds is not None
    assert late.sounds.tolist() == [4, 5, 6, 7, 8, 0, 1, 2] and len(late.truth) == 8
    other = ClipCoefficients(KnownMotion(), Fitter())  # type: ignore[arg-type]
    assert exact_motion(other, clip, generated) is None
