"""The tabs of runs and corpora, and the examples."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from talkgen.studio.settings import StudioSettings


@pytest.fixture()
def with_corpus(
    start: Callable[..., Any], settings: StudioSettings, tiny_store: Path, media: Path, tmp_path: Path
) -> Any:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / "tiny").symlink_to(tiny_store)
    raw = prepared / "demo_raw"
    (raw / "videos").mkdir(parents=True)
    (raw / "demo.json").write_text("{}")
    lines = []
    for number in range(3):
        clip = {"id": f"c{number}", "split": "test", "identity": f"p{number}", "language": "en",
                "video": f"videos/{number}.mp4"}  # fmt: skip
        (raw / clip["video"]).write_bytes((media / "speaks.mp4").read_bytes())
        lines.append(json.dumps(clip))
    (raw / "clips.jsonl").write_text("\n".join(lines))
    if not (tiny_store / "rejects.csv").is_file():
        with (tiny_store / "rejects.csv").open("w", newline="") as stream:
            rows = [("clip", "file", "stage", "reason"), ("a/b", "a/b.mp4", "face", "no face <b>")]
            csv.writer(stream).writerows(rows)
    return start(replace(settings, prepared=prepared))


def test_runs(running: Any) -> None:
    user = running.browser()
    found = {run["name"]: run for run in user.json("/api/runs")}
    assert found["swaptalk-x/swaptalk_lip_sync"]["state"] == "finished"
    status, page, headers = user.ask("/api/run?name=swaptalk-x/swaptalk_lip_sync")
    text = page.decode()
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "<svg" in text and "talkgen train" in text and "name: 1 &lt; 2" in text
    sample = "/media/runs/swaptalk-x/swaptalk_lip_sync/samples/step-0000009-clip%20%231.png"
    assert sample in text
    assert user.ask(sample)[1] == b"sample"
    assert not (running.studio.settings.runs / "swaptalk-x/swaptalk_lip_sync/report.html").exists()


def test_no_runs_and_no_corpora(start: Callable[..., Any], settings: StudioSettings, tmp_path: Path) -> None:
    user = start(settings, runs=tmp_path / "none", prepared=tmp_path / "none").browser().agree()
    assert user.json("/api/runs") == [] and user.json("/api/corpora") == []
    assert user.json("/api/state")["methods"] == []
    assert "talkgen prepare corpus=demo" in user.json("/api/examples/generate", "POST", status=400)["reason"]


def test_corpora(with_corpus: Any) -> None:
    user = with_corpus.browser()
    (facts,) = user.json("/api/corpora")
    assert (facts["name"], facts["clips"], facts["people"]) == ("tiny", 6, 6)
    assert facts["splits"] == {"train": 4, "val": 1, "test": 1}
    assert facts["rejects"][0]["reason"] == "no face <b>"
    page = user.json("/api/corpora/tiny?split=train&words=PERSON2")
    (clip,) = page["clips"]
    assert clip["id"] == "person2/clip" and page["total"] == 1
    status, picture, _ = user.ask(f"{clip['url']}/strip.jpg")
    shown = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert status == 200 and shown.shape[1] > 4 * 128
    assert user.ask(f"{clip['url']}/source.jpg")[0] == 404  # its raw video is not there
    assert user.json("/api/corpora/tiny?first=4")["clips"][0]["id"] == "person4/clip"


def test_a_clip_as_video(with_corpus: Any) -> None:
    user = with_corpus.browser()
    plain = user.ask("/media/corpora/tiny/0/clip.mp4")[1]
    marked = user.ask("/media/corpora/tiny/0/landmarks.mp4")[1]
    assert plain != marked
    files = list(with_corpus.studio.settings.cache.rglob("*.mp4"))
    assert len(files) == 2
    with av.open(str(files[0])) as container:
        assert container.streams.video[0].frames == 40 and len(container.streams.audio) == 1
    assert user.ask("/media/corpora/tiny/0/clip.mp4")[1] == plain
    assert user.ask("/media/corpora/tiny/6/clip.mp4")[0] == 404


@pytest.mark.parametrize("task", ["generate", "compare", "regions", "swap"])
def test_an_example_can_be_made_at_once(with_corpus: Any, task: str) -> None:
    one = with_corpus.browser().agree()
    example = one.json(f"/api/examples/{task}", "POST")
    assert with_corpus.browser().agree().json(f"/api/examples/{task}", "POST") == example  # taken in once
    name = {"regions": "disenttalk-x"}.get(task, "swaptalk-x")
    files = {role: upload["id"] for role, upload in example["files"].items()}
    order = {"task": task, "variants": [{"name": name}], **files}
    job = one.json("/api/jobs", "POST", order | ({"text": example["text"]} if example["text"] else {}), 201)
    assert one.wait(job["id"])["state"] == "done"
