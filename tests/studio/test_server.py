"""Uploads, sessions and addresses, over HTTP."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from talkgen.studio.server import STATIC
from talkgen.studio.settings import StudioSettings
from talkgen.studio.uploads import shown_name


def kept(settings: StudioSettings) -> list[Path]:
    return sorted(settings.uploads.iterdir())


def test_the_page_asks_nobody_else(running: Any) -> None:
    user = running.browser()
    status, page, headers = user.ask("/")
    assert status == 200 and b"talkgen" in page
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    for name in STATIC:
        status, content, _ = user.ask(f"/static/{name}")
        assert status == 200
        page += content
    assert b"//cdn" not in page and b"https://" not in page


def test_sessions_are_apart(running: Any, media: Path) -> None:
    one, other = running.browser().agree(), running.browser().agree()
    assert one.cookie != other.cookie
    upload = one.upload(media / "face.png")
    assert one.ask(upload["url"])[0] == 200
    assert other.ask(upload["url"])[0] == 404
    job = one.order(media / "speaks.mp4")
    assert one.wait(job["id"])["state"] == "done"
    assert other.ask(f"/api/jobs/{job['id']}")[0] == 404
    assert other.ask(f"/media/jobs/{job['id']}/0.mp4")[0] == 404
    assert other.ask(f"/api/jobs/{job['id']}", "DELETE")[0] == 404
    assert other.json("/api/jobs") == []
    asked = {"task": "generate", "target": upload["id"], "text": "a", "variants": [{"name": "diff2lip-x"}]}
    assert "no longer here" in other.json("/api/jobs", "POST", asked, 400)["reason"]


def test_cookies(running: Any) -> None:
    user = running.browser()
    _, _, headers = user.ask("/api/state")
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    _, _, headers = user.ask("/api/state")
    assert "set-cookie" not in headers
    user.cookie = "talkgen_studio=../../etc"
    _, _, headers = user.ask("/api/state")
    assert "set-cookie" in headers  # that was no session


def test_nothing_is_made_before_consent(running: Any, media: Path) -> None:
    user = running.browser()
    assert user.json("/api/state")["consent"]["given"] is False
    assert "accept" in user.upload(media / "face.png", status=403)["reason"]
    assert user.ask("/api/jobs", "POST", {})[0] == 403
    assert user.agree().json("/api/state")["consent"]["given"] is True


def test_consent_is_asked_once(start: Callable[..., Any], settings: StudioSettings) -> None:
    user = start(settings).browser().agree()
    again = start(settings).browser()
    again.cookie = user.cookie
    assert again.json("/api/state")["consent"]["given"] is True


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.168.1.7", ""])
def test_other_names_of_this_machine_are_refused(running: Any, host: str) -> None:
    assert running.browser().ask("/api/state", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8000"])
def test_own_names_are_taken(running: Any, host: str) -> None:
    assert running.browser().ask("/api/state", Host=host)[0] == 200


def test_other_pages_are_refused(running: Any) -> None:
    user = running.browser()
    user.json("/api/state")
    assert user.ask("/api/consent", "POST", Origin="http://evil.example")[0] == 403
    assert user.ask("/api/consent", "POST", Origin="null")[0] == 403
    assert user.ask("/api/consent", "POST", Origin=f"http://127.0.0.1:{running.port}")[0] == 200


def test_uploads(running: Any, media: Path, settings: StudioSettings) -> None:
    user = running.browser().agree()
    upload = user.upload(media / "speaks.mp4")
    assert (upload["kind"], upload["width"], upload["has_sound"]) == ("video", 64, True)
    assert user.ask(upload["url"])[1] == (media / "speaks.mp4").read_bytes()
    assert user.ask(upload["thumbnail"])[2]["content-type"] == "image/jpeg"
    status, part, headers = user.ask(upload["url"], Range="bytes=10-19")  # as players ask when they seek
    assert (status, len(part)) == (206, 10) and headers["content-range"].startswith("bytes 10-19/")
    (folder,) = kept(settings)
    assert {file.name for file in folder.iterdir()} == {"file.mp4", "thumbnail.jpg", "upload.json"}


@pytest.mark.parametrize("name", ["text.mp4", "song.wav", "../../x.png", "photo.jpg"])
def test_a_text_is_refused_whatever_it_is_called(
    running: Any, media: Path, settings: StudioSettings, name: str
) -> None:
    user = running.browser().agree()
    assert "no picture, video or sound" in user.upload(media / "text.mp4", name, 400)["reason"]
    assert kept(settings) == []


def test_too_large(running: Any, settings: StudioSettings, tmp_path: Path) -> None:
    user = running.browser().agree()
    large = tmp_path / "large.mp4"
    large.write_bytes(b"\0" * (settings.upload_bytes + 1))
    assert "larger than 1 MB" in user.upload(large, status=413)["reason"]
    assert kept(settings) == []


def test_too_large_without_saying_so(running: Any, settings: StudioSettings) -> None:
    user = running.browser().agree()
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    pieces = (b"\0" * 2**16 for _ in range(40))
    try:
        connection.request(
            "POST", "/api/uploads?name=a", pieces, {"Cookie": user.cookie}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the studio hangs up before all of it has come
    connection.close()
    assert kept(settings) == []


def test_an_upload_that_breaks_off(running: Any, settings: StudioSettings, media: Path) -> None:
    user = running.browser().agree()
    with socket.create_connection(("127.0.0.1", running.port)) as stream:
        head = f"POST /api/uploads?name=a HTTP/1.1\r\nHost: localhost\r\nCookie: {user.cookie}\r\n"
        stream.sendall(f"{head}Content-Length: 90000\r\n\r\n".encode() + b"x" * 500)
    assert user.upload(media / "face.png")["kind"] == "picture"
    for _ in range(100):
        if len(kept(settings)) == 1:
            break
        threading.Event().wait(0.05)
    assert len(kept(settings)) == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../outside.mp4", "outside.mp4"),
        ("..\\..\\outside.mp4", "outside.mp4"),
        ("/etc/passwd", "passwd"),
        ("x" * 5000, "x" * 80),
        ("a\u202egpj.mp4\n", "agpj.mp4"),
        ("täglich 说.mp4", "täglich 说.mp4"),
        ("a/", "file"),
    ],
)
def test_names_are_shown_without_folders(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_names_lead_nowhere(running: Any, media: Path, settings: StudioSettings) -> None:
    upload = running.browser().agree().upload(media / "speaks.mp4", "../../../outside.mp4")
    assert upload["name"] == "outside.mp4"
    written = {file.name for file in settings.folder.parent.rglob("*.mp4")}
    assert written == {"file.mp4"}


PATHS = (
    "/static/../server.py",
    "/static/..%2fserver.py",
    "/static/%2e%2e/server.py",
    "/media/uploads/{id}/upload.json",
    "/media/uploads/{id}/..%2f..%2fconsents.json",
    "/media/uploads/{id}/../../consents.json",
    "/media/uploads/../jobs/x",
    "/media/jobs/..%2f..%2f/consents.json",
    "/media/jobs/{job}/job.json",
    "/media/jobs/{job}/..%2f..%2fconsents.json",
    "/media/runs/../samples/config.yaml",
    "/media/runs/swaptalk-x/swaptalk_lip_sync/samples/..%2fconfig.yaml",
    "/media/runs/swaptalk-x/swaptalk_lip_sync/samples/../config.yaml",
    "/media/runs/..%2f..%2f..%2fetc/samples/passwd",
    "/media/corpora/..%2fstudio/0/clip.mp4",
    "/media/corpora/nowhere/0/clip.mp4",
    "/media/corpora/nowhere/-1/clip.mp4",
    "/api/run?name=../../etc",
    "/api/run?name=",
    "/api/corpora/..",
    "/api/jobs/..%2f..",
    "//etc/passwd",
)


def test_paths_lead_nowhere(running: Any, media: Path) -> None:
    user = running.browser().agree()
    job = user.order(media / "speaks.mp4")
    user.wait(job["id"])
    for path in PATHS:
        status, content, _ = user.ask(path.format(id=user.sent[media / "speaks.mp4"], job=job["id"]))
        assert status in (400, 404, 405), (path, status, content[:200])


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"{", b'{"task": "sing"}', b'{"task": ["generate"]}', b"\xff"]
)
def test_requests_that_are_none(running: Any, body: bytes) -> None:
    status, content, _ = running.browser().agree().ask("/api/jobs", "POST", body)
    assert status == 400 and b"reason" in content


def test_a_request_that_is_too_large(running: Any) -> None:
    assert running.browser().agree().ask("/api/jobs", "POST", b" " * 100_000)[0] == 413


def test_methods_that_there_are_none_of(running: Any) -> None:
    user = running.browser()
    assert user.ask("/api/state", "PUT")[0] == 405
    assert user.ask("/api/nothing")[0] == 404


def test_a_hundred_requests_at_once(running: Any, media: Path) -> None:
    """Of several users, among them bad uploads; every one is answered, and the studio still works."""
    users = [running.browser().agree() for _ in range(4)]

    def one(number: int) -> int:
        user = users[number % 4]
        kind = number % 5
        if number % 20 == 0:
            return user.ask("/api/uploads?name=a", "POST", (media / "text.mp4").read_bytes())[0]
        if kind < 2:
            return user.ask("/api/jobs", "POST", {"task": "generate", "target": "nothing"})[0]
        return user.ask(("/api/state", "/", "/api/jobs")[kind - 2])[0]

    with ThreadPoolExecutor(20) as threads:
        statuses = list(threads.map(one, range(100)))
    assert [status for number, status in enumerate(statuses) if number % 5 < 2] == [400] * 40
    assert {status for number, status in enumerate(statuses) if number % 5 >= 2} == {200}
    job = users[0].order(media / "speaks.mp4")
    assert users[0].wait(job["id"])["state"] == "done"


def test_state(running: Any, settings: StudioSettings) -> None:
    state = running.browser().json("/api/state")
    found = {method["name"]: method for method in state["methods"]}
    assert set(found) == {"swaptalk-x", "diff2lip-x", "disenttalk-x"}
    assert found["swaptalk-x"]["swaps"] and not found["diff2lip-x"]["swaps"]
    assert state["methods"][-1]["name"] == "disenttalk-x"  # what lacks a part comes last
    assert state["limits"] == {"megabytes": 1, "seconds": 5, "letters": settings.text_letters, "variants": 4}
    assert state["open"] is False and state["examples"] is False
