"""A queue of jobs: one is worked on at a time, in a process of its own that a job may take down with it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError
from talkgen.studio.job_request import JobOrder
from talkgen.studio.settings import StudioSettings

ENDED = ("done", "failed", "cancelled")
WORKER = (sys.executable, "-m", "talkgen.studio.worker")
_BAR = re.compile(r"([\w ',-]+):\s+\d+%\|[^|]*\|\s*(\d+)/(\d+)")
_FILES = re.compile(r"\d+\.(mp4|png)")
_END_SECONDS = 5.0  # that a worker has to go when the studio ends


class Busy(TalkgenError):
    """There are more jobs than are taken."""


@dataclass
class Part:
    """One video of a job.

    Attributes:
        title: above it.
        state: ``waiting``, ``working``, ``written``, ``refused``.
        facts: what is known of what was written.
        reason: why it was refused.
    """

    title: str
    state: str = "waiting"
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass
class Job:
    """What a user asked for, and how far it is.

    Attributes:
        id: a random name, which nobody guesses.
        owner: whose it is.
        order: what is made.
        parts: the videos.
        uploads: ids of the files that it uses.
        state: ``waiting``, ``working``, or one of ``ENDED``.
        stage: what is being done, for people.
        frames: how many of the stage's frames are done, and how many there are.
        stage_begun: when the stage began, seconds since 1970.
        reason: why it failed.
        scores: see ``scores.score_results``.
        created, begun, ended: seconds since 1970; 0: not yet.
    """

    id: str
    owner: str
    order: dict[str, Any]
    parts: list[Part]
    uploads: list[str]
    state: str = "waiting"
    stage: str = ""
    frames: tuple[int, int] = (0, 0)
    stage_begun: float = 0.0
    reason: str = ""
    scores: dict[str, Any] | None = None
    created: float = 0.0
    begun: float = 0.0
    ended: float = 0.0

    def shown(self, place: int) -> dict[str, Any]:
        """What the page is told.

        Args:
            place: how many jobs are before it.
        """
        done, total = self.frames
        passed = time.time() - self.stage_begun
        parts: list[dict[str, Any]] = []
        for number, part in enumerate(self.parts):
            base = f"/media/jobs/{self.id}/{number}"
            written = part.state == "written"
            urls = {"video": f"{base}.mp4", "strip": f"{base}.png"} if written else {}
            parts.append({**asdict(part), **urls})
        return {
            "id": self.id,
            "task": self.order["task"],
            "state": self.state,
            "stage": self.stage,
            "place": place,
            "done": done,
            "total": total,
            "left_seconds": passed * (total - done) / done if done and self.state == "working" else None,
            "reason": self.reason,
            "parts": parts,
            "scores": self.scores,
            "inputs": self.order["shown"],
            "text": self.order["text"],
            "created": self.created,
            "seconds": (self.ended or time.time()) - self.begun if self.begun else 0.0,
        }


class Jobs:
    """The queue. ``start`` it before, ``stop`` it after use.

    Args:
        settings: limits and folder.
        worker: command of the working process.
    """

    def __init__(self, settings: StudioSettings, worker: tuple[str, ...] = WORKER) -> None:
        self.settings = settings
        self.worker = worker
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=40)
        self._working: Job | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="studio jobs")
        settings.jobs.mkdir(parents=True, exist_ok=True)
        for folder in settings.jobs.iterdir():
            try:
                facts = json.loads((folder / "job.json").read_text())
                parts = [Part(**part) for part in facts.pop("parts")]
                job = Job(**{**facts, "parts": parts, "frames": tuple(facts["frames"])})
                self._jobs[job.id] = job
            except (OSError, ValueError, TypeError, KeyError):  # what was not finished when the studio ended
                shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> None:
        """Begin to work on jobs."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker; jobs that are not done are lost."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._end_worker()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    # What users do ------------------------------------------------------------------------------------------

    def submit(self, order: JobOrder, owner: str, uploads: list[str]) -> Job:
        """Put a job at the end of the queue.

        Raises:
            Busy: too many wait.
        """
        with self._changed:
            unfinished = [job for job in self._jobs.values() if job.state not in ENDED]
            if len(self._waiting) >= self.settings.waiting:
                raise Busy(f"{len(self._waiting)} jobs are waiting already; try again later")
            if sum(job.owner == owner for job in unfinished) >= self.settings.waiting_each:
                raise Busy(
                    f"{self.settings.waiting_each} of your jobs are waiting already; wait for one of them"
                )
            job = Job(
                id=secrets.token_hex(16),
                owner=owner,
                order=order.as_json(),
                parts=[Part(variant.title) for variant in order.variants],
                uploads=uploads,
                created=time.time(),
            )
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def get(self, id_: str, owner: str) -> Job | None:
        """A job of a user."""
        job = self._jobs.get(id_)
        return job if job is not None and job.owner == owner else None

    def of(self, owner: str) -> list[Job]:
        """The jobs of a user, newest first."""
        return sorted(
            (job for job in list(self._jobs.values()) if job.owner == owner), key=lambda job: -job.created
        )

    def place(self, job: Job) -> int:
        """How many jobs are before a waiting one; 0 where it does not wait."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return list(self._waiting).index(job) + (self._working is not None)

    def cancel(self, job: Job) -> None:
        """End a job, whether it waits or is worked on; what it has written goes."""
        with self._changed:
            if job.state in ENDED:
                return
            was_working = job is self._working
            if job in self._waiting:
                self._waiting.remove(job)
            job.state, job.ended = "cancelled", time.time()
            if was_working:
                self._end_worker()
                return  # whoever waits for the worker cleans up
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def forget(self, job: Job) -> None:
        """Delete a job and its files."""
        self.cancel(job)
        self._jobs.pop(job.id, None)
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def folder(self, job: Job) -> Path:
        """Where it writes."""
        return self.settings.jobs / job.id

    def media(self, id_: str, name: str, owner: str) -> Path | None:
        """A file of a job that its user may see."""
        job = self.get(id_, owner)
        if job is None or not _FILES.fullmatch(name):
            return None
        file = self.folder(job) / name
        return file if file.is_file() else None

    def used_uploads(self) -> set[str]:
        """Ids of the files that jobs which are not done will need."""
        return {id_ for job in list(self._jobs.values()) if job.state not in ENDED for id_ in job.uploads}

    def ended_oldest_first(self) -> list[Job]:
        """Jobs that may be deleted."""
        ended = [job for job in list(self._jobs.values()) if job.state in ENDED]
        return sorted(ended, key=lambda job: job.created)

    # Work ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                job = self._waiting.popleft()
                self._working = job
                job.state, job.begun = "working", time.time()
                self._stage(job, "opening networks")
            try:
                self._work(job)
            except OSError as error:
                self._end(job, "failed", f"the work could not begin: {error.strerror or error}")
            finally:
                with self._changed:
                    self._working = None
                if job.state == "cancelled" or job.id not in self._jobs:
                    shutil.rmtree(self.folder(job), ignore_errors=True)

    def _work(self, job: Job) -> None:
        folder = self.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        with self._changed:
            if job.state in ENDED:  # cancelled before there was a process to be ended
                return
            process = self._open_worker()
            self._said.clear()
        watch = threading.Timer(self.settings.job_seconds, self._too_long, [job])
        watch.daemon = True
        watch.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps({"order": job.order, "folder": str(folder.absolute())}) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended; reading says so
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "done":
                    break
                self._note(job, event)
            else:
                self._end_worker()
                self._end(job, "failed", self._why_ended())
                return
        finally:
            watch.cancel()
        self._finish(job)

    def _note(self, job: Job, event: dict[str, Any]) -> None:
        """What the worker says."""
        kind = event["event"]
        part = job.parts[event["part"]] if "part" in event else None
        if kind == "begun" and part is not None:
            part.state = "working"
            many = f"video {event['part'] + 1} of {len(job.parts)}: " if len(job.parts) > 1 else ""
            self._stage(job, f"{many}opening networks")
        elif kind == "written" and part is not None:
            part.facts = {key: value for key, value in event.items() if key not in ("event", "part")}
            part.state = "written"
        elif kind == "refused" and part is not None:
            part.state, part.reason = "refused", event["reason"]
        elif kind == "measuring":
            self._stage(job, "measuring")
        elif kind == "scores":
            job.scores = event["scores"]
        elif kind == "failed":
            job.reason = event["reason"]

    def _stage(self, job: Job, words: str) -> None:
        job.stage, job.frames, job.stage_begun = words, (0, 0), time.time()

    def _finish(self, job: Job) -> None:
        written = [part for part in job.parts if part.state == "written"]
        reasons = [job.reason, *(part.reason for part in job.parts)]
        reason = next((words for words in reasons if words), "")
        self._end(
            job,
            "done" if written and not job.reason else "failed",
            "" if written and not job.reason else reason,
        )

    def _end(self, job: Job, state: str, reason: str) -> None:
        with self._changed:
            if job.state in ENDED:  # cancelled meanwhile
                return
            job.state, job.reason, job.ended, job.stage = state, reason, time.time(), ""
        if state == "failed":
            for part in job.parts:
                part.state = "refused" if part.state != "written" else part.state
        folder = self.folder(job)
        for file in folder.iterdir() if folder.is_dir() else []:
            if not _FILES.fullmatch(file.name):  # pictures of tables, what was half written
                shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink()
        if folder.is_dir():
            write_atomically(folder / "job.json", json.dumps(asdict(job)).encode())

    def _too_long(self, job: Job) -> None:
        with self._changed:
            if job is self._working:
                job.reason = f"it took longer than {self.settings.job_seconds / 60:.0f} minutes and was ended"
                self._end_worker()

    # The process --------------------------------------------------------------------------------------------

    def _open_worker(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            temporary = self.settings.temporary.absolute()
            shutil.rmtree(temporary, ignore_errors=True)  # what a worker that was ended left
            temporary.mkdir(parents=True)
            self._process = subprocess.Popen(
                self.worker,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for the studio, which ends the worker in order
            )
            threading.Thread(target=self._listen, args=[self._process], daemon=True).start()
        return self._process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Read bars, and keep the last lines for the case that the process dies."""
        assert process.stderr is not None
        for line in process.stderr:  # universal newlines: each state of a bar is a line
            found = _BAR.search(line)
            job = self._working
            if found is None:
                self._said.append(line.rstrip())
            elif job is not None and job.state == "working":
                name, done, total = found[1].strip(), int(found[2]), int(found[3])
                before = job.stage.rpartition(": ")[0]
                stage = f"{before}: {name}" if before else name
                if stage != job.stage:
                    self._stage(job, stage)
                job.frames = (done, total)

    def _why_ended(self) -> str:
        words = [line for line in self._said if line.strip()]
        last = f": {words[-1][:300]}" if words else ""
        return self._working_reason() or f"the working process ended unexpectedly{last}"

    def _working_reason(self) -> str:
        return self._working.reason if self._working is not None else ""

    def _end_worker(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
