"""``talkgen provenance check`` and Content Credentials."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from talkgen.cli import main
from talkgen.errors import FileError
from talkgen.provenance import NOT_FOUND, examine
from talkgen.video import content_credentials as credentials
from talkgen.video.writer import VideoWriter

DOCS = Path(__file__).resolve().parents[1] / "docs"


def video(file: Path, **how: bool) -> Path:
    rng = np.random.default_rng(0)
    with VideoWriter(file, 25, 128, 96, **how) as writer:
        for _ in range(6):
            writer.write(rng.integers(60, 200, (96, 128, 3), np.uint8))
    return file


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, plain = video(tmp_path / "made.mp4", synthetic=True), video(tmp_path / "plain.mp4")
    assert main(["provenance", "check", str(made)]) == 0
    said = capsys.readouterr().out
    assert "say that it was generated" in said and "watermark:   found" in said
    assert said.strip().endswith("made.mp4: generated")
    assert main(["provenance", "check", str(made), str(plain)]) == NOT_FOUND
    said = capsys.readouterr().out
    assert "say nothing" in said and "bears no sign" in said
    assert main(["provenance", "check", str(tmp_path / "none.mp4")]) == 1
    assert "none.mp4: no such file" in capsys.readouterr().err


def test_the_watermark_outlives_the_metadata(tmp_path: Path) -> None:
    import av

    made = video(tmp_path / "made.mp4", synthetic=True)
    with av.open(str(made)) as source, av.open(str(tmp_path / "bare.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    found = examine(tmp_path / "bare.mp4")
    assert not found.comment and found.watermark.found and found.synthetic


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of docs/provenance.md make."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    script = re.search(r"```bash\n(openssl.*?)```", (DOCS / "provenance.md").read_text(), re.S)
    assert script is not None
    subprocess.run(["bash", "-ec", script[1]], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_signed_video(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("c2pa")
    monkeypatch.setenv(credentials.CERTIFICATE, str(certificate / "chain.pem"))
    monkeypatch.setenv(credentials.KEY, str(certificate / "sign.key"))
    made = video(tmp_path / "made.mp4", synthetic=True)
    found = examine(made).credentials
    assert found == credentials.Credentials("talkgen", "Example", True, "Valid")
    assert [file.name for file in tmp_path.iterdir()] == ["made.mp4"]
    assert examine(video(tmp_path / "made.mkv", synthetic=True)).credentials is None
    assert examine(video(tmp_path / "plain.mp4")).credentials is None
    broken = bytearray(made.read_bytes())
    broken[-40] ^= 255  # in the pictures: the index comes first
    made.write_bytes(broken)
    changed = examine(made).credentials
    assert changed is not None and changed.state == "Invalid"


def test_signing_that_cannot_work(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("c2pa")
    monkeypatch.setenv(credentials.CERTIFICATE, str(certificate / "chain.pem"))
    with pytest.raises(FileError, match="set both"):
        video(tmp_path / "a.mp4", synthetic=True)
    monkeypatch.setenv(credentials.KEY, str(tmp_path / "no.key"))
    with pytest.raises(FileError, match=r"no.key: no such file"):
        video(tmp_path / "a.mp4", synthetic=True)
    (tmp_path / "bad.key").write_text("no key")
    monkeypatch.setenv(credentials.KEY, str(tmp_path / "bad.key"))
    with pytest.raises(FileError, match="cannot sign with it"):
        video(tmp_path / "a.mp4", synthetic=True)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.key"]
