"""The work itself, with tiny untrained networks: videos, their signs, and numbers under them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from talkgen.audio.waveform import save_waveform
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.inference import swaptalk
from talkgen.provenance import examine
from talkgen.studio.worker import OpenMethods, serve, work
from talkgen.video.reader import probe
from talkgen.video.writer import VideoWriter


class Detector:
    def detect(self, frame: np.ndarray) -> list[Face]:
        points = (ARCFACE_TEMPLATE * 0.4 + (20, 10)).astype(np.float32)
        return [Face(np.array([20, 10, 65, 55], np.float32), 0.9, points)]


@pytest.fixture()
def order(tmp_path: Path, tiny_method: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(swaptalk, "make_detector", lambda name: Detector())
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "no weights"))
    ramp = np.linspace(40, 200, 96, dtype=np.uint8)
    picture = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (64, 96, 3)))
    with VideoWriter(tmp_path / "target.mp4", 25, 96, 64) as writer:
        for number in range(8):
            writer.write(np.roll(picture, number, 1))
    cv2.imwrite(str(tmp_path / "source.png"), picture)
    save_waveform(tmp_path / "speech.wav", np.zeros(16000, np.float32))
    (tmp_path / "job").mkdir()
    variant = {
        "title": "one", "method": "swaptalk", "folder": str(tiny_method), "values": {"order": "swap_sync"},
        "source": str(tmp_path / "source.png"),
    }  # fmt: skip
    return {
        "target": str(tmp_path / "target.mp4"), "audio": str(tmp_path / "speech.wav"), "text": None,
        "language": "en", "voice": None, "still": False, "measure": True, "device": "cpu",
        "runs": str(tmp_path), "variants": [variant],
    }  # fmt: skip


def told(
    order: Mapping[str, Any], folder: Path, opened: OpenMethods | None = None
) -> list[Mapping[str, Any]]:
    events: list[Mapping[str, Any]] = []
    work(order, folder, opened or OpenMethods(), events.append)
    return events


def test_a_video_and_its_numbers(order: dict[str, Any], tmp_path: Path) -> None:
    lips_only = order["variants"][0] | {"title": "two", "source": None}
    impossible = order["variants"][0] | {"title": "three", "folder": str(tmp_path / "nowhere")}
    order["variants"] += [lips_only, impossible]
    events = told(order, tmp_path / "job")
    kinds = [event["event"] for event in events]
    assert kinds == ["begun", "written", "begun", "written", "begun", "refused", "measuring", "scores"]
    assert events[1]["frames"] == 25 and events[1]["without_face"] == 0
    assert str(tmp_path) not in events[5]["reason"]
    info = probe(tmp_path / "job" / "0.mp4")
    assert (info.width, info.height, info.frames, info.has_audio) == (96, 64, 25, True)
    assert examine(tmp_path / "job" / "0.mp4").comment
    scores = events[-1]["scores"]
    assert [row["name"] for row in scores["rows"]] == ["unchanged video", "one", "two"]
    cells = {column["name"].split("[")[0]: number for number, column in enumerate(scores["columns"])}
    assert {row["cells"][cells["LSE-C"]] for row in scores["rows"]} == {"n/a"}
    assert any("talkgen weights get" in note for note in scores["notes"])
    assert float(scores["rows"][1]["cells"][cells["CPBD"]]) >= 0
    # Nobody knows what it looks like when they say that, or when it is somebody else.
    assert [row["cells"][cells["PSNR"]] for row in scores["rows"][1:]] == ["–", "–"]


def test_networks_stay_open(order: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order["measure"] = False
    opened, loaded = OpenMethods(), []
    load = swaptalk.load_swaptalk
    monkeypatch.setattr(swaptalk, "load_swaptalk", lambda *given: loaded.append(given) or load(*given))
    for _ in range(2):
        told(order, tmp_path / "job", opened)
    assert len(loaded) == 1
    order["variants"][0]["values"] = {"order": "sync_swap"}
    told(order, tmp_path / "job", opened)
    assert len(loaded) == 2


def test_the_first_frame_alone_with_the_videos_own_sound(order: dict[str, Any], tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, 8000).astype(np.float32)
    with VideoWriter(tmp_path / "speaks.mp4", 25, 96, 64, audio=(sound, 16000)) as writer:
        for number in range(12):
            writer.write(np.full((64, 96, 3), 15 * number, np.uint8))
    changed = {"still": True, "audio": None, "measure": False, "target": str(tmp_path / "speaks.mp4")}
    events = told(order | changed, tmp_path / "job")
    assert [event["event"] for event in events] == ["begun", "written"]
    assert events[1]["video_seconds"] == pytest.approx(0.5, abs=0.05)


def test_what_cannot_be_done_is_told(order: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "target.mp4").write_bytes(b"no video")
    events: list[Mapping[str, Any]] = []
    line = json.dumps({"order": order, "folder": str(tmp_path / "job")}) + "\n"
    serve(io.StringIO(line * 2), events.append)
    assert [event["event"] for event in events] == ["begun", "refused", "done"] * 2
    assert "cannot be opened as video" in events[1]["reason"] and str(tmp_path) not in events[1]["reason"]
    order["target"] = str(tmp_path / "gone.mp4")
    serve(io.StringIO(json.dumps({"order": order, "folder": str(tmp_path / "job")})), events.append)
    assert events[-2] == {"event": "failed", "reason": "no such file; check the path"}


def test_a_value_is_no_syntax(order: dict[str, Any], tmp_path: Path) -> None:
    values = order["variants"][0]["values"]
    values["label"] = "${oc.env:HOME} [a, b] 'c'"
    order["measure"] = False
    assert told(order, tmp_path / "job")[1]["event"] == "written"
    values["nonsense"] = 1
    assert "nonsense" in told(order, tmp_path / "job")[1]["reason"]
