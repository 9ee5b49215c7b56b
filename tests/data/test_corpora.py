from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from talkgen.data.corpora import chdtf, folder, hdtf, lrw, voxceleb2
from talkgen.data.corpora.layout import find_videos, split_by_name
from talkgen.errors import FileError


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_splits_are_dealt_by_name_and_seed() -> None:
    names = [f"person{i}" for i in range(100)]
    dealt = split_by_name(names, val=0.1, test=0.2)
    assert Counter(dealt.values()) == {"train": 70, "val": 10, "test": 20}
    assert dealt == split_by_name(reversed(names), val=0.1, test=0.2)
    assert dealt != split_by_name(names, val=0.1, test=0.2, seed=1)
    assert Counter(split_by_name("abc", 0.01, 0.01).values()) == {"train": 1, "val": 1, "test": 1}
    assert set(split_by_name("ab", 0.3, 0.3).values()) == {"train"}
    with pytest.raises(ValueError, match="leave something"):
        split_by_name("abc", 0.5, 0.5)


def test_folder_by_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.mp4", "anna/more/2.MOV", "ben/1.mp4", ".hidden.mp4", "notes.txt", "alone.mkv")
    clips = folder.find_clips(tmp_path)
    assert [(clip.id, clip.identity) for clip in clips] == [
        ("alone", "alone"), ("anna/1", "anna"), ("anna/more/2", "anna"), ("ben/1", "ben"),
    ]  # fmt: skip
    assert len({clip.split for clip in clips if clip.identity == "anna"}) == 1


def test_folder_with_splits_and_twins(tmp_path: Path) -> None:
    touch(tmp_path, "train/anna/1.mp4", "test/ben/1.mp4", "val/x.mp4", "val/x.mov")
    clips = {clip.video: clip for clip in folder.find_clips(tmp_path)}
    assert {video: clip.split for video, clip in clips.items()} == {
        "train/anna/1.mp4": "train", "test/ben/1.mp4": "test", "val/x.mp4": "val", "val/x.mov": "val",
    }  # fmt: skip
    assert clips["train/anna/1.mp4"].identity == "anna"
    assert len({clip.id for clip in clips.values()}) == 4


def test_folder_with_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "unlisted.mp4")
    (tmp_path / "clips.csv").write_text("file,identity,language,split\na.mp4,Anna,zh,test\nb.mp4,,,\n")
    a, b = folder.find_clips(tmp_path)
    assert (a.identity, a.language, a.split) == ("Anna", "zh", "test")
    assert (b.identity, b.language, b.split) == ("b", None, "train")
    (tmp_path / "clips.csv").write_text("file\ngone.mp4\n")
    with pytest.raises(FileError, match=r"not there, the first: gone\.mp4"):
        folder.find_clips(tmp_path)
    (tmp_path / "clips.csv").write_text("name\na.mp4\n")
    with pytest.raises(FileError, match="no column file"):
        folder.find_clips(tmp_path)


def test_hdtf_from_whole_videos(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "videos/Radio11.mp4",
        "videos/AmyKlobuchar1.mp4",
        "videos/AmyKlobuchar0.mp4",
        "videos/Un.mp4",
    )
    lists = tmp_path / "HDTF_dataset"
    lists.mkdir()
    (lists / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00 01:30-02:30\nGone.mp4 00:01-00:02\n")
    (lists / "WDA_annotion_time.txt").write_text(
        "AmyKlobuchar1.mp4 00:35-02:45 \nAmyKlobuchar0.mp4 00:10-1:04:30\n\n"
    )
    clips = {clip.id: clip for clip in hdtf.find_clips(tmp_path)}
    assert {name: (clip.start_seconds, clip.end_seconds) for name, clip in clips.items()} == {
        "Radio11_0": (30, 60), "Radio11_1": (90, 150),
        "AmyKlobuchar1_0": (35, 165), "AmyKlobuchar0_0": (10, 3870),
    }  # fmt: skip
    assert clips["AmyKlobuchar0_0"].identity == clips["AmyKlobuchar1_0"].identity == "AmyKlobuchar"
    assert clips["AmyKlobuchar0_0"].split == clips["AmyKlobuchar1_0"].split
    assert clips["Radio11_1"].identity == "Radio11" and clips["Radio11_1"].language == "en"


def test_hdtf_cut_already(tmp_path: Path) -> None:
    touch(tmp_path, "clips/Radio11_0.mp4", "clips/WDA_KatieHill_000.mp4", "clips/RD_Radio1_002.mp4")
    clips = {clip.id: clip for clip in hdtf.find_clips(tmp_path)}
    assert {name: clip.identity for name, clip in clips.items()} == {
        "Radio11_0": "Radio11", "KatieHill_0": "KatieHill", "Radio1_2": "Radio1",
    }  # fmt: skip
    assert all(clip.end_seconds is None for clip in clips.values())


def test_hdtf_whole_videos_need_the_lists(tmp_path: Path) -> None:
    touch(tmp_path, "AdamSchiff.mp4")
    with pytest.raises(FileError, match="annotion_time"):
        hdtf.find_clips(tmp_path)
    (tmp_path / "WDA_annotion_time.txt").write_text("AdamSchiff.mp4 00:05\n")
    with pytest.raises(FileError, match="line 1"):
        hdtf.find_clips(tmp_path)


def test_voxceleb2_official_tree(tmp_path: Path) -> None:
    people = [f"id{i:05d}" for i in range(20)]
    touch(tmp_path, *(f"dev/mp4/{person}/abc/{n:05d}.mp4" for person in people for n in (1, 2)))
    touch(tmp_path, "test/mp4/id90000/xyz/00007.mp4", "dev/aac/id00000/abc/00001.m4a")
    clips = voxceleb2.find_clips(tmp_path, val=0.1)
    assert Counter(clip.split for clip in clips) == {"train": 36, "val": 4, "test": 1}
    test = next(clip for clip in clips if clip.split == "test")
    assert (test.id, test.identity, test.video) == (
        "id90000/xyz/00007", "id90000", "test/mp4/id90000/xyz/00007.mp4",
    )  # fmt: skip
    by_person = {clip.identity: clip.split for clip in clips}
    assert all(by_person[clip.identity] == clip.split for clip in clips)


def test_voxceleb2_by_the_official_table(tmp_path: Path) -> None:
    touch(tmp_path, "mp4/id00012/a/00001.mp4", "mp4/id00017/b/00001.mp4")
    with pytest.raises(FileError, match="does not look like VoxCeleb2"):
        voxceleb2.find_clips(tmp_path)
    (tmp_path / "vox2_meta.csv").write_text(
        "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,m ,test \n"
    )
    assert {clip.identity: clip.split for clip in voxceleb2.find_clips(tmp_path)} == {
        "id00012": "train", "id00017": "test",
    }  # fmt: skip


def test_lrw(tmp_path: Path) -> None:
    files = [f"ABOUT/{split}/ABOUT_00001" for split in ("train", "val", "test")] + ["WORLD/train/WORLD_00002"]
    touch(tmp_path, *(f"lipread_mp4/{file}.{kind}" for file in files for kind in ("mp4", "txt")))
    clips = lrw.find_clips(tmp_path)
    assert len(clips) == len({clip.id for clip in clips}) == 4
    assert clips == [
        type(clip)(**{**vars(clip), "video": f"lipread_mp4/{clip.video}"})
        for clip in lrw.find_clips(tmp_path / "lipread_mp4")
    ]
    about = {clip.split: clip for clip in clips if "ABOUT" in clip.notes}
    assert set(about) == {"train", "val", "test"}
    assert len(lrw.find_clips(tmp_path, words=("WORLD",))) == 1


def test_chdtf(tmp_path: Path) -> None:
    names = [
        f"{a}_{n}_crop_256_{k:03d}.mp4" for a in ("kanghui", "yan_yu") for n in range(8) for k in range(2)
    ]
    touch(tmp_path, *names, "other.mp4")
    clips = chdtf.find_clips(tmp_path)
    assert len(clips) == 32
    assert {clip.identity for clip in clips} == {"kanghui", "yan_yu"}
    assert {clip.split for clip in clips} == {"train", "val", "test"}
    together: dict[str, set[str]] = {}
    for clip in clips:
        together.setdefault(clip.id.split("_crop_")[0], set()).add(clip.split)
    assert all(len(splits) == 1 for splits in together.values())


@pytest.mark.parametrize("adapter", [folder, hdtf, voxceleb2, lrw, chdtf])
def test_a_wrong_folder_shows_the_expected_tree(adapter: object, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"(?s)does not look like.*Expected:\n  FOLDER/"):
        adapter.find_clips(tmp_path)  # type: ignore[attr-defined]
    with pytest.raises(FileError, match="no such folder"):
        adapter.find_clips(tmp_path / "nothing")  # type: ignore[attr-defined]


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.mp4")
    (tmp_path / "anna/back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "twin").symlink_to(tmp_path / "anna", target_is_directory=True)
    assert [clip.video for clip in folder.find_clips(tmp_path)] == ["anna/1.mp4", "twin/1.mp4"]


def test_a_name_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))).touch()
    except OSError:
        pytest.skip("this file system takes Unicode only")
    with pytest.raises(FileError, match="not UTF-8; rename"):
        folder.find_clips(tmp_path)


def test_odd_tables(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "clips.csv").write_text("file,identity\n./a.mp4,Anna\n\n,nobody\nb.mp4\n")
    assert [clip.identity for clip in folder.find_clips(tmp_path)] == ["Anna", "b"]
    (tmp_path / "clips.csv").write_bytes("file,identity\na.mp4,Jürgen\n".encode("latin-1"))
    with pytest.raises(FileError, match="not UTF-8"):
        folder.find_clips(tmp_path)


def test_hdtf_refuses_a_stretch_that_ends_before_it_starts(tmp_path: Path) -> None:
    touch(tmp_path, "videos/Radio1.mp4")
    (tmp_path / "RD_annotion_time.txt").write_text("Radio1.mp4 00:10-00:20\nRadio1.mp4 00:30-00:20\n")
    with pytest.raises(FileError, match=r"line 2.*ends before it starts"):
        hdtf.find_clips(tmp_path)


def test_a_link_to_itself_does_not_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "circle.mp4").symlink_to("circle.mp4")
    (tmp_path / "circle").symlink_to("circle")
    assert "a.mp4" in find_videos(tmp_path) and "circle" not in find_videos(tmp_path)
