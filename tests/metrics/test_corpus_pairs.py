"""Protocols of the papers: every config, on raw folders in the corpora's layouts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from talkgen import evaluation
from talkgen.configuration import config_folder, options
from talkgen.data.clip import RawClip
from talkgen.errors import FileError
from talkgen.metrics.corpus_pairs import CorpusPairs, with_rows, write_jobs
from talkgen.metrics.published import read_published
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import VideoWriter


def write(file: Path, level: int, frames: int = 8) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.2 * np.sin(np.arange(frames * 640) * (0.02 + level / 500)).astype(np.float32)
    with VideoWriter(file, 25, 32, 32, crf=8, audio=(sound, 16000)) as writer:
        for t in range(frames):
            writer.write(np.full((32, 32, 3), level + 4 * t, np.uint8))


@pytest.fixture(scope="module")
def voxceleb2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vox") / "raw"
    for person in range(3):
        for take in range(2):
            write(root / f"test/mp4/id0001{person}/abc/0000{take}.mp4", 20 + 40 * person + 15 * take)
    write(root / "dev/mp4/id00099/xyz/00001.mp4", 9)
    return root


def clip(person: str, take: int) -> RawClip:
    return RawClip(f"{person}/{take}", "x", "test", f"{person}/{take}.mp4", person)


def composed(name: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("evaluate", overrides=[f"protocol={name}"])


@pytest.mark.parametrize("name", options("protocol"))
def test_every_protocol_says_what_it_is(name: str) -> None:
    cfg = composed(name)
    method, corpus, *_ = name.split("_")
    assert cfg.protocol.title.lower().startswith(method) and cfg.protocol.find_clips._target_.endswith(
        f"corpora.{corpus}.find_clips"
    )
    assert cfg.protocol.split == "test" and {cfg.protocol.sound, cfg.protocol.source} <= {"own", "other"}
    assert ("cross" in name) == (cfg.protocol.sound == "other")
    assert [read_published(one).rows for one in cfg.published] and "fid" in cfg.metrics


def test_the_papers_protocols_are_all_there() -> None:
    assert set(options("protocol")) == {
        *(f"swaptalk_hdtf_{way}" for way in ("self", "cross")),
        *(f"diff2lip_{corpus}_{w}" for corpus in ("voxceleb2", "lrw") for w in ("reconstruction", "cross")),
        *(f"disenttalk_{corpus}" for corpus in ("hdtf", "chdtf", "voxceleb2")),
    }


def test_others_are_other_people_and_vary() -> None:
    clips = [clip(person, take) for person in "abc" for take in range(3)]
    pairs = CorpusPairs.of(clips, Path(), sound="other", source="other")
    assert all(one.driving.identity != one.target.identity for one in pairs.performances)
    assert all(
        one.source is not None and one.source.identity != one.target.identity for one in pairs.performances
    )
    driving = [one.driving.id for one in pairs.performances[:3]]
    assert len(set(driving)) == 3
    assert pairs.performances[0].id == f"{driving[0].replace('/', '.')}_a.0"
    assert [one.id for one in CorpusPairs.of(clips, Path()).performances[:2]] == ["a.0", "a.1"]
    assert len(pairs.limited(4).performances) == 4


def test_from_protocol_to_table(voxceleb2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-driven VoxCeleb2 by a published list: jobs, videos under their names, a table."""
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "none"))
    filelist = tmp_path / "list.txt"
    filelist.write_text(
        "id00010/abc/00000 id00011/abc/00001\nid00012/abc/00001 id00010/abc/00000\n"
        "id00011/abc/00000 id00011/abc/00000\n"
    )
    command = ["protocol=diff2lip_voxceleb2_cross", f"truth={voxceleb2}", f"filelist={filelist}"]
    assert evaluation.main([*command, f"jobs={tmp_path / 'made/jobs.csv'}"]) == 0
    jobs = list(csv.DictReader((tmp_path / "made/jobs.csv").open()))
    assert [job["out"] for job in jobs] == [
        "id00010.abc.00000_id00011.abc.00001.mp4",
        "id00012.abc.00001_id00010.abc.00000.mp4",
        "id00011.abc.00000_id00011.abc.00000.mp4",
    ]
    assert jobs[0]["face"].endswith("id00011/abc/00001.mp4")
    assert jobs[0]["audio"].endswith("id00010/abc/00000.mp4") and jobs[0]["source"] == ""
    for number, job in enumerate(jobs):
        write(tmp_path / "made" / job["out"], 60 + 10 * number)
    settings = [f"videos={tmp_path / 'made'}", f"out={tmp_path / 'out'}", "cache=null"]
    assert evaluation.main([*command, *settings, "metrics=reconstruction"]) == 0
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert table["title"] == "Diff2Lip, cross, VoxCeleb2: made on 3 videos"
    (row,) = [row for row in table["rows"] if row["name"] == "made"]
    assert row["n"] == 3 and list(row["cells"]["PSNR[rgb]"]["per_clip"]) == [
        "id00011.abc.00000_id00011.abc.00000"
    ]
    assert table["published"][0]["title"].startswith("Diff2Lip")
    assert "As published: Diff2Lip" in (tmp_path / "out/table.html").read_text()


def test_stretches_are_cut_and_sources_are_pictures(voxceleb2: Path, tmp_path: Path) -> None:
    whole = "test/mp4/id00010/abc/00000.mp4"
    part = RawClip("a", "hdtf", "test", whole, "anna", start_seconds=0.08, end_seconds=0.24)
    other = RawClip("b", "hdtf", "test", "test/mp4/id00011/abc/00000.mp4", "ben")
    pairs = CorpusPairs.of([part, other], voxceleb2, source="other")
    assert write_jobs(tmp_path / "jobs.csv", pairs, 25) == 2
    first, _ = csv.DictReader((tmp_path / "jobs.csv").open())
    assert probe(first["face"]).frames == 4 and probe(first["face"]).has_audio
    cut = np.stack(list(read_frames(first["face"])))
    original = np.stack(list(read_frames(voxceleb2 / whole)))[2:6]
    assert np.abs(cut.astype(int) - original).mean() < 2
    assert Path(first["source"]).suffix == ".png" and first["out"] == "a.mp4"
    file = pairs.files()[0]
    assert (file.identity, file.wanted, file.start_seconds, file.audio) == ("anna", "ben", 0.08, None)
    np.testing.assert_array_equal(file.frames(25).read(0, 4), original)
    write(tmp_path / "made" / "a.mp4", 30, 4)
    assert with_rows(pairs, {"made": tmp_path / "made"}).rows == {"made": [tmp_path / "made" / "a.mp4"]}


def test_lists_that_do_not_fit(voxceleb2: Path, tmp_path: Path) -> None:
    clips = [clip("a", 0)]
    bad = tmp_path / "bad.txt"
    for text, match in (("a/0 a/9\n", "line 1 names a/9"), ("a/0\n", "not AUDIO VIDEO"), ("\n", "is empty")):
        bad.write_text(text)
        with pytest.raises(FileError, match=match):
            CorpusPairs.of(clips, voxceleb2, filelist=bad)
