"""A studio that many ask at once, slowly, or for what is not theirs: it answers all, and shows nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tally import Tally

ANSWER_SECONDS = 60.0  # within which every one of a crowd must have its answer
STATE_SECONDS = 3.0  # within which others must have theirs while slow uploads come in
OUTSIDE = (
    "/static/..%2fserver.py",
    "/static/../../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/settings.py",
    "/media/uploads/..%2f..%2f..%2fsecret/secret.txt",
    "/media/jobs/..%2f..%2f/consents.json",
    "/media/runs/..%2f..%2fsecret/samples/secret.txt",
    "/media/runs/../../secret/samples/secret.txt",
    "/media/corpora/..%2fsecret/0/clip.mp4",
    "/api/run?name=../secret",
    "/api/corpora/..%2fsecret",
    "//etc/passwd",
    "/..%5c..%5csecret%5csecret.txt",
)
SECRET = b"the secret words"


@contextmanager
def studio(room: Path) -> Iterator[int]:
    """The command as a user starts it, in a folder beside a secret; gives its port."""
    (room / "secret" / "samples").mkdir(parents=True)
    for place in (room / "secret", room / "secret" / "samples"):
        (place / "secret.txt").write_bytes(SECRET)
    for name in ("runs", "prepared"):
        (room / name).mkdir()
    log = room / "studio.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "talkgen.cli", "studio", "--port", "0", "--folder", "studio",
             "--runs", "runs", "--prepared", "prepared", "--max-megabytes", "1"],
            cwd=room, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"http://[\d.]+:(\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the studio does not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(30)


async def ask(port: int, request: bytes, gate: asyncio.Event | None = None) -> tuple[int, bytes]:
    """Status and all of the answer to a request, which is sent when the gate opens; 0: there was none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if gate is not None:
            await gate.wait()
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
        writer.close()
    except OSError:
        return 0, b""
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return (int(found[1]) if found else 0), answer


def request(
    path: str, method: str = "GET", body: bytes = b"", length: int | None = None, **headers: str
) -> bytes:
    """The bytes of a request, after which the connection ends."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in ({"Host": "localhost"} | headers).items()]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def kinds(cookie: str) -> list[tuple[bytes, bool]]:
    """Requests, and whether they are to be served; the others are to be refused."""
    session = {"Cookie": cookie}
    return [
        (request("/"), True),
        (request("/api/state", **session), True),
        (request("/api/jobs", **session), True),
        *((request(path, **session), False) for path in OUTSIDE),
        (request("/api/jobs", "POST", b'{"task": "generate", "target": "../../secret"}', **session), False),
        (request("/api/jobs", "POST", b"\xff{" * 1000, **session), False),
        (request("/api/uploads?name=../../a.mp4", "POST", b"no video\n" * 100, **session), False),
        (request("/api/uploads?name=a", "POST", length=10**11, **session), False),
        (request("/api/state", Host="elsewhere.example"), False),
        (request("/api/jobs", "POST", b"{}", Origin="http://elsewhere.example", **session), False),
        (request("/api/nothing", "DELETE", **session), False),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n", False),
    ]


async def agree(port: int) -> str:
    """The cookie of a user who has given consent."""
    _, answer = await ask(port, request("/api/state"))
    found = re.search(rb"(?i)set-cookie: ([^;\r\n]+)", answer)
    if found is None:
        raise RuntimeError(f"the studio begins no session: {answer[:300]!r}")
    cookie = found[1].decode()
    await ask(port, request("/api/consent", "POST", b"{}", Cookie=cookie))
    return cookie


async def crowd(port: int, count: int) -> Tally:
    """So many requests at once, good and bad ones mixed."""
    tally = Tally(f"studio: {count} requests at once, some of them attacks")
    gate = asyncio.Event()
    chosen = kinds(await agree(port))
    asked = [chosen[number % len(chosen)] for number in range(count)]
    tasks = [asyncio.create_task(ask(port, sent, gate)) for sent, _ in asked]
    await asyncio.sleep(1)  # all are connected, or wait to be
    gate.set()
    begun = time.monotonic()
    done, late = await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
    for task in late:
        task.cancel()
    for (sent, served), task in zip(asked, tasks, strict=True):
        line = sent.split(b"\r\n")[0][:80]
        if task not in done:
            tally.fail(f"{line!r}: no answer within {ANSWER_SECONDS:.0f} s")
            continue
        status, answer = task.result()
        if SECRET in answer or b"root:" in answer:
            tally.fail(f"{line!r}: shows what it must not")
        elif served and status == 200:
            tally.survive()
        elif not served and 400 <= status < 500:
            tally.refuse()
        else:
            tally.fail(f"{line!r}: status {status}")
    tally.note = f"the last answer after {time.monotonic() - begun:.1f} s"
    return tally


async def slow_uploads(port: int, count: int, seconds: float) -> Tally:
    """Uploads that come in byte by byte and break off; others are served meanwhile."""
    tally = Tally(f"studio: {count} uploads byte by byte, which break off")
    cookie = await agree(port)

    async def trickle() -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("/api/uploads?name=slow.mp4", "POST", length=90_000, Cookie=cookie))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.2)
            writer.transport.abort()

    uploads = [asyncio.create_task(trickle()) for _ in range(count)]
    slowest = 0.0
    while not all(task.done() for task in uploads):
        begun = time.monotonic()
        status, _ = await ask(port, request("/api/state", Cookie=cookie))
        slowest = max(slowest, time.monotonic() - begun)
        if status != 200 or slowest > STATE_SECONDS:
            tally.fail(f"another user waits {slowest:.1f} s for status {status}")
            break
        await asyncio.sleep(0.1)
    await asyncio.gather(*uploads)
    tally.refuse(count)
    tally.note = f"others waited {slowest:.2f} s at most"
    return tally


def attacked(room: Path, count: int = 1000, uploads: int = 50, seconds: float = 5.0) -> list[Tally]:
    """A crowd, then slow uploads, then a look whether it still works and what it left behind."""
    room.mkdir(parents=True)
    after = Tally("studio: afterwards")
    with studio(room) as port:
        tallies = [asyncio.run(crowd(port, count)), asyncio.run(slow_uploads(port, uploads, seconds))]
        status, answer = asyncio.run(ask(port, request("/api/state")))
        state = answer.partition(b"\r\n\r\n")[2]
        if status == 200 and "methods" in json.loads(state):
            after.survive()
        else:
            after.fail(f"status {status}: {answer[:200]!r}")
        time.sleep(1)
        left = [str(file.relative_to(room)) for file in (room / "studio").rglob("*upload*") if file.is_file()]
        after.fail(f"left over: {left[:3]}") if left else after.survive()
    names = {file.name for file in room.iterdir()}
    strange = names - {"secret", "runs", "prepared", "studio", "studio.log"}
    after.fail(f"made outside its folder: {sorted(strange)}") if strange else after.survive()
    if "Traceback" in (said := (room / "studio.log").read_text()):
        after.fail(f"a trace of its insides: {said[-300:]}")
    return [*tallies, after]
