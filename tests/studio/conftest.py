"""A studio on a free port of this machine, with a worker that stands in for networks."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from talkgen.audio.waveform import save_waveform
from talkgen.studio.settings import StudioSettings
from talkgen.video.writer import VideoWriter

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

# The words of an order say what the worker does; its videos are copies of the target.
WORKER = """
import json, shutil, sys, time
from pathlib import Path

def tell(**event):
    print(json.dumps(event), flush=True)

for line in sys.stdin:
    asked = json.loads(line)
    order, folder = asked["order"], Path(asked["folder"])
    words = order["text"] or ""
    (folder / ".0.mp4.partial").write_bytes(b"half")
    if words == "die":
        print("out of memory", file=sys.stderr, flush=True)
        sys.exit(3)
    if words == "fail":
        tell(event="failed", reason="there is no face in it")
        tell(event="done")
        continue
    for number in range(len(order["variants"])):
        tell(event="begun", part=number)
        time.sleep(0.1)
        bar = f"generating:  40%|####      | {2 + number}/5 [00:01<00:01,  2.0frame/s]"
        print(bar, file=sys.stderr, flush=True)
        if words.startswith("sleep"):
            time.sleep(float(words.split()[1]))
        if words == "refuse second" and number == 1:
            tell(event="refused", part=number, reason="no such module")
            continue
        shutil.copyfile(order["target"], folder / f"{number}.mp4")
        tell(event="written", part=number, frames=5, without_face=0, video_seconds=0.2, worked_seconds=0.1)
    if order["measure"]:
        tell(event="measuring")
        columns = [{"name": "LSE-C", "heading": "LSE-C \\u2191", "hint": "sync"}]
        rows = [{"name": one["title"], "cells": ["n/a"]} for one in order["variants"]]
        tell(event="scores", scores={"columns": columns, "rows": rows, "notes": ["weights are missing"]})
    tell(event="done")
"""


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with sound, one without, a sound, a picture, and a text that is called a video."""
    folder = tmp_path_factory.mktemp("media")
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    sound = np.random.default_rng(1).uniform(-0.1, 0.1, 16000).astype(np.float32)
    for name, audio in (("speaks.mp4", (sound, 16000)), ("silent.mp4", None)):
        with VideoWriter(folder / name, 25, 64, 48, audio=audio) as writer:
            for _ in range(25):
                writer.write(picture)
    save_waveform(folder / "speech.wav", sound, 16000)
    cv2.imwrite(str(folder / "face.png"), picture)
    (folder / "text.mp4").write_text("This is no video.\n" * 50)
    return folder


@pytest.fixture()
def runs(tmp_path: Path) -> Path:
    """Folders as trained methods leave them; nothing is loaded from them."""
    for stage in (
        "swaptalk-x/swaptalk_vqgan",
        "swaptalk-x/swaptalk_face_swap",
        "swaptalk-x/swaptalk_lip_sync",
        "diff2lip-x/diff2lip_diffusion",
        "disenttalk-x/disenttalk_motion",
    ):
        folder = tmp_path / "runs" / stage
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
        (folder / "config.yaml").write_text("steps: 20\nname: 1 < 2\n")
        (folder / "run.json").write_text(json.dumps({"experiment": folder.name, "finished_batches": 20}))
        (folder / "metrics.csv").write_text("step,train/l1,val/l1\n4,0.5,\n9,0.25,0.75\n")
        (folder / "samples").mkdir()
        (folder / "samples" / "step-0000009-clip #1.png").write_bytes(b"sample")
    return tmp_path / "runs"


@pytest.fixture()
def settings(tmp_path: Path, runs: Path) -> StudioSettings:
    return StudioSettings(
        folder=tmp_path / "studio", runs=runs, prepared=tmp_path / "prepared", port=0, upload_seconds=5,
        upload_bytes=2**20,
    )  # fmt: skip


@pytest.fixture(scope="session")
def fake_worker(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    file = tmp_path_factory.mktemp("worker") / "worker.py"
    file.write_text(WORKER)
    return sys.executable, str(file)


@dataclass
class Browser:
    """A user: keeps the cookie of a session."""

    port: int
    cookie: str = ""
    sent: dict[Path, str] = field(default_factory=dict)

    def ask(
        self, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of an answer; what is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = dict(headers)
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content, found = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        if "set-cookie" in found and not self.cookie:
            self.cookie = found["set-cookie"].split(";")[0]
        return answer.status, content, found

    def json(self, path: str, method: str = "GET", body: Any = None, status: int = 200) -> Any:
        got, content, _ = self.ask(path, method, body)
        assert got == status, content
        return json.loads(content)

    def agree(self) -> Browser:
        self.json("/api/state")
        self.json("/api/consent", "POST")
        return self

    def upload(self, file: Path, name: str | None = None, status: int = 201) -> Any:
        from urllib.parse import quote

        return self.json(f"/api/uploads?name={quote(name or file.name)}", "POST", file.read_bytes(), status)

    def order(self, file: Path, words: str = "hello", **changed: Any) -> Any:
        """A job of the tab Generate."""
        if file not in self.sent:
            self.sent[file] = self.upload(file)["id"]
        asked = {"task": "generate", "target": self.sent[file], "text": words,
                 "variants": [{"name": "diff2lip-x", "options": {}}]} | changed  # fmt: skip
        return self.json("/api/jobs", "POST", asked, 201)

    def wait(self, id_: str, *states: str, seconds: float = 20) -> Any:
        """A job, once it is in one of the states."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.json(f"/api/jobs/{id_}")
            if job["state"] in (states or ("done", "failed", "cancelled")):
                return job
            time.sleep(0.03)
        raise AssertionError(f"still {job['state']}: {job['stage']}")


@dataclass
class Running:
    """A studio that answers."""

    studio: Any
    port: int

    def browser(self) -> Browser:
        return Browser(self.port)


@pytest.fixture()
def start(fake_worker: tuple[str, ...]) -> Iterator[Callable[..., Running]]:
    """Starts studios; they end with the test."""
    from talkgen.studio.server import Studio, make_app

    stops: list[Callable[[], None]] = []

    def begin(settings: StudioSettings, **changed: Any) -> Running:
        studio = Studio(replace(settings, **changed), fake_worker)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(make_app(studio), log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)

        def stop() -> None:
            server.should_exit = True
            thread.join(10)

        stops.append(stop)
        return Running(studio, listening.getsockname()[1])

    yield begin
    for stop in stops:
        stop()


@pytest.fixture()
def running(start: Callable[..., Running], settings: StudioSettings) -> Running:
    return start(settings)
