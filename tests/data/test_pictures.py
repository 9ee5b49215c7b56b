"""Pictures beside videos, and triplets of a face swapper: from a folder to batches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from latent_encoders import LevelCodes
from square_faces import SIZE, SquareDetector, SquareLandmarker, film, speech

from talkgen import cli, weights
from talkgen.configuration import RunFolder
from talkgen.data import clip_preparation
from talkgen.data import prepare as prepare_module
from talkgen.data.clip import Clip
from talkgen.data.corpora import images, triplets
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.latents import LatentCache
from talkgen.data.store import Store, StoreWriter
from talkgen.data.swap_pairs import KINDS, SwapPairs, SwapShares
from talkgen.data.windows import WindowSettings
from talkgen.errors import FileError, TalkgenError
from talkgen.preparation import main as prepare
from talkgen.video.reader import read_frames

SERIAL = ["executor=serial", "progress=false"]
SQUARE = [
    *SERIAL,
    "settings.size=48",
    "settings.filters.min_face_pixels=20",
    "settings.filters.min_sharpness=0",
]


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_preparation, "make_detector", lambda name: SquareDetector())
    monkeypatch.setattr(clip_preparation, "make_landmarker", lambda name: SquareLandmarker())
    prepare_module._preparer.cache_clear()


def photo(file: Path, x: int = 40, ground: int = 90, video: Path | None = None) -> Path:
    """A frame of a film of the square, as a picture."""
    film(file.with_suffix(".film.mp4"), 1, face=lambda _: (x, 50, 60), ground=lambda _: ground)
    picture = next(iter(read_frames(file.with_suffix(".film.mp4"), fps=25)))
    file.with_suffix(".film.mp4").unlink()
    assert cv2.imwrite(str(file), picture[..., ::-1])
    return file


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


# --- folders --------------------------------------------------------------------------------------


def test_every_picture_is_a_person_unless_a_list_says_otherwise(tmp_path: Path) -> None:
    touch(tmp_path, *(f"00000/{i:05d}.png" for i in range(60)), "notes.txt", "film.mp4")
    clips = images.find_clips(tmp_path, val=0.1, test=0.1)
    assert len({clip.identity for clip in clips}) == len(clips) == 60
    assert sorted({clip.split for clip in clips}) == ["test", "train", "val"]
    assert {clip.corpus for clip in clips} == {"images"}


def test_celebas_lists(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Img/img_align_celeba/{i:06d}.jpg" for i in range(1, 5)))
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno/identity_CelebA.txt").write_text(
        "".join(f"{i:06d}.jpg {7 + i // 3}\n" for i in range(1, 5))
    )
    (tmp_path / "Eval").mkdir()
    (tmp_path / "Eval/list_eval_partition.txt").write_text(
        "".join(f"{i:06d}.jpg {i // 3}\n" for i in range(1, 5))
    )
    clips = images.find_clips(tmp_path)
    assert [(clip.identity, clip.split) for clip in clips] == [
        ("7", "train"), ("7", "train"), ("8", "val"), ("8", "val"),
    ]  # fmt: skip
    (tmp_path / "Eval/list_eval_partition.txt").write_text("000001.jpg 5\n")
    with pytest.raises(FileError, match="0, 1 or 2"):
        images.find_clips(tmp_path)


def test_folders_and_tables_of_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.png", "val/a.png", "test/a.jpg")
    assert [clip.split for clip in images.find_clips(tmp_path)] == ["test", "train", "val"]
    (tmp_path / "clips.csv").write_text("file,identity\ntrain/a.png,anna\ntest/a.jpg,anna\n")
    assert [clip.identity for clip in images.find_clips(tmp_path)] == ["anna", "anna"]
    with pytest.raises(FileError, match="a folder of pictures"):
        images.find_clips(touch(tmp_path / "empty", "film.mp4"))


def test_a_triplet_is_three_clips(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"0001/{part}.mp4" for part in triplets.PARTS),
        *(f"2/{part}.PNG" for part in triplets.PARTS),
    )
    clips = {clip.id: clip for clip in triplets.find_clips(tmp_path)}
    assert len(clips) == 6
    result = clips["0001/result"]
    assert (result.swap_of, result.audio) == ("0001/target", "0001/target.mp4")
    assert result.identity == clips["0001/source"].identity != clips["0001/target"].identity
    assert clips["2/result"].video == "2/result.PNG" and clips["2/result"].audio is None
    assert clips["2/source"].swap_of is None is clips["2/target"].swap_of
    (tmp_path / "people.csv").write_text("name,source,target,split\n0001,anna,ben,test\n2,ben,anna,train\n")
    clips = {clip.id: clip for clip in triplets.find_clips(tmp_path)}
    assert clips["0001/result"].identity == clips["2/target"].identity == "anna"
    assert [clips[f"0001/{part}"].split for part in triplets.PARTS] == ["test"] * 3


def test_half_a_triplet_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "1/source.png", "1/target.png")
    with pytest.raises(FileError, match=r"result \(a video or a picture\) is not there"):
        triplets.find_clips(tmp_path)
    touch(tmp_path, "1/result.png", "1/result.jpg")
    with pytest.raises(FileError, match=r"2 times: result\.jpg, result\.png"):
        triplets.find_clips(tmp_path)
    (tmp_path / "1/result.jpg").unlink()
    (tmp_path / "1/result.png").rename(tmp_path / "1/result.mp4")
    with pytest.raises(FileError, match="two videos or two pictures"):
        triplets.find_clips(tmp_path)
    (tmp_path / "1/result.mp4").rename(tmp_path / "1/result.png")
    (tmp_path / "people.csv").write_text("name,source,target\n9,anna,ben\n")
    with pytest.raises(FileError, match="not there, the first: 9"):
        triplets.find_clips(tmp_path)


# --- stores ---------------------------------------------------------------------------------------


def photos(folder: Path) -> Path:
    folder.mkdir()
    for i in range(4):
        split = ["train", "train", "train", "val"][i]
        (folder / split).mkdir(exist_ok=True)
        photo(folder / split / f"{i}.png", x=30 + 10 * i, ground=60 + 20 * i)
    cv2.imwrite(str(folder / "train/none.png"), np.full((SIZE, SIZE, 3), 90, np.uint8))  # no face
    return folder


def test_pictures_become_clips_of_one_frame_without_sound(squares: None, tmp_path: Path) -> None:
    arguments = ["corpus=images", f"source={photos(tmp_path / 'raw')}", f"out={tmp_path / 'store'}", *SQUARE]
    assert prepare(arguments) == 0
    store = Store.open(tmp_path / "store")
    assert [clip.id for clip in store.clips] == ["train/0.png", "train/1.png", "train/2.png", "val/3.png"]
    assert all(clip.frames == 1 and "speech_ratio" not in clip.checks for clip in store.clips)
    assert not {"mel", "waveform"} & set(store.streams)
    assert "face" in (tmp_path / "store/rejects.csv").read_text()  # the one without
    frame = store.frames(store.clips[1])[0]
    assert frame[24, 24, 0] > frame[24, 24, 1] + 60  # the face is in the middle
    batch = next(
        iter(TalkingFaceData(str(tmp_path / "store"), WindowSettings(1, sound=False)).train_dataloader())
    )
    assert batch["video"].shape == (8, 1, 3, 48, 48) and "mel" not in batch
    with pytest.raises(TalkgenError, match=r"has no sound.*window\.sound=false"):
        TalkingFaceData(str(tmp_path / "store")).train_dataloader()
    with pytest.raises(TalkgenError, match=r"left out \(audio 5\)"):
        prepare([*arguments, f"out={tmp_path / 'heard'}", "settings.sound=true"])
    assert "sound=false makes clips without" in (tmp_path / "heard/rejects.csv").read_text()


def test_without_sound_nothing_is_computed_from_it() -> None:
    for asked in ({"features": ("whisper",)}, {"av_expert": "a:b"}, {"choose": "speaker"}):
        with pytest.raises(ValueError, match="without sound"):
            clip_preparation.PrepareSettings(sound=False, **asked)  # type: ignore[arg-type]


def test_a_vqgan_is_trained_on_pictures_beside_videos(
    squares: None, tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare(["corpus=images", f"source={photos(tmp_path / 'raw')}", "out=pictures", *SQUARE]) == 0
    common = ["train", "experiment=swaptalk_vqgan", "size=tiny", "data.workers=0", "logger=csv", "steps=2"]
    common += ["validate_every=2", "checkpoint_every=2", "trainer.log_every_n_steps=1"]
    assert cli.main([*common, "data=images", "data.root=pictures", "name=alone"]) == 0
    assert (
        len(list(RunFolder(Path("runs/alone")).samples.glob("*.mp4"))) == 2
    )  # silent ones, before and after
    columns = ["~metrics.lmd", "~metrics.lmd_pose_free", "~metrics.face_missed"]  # they detect faces
    assert cli.main(["evaluate", "run=alone", "split=val", "metrics=reconstruction", *columns]) == 0
    assert (Path("runs/alone/evaluation/sample.mp4")).stat().st_size
    assert cli.main([*common, f"data.root={tiny_store}", "data.also=[pictures]", "name=both"]) == 0

    data = TalkingFaceData(str(tiny_store), WindowSettings(1, size=32, sound=False), 4, 0, also=["pictures"])
    names, seen = data.identities, set()
    assert names[6:] == [f"pictures:{name}" for name in ("train/0", "train/1", "train/2", "val/3")]
    dataset = data.dataset("train")
    assert len(dataset) == 4 * 40 + 3
    for batch in data.train_dataloader():
        for clip, identity in zip(batch["clip"], batch["identity"].tolist(), strict=True):
            assert names[identity] == (clip.split("/")[0] if "clip" in clip else f"pictures:{clip[:-4]}")
            seen.add(clip)
    assert {"train/0.png", "train/1.png", "train/2.png", "person0/clip"} <= seen
    assert "val/3.png" not in seen and len(data.dataset("val")) == 40
    clips = [dataset.clips[number].id for number in dataset.clip_numbers]
    assert clips == [dataset.locate(index)[0].id for index in range(len(dataset))]
    with pytest.raises(TalkgenError, match=r"data\.window\.size"):
        TalkingFaceData(str(tiny_store), also=["pictures"])


def write_triplets(folder: Path) -> Path:
    for name, shift in (("a", 0), ("b", 15)):
        sound = speech(1.4)
        film(folder / name / "source.mp4", 30, face=lambda k: (20, 40, 50), ground=lambda k: 60, sound=sound)
        film(folder / name / "target.mp4", 35, face=lambda k, s=shift: (40 + s + k % 9, 50, 60), sound=sound)
        film(
            folder / name / "result.mp4",
            35,
            face=lambda k, s=shift: (42 + s + k % 9, 50, 60),
            ground=lambda k: 130,
        )
    (folder / "c").mkdir()
    photo(folder / "c/source.png", 30)
    photo(folder / "c/target.png", 40)
    photo(folder / "c/result.png", 44)
    return folder


def test_results_are_cropped_like_their_targets(squares: None, tmp_path: Path) -> None:
    raw = write_triplets(tmp_path / "raw")
    rejected = cv2.imread(str(raw / "c/result.png"))
    (raw / "d").mkdir()
    for part in ("source", "target"):
        (raw / f"d/{part}.png").write_bytes((raw / f"c/{part}.png").read_bytes())
    cv2.imwrite(str(raw / "d/result.png"), cv2.resize(rejected, (SIZE // 2, SIZE // 2)))
    split = "name,source,target,split\n" + "".join(f"{name},{name}s,{name}t,train\n" for name in "abcd")
    (raw / "people.csv").write_text(split)
    assert prepare(["corpus=triplets", f"source={raw}", f"out={tmp_path / 'store'}", *SQUARE]) == 0
    store = Store.open(tmp_path / "store")
    assert [clip.id for clip in store.clips if clip.swap_of] == ["a/result", "b/result", "c/result"]
    assert (
        f"{SIZE // 2}×{SIZE // 2} pixels, those of its target d/target"
        in (tmp_path / "store/rejects.csv").read_text()
    )
    for clip in store.clips:
        if clip.swap_of:
            target = store.clip(clip.swap_of)
            assert (clip.frames, clip.identity) == (
                target.frames,
                store.clip(clip.id[0] + "/source").identity,
            )
            for name in ("crop_matrix", "identity_warp"):
                np.testing.assert_array_equal(store.array(clip, name), store.array(target, name))
            assert not np.array_equal(store.frames(clip), store.frames(target))

    latents = LatentCache.build(tmp_path / "latents", store, LevelCodes(tmp_path, size=48), progress=False)
    dataset = SwapPairs(store, store.clips, latents, SwapShares(same=0, teacher=1, reverse=1, free=0))
    drawn = [dataset[epoch, index] for epoch in range(3) for index in range(len(dataset))]
    assert {(sample["clip"], sample["source_clip"]) for sample in drawn if sample["kind"] == 1} == {
        (f"{name}/target", f"{name}/source") for name in "abc"
    }
    assert {
        (sample["clip"], sample["source_clip"]) for sample in drawn if KINDS[sample["kind"]] == "reverse"
    } == {
        (f"{name}/result", f"{name}/target")
        for name in "ab"  # the picture has no second view of its person
    }


def test_a_result_whose_target_was_left_out_is_left_out(squares: None, tmp_path: Path) -> None:
    raw = write_triplets(tmp_path / "raw")
    limits = ["settings.filters.min_seconds=1.3"]  # longer than sources and pictures
    film(raw / "b/target.mp4", 20)
    film(raw / "b/result.mp4", 20)
    assert prepare(["corpus=triplets", f"source={raw}", f"out={tmp_path / 'store'}", *SQUARE, *limits]) == 0
    assert [clip.id for clip in Store.open(tmp_path / "store").clips] == ["a/target", "a/result"]


def test_a_store_has_no_swapped_clip_without_its_target(tmp_path: Path) -> None:
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    with StoreWriter(tmp_path) as writer:
        for name, swap_of in (("lost", "gone"), ("a", None), ("a_b", "a")):
            writer.add(
                Clip(name, "demo", "train", "x", 2, 25.0, 16, swap_of=swap_of), frames, {"n": np.arange(2)}
            )
    store = Store.open(tmp_path)
    assert [(clip.id, clip.swap_of) for clip in store.clips] == [("a", None), ("a_b", "a")]
    np.testing.assert_array_equal(store.array(store.clips[1], "n"), [0, 1])
    assert all(fault is None for _, fault in store.verify())


@pytest.mark.slow
def test_pictures_and_triplets_of_the_demo_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real detection on rendered people, and the exact swap as the swapper's result."""
    pytest.importorskip("espeakng_loader")
    from talkgen.data.corpora.demo import make_take
    from talkgen.data.corpora.demo_casting import DemoSettings, plan_clips

    for name in ("scrfd_500m", "landmarks_106"):
        if not weights.available(name):
            pytest.skip(f"needs the weights {name}")
    settings = DemoSettings(identities=3, clips_per_identity=1, seconds=1.0, size_pixels=160)
    plans = {plan.id: plan for plan in plan_clips(settings)}
    swap = next(plan for plan in plans.values() if plan.swap_of)
    source = next(plan for plan in plans.values() if plan.face == swap.face and plan.swap_of is None)
    pictures, swaps = tmp_path / "pictures/train", tmp_path / "swaps/1"
    pictures.mkdir(parents=True)
    swaps.mkdir(parents=True)
    for part, plan in (("source", source), ("target", plans[swap.swap_of]), ("result", swap)):
        take = make_take(plan, settings)
        cv2.imwrite(str(swaps / f"{part}.png"), take.frame(5)[..., ::-1])
        for frame in (2, 12):
            cv2.imwrite(str(pictures / f"{part}{frame}.jpg"), take.frame(frame)[..., ::-1])
    monkeypatch.chdir(tmp_path)
    small = [*SERIAL, "settings.size=48"]
    assert prepare(["corpus=images", "source=pictures", "out=store", *small]) == 0
    store = Store.open("store")
    assert len(store) == 6
    for clip in store.clips:
        points = store.array(clip, "landmarks")[0]
        assert points.min() > -5 and points.max() < 53
        assert points[36:48, 1].mean() < 24 < points[48:68, 1].mean()  # the halves are cut under the eyes
    assert prepare(["corpus=triplets", "source=swaps", "out=swapped", *small]) == 0
    swapped = Store.open("swapped")
    result, target = swapped.clip("1/result"), swapped.clip("1/target")
    np.testing.assert_array_equal(swapped.array(result, "crop_matrix"), swapped.array(target, "crop_matrix"))
    difference = np.abs(swapped.frames(result).astype(int) - swapped.frames(target))[0].mean(-1)
    assert difference[:, :2].mean() < 8 < difference[12:40, 12:36].mean()  # the same room, another face
    arguments = ["experiment=swaptalk_vqgan", "size=tiny", "data=images", "data.root=store", "data.workers=0"]
    rhythm = ["steps=2", "validate_every=2", "checkpoint_every=2", "logger=csv"]
    assert cli.main(["train", *arguments, *rhythm]) == 0
