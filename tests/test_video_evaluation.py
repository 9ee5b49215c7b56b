"""Folders of files against ground truth, through the real entry point."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from talkgen import evaluation
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.crop import CropSettings
from talkgen.metrics.video_clips import FrameStream, VideoClips, VideoFile
from talkgen.metrics.video_pairs import PairedVideos, pair_by_list, pair_by_name
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter

FRAMES, SIZE = 12, 32


def write(file: Path, level: int, frames: int = FRAMES, size: int = SIZE, fps: float = 25) -> None:
    """A bright bar that wanders over a grey of its own, with a tone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.3 * np.sin(np.arange(round(frames / fps * 16000)) * (0.05 + level / 1000)).astype(np.float32)
    with VideoWriter(file, fps, size, size, crf=5, audio=(sound, 16000)) as writer:
        for t in range(frames):
            picture = np.full((size, size, 3), level, np.uint8)
            picture[:, 2 * t : 2 * t + 6] = 200
            writer.write(picture)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("anna/one", "anna/two", "ben/one")):
        write(root / "truth" / f"{name}.mp4", 40 + 20 * number)
        write(root / "near" / f"{name}.mp4", 44 + 20 * number)
        if name != "ben/one":
            write(root / "far" / f"{name.replace('/', '_')}.mp4", 80 + 20 * number, size=48)
    (root / "list.txt").write_text("anna/two anna/one\nben/one ben/one\n\n")
    for name, level in (("anna.two_anna.one", 41), ("ben.one_ben.one", 81)):
        write(root / "listed" / f"{name}.mp4", level)
    return root


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "none"))


def evaluate(root: Path, out: Path, *arguments: str) -> dict[str, Any]:
    command = [f"truth={root / 'truth'}", f"out={out}", "metrics=reconstruction", "cache=null", *arguments]
    assert evaluation.main(command) == 0
    table: dict[str, Any] = json.loads((out / "table.json").read_text())
    return table


def test_folders_side_by_side(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = evaluate(folders, out, f"videos={{near: {folders / 'near'}, far: {folders / 'far'}}}", "frames=9")
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == [
        "ground truth",
        "ground truth, H.264 crf 18",
        "first frame held",
        "near",
        "far",
    ]
    assert rows["near"]["n"] == 3 and rows["far"]["n"] == 2
    psnr = {name: row["cells"]["PSNR[rgb]"] for name, row in rows.items()}
    assert psnr["ground truth"]["value"] == 100
    assert set(psnr["far"]["per_clip"]) == {"anna/one", "anna/two"}

    # The same by hand, from the files.
    errors = []
    for name in ("anna/one", "anna/two", "ben/one"):
        pair = [list(read_frames(folders / kind / f"{name}.mp4", fps=25))[:9] for kind in ("near", "truth")]
        mse = ((np.array(pair[0], float) - np.array(pair[1], float)) ** 2).mean((1, 2, 3))
        errors.append((10 * np.log10(255**2 / mse)).mean())
    assert psnr["near"]["value"] == pytest.approx(np.mean(errors), abs=1e-3)
    assert psnr["near"]["value"] > psnr["far"]["value"] + 5  # another size, resized to the truth's
    notes = " ".join(table["notes"])
    assert "far lacks 1 of 3 videos, among them ben/one" in notes
    assert "3 clips of 9 frames · 25 fps · 32 px" in table["protocol"]["line"]
    assert "whole frames (32×32)" in table["protocol"]["line"]
    assert "near and far on 3 videos" in (out / "table.html").read_text()
    comparison = (out / "significance.csv").read_text().splitlines()
    assert any(line.startswith("PSNR[rgb],near,far,2,") for line in comparison)


def test_looking_ahead_fills_the_cache(folders: Path, tmp_path: Path) -> None:
    """What a worker does for one clip; the table then finds it. A broken clip is left to the table."""
    from hydra import compose, initialize_config_dir

    from talkgen.configuration import config_folder
    from talkgen.video_evaluation import _look_at

    command = [f"truth={folders / 'truth'}", f"videos={folders / 'near'}", f"cache={tmp_path / 'cache'}"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("evaluate", overrides=[*command, "metrics=every_variant", "frames=6"])
    cfg.metrics = {"cpbd": {"_target_": "talkgen.metrics.cpbd.CPBD"}}
    pairs = pair_by_name(folders / "truth", {"near": folders / "near"})
    settings = OmegaConf.to_yaml(cfg, resolve=True)
    assert _look_at(settings, pairs, 1) is None
    assert len(list((tmp_path / "cache").glob("*/*.npy"))) == 3  # truth, its encoded copy, the row
    lost = PairedVideos([VideoFile("x", tmp_path / "no.mp4", "x")], {"near": [pairs.rows["near"][0]]}, [True])
    assert "no.mp4" in str(_look_at(settings, lost, 0))


MORTAL = """
import os, signal
from pathlib import Path
from talkgen.metrics.cpbd import CPBD

FLAG, DRIVER = Path({flag!r}), {driver}

class Mortal(CPBD):
    \"\"\"Kills its process when it has looked at a clip, unless another died, or it is the test's own.\"\"\"

    def per_clip(self):
        if os.getpid() != DRIVER and not FLAG.exists():
            FLAG.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().per_clip()
"""


@pytest.mark.slow
def test_a_killed_ray_worker_costs_no_clip(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, one of which dies in the middle: the table is that of one process, from the cache."""
    pytest.importorskip("ray")
    (tmp_path / "mortal_metric.py").write_text(MORTAL.format(flag=str(tmp_path / "died"), driver=os.getpid()))
    monkeypatch.syspath_prepend(tmp_path)
    metrics = tmp_path / "config/metrics"
    metrics.mkdir(parents=True)
    (metrics / "mortal.yaml").write_text("cpbd:\n  _target_: mortal_metric.Mortal\n")
    tables, caches = [], []
    for name, how in (("one", ["workers=1"]), ("two", ["workers=2", "executor=ray"])):
        tables.append(
            evaluate(
                folders, tmp_path / name, f"videos={folders / 'near'}", "frames=6", "metrics=mortal",
                f"cache={tmp_path / name}_cache", f"hydra.searchpath=[file://{tmp_path / 'config'}]", *how,
            )
        )  # fmt: skip
        caches.append(sorted(file.name for file in (tmp_path / f"{name}_cache").glob("*/*.npy")))
        assert (tmp_path / "died").exists() == (name == "two")
    assert tables[0]["rows"] == tables[1]["rows"] and len(tables[0]["rows"]) == 4
    assert all(row["n"] == 3 for row in tables[0]["rows"])
    # truth, encoded copy and row of every clip; what this process remembers of a video it does not keep again
    assert len(caches[1]) >= 9


def test_published_lists(folders: Path, tmp_path: Path) -> None:
    table = evaluate(
        folders, tmp_path, f"videos={folders / 'listed'}", f"filelist={folders / 'list.txt'}", "height=24"
    )
    (row,) = [row for row in table["rows"] if row["name"] == "listed"]
    # The first pair has another video's sound, and so no true frames.
    assert set(row["cells"]["PSNR[rgb]"]["per_clip"]) == {"ben.one_ben.one"} and row["n"] == 2
    assert "In 1 of 2 pairs the sound is another video's" in " ".join(table["notes"])
    assert "24 px" in table["protocol"]["line"]
    pairs = pair_by_list(folders / "list.txt", folders / "truth", {"listed": folders / "listed"})
    assert [file.audio for file in pairs.files] == [
        folders / "truth/anna/two.mp4",
        folders / "truth/ben/one.mp4",
    ]
    assert [file.identity for file in pairs.files] == ["anna", "ben"]


def test_names_that_do_not_tell_clips_apart_are_no_pair(folders: Path, tmp_path: Path) -> None:
    write(tmp_path / "flat" / "two.mp4", 1)
    write(tmp_path / "flat" / "one.mp4", 1)  # anna's or ben's?
    pairs = pair_by_name(folders / "truth", {"flat": tmp_path / "flat"})
    assert [file.id for file in pairs.files] == ["anna/two"]
    with pytest.raises(TalkgenError, match=r"wanted are anna/one\.mp4 and 2 more"):
        pair_by_name(folders / "truth", {"flat": folders / "listed"})


def test_refusals(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(TalkgenError, match="truth=FOLDER"):
        evaluation.main([f"videos={folders / 'near'}"])
    with pytest.raises(TalkgenError, match="crop=mouth: there are face"):
        evaluate(folders, tmp_path, f"videos={folders / 'near'}", "crop=mouth")
    with pytest.raises(FileError, match="no such folder"):
        evaluate(folders, tmp_path, f"videos={folders / 'nowhere'}")
    bad = tmp_path / "bad.txt"
    bad.write_text("anna/one anna/nine\n")
    with pytest.raises(FileError, match=r"line 1 names .*nine\.mp4, which is not there"):
        evaluate(folders, tmp_path, f"videos={folders / 'listed'}", f"filelist={bad}")


def test_pieces_in_any_order_and_short_streams(folders: Path) -> None:
    stream = FrameStream(folders / "truth/anna/one.mp4", 25)
    whole = np.stack(list(read_frames(folders / "truth/anna/one.mp4", fps=25)))
    assert stream.count == FRAMES
    for start, stop in ((0, 5), (5, 9), (2, 4), (8, 12)):
        np.testing.assert_array_equal(stream.read(start, stop), whole[start:stop])
    late = stream.read(10, FRAMES + 2)
    np.testing.assert_array_equal(late[2:], whole[[-1, -1]])
    with pytest.raises(FileError, match="ends after 12 frames"):
        FrameStream(folders / "truth/anna/one.mp4", 25).read(0, FRAMES + 3)


def test_crops_follow_the_truth(folders: Path) -> None:
    """Truth and generated are cut alike; the sound is the driving file's."""
    import torch

    points = np.random.default_rng(0).uniform(8, 24, (68, 2)).astype(np.float32)

    def detect(frames: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(points).expand(len(frames), 68, 2)

    file = VideoFile("x", folders / "truth/ben/one.mp4", "ben", folders / "truth/anna/one.mp4")
    clips = VideoClips([file], [10], crop=CropSettings(size=16), detect=detect, piece=4)
    seen = torch.cat([clips.frames(0, *span) for span in clips.spans(0)])
    assert seen.shape == (10, 16, 16, 3)
    again = clips.fitted(0, 4, FrameStream(folders / "truth/ben/one.mp4", 25).read(4, 8))
    assert torch.equal(again, seen[4:8])
    sound = clips.sound(0, 0, 10)
    other = VideoClips([VideoFile("y", file.video, "ben")], [10]).sound(0, 0, 10)
    assert sound is not None and other is not None and sound.shape == (6400,)
    assert float((sound - other).abs().max()) > 0.1
