"""Coefficients of a morphable model as a feature of a store: made, bound to the model, read in windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkgen.data.clip_preparation import ClipPreparer, PrepareSettings
from talkgen.data.corpora.demo import generate_demo
from talkgen.data.corpora.demo_casting import TINY
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings
from talkgen.errors import TalkgenError
from talkgen.face3d import fitting
from talkgen.face3d.coefficients import SIZE, Coefficients
from talkgen.face3d.fitting import fit_landmarks, load_clip_fitter
from talkgen.face3d.head import build_head
from talkgen.preparation import main

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_demo(folder, TINY, workers=1, progress=False)
    return folder


def prepare(raw: Path, out: Path, *more: str) -> Store:
    arguments = [
        "corpus=demo", "~corpus.generate", f"source={raw}", f"out={out}", "executor=serial", "progress=false",
        "settings.size=64", *more,
    ]  # fmt: skip
    assert main(arguments) == 0
    return Store.open(out)


@pytest.fixture(scope="module")
def root(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "store"
    prepare(raw, folder, "settings.features=[coefficients]")
    return folder


@pytest.fixture(scope="module")
def store(root: Path) -> Store:
    return Store.open(root)


def test_every_clip_has_them_and_they_follow_the_truth(store: Store) -> None:
    head = build_head()
    lips = []
    for clip in store.clips:
        stored = store.array(clip, "coefficients")
        assert stored.shape == (clip.frames, SIZE) and stored.dtype == np.float32
        parts, truth = (
            Coefficients.unpack(array) for array in (stored, store.array(clip, "truth_coefficients"))
        )
        assert np.ptp(parts.identity, axis=0).max() == 0
        still = np.zeros(80)
        gaps = [
            np.linalg.norm(points[:, 62] - points[:, 66], axis=1)
            for points in (head.landmarks68(still, p.expression) for p in (parts, truth))
        ]
        lips.append(np.corrcoef(*gaps)[0, 1])
        assert np.corrcoef(parts.angle[:, 1], truth.angle[:, 1])[0, 1] > 0.7
    assert np.median(lips) > 0.95


def test_windows_hold_them_on_request(root: Path, store: Store) -> None:
    window = WindowSettings(frames=5, arrays=("coefficients",))
    data = TalkingFaceData(str(root), window, batch_size=2, workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["coefficients"].shape == (2, 5, SIZE)
    for row, (name, first) in enumerate(zip(batch["clip"], batch["frame"].tolist(), strict=True)):
        stored = store.array(store.clip(name), "coefficients", first, first + 5)
        np.testing.assert_array_equal(batch["coefficients"][row].numpy(), stored)


def test_the_same_command_again_does_nothing_and_another_model_is_refused(
    raw: Path, root: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(raw, root, "settings.features=[coefficients]")
    assert "already prepared" in capsys.readouterr().out
    assert store.description["settings"]["networks_sha256"] == {"coefficients": build_head().sha256()}
    monkeypatch.setattr(fitting, "open_morphable_model", lambda name: build_head(1))
    with pytest.raises(TalkgenError, match=r"networks_sha256\.coefficients"):
        prepare(raw, root, "settings.features=[coefficients]")


def test_a_killed_run_is_completed(
    raw: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def dies(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return fit_landmarks(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit_landmarks", dies)
        with pytest.raises(TalkgenError, match="interrupted"):
            prepare(raw, tmp_path / "out", "settings.features=[coefficients]")
    finished = prepare(raw, tmp_path / "out", "settings.features=[coefficients]")
    assert finished.description["shards"] == store.description["shards"]  # byte for byte


def test_what_cannot_be_used_is_refused_in_one_sentence(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(TalkgenError, match=r"morphable_model=lost\.mat: no such file; give demo"):
        prepare(
            raw, tmp_path / "out", "settings.features=[coefficients]", "settings.morphable_model=lost.mat"
        )
    with pytest.raises(TalkgenError, match=r"add features=\[coefficients\]"):
        prepare(raw, tmp_path / "out", "settings.morphable_model=demo")
    with pytest.raises(TalkgenError, match="not handed over"):
        ClipPreparer(raw, PrepareSettings(features=("coefficients",)))


def test_models_are_told_apart_by_their_numbers() -> None:
    assert load_clip_fitter("demo") == load_clip_fitter(None)
    assert build_head(1).sha256() != build_head().sha256()
