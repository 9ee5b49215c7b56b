"""A server on this machine that speaks as much S3 as a store needs, and fails as networks do.

It serves the files of a folder as the objects of a bucket, whole or in ranges, to anyone: on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

BUCKET = "corpus"
# What happens to a request, and how often; the rest is answered well.
FAULTS = {
    "slow": 0.1,  # 20 ms late
    "error": 0.08,  # 500 InternalError
    "busy": 0.05,  # 503 SlowDown
    "reset": 0.08,  # the connection is reset after half of the body
    "truncated": 0.08,  # the connection is closed after half of the body
    "short": 0.05,  # half of the body, and a Content-Length that says so
    "flipped": 0.05,  # one bit of the body is another one
}
LATENCY_SECONDS = 0.02
_IN_A_ROW = 3  # faults that one request meets at most, one after the other
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
_CODES = {"error": (500, "InternalError"), "busy": (503, "SlowDown"), "absent": (404, "NoSuchKey")}


class FaultyS3(ThreadingHTTPServer):
    """The server.

    Args:
        folder: what it serves.
        faults: share of the requests that each kind of fault befalls.
        seed: of the choice.

    Attributes:
        count: requests by what happened to them; "good" for those that were answered well.
        requests: how often each object and range was asked for.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, faults: Mapping[str, float] = FAULTS, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults = dict(faults)
        self.count: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self._random = random.Random(seed)
        self._row: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def choose(self, request: tuple[str, str], body: bool) -> str:
        """What happens to a request; without a body nothing can happen to that."""
        with self._lock:
            kind = "good"
            if self._row[request] < _IN_A_ROW or self.faults.get("error") == 1:
                kinds, shares = [*self.faults, "good"], [*self.faults.values()]
                kind = self._random.choices(kinds, [*shares, max(0.0, 1 - sum(shares))])[0]
            if not body and kind in ("reset", "truncated", "short", "flipped"):
                kind = "good"
            self._row[request] = 0 if kind in ("good", "slow") else self._row[request] + 1
            self.requests[request] += 1
            self.count[kind] += 1
            return kind

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        kind = self.server.choose((key, self.headers.get("Range", "")), body)
        file = self.server.folder / key
        if kind not in _CODES and (".." in key.split("/") or not file.is_file()):
            kind = "absent"
        if kind in _CODES:
            status, code = _CODES[kind]
            self._send(status, _ERROR.format(code=code).encode() if body else b"")
            return
        if kind == "slow":
            time.sleep(LATENCY_SECONDS)
        content, status, place = file.read_bytes(), 200, ""
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(len(content), int(last) + 1 if last else len(content))
            status, place = 206, f"bytes {start}-{stop - 1}/{len(content)}"
            content = content[start:stop]
        if not body:
            self._send(status, b"", len(content))
            return
        half = content[: len(content) // 2]
        if kind == "short":
            content = half
        if kind == "flipped" and content:
            content = content[: len(half)] + bytes([content[len(half)] ^ 16]) + content[len(half) + 1 :]
        if kind in ("reset", "truncated"):
            self._send(status, half, len(content), place)
            self.wfile.flush()
            if kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self._send(status, content, place=place)

    def _send(self, status: int, content: bytes, length: int | None = None, place: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Content-Type", "application/xml" if status >= 400 else "application/octet-stream")
        self.send_header("ETag", '"0"')
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def faulty_s3(folder: Path, faults: Mapping[str, float] = FAULTS, seed: int = 0) -> Iterator[FaultyS3]:
    """Serve a folder as long as the block runs."""
    server = FaultyS3(folder, faults, seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def environment(server: FaultyS3) -> dict[str, str]:
    """What makes S3's client talk to the server and to nobody else."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
