"""Changes of sound and pictures, the store that shows them, and the suite through the real entry point."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from talkgen import evaluation
from talkgen.audio.mel import mel_spectrogram
from talkgen.data.changed_store import ChangedStore
from talkgen.data.store import Store
from talkgen.errors import TalkgenError
from talkgen.metrics.curves import Curve, draw_curves
from talkgen.metrics.held_out import HeldOutClips
from talkgen.metrics.occluders import hand, microphone
from talkgen.metrics.sound_damage import (
    band_limited,
    coarse,
    interrupted,
    low_bit_rate,
    noisy,
    silent,
)
from talkgen.robustness import CHANGES, PlacedReferences, PlacedSources, choose_changes


def tone(hertz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)).astype(np.float32)


def test_noise_has_the_power_that_is_asked_for() -> None:
    for snr in (20, -5):
        noise = noisy(tone(300), snr) - tone(300)
        measured = 10 * np.log10(np.mean(tone(300) ** 2) / np.mean(noise**2))
        assert measured == pytest.approx(snr, abs=0.2)
    assert np.array_equal(noisy(tone(300), 5), noisy(tone(300), 5))


def test_few_bits_and_low_rates() -> None:
    few = coarse(tone(300), 4)
    assert set(np.round(few * 8, 6)) <= set(range(-8, 9)) and np.abs(few - tone(300)).max() <= 1 / 16 + 1e-6
    assert np.abs(band_limited(tone(300), 4000)[500:-500] - tone(300)[500:-500]).max() < 0.02
    assert np.abs(band_limited(tone(3000), 4000)[500:-500]).max() < 0.02  # above 2 kHz nothing is left
    assert band_limited(tone(300), 4000).shape == tone(300).shape
    assert not silent(tone(300)).any()


def test_low_bit_rates_stay_in_time_and_lose_the_more_the_lower_they_are() -> None:
    rng = np.random.default_rng(0)
    swell = np.interp(np.arange(32000), np.arange(0, 32001, 1600), rng.uniform(0, 1, 21))
    speech = (swell * np.sin(np.cumsum(0.05 + 0.03 * swell)) * 0.4).astype(np.float32)
    speech += 0.05 * swell.astype(np.float32) * rng.standard_normal(32000).astype(np.float32)
    lost = []
    for rate in (32, 8):
        heard = low_bit_rate(speech, rate)
        assert heard.shape == speech.shape and heard.dtype == np.float32
        late = np.correlate(np.pad(heard, 400), speech, "valid").argmax() - 400
        assert abs(late) <= 8  # half a millisecond
        lost.append(float(np.mean((heard - speech) ** 2)))
    assert lost[0] < lost[1] < np.mean(speech**2)


@pytest.mark.parametrize("by", ["laughter", "coughs"])
def test_bouts_beside_the_speech_are_as_loud_as_it(by) -> None:  # type: ignore[no-untyped-def]
    speech = np.tile(tone(300), 4)
    added = interrupted(speech, by) - speech
    loud = np.abs(added) > 1e-6
    assert np.mean(added[loud] ** 2) == pytest.approx(np.mean(speech**2), rel=0.02)
    assert (
        not loud[: round(0.39 * 16000)].any() and loud[round(0.41 * 16000) : round(1.1 * 16000)].mean() > 0.6
    )
    assert not loud[round(1.21 * 16000) : round(1.99 * 16000)].any()
    np.testing.assert_array_equal(interrupted(speech, by), interrupted(speech, by))


@pytest.mark.parametrize("thing", [microphone, hand])
def test_things_hide_the_mouth_and_little_else(thing) -> None:  # type: ignore[no-untyped-def]
    frames = np.full((3, 96, 96, 3), 200, np.uint8)
    points = np.zeros((3, 68, 2), np.float32)
    points[:] = [48, 30]
    points[:, 8] = [48, 84]
    points[:, 48:] = np.stack([np.linspace(36, 60, 20), np.full(20, 66)], 1)
    drawn = thing(frames, points)
    changed = (drawn != frames).any(-1)
    assert changed[:, 66:72, 44:52].all() and not changed[:, :48].any()
    assert frames.min() == 200  # the stored frames are left alone


def test_a_changed_store_is_heard_and_seen_otherwise(tiny_store: Path) -> None:
    store = Store.open(tiny_store)
    clip = store.clips[-1]
    deaf = ChangedStore(store, sound=silent)
    assert not deaf.array(clip, "waveform", 100, 900).any()
    mel = deaf.array(clip, "mel")
    whole = mel_spectrogram(np.zeros(store.length(clip, "waveform"), np.float32))
    np.testing.assert_allclose(mel, whole[:, : mel.shape[1]])
    assert mel.shape == store.array(clip, "mel").shape
    np.testing.assert_array_equal(deaf.array(clip, "mel", 3, 9), mel[:, 3:9])
    np.testing.assert_array_equal(deaf.frames(clip, 2, 5), store.frames(clip, 2, 5))
    np.testing.assert_array_equal(deaf.array(clip, "landmarks", 0, 2), store.array(clip, "landmarks", 0, 2))
    assert deaf.clips == store.clips and deaf.size == store.size
    with pytest.raises(TalkgenError, match="whisper features in the store are those of the old one"):
        deaf.array(clip, "whisper")
    seen: list[np.ndarray] = []
    other = ChangedStore(store, pictures=lambda frames, points: seen.append(points) or 255 - frames)
    np.testing.assert_array_equal(other.frames_at(clip, [7, 3]), 255 - store.frames_at(clip, [7, 3]))
    np.testing.assert_array_equal(seen[0], store.array(clip, "landmarks")[[7, 3]])
    np.testing.assert_array_equal(other.array(clip, "mel"), store.array(clip, "mel"))


def test_references_near_and_far(tiny_store: Path) -> None:
    store = Store.open(tiny_store)
    clips = HeldOutClips(store, store.clips[-1:], 32, frames=20)  # of 40
    assert PlacedReferences(clips, [], near=True).references(0, 3) == [20, 21, 22]
    assert PlacedReferences(clips, [], near=False).references(0, 3) == [37, 38, 39]
    whole = HeldOutClips(store, store.clips[-1:], 32)
    assert PlacedReferences(whole, [], near=True).references(0, 2) == [38, 39]


def test_sources_alike_and_unlike(tiny_store: Path) -> None:
    store = Store.open(tiny_store)
    clips = HeldOutClips(store, store.clips[-1:], 32)
    own = clips.clips[0].identity
    angles = {own: 0.0, "twin": 0.3, "cousin": 1.0, "stranger": 2.5}
    vectors = {who: torch.tensor([np.cos(angle), np.sin(angle)]) for who, angle in angles.items()}
    assert PlacedSources(clips, vectors, unlike=False).source(0) == "twin"
    unlike = PlacedSources(clips, vectors, unlike=True)
    assert unlike.source(0) == "stranger" and unlike.exact(0, 0, 4) is None
    assert PlacedSources(clips, {own: vectors[own]}, unlike=True).source(0) == own


def test_families_are_chosen_by_how_they_begin() -> None:
    assert [one.name for one in choose_changes(CHANGES, ["silence"])] == ["unchanged", "silence"]
    assert choose_changes(CHANGES, []) == list(CHANGES)
    with pytest.raises(TalkgenError, match="changes=wind: there are none, noise, SNR dB, sample rate"):
        choose_changes(CHANGES, ["wind"])
    assert [c.level for c in CHANGES if c.family.startswith("noise")] == [20, 15, 10, 5, 0, -5]
    assert max(c.yaw_degrees or 0 for c in CHANGES) == 60


def test_the_suite_on_a_method(
    tiny_method: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr(
        "talkgen.metrics.landmark_source.open_landmark_source", lambda name: TalkgenError("none")
    )
    command = [f"paths.runs={tiny_method.parent}", f"root={tiny_store}", "suite=robustness", "device=cpu"]
    assert evaluation.main([*command, "frames=5", f"out={tmp_path}", "changes=[silence]"]) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    names = [row["name"] for row in table["rows"]]
    assert names == [
        "unchanged: lip-sync",
        "silence: lip-sync",
    ]
    values = [row["cells"]["PSNR[rgb,mouth]"]["value"] for row in table["rows"]]
    assert all(value > 0 for value in values) and values[0] != values[1]
    assert cv2.imread(str(tmp_path / "curves.png")) is not None
    assert (tmp_path / "changes/00/sheet.png").is_file()
    with pytest.raises(TalkgenError, match="suite=speed: there is robustness"):
        evaluation.main([*command[:2], "suite=speed", f"out={tmp_path}"])


def test_curves_have_a_plot_a_family_and_metric(tmp_path: Path) -> None:
    points = [
        Curve("none", 0, "a", {"x": 1.0, "y": None}),
        *(Curve("noise", level, "a", {"x": level / 10, "y": 2.0}) for level in (20, 0, -5)),
        Curve("yaw", 30, "a", {"x": None, "y": 3.0}),
    ]
    draw_curves(points, ["x", "y"], tmp_path / "curves.png")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape == (2 * 200 + 30, 600, 3)
    blue = np.abs(picture.astype(int) - [180, 119, 31]).sum(-1) < 30
    assert blue[:200, :300].any() and blue[:200, 300:].any()
    assert blue[200:400, 300:].any() and not blue[200:400, :300].any()


def test_places_without_a_number_are_not_joined_and_empty_columns_are_left_out(tmp_path: Path) -> None:
    blue = []
    for labels in (("hand", "microphone"), (None, None)):
        pair = zip((0, 1), labels, strict=True)
        points = [Curve("o", level, "a", {"x": 1.0 + level, "y": None}, label) for level, label in pair]
        draw_curves(points, ["x", "y"], tmp_path / "curves.png")
        picture = cv2.imread(str(tmp_path / "curves.png"))
        assert picture.shape == (200 + 30, 300, 3)
        blue.append(int((np.abs(picture[:200].astype(int) - [180, 119, 31]).sum(-1) < 30).sum()))
    assert 0 < blue[0] < blue[1] / 3
