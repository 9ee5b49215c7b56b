from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from talkgen import weights
from talkgen.download import Downloader, FileError, Hub, PackageMember, Page, Source, Url
from talkgen.errors import MissingWeights, TalkgenError

CONTENT = b"weights of a small network"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def entry(name: str, sources: tuple[Source, ...], **others: object) -> weights.WeightFile:
    values: dict[str, object] = {
        "file": f"{name}.bin",
        "need": f"need of {name}",
        "licence": "MIT",
        "sha256": SHA256,
        "bytes": len(CONTENT),
    }
    return weights.WeightFile(name=name, sources=sources, **(values | others))  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of three files that lie in a folder of this machine; gives that folder."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "good").write_bytes(CONTENT)
    (origin / "bad").write_bytes(b"something else")
    good, bad, gone = (Url((origin / name).as_uri()) for name in ("good", "bad", "gone"))
    entries = [
        entry("first", (gone, bad, good)),
        entry("second", (bad,), licence="ask first"),
        entry("by_hand", (Page("https://example.org/form"),), sha256=""),
    ]
    monkeypatch.setattr(weights, "REGISTRY", {item.name: item for item in entries})
    monkeypatch.setattr(weights, "SETS", {"both": ("first", "second")})
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "weights"))
    return origin


def test_find_says_where_it_should_lie_and_what_to_do(registry: Path, tmp_path: Path) -> None:
    assert not weights.available("first")
    with pytest.raises(MissingWeights) as caught:
        weights.find("first")
    assert str(tmp_path / "weights" / "first.bin") in str(caught.value)
    assert "talkgen weights get first" in str(caught.value)
    with pytest.raises(MissingWeights, match="weights import by_hand FILE"):
        weights.find("by_hand")
    with pytest.raises(TalkgenError, match="no weights are named third"):
        weights.find("third")


def test_sources_are_tried_in_order_until_one_has_the_right_file(registry: Path) -> None:
    assert weights.main(["get", "first", "--accept-licence", "--quiet"]) == 0
    assert weights.find("first").read_bytes() == CONTENT
    assert sorted(path.name for path in weights.folder().iterdir()) == ["first.bin", "licences.json"]


def test_a_file_that_cannot_be_had_fails_with_its_causes(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights.main(["get", "--set", "both", "--accept-licence", "--quiet"]) == 1
    message = capsys.readouterr().err
    assert "second" in message and SHA256 in message
    assert weights.available("first") and not weights.available("second")
    assert not (weights.folder() / ".downloads").exists()  # nothing was begun that could be gone on with


def test_licences_are_asked_once(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))  # no terminal
    with pytest.raises(TalkgenError, match="--accept-licence"):
        weights.main(["get", "first", "--quiet"])
    assert not weights.available("first")
    weights.main(["get", "first", "--quiet", "--accept-licence"])
    weights.find("first").unlink()
    assert weights.main(["get", "first", "--quiet"]) == 0  # remembered
    with pytest.raises(TalkgenError, match="--accept-licence"):  # another licence
        weights.main(["get", "second", "--quiet"])
    assert list(json.loads((weights.folder() / "licences.json").read_text())) == ["MIT"]


@pytest.mark.parametrize(("answer", "present"), [("y", True), ("n", False), ("", False)])
def test_the_answer_at_the_terminal_counts(
    registry: Path, monkeypatch: pytest.MonkeyPatch, answer: str, present: bool
) -> None:
    terminal = io.StringIO(f"{answer}\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    if present:
        weights.main(["get", "first", "--quiet"])
    else:
        with pytest.raises(TalkgenError, match="nothing was downloaded"):
            weights.main(["get", "first", "--quiet"])
    assert weights.available("first") is present


def test_import_checks_what_it_is_given(registry: Path) -> None:
    with pytest.raises(FileError, match=SHA256):
        weights.main(["import", "first", str(registry / "bad")])
    assert not weights.available("first") and not list(weights.folder().glob("*"))
    assert weights.main(["import", "first", str(registry / "good")]) == 0
    assert weights.main(["import", "by_hand", str(registry / "bad")]) == 0  # no published hash
    assert weights.find("by_hand").read_bytes() == b"something else"
    with pytest.raises(FileError, match="there is no file"):
        weights.main(["import", "first", str(registry)])


def test_verify_finds_a_file_that_changed(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights.main(["import", "first", str(registry / "good")])
    assert weights.main(["verify"]) == 0
    weights.find("first").write_bytes(b"changed")
    assert weights.main(["verify"]) == 1
    assert f"expected {SHA256}" in capsys.readouterr().out


def test_a_model_of_several_files_is_a_folder(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ("config.json", "weights.bin")
    model = entry("model", (Hub("a/model", files),), file="model", members=files, sha256="")
    monkeypatch.setitem(weights.REGISTRY, "model", model)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text("{}")
    with pytest.raises(FileError, match=r"has no weights\.bin"):
        weights.main(["import", "model", str(mine)])
    (mine / "weights.bin").write_bytes(CONTENT)
    weights.main(["import", "model", str(mine)])
    assert (weights.find("model") / "weights.bin").read_bytes() == CONTENT
    (weights.find("model") / "weights.bin").unlink()
    assert not weights.available("model")


def test_by_hand_is_refused_with_the_page(registry: Path) -> None:
    with pytest.raises(TalkgenError, match=r"https://example\.org/form"):
        weights.main(["get", "by_hand", "--accept-licence"])


def test_the_table_marks_what_is_there(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights.main(["import", "first", str(registry / "good")])
    capsys.readouterr()
    assert weights.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines[1:4]] == ["✓", "–", "–"]
    assert "need of second" in lines[2] and "ask first" in lines[2]


def test_the_real_registry_is_whole() -> None:
    files = [weight.file for weight in weights.REGISTRY.values()]
    assert len(set(files)) == len(files)
    assert "licences.json" not in files
    for weight in weights.REGISTRY.values():
        assert weight.need and weight.licence and weight.sources
        assert len(weight.sha256) in {0, 64}
        for source in weight.sources:
            if isinstance(source, PackageMember):
                assert weight.sha256, f"{weight.name}: a package's file has to have a published hash"
            if isinstance(source, Hub) and len(source.files) > 1:
                assert source.files == weight.members
    for names in weights.SETS.values():
        assert all(weights.REGISTRY[name].fetchable for name in names)


def test_the_module_imports_no_heavy_library() -> None:
    code = "import sys, talkgen.weights; print([m for m in ('torch', 'numpy', 'tqdm') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_files_on_this_machine_are_the_published_ones() -> None:
    """Not a download: hashes the files that lie in the weights folder."""
    wrong = {name: result for name, result in weights.verify().items() if "expected" in result}
    assert not wrong


def test_two_gets_do_not_run_at_once(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fcntl = pytest.importorskip("fcntl")
    working = weights.folder() / ".downloads"
    with weights._one_at_a_time(working), (working / "lock").open("w") as other, pytest.raises(OSError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    getting = Downloader(working, progress=False)
    assert weights.get(["first"], getting) == {}
