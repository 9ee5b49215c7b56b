"""The table of a method, through the real entry point, on a store whose swaps are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from talkgen import comparison, evaluation
from talkgen.data.clip import Clip
from talkgen.data.store import Store, StoreWriter
from talkgen.errors import TalkgenError
from talkgen.inference.contenders import Casting
from talkgen.inference.swaptalk import load_swaptalk
from talkgen.metrics import scoring
from talkgen.metrics.held_out import HeldOutClips, sound_of
from talkgen.metrics.identity_source import IdentitySource
from talkgen.metrics.landmark_source import LandmarkSource
from talkgen.video.reader import probe

FRAMES, SIZE = 24, 48
COLOURS = {"anna": (200, 60, 60), "ben": (60, 200, 60), "carl": (60, 60, 200)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people of one colour each, two clips each, one of them with a known swap to the next person."""
    root = tmp_path_factory.mktemp("prepared") / "people"
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    with StoreWriter(root) as writer:

        def add(name: str, face: str, take: int, swap_of: str | None = None) -> None:
            opening = 0.5 + 0.5 * np.sin(np.arange(FRAMES) * (0.4 + 0.3 * take + 0.2 * names.index(name)))
            video = np.full((FRAMES, SIZE, SIZE, 3), 90, np.uint8)
            video[:, 8:40, 8:40] = COLOURS[face]
            points = rng.uniform(14, 34, (1, 68, 2)).repeat(FRAMES, 0).astype(np.float32)
            for frame, gap in enumerate(opening):
                video[frame, 28 : 30 + round(8 * gap), 18:30] = 20
                points[frame, [61, 62, 63], 1] = 28
                points[frame, [65, 66, 67], 1] = 28 + 8 * gap
            steps = round(FRAMES * 3.2)
            warp = np.tile(np.array([[112 / SIZE, 0, 0], [0, 112 / SIZE, 0]], np.float32), (FRAMES, 1, 1))
            arrays = {
                "mel": rng.normal(0, 1, (80, steps)).astype(np.float32),
                "waveform": rng.integers(-999, 999, FRAMES * 640).astype(np.int16),
                "landmarks": points,
                "identity_warp": warp,
                "crop_matrix": warp,
            }
            id_ = f"{name}_{take}" + (f"_{face}" if swap_of else "")
            clip = Clip(id_, "demo", "test", face, FRAMES, 25.0, SIZE, swap_of=swap_of)
            writer.add(clip, video, arrays)

        for number, name in enumerate(names):
            for take in range(2):
                add(name, name, take)
            add(name, names[(number + 1) % 3], 0, f"{name}_0")
    return root


@pytest.fixture()
def method(tiny_method: Path, store: Path) -> Path:
    return tiny_method


@pytest.fixture(autouse=True)
def eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for detector and recogniser: the dark pixels are the mouth, the mean colour is the person."""

    class Eyes(LandmarkSource):
        def __init__(self) -> None:
            self.weights = {"eyes": "0" * 64}

        def __call__(self, frames: torch.Tensor) -> torch.Tensor:
            points = torch.zeros(len(frames), 68, 2)
            points[:, 36:42, 0], points[:, 42:48, 0] = 5, 25
            dark = (frames.float().mean(-1) < 60)[:, :, 12:20].float().sum((1, 2)) / 8
            points[:, [65, 66, 67], 1] = dark[:, None]
            points[:, 30, 1] = points[:, 48, 1] = points[:, 54, 1] = 12
            return points

    def recogniser(faces: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(faces[:, 20:40].mean((1, 2))) - 90

    import talkgen.metrics.identity_source as identity
    import talkgen.metrics.landmark_source as landmarks

    monkeypatch.setattr(landmarks, "open_landmark_source", lambda backend: Eyes())
    monkeypatch.setattr(
        identity, "open_identity_source", lambda name, every: IdentitySource(recogniser, name, every=every)
    )
    monkeypatch.setattr(scoring, "warps_of", lambda points: np.full((len(points), 2, 3), np.nan, np.float32))


def evaluate(method: Path, store: Path, *arguments: str) -> int:
    return evaluation.main(
        [
            f"paths.runs={method.parent}",
            "device=cpu",
            f"root={store}",
            "clips=null",
            "frames=null",
            *arguments,
        ]
    )


def read(folder: Path) -> dict[str, dict[str, Any]]:
    table = json.loads((folder / "table.json").read_text())
    return {row["name"]: row["cells"] for row in table["rows"]} | {"": table}


def test_every_row_of_a_method(method: Path, store: Path, tmp_path: Path) -> None:
    assert evaluate(method, store, f"out={tmp_path}") == 0
    table = read(tmp_path)
    assert list(table)[:-1] == [
        "ground truth",
        "ground truth, H.264 crf 18",
        "reference's mouth copied",
        "swap, exact result",
        "VQGAN reconstruction",
        "lip-sync",
        "lip-sync, another clip's sound",
        "face swap",
        "swap, then sync",
        "sync, then swap",
        "swap, then sync, in RGB",
        "sync, then swap, in RGB",
    ]
    top1, r, psnr = "ID top-1[%,edgeface_s]", "mouth opening r", "PSNR[rgb]"
    truth = table["ground truth"]
    assert (
        truth[top1]["value"] == 100 and truth[r]["value"] == pytest.approx(1) and truth[psnr]["value"] == 100
    )
    assert truth["mouth opening r[stored landmarks]"]["value"] > 0.95  # whole pixels against landmarks
    # Of the exact swaps: the source is seen, the target's mouth moves; only the three known ones count.
    exact = table["swap, exact result"]
    assert exact[top1]["value"] == 100 and exact[r]["value"] > 0.95
    assert set(exact[psnr]["per_clip"]) == {"anna_0", "ben_0", "carl_0"}
    # Rows with a swap: a truth for the clips whose swap is known, and numbers that need none for all.
    for name in ("face swap", "swap, then sync", "sync, then swap, in RGB"):
        assert set(table[name][psnr]["per_clip"]) == {"anna_0", "ben_0", "carl_0"}
        assert len(table[name][top1]["per_clip"]) == 6
    assert len(table["lip-sync"][psnr]["per_clip"]) == 6
    # A copied mouth does not move, and all that a clip is compared with is in the notes.
    assert abs(table["reference's mouth copied"][r]["value"]) < 0.6
    notes = " ".join(table[""]["notes"])
    assert "gallery of 3 people" in notes and "chance 33.3 %" in notes and "known for 3 of 6 clips" in notes
    assert table[""]["protocol"]["frames"] == [FRAMES] * 6
    assert probe(tmp_path / "sample.mp4").frames == FRAMES
    assert {"table.md", "table.csv", "table.tex", "per_clip.csv", "sheet.png"} <= {
        f.name for f in tmp_path.iterdir()
    }


def test_another_sound_is_another_sound(method: Path, store: Path, tmp_path: Path) -> None:
    """The generated frames differ from those with the right sound, and are those of the other clip's mel."""
    model = load_swaptalk(method)
    opened = Store.open(store)
    clips = HeldOutClips(opened, [c for c in opened.clips if not c.swap_of], 32, None, 40)
    casting = Casting(clips, list(COLOURS))
    other = casting.other_sound(0)
    assert other.identity != clips.clips[0].identity
    from talkgen.inference.contenders import ClipCodes, SwapTalkRow

    codes = ClipCodes(model, clips)
    made = {
        sound: next(SwapTalkRow("x", model, codes, casting, sound, swap=False).generate(clips, 0)).frames  # type: ignore[arg-type]
        for sound in ("own", "other")
    }
    assert not torch.equal(made["own"], made["other"])
    lips = model.variant(model.cascade, swap=False)
    (number,) = casting.references(0, 1)
    state = lips.begin(None, codes.frames(clips.clips[0].id, (number,)))
    assert np.array_equal(casting.mel(0, "own"), opened.array(clips.clips[0], "mel"))
    mel = lips.mel_of_frames(casting.mel(0, "other"), range(FRAMES), 25.0)
    expected = lips.pictures(codes.piece(0, 0, FRAMES), mel, state)
    assert np.array_equal(made["other"].numpy(), expected)


def test_another_sound_begins_in_its_middle(store: Path) -> None:
    """Its mel and its samples; nothing of them is lost."""
    opened = Store.open(store)
    clips = HeldOutClips(opened, [c for c in opened.clips if not c.swap_of], 32)
    casting = Casting(clips, list(COLOURS))
    other = casting.other_sound(0)
    half = other.frames // 2
    mel, columns = opened.array(other, "mel"), round(half * 80 / 25)
    assert np.array_equal(casting.mel(0, "other")[:, :-columns], mel[:, columns:])
    assert np.array_equal(casting.mel(0, "other")[:, -columns:], mel[:, :columns])
    samples = sound_of(opened, other, 0, other.frames)
    first, rest = casting.sound(0, 0, half), casting.sound(0, half, other.frames)
    assert samples is not None and first is not None and rest is not None
    assert torch.equal(torch.cat([first, rest]), torch.cat([samples[half * 640 :], samples[: half * 640]]))
    beyond = casting.sound(0, other.frames, other.frames + 2)
    assert beyond is not None and beyond.tolist() == [0] * 1280


def test_who_plays_whom(store: Path) -> None:
    opened = Store.open(store)
    own = [clip for clip in opened.clips if not clip.swap_of]
    clips = HeldOutClips(opened, own[:5], 32, frames=10)
    casting = Casting(clips, list(COLOURS))
    assert [casting.source(number) for number in (0, 2, 4)] == ["ben", "carl", "anna"]  # of the exact swaps
    for number, clip in enumerate(clips.clips):
        assert casting.source(number) != clip.identity
    assert casting.picture("carl")[0].id == "carl_1"  # the only one that is not scored
    assert all(10 <= frame < FRAMES for frame in casting.references(0, 3))  # not among the scored frames
    whole = Casting(HeldOutClips(opened, own, 32), list(COLOURS))
    assert whole.references(0, 1) == [FRAMES // 2]
    alone = Casting(HeldOutClips(opened, own[:1], 32), ["anna"])
    assert alone.source(0) == "ben" and alone.other_sound(0).id == "anna_0"
    frame, warp = casting.aligned_picture("ben")
    assert frame.shape == (1, 32, 32, 3)
    assert warp[0] @ (15.5, 15.5, 1) == pytest.approx((55.5, 55.5), abs=0.7)


def test_clips_whose_swap_is_known_come_first(store: Path) -> None:
    clips = Store.open(store).clips
    assert [c.id for c in comparison._with_twins_first(clips, "test", 3)] == ["anna_0", "ben_0", "carl_0"]
    four = comparison._with_twins_first(clips, "test", 4)
    assert [c.id for c in four[:3]] == ["anna_0", "ben_0", "carl_0"] and four[3].id.endswith("_1")
    assert len(comparison._with_twins_first(clips, "test", None)) == 6
    assert len(comparison._with_twins_first(clips, "test", 99)) == 6


def test_choice_of_rows_and_modules(method: Path, store: Path, tmp_path: Path) -> None:
    evaluate(
        method, store, f"out={tmp_path}", "rows=[swap_sync,copied]", "clips=2", "gallery=all", "snap=true"
    )
    assert list(read(tmp_path))[2:-1] == ["reference's mouth copied", "swap, then sync"]
    with pytest.raises(TalkgenError, match="rows=swapsync: there are wrong_sound, copied"):
        evaluate(method, store, f"out={tmp_path}", "rows=[swapsync]")
    with pytest.raises(TalkgenError, match="gallery=some: give held_out or all"):
        evaluate(method, store, f"out={tmp_path}", "gallery=some")
    lips = tmp_path / "runs" / "lips"
    lips.mkdir(parents=True)
    (lips / "swaptalk_vqgan").symlink_to(method / "swaptalk_vqgan")
    (lips / "swaptalk_lip_sync").symlink_to(method / "swaptalk_lip_sync")
    evaluate(lips, store, "run=lips", "rows=[lip_sync,swap,swap_sync]", "clips=1")
    assert list(read(lips / "evaluation"))[2:-1] == ["lip-sync"]


def test_a_method_and_its_stages(method: Path, store: Path, tmp_path: Path) -> None:
    """A stage that has a table of its own keeps it; two methods share one table."""
    evaluate(
        method, store, f"run={method.name}/swaptalk_vqgan", "clips=1", "frames=4", f"out={tmp_path / 'stage'}"
    )
    assert f"{method.name}/swaptalk_vqgan" in read(tmp_path / "stage")
    two = tmp_path / "runs"
    two.mkdir()
    for name in ("a", "b"):
        (two / name).symlink_to(method)
    evaluate(two / "a", store, "runs=[a,b]", "rows=[swap]", "clips=2", "frames=4", f"out={tmp_path / 'two'}")
    table = read(tmp_path / "two")
    assert table["a: face swap"]["PSNR[rgb]"]["value"] == table["b: face swap"]["PSNR[rgb]"]["value"]
    pairs = {(one["first"], one["second"], one["p"]) for one in table[""]["comparisons"]}
    assert pairs == {("a: face swap", "b: face swap", 1.0)}  # rows of one key, and they are equal
    with pytest.raises(TalkgenError, match=r"there is no evaluation for .*FaceSwapSystem alone"):
        evaluate(method, store, f"run={method.name}/swaptalk_face_swap", "clips=1")


def test_metrics_of_the_command_win(method: Path, store: Path, tmp_path: Path) -> None:
    evaluate(method, store, f"out={tmp_path}", "rows=[swap]", "clips=1", "frames=4", "metrics=reconstruction")
    columns = [column["name"] for column in read(tmp_path)[""]["columns"]]
    assert "SSIM[wang,mouth]" in columns and not any("CSIM" in name for name in columns)
