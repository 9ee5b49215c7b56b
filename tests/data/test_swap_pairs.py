"""Pairs for the face swapping module: who is target, source and label, and who never is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latent_encoders import LevelCodes, LevelIdentity

from talkgen.data.clip import Clip
from talkgen.data.latents import LatentCache
from talkgen.data.store import Store, StoreWriter
from talkgen.data.swap_pairs import KINDS, SwapData, SwapPairs, SwapShares
from talkgen.errors import TalkgenError

FRAMES, SIZE = 20, 32
# id, split, identity, swap_of
CLIPS = [
    ("anna1", "train", "anna", None), ("anna2", "train", "anna", None), ("ben1", "train", "ben", None),
    ("ben2", "train", "ben", None), ("cleo1", "train", "cleo", None),
    ("anna1_ben", "train", "ben", "anna1"), ("cleo1_anna", "train", "anna", "cleo1"),
    ("dora1", "val", "dora", None), ("dora1_anna", "val", "anna", "dora1"),
    ("emil1", "test", "emil", None), ("fay1", "test", "fay", None), ("emil1_fay", "test", "fay", "emil1"),
]  # fmt: skip


def level(clip: int, frame: int) -> int:
    return 20 * clip + frame


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swaps")
    with StoreWriter(folder / "store") as writer:
        for number, (name, split, identity, swap_of) in enumerate(CLIPS):
            clip = Clip(name, "demo", split, identity, FRAMES, 25.0, SIZE, swap_of=swap_of)
            frames = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
            frames[:] = np.array([level(number, frame) for frame in range(FRAMES)])[:, None, None, None]
            warp = np.tile(np.eye(2, 3, dtype=np.float32), (FRAMES, 1, 1))
            warp[:, 0, 2] = number  # says whose it is
            warp[:, 1, 2] = np.arange(FRAMES)
            writer.add(
                clip, frames, {"identity_warp": warp, "landmarks": np.zeros((FRAMES, 68, 2), np.float32)}
            )
    store = Store.open(folder / "store")
    LatentCache.build(folder / "latents", store, LevelCodes(folder, size=SIZE), progress=False)
    return folder


def pairs(root: Path, split: str = "train", **arguments: Any) -> SwapPairs:
    store = Store.open(root / "store")
    clips = [clip for clip in store.clips if clip.split == split]
    return SwapPairs(store, clips, LatentCache.open(root / "latents"), **arguments)


def picture(codes: np.ndarray) -> tuple[str, int]:
    """Clip and frame that codes are of."""
    clip, frame = divmod(int(codes[0, 0]), 20)
    return CLIPS[clip][0], frame


def samples(dataset: SwapPairs, epochs: int = 4) -> list[dict[str, Any]]:
    return [dataset[epoch, index] for epoch in range(epochs) for index in range(len(dataset))]


def test_every_kind_shows_who_it_should(root: Path) -> None:
    dataset = pairs(root)
    assert len(dataset) == 5 * FRAMES  # a target for each frame of the unswapped clips
    identity = {name: who for name, _, who, _ in CLIPS}
    twin = {name: swap_of for name, _, _, swap_of in CLIPS}
    seen = Counter()
    for sample in samples(dataset):
        (target, at), (source, source_at), (label, label_at) = (
            picture(sample[f"{part}_codes"]) for part in ("target", "source", "label")
        )
        kind = KINDS[sample["kind"]]
        seen[kind] += 1
        assert twin[source] is None, "a swapped clip is no source"
        assert (target, at) == (sample["clip"], sample["frame"])
        assert (source, source_at) == (sample["source_clip"], sample["source_frame"])
        assert dataset.identities[sample["identity"]] == identity[source]
        assert label_at == at
        if kind == "same":
            assert (label, twin[target]) == (target, None) and identity[source] == identity[target]
            assert source != target or (target == "cleo1" and abs(source_at - at) >= 5)
        elif kind == "teacher":
            assert twin[label] == target and identity[source] == identity[label] != identity[target]
        elif kind == "reverse":
            assert twin[target] == label and identity[source] == identity[label] != identity[target]
            assert source != label or (label == "cleo1" and abs(source_at - at) >= 5)
        else:
            assert label == target and twin[target] is None and identity[source] != identity[target]
    total = sum(seen.values())
    for kind, share in {"same": 0.4, "teacher": 0.3, "reverse": 0.15, "free": 0.15}.items():
        assert abs(seen[kind] / total - share) < 0.08


def test_the_result_has_its_face_where_the_label_has_it(root: Path) -> None:
    number = {name: place for place, (name, *_) in enumerate(CLIPS)}
    for sample in samples(pairs(root), 1):
        label, frame = picture(sample["label_codes"])
        np.testing.assert_array_equal(sample["target_warp"][:, 2], [number[label], frame])
        source, frame = picture(sample["source_codes"])
        np.testing.assert_array_equal(sample["source_warp"][:, 2], [number[source], frame])


def test_a_sample_depends_on_seed_epoch_and_index_alone(root: Path) -> None:
    def key(sample: dict[str, Any]) -> tuple[Any, ...]:
        return sample["kind"], *(picture(sample[f"{part}_codes"]) for part in ("target", "source", "label"))

    first, again = pairs(root, seed=5), pairs(root, seed=5)
    backwards = [key(again[2, index]) for index in reversed(range(len(again)))][::-1]
    assert [key(first[2, index]) for index in range(len(first))] == backwards
    assert backwards != [key(first[3, index]) for index in range(len(first))]
    assert backwards != [key(sample) for sample in (pairs(root, seed=6)[2, i] for i in range(len(first)))]


def test_kinds_that_cannot_be_given_fall_away(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, latents = Store.open(root / "store"), LatentCache.open(root / "latents")
    alone = [store.clip("ben1"), store.clip("ben2")]
    assert {sample["kind"] for sample in samples(SwapPairs(store, alone, latents))} == {0}
    assert "no samples of kind teacher or reverse or free" in caplog.text
    with pytest.raises(TalkgenError, match="need swapped clips"):
        SwapPairs(store, alone, latents, SwapShares(0, 1, 1, 0))
    with pytest.raises(ValueError, match="not all 0"):
        SwapShares(0, 0, 0, 0)
    # the twin of a clip of another split is of no use
    lost = SwapPairs(store, [*alone, store.clip("dora1_anna")], latents, SwapShares(1, 1, 0, 0))
    assert lost.shares.tolist() == [1, 0, 0, 0]


def test_pictures_that_are_one_frame_of_a_person_have_no_reverse(root: Path, tmp_path: Path) -> None:
    rows = [("s", "sam", None), ("t", "tom", None), ("r", "sam", "t")]
    with StoreWriter(tmp_path / "store") as writer:
        for number, (name, identity, swap_of) in enumerate(rows):
            frames = np.full((1, SIZE, SIZE, 3), 20 * number, np.uint8)
            arrays = {
                "identity_warp": np.zeros((1, 2, 3), np.float32),
                "landmarks": np.zeros((1, 68, 2), np.float32),
            }
            writer.add(
                Clip(name, "triplets", "train", identity, 1, 25.0, SIZE, swap_of=swap_of), frames, arrays
            )
    store = Store.open(tmp_path / "store")
    latents = LatentCache.build(tmp_path / "latents", store, LevelCodes(tmp_path), progress=False)
    dataset = SwapPairs(store, store.clips, latents, SwapShares(0, 1, 1, 0))
    assert dataset.shares.tolist() == [0, 1, 0, 0]  # the source would be the label itself
    taught = dataset[0, 0]
    assert [int(taught[f"{part}_codes"][0, 0]) // 20 for part in ("target", "source", "label")] == [1, 0, 2]


def test_splits_keep_apart_but_for_faces_that_training_knows(root: Path) -> None:
    module = SwapData(
        str(root / "store"), lambda: LevelCodes(root, size=SIZE), SwapShares(1, 1, 1, 1), batch_size=4,
        latents_folder=str(root / "latents"),
    )  # fmt: skip
    split = {name: where for name, where, _, _ in CLIPS}
    for where, faces in (("train", {"train"}), ("val", {"val", "train"}), ("test", {"test"})):
        drawn = samples(module.dataset(where), 6)  # type: ignore[arg-type]
        assert {split[picture(sample["target_codes"])[0]] for sample in drawn} == {where}
        assert {split[picture(sample["source_codes"])[0]] for sample in drawn} == faces


def test_a_batch_is_as_documented(root: Path, tmp_path: Path) -> None:
    module = SwapData(
        str(root / "store"), lambda: LevelCodes(tmp_path, size=SIZE), batch_size=6, val_batches=2, seed=1,
        identify=LevelIdentity,
    )  # fmt: skip
    module.prepare_data()
    batch = next(iter(module.train_dataloader()))
    shapes = {name: tuple(value.shape) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "target_codes": (6, 2, 3), "source_codes": (6, 2, 3), "label_codes": (6, 2, 3), "kind": (6,),
        "target_warp": (6, 2, 3), "source_warp": (6, 2, 3), "source_identity": (6, 512), "identity": (6,),
        "frame": (6,), "source_frame": (6,),
    }  # fmt: skip
    assert batch["target_codes"].dtype == batch["kind"].dtype == torch.int64
    assert batch["source_identity"].dtype == torch.float32
    torch.testing.assert_close(batch["source_identity"].norm(dim=1), torch.ones(6))
    assert len(list(module.val_dataloader())) == 2

    stopped, whole = module.train_dataloader(), [b["target_codes"].sum() for b in module.train_dataloader()]
    iterator = iter(stopped)
    next(iterator), next(iterator)
    resumed = module.train_dataloader()
    resumed.load_state_dict(stopped.state_dict())
    assert [b["target_codes"].sum() for b in resumed] == whole[2:]


def test_a_swappers_triplets_stand_beside_a_corpus(root: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "swaps") as writer:
        for number, (name, who, swap_of) in enumerate(
            [("s", "sam", None), ("t", "tom", None), ("r", "sam", "t")]
        ):
            arrays = {
                "identity_warp": np.zeros((4, 2, 3), np.float32),
                "landmarks": np.zeros((4, 68, 2), np.float32),
            }
            clip = Clip(name, "triplets", "train", who, 4, 25.0, SIZE, swap_of=swap_of)
            writer.add(clip, np.full((4, SIZE, SIZE, 3), 20 * number, np.uint8), arrays)
    also = str(tmp_path / "swaps")
    module = SwapData(
        str(root / "store"),
        lambda: LevelCodes(tmp_path, size=SIZE),
        SwapShares(1, 1, 0, 0),
        batch_size=8,
        also=[also],
    )
    module.prepare_data()
    assert len(list((tmp_path / "latents").iterdir())) == 2
    names = module.identities
    assert names == ["anna", "ben", "cleo", "dora", "emil", "fay", f"{also}:sam", f"{also}:tom"]
    assert len(module.dataset("train")) == 5 * FRAMES + 2 * 4
    drawn = [sample for epoch in range(5) for sample in samples(module.dataset("train"), 1 + epoch)]
    taught = {
        (sample["clip"], sample["source_clip"], names[sample["identity"]])
        for sample in drawn
        if sample["clip"] in "srt" and sample["kind"] == 1
    }
    assert taught == {("t", "s", f"{also}:sam")}
    assert {sample["clip"] for sample in samples(module.dataset("val"))} == {"dora1"}
    with pytest.raises(TalkgenError, match="several stores"):
        SwapData("a", lambda: LevelCodes(tmp_path), also=["b"], latents_folder="c")


def test_without_a_recogniser_directions_are_zero(root: Path) -> None:
    assert not pairs(root)[0, 0]["source_identity"].any()
