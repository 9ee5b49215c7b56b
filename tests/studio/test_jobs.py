"""The queue, with a worker that stands in for networks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from talkgen.studio.settings import StudioSettings


def files(settings: StudioSettings, job: Any) -> set[str]:
    folder = settings.jobs / job["id"]
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def progressing(user: Any, job: Any) -> Any:
    """The job, once a bar of its has been read."""
    end = time.monotonic() + 20
    while not job["total"] and job["state"] != "done" and time.monotonic() < end:
        time.sleep(0.02)
        job = user.json(f"/api/jobs/{job['id']}")
    return job


def test_a_job(running: Any, media: Path, settings: StudioSettings) -> None:
    user = running.browser().agree()
    asked = user.order(media / "speaks.mp4", measure=True)
    assert asked["state"] in ("waiting", "working")
    job = user.wait(asked["id"])
    assert job["state"] == "done" and job["reason"] == ""
    (part,) = job["parts"]
    assert part["title"] == "Diff2Lip · diff2lip-x" and part["facts"]["frames"] == 5
    assert user.ask(part["video"])[1] == (media / "speaks.mp4").read_bytes()
    assert job["scores"]["rows"] == [{"name": part["title"], "cells": ["n/a"]}]
    assert job["inputs"]["target"]["name"] == "speaks.mp4"
    assert files(settings, job) == {"0.mp4", "job.json"}  # what was half written is gone
    assert [one["id"] for one in user.json("/api/jobs")] == [job["id"]]


def test_two_users_wait_for_each_other(running: Any, media: Path) -> None:
    one, other = running.browser().agree(), running.browser().agree()
    other.sent[media / "speaks.mp4"] = other.upload(media / "speaks.mp4")["id"]
    first = one.order(media / "speaks.mp4", "sleep 1.5")
    one.wait(first["id"], "working")
    second = other.order(media / "speaks.mp4")
    third = one.order(media / "speaks.mp4")
    assert (second["state"], second["place"]) == ("waiting", 1)
    assert (third["state"], third["place"]) == ("waiting", 2)
    ended = [user.wait(job["id"]) for user, job in ((one, first), (other, second), (one, third))]
    assert [job["state"] for job in ended] == ["done"] * 3
    assert len(one.json("/api/jobs")) == 2 and len(other.json("/api/jobs")) == 1


def test_progress_is_told(running: Any, media: Path) -> None:
    user = running.browser().agree()
    job = progressing(user, user.order(media / "speaks.mp4", "sleep 60"))
    assert (job["stage"], job["done"], job["total"]) == ("generating", 2, 5)
    assert job["left_seconds"] >= 0
    user.ask(f"/api/jobs/{job['id']}/cancel", "POST")


def test_cancel_while_it_works(running: Any, media: Path, settings: StudioSettings) -> None:
    user = running.browser().agree()
    job = progressing(user, user.order(media / "speaks.mp4", "sleep 60"))
    process = running.studio.jobs._process
    assert user.json(f"/api/jobs/{job['id']}/cancel", "POST")["state"] == "cancelled"
    assert process.poll() is not None  # the work has really ended
    end = time.monotonic() + 5
    while files(settings, job) and time.monotonic() < end:
        time.sleep(0.02)
    assert files(settings, job) == set()
    again = user.order(media / "speaks.mp4")
    assert user.wait(again["id"])["state"] == "done"


def test_cancel_while_it_waits(running: Any, media: Path) -> None:
    user = running.browser().agree()
    first = user.order(media / "speaks.mp4", "sleep 1")
    second = user.order(media / "speaks.mp4", "die")
    assert user.json(f"/api/jobs/{second['id']}/cancel", "POST")["state"] == "cancelled"
    assert user.wait(first["id"])["state"] == "done"
    assert user.json(f"/api/jobs/{second['id']}")["state"] == "cancelled"


def test_a_worker_that_dies(running: Any, media: Path, settings: StudioSettings) -> None:
    user = running.browser().agree()
    job = user.wait(user.order(media / "speaks.mp4", "die")["id"])
    assert job["state"] == "failed" and "ended unexpectedly: out of memory" in job["reason"]
    assert files(settings, job) == {"job.json"}
    assert user.wait(user.order(media / "speaks.mp4")["id"])["state"] == "done"


def test_what_cannot_be_made_says_why(running: Any, media: Path) -> None:
    user = running.browser().agree()
    job = user.wait(user.order(media / "speaks.mp4", "fail")["id"])
    assert (job["state"], job["reason"]) == ("failed", "there is no face in it")


def test_one_of_the_compared_may_fail(running: Any, media: Path) -> None:
    user = running.browser().agree()
    two = [{"name": "diff2lip-x"}, {"name": "swaptalk-x"}]
    job = user.order(media / "speaks.mp4", "refuse second", task="compare", variants=two)
    job = user.wait(job["id"])
    assert job["state"] == "done"
    assert [part["state"] for part in job["parts"]] == ["written", "refused"]
    assert job["parts"][1]["reason"] == "no such module" and "video" not in job["parts"][1]


def test_a_job_that_takes_too_long(start: Callable[..., Any], settings: StudioSettings, media: Path) -> None:
    user = start(settings, job_seconds=0.4).browser().agree()
    job = user.wait(user.order(media / "speaks.mp4", "sleep 60")["id"])
    assert job["state"] == "failed" and "took longer than" in job["reason"]


def test_no_more_than_are_taken(start: Callable[..., Any], settings: StudioSettings, media: Path) -> None:
    running = start(settings, waiting=3, waiting_each=2)
    one, other = running.browser().agree(), running.browser().agree()
    first = one.order(media / "speaks.mp4", "sleep 60")
    one.wait(first["id"], "working")
    second = one.order(media / "speaks.mp4")
    target = one.sent[media / "speaks.mp4"]
    asked = {"task": "generate", "target": target, "text": "a", "variants": [{"name": "diff2lip-x"}]}
    assert "2 of your jobs" in one.json("/api/jobs", "POST", asked, 429)["reason"]
    other.order(media / "speaks.mp4")
    for job in (second, first):
        one.json(f"/api/jobs/{job['id']}/cancel", "POST")


def test_delete(running: Any, media: Path, settings: StudioSettings) -> None:
    user = running.browser().agree()
    job = user.wait(user.order(media / "speaks.mp4")["id"])
    user.json(f"/api/jobs/{job['id']}", "DELETE")
    assert user.ask(f"/api/jobs/{job['id']}")[0] == 404
    assert not (settings.jobs / job["id"]).exists()


def test_results_outlive_a_restart(start: Callable[..., Any], settings: StudioSettings, media: Path) -> None:
    user = start(settings).browser().agree()
    job = user.wait(user.order(media / "speaks.mp4")["id"])
    (settings.jobs / "unfinished").mkdir()
    (settings.uploads / "unfinished").mkdir()
    again = start(settings).browser()
    again.cookie = user.cookie
    (kept,) = again.json("/api/jobs")
    assert kept["id"] == job["id"] and kept["state"] == "done" and kept["parts"] == job["parts"]
    assert again.ask(kept["parts"][0]["video"])[0] == 200
    assert again.ask(kept["inputs"]["target"]["url"])[0] == 200
    assert not (settings.jobs / "unfinished").exists() and not (settings.uploads / "unfinished").exists()


def test_the_folder_stays_within_its_size(
    start: Callable[..., Any], settings: StudioSettings, media: Path
) -> None:
    size = (media / "speaks.mp4").stat().st_size
    running = start(settings, folder_bytes=5 * size)
    user = running.browser().agree()
    jobs = [user.wait(user.order(media / "speaks.mp4")["id"]) for _ in range(7)]
    left = [job["id"] for job in user.json("/api/jobs")]
    assert jobs[-1]["id"] in left and jobs[0]["id"] not in left
    total = sum(file.stat().st_size for file in settings.folder.rglob("*") if file.is_file())
    assert total < 7 * size


def test_all_is_in_the_studios_folder(
    running: Any, media: Path, settings: StudioSettings, tmp_path: Path
) -> None:
    before = {file for file in tmp_path.rglob("*") if settings.folder not in file.parents}
    user = running.browser().agree()
    user.wait(user.order(media / "speaks.mp4")["id"])
    assert {file for file in tmp_path.rglob("*") if settings.folder not in file.parents} == before


def test_nothing_runs_on_after_the_studio(
    start: Callable[..., Any], settings: StudioSettings, media: Path
) -> None:
    running = start(settings)
    user = running.browser().agree()
    user.wait(user.order(media / "speaks.mp4")["id"])
    process = running.studio.jobs._process
    running.studio.jobs.stop()
    assert process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
