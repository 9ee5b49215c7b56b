"""The demo corpus: deterministic, held out by construction, true to its own pictures."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from talkgen import weights
from talkgen.audio.speech import Phoneme
from talkgen.audio.visemes import VISEMES
from talkgen.audio.waveform import load_waveform
from talkgen.data.clip import RawClip
from talkgen.data.corpora import demo_performance
from talkgen.data.corpora.demo import FrameTruth, find_clips, generate_demo, make_take, write_video
from talkgen.data.corpora.demo_casting import TINY, DemoSettings, cast, plan_clips, split_of_identity, style
from talkgen.data.corpora.demo_export import LAYOUTS, export_demo
from talkgen.data.corpora.demo_performance import FPS, PHONEMES, perform, split_sounds
from talkgen.data.manifest import write_manifest
from talkgen.errors import FileError
from talkgen.face3d.coefficients import EXPRESSION, IDENTITY
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS
from talkgen.video.reader import probe, read_frames

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_demo(folder, TINY, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def takes():
    """Four longer takes, two languages, drawn lazily."""
    settings = DemoSettings(identities=8, clips_per_identity=2, seconds=6.0, size_pixels=128)
    return [make_take(plan, settings) for plan in plan_clips(settings)[:4]]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_corpus_is_complete_and_readable(corpus: Path):
    clips = find_clips(corpus)
    assert len(clips) == 9
    assert {clip.split for clip in clips} == {"train", "val", "test"}
    for clip in clips:
        info = probe(corpus / clip.video)
        assert (info.width, info.height, info.fps, info.frames) == (96, 96, 25, 50)
        assert info.has_audio
        assert len(load_waveform(corpus / clip.video)) == pytest.approx(2.0 * 16000, abs=1200)
        with np.load(corpus / clip.truth) as truth:
            assert set(truth) == {item.name for item in fields(FrameTruth)}
            assert all(len(truth[name]) == 50 for name in truth)
            assert truth["landmarks"].shape == (50, 68, 2) and truth["landmarks"].dtype == np.float32
            assert truth["truth_coefficients"].shape == (50, 257)
            assert truth["landmarks"].min() > 0 and truth["landmarks"].max() < 96


def test_same_seed_gives_the_same_bytes_in_any_number_of_processes(corpus: Path, tmp_path: Path):
    generate_demo(tmp_path, TINY, workers=2, progress=False)
    files = sorted(p.relative_to(corpus) for p in corpus.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert [f for f in files if digest(corpus / f) != digest(tmp_path / f)] == []


def test_another_seed_gives_other_people():
    a, b = cast(TINY, 0), cast(DemoSettings(seed=1), 0)
    assert not np.allclose(a.identity, b.identity)


def test_finished_clips_are_kept_and_missing_ones_are_made(corpus: Path):
    clips = find_clips(corpus)
    kept, lost = corpus / clips[0].video, corpus / clips[1].truth
    before, stamp = digest(lost), kept.stat().st_mtime_ns
    lost.unlink()
    generate_demo(corpus, TINY, workers=1, progress=False)
    assert kept.stat().st_mtime_ns == stamp
    assert digest(lost) == before


def test_a_folder_of_other_settings_is_refused(corpus: Path, tmp_path: Path):
    with pytest.raises(FileError, match="other settings"):
        generate_demo(corpus, DemoSettings(identities=2), progress=False)
    with pytest.raises(FileError, match=r"clips\.jsonl"):
        find_clips(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        DemoSettings(),
        TINY,
        DemoSettings(identities=2),
        DemoSettings(identities=30, seed=3),
        DemoSettings(identities=14, held_out=6, held_out_clips=2),
        DemoSettings(identities=3, held_out=8),
    ],
)
def test_held_out_by_construction(settings: DemoSettings):
    plans = plan_clips(settings)
    train = [p for p in plans if p.split == "train"]
    test = [p for p in plans if p.split == "test"]
    assert train and test and any(p.split == "val" for p in plans)
    train_people = {i for p in train for i in (p.performer, p.face)}
    assert not train_people & {p.performer for p in test}
    assert not {p.voice.name for p in train} & {p.voice.name for p in test}
    assert not {s for p in train for s in p.sentences} & {s for p in test for s in p.sentences}
    held_out = {i for i in range(settings.identities) if split_of_identity(settings, i) == "test"}
    assert not held_out & train_people
    for part in (train, test):
        assert {p.language for p in part} == {"en", "zh"}
    assert len({p.id for p in plans}) == len(plans)


def test_swap_repeats_the_performance_with_another_face(corpus: Path):
    clips = {clip.id: clip for clip in find_clips(corpus)}
    swap = next(clip for clip in clips.values() if clip.swap_of)
    target = clips[swap.swap_of]
    assert swap.identity != target.identity and swap.split == target.split
    with np.load(corpus / swap.truth) as a, np.load(corpus / target.truth) as b:
        for name in ("truth_pose", "truth_generators", "truth_phoneme", "truth_blink"):
            assert np.array_equal(a[name], b[name])
        assert np.array_equal(a["truth_coefficients"][:, EXPRESSION], b["truth_coefficients"][:, EXPRESSION])
        assert not np.allclose(a["truth_coefficients"][:, IDENTITY], b["truth_coefficients"][:, IDENTITY])
        apart = np.linalg.norm(a["landmarks"] - b["landmarks"], axis=-1)
        size = np.linalg.norm(b["landmarks"][:, 36] - b["landmarks"][:, 45], axis=-1).mean()
        assert 0.01 * size < apart.mean() < 0.25 * size
        one = a["landmarks"].mean(1) - a["landmarks"].mean((0, 1))
        two = b["landmarks"].mean(1) - b["landmarks"].mean((0, 1))
        assert np.abs(one - two).max() < 0.05 * size  # the heads move alike
    for x, y in zip(read_frames(corpus / swap.video), read_frames(corpus / target.video), strict=True):
        difference = np.abs(x.astype(int) - y.astype(int)).mean(-1)
        assert difference[:20, :8].mean() < 4  # the same room
        assert difference[-8:].mean() < 6  # the same clothes
        assert difference[30:60, 35:60].mean() > 4  # another face
        break


def test_coefficients_and_generators_agree(corpus: Path):
    with np.load(corpus / find_clips(corpus)[0].truth) as truth:
        g = build_head().coefficients_to_generators(truth["truth_coefficients"][:, EXPRESSION])
        assert g == pytest.approx(truth["truth_generators"], abs=2e-3)  # stored as float32


def test_landmarks_lie_on_the_rendered_features(takes):
    """Lips are redder than the chin, and where the eyes should be there is more contrast than below."""
    redder, contrast = [], []
    for take in takes:
        for frame in range(5, 150, 24):
            picture = take.frame(frame).astype(float)
            points = take.truth.landmarks[frame]
            red = picture[..., 0] / (picture.sum(-1) + 1)

            def at(x: float, y: float, image: np.ndarray) -> float:
                return float(image[round(y), round(x)])

            lower = (points[57] + points[66]) / 2
            redder.append(at(*lower, red) - at(*(2 * points[8] + points[57]) / 3, red))
            grey = picture.mean(-1)
            x0, y0 = points[36:42].min(0).astype(int)
            x1, y1 = points[36:42].max(0).astype(int) + 1
            eye, cheek = grey[y0:y1, x0:x1], grey[y1 + 6 : y1 + 10, x0:x1]
            contrast.append(eye.std() - cheek.std())
    assert np.mean(np.array(redder) > 0.01) > 0.9
    assert np.mean(np.array(contrast) > 3) > 0.9


def test_mouth_follows_the_sound(takes):
    for take in takes:
        truth = take.truth
        names = [VISEMES[i].name for i in truth.truth_viseme]
        closed = np.array([name == "closed" for name in names])
        vowel = np.array([VISEMES[i].opening >= 0.4 for i in truth.truth_viseme])
        assert np.median(truth.truth_lip_opening[vowel]) > 0.06
        assert truth.truth_lip_opening[closed].min() < 0.03
        assert np.median(truth.truth_lip_opening[closed]) < 0.3 * np.median(truth.truth_lip_opening[vowel])
        assert np.corrcoef(truth.truth_lip_opening, truth.truth_loudness)[0, 1] > 0.25
        spread = np.array([VISEMES[i].width >= 0.4 for i in truth.truth_viseme])
        rounded = np.array([VISEMES[i].width <= -0.4 for i in truth.truth_viseme])
        assert truth.truth_lip_width[spread].mean() > truth.truth_lip_width[rounded].mean() + 0.02


def test_sound_and_mouth_are_in_step(takes):
    """The opening of the mouth is best explained by the sound of the same moment."""
    lags = range(-6, 7)
    total = np.zeros(len(lags))
    for take in takes:
        opening = np.array([VISEMES[i].opening for i in take.truth.truth_viseme])
        seen = take.truth.truth_lip_opening
        for i, lag in enumerate(lags):
            a, b = (opening[lag:], seen[: len(seen) - lag]) if lag >= 0 else (opening[:lag], seen[-lag:])
            total[i] += np.corrcoef(a, b)[0, 1]
    assert abs(list(lags)[int(total.argmax())]) <= 1


def utterance(*symbols: str, seconds: float = 0.09) -> tuple[Phoneme, ...]:
    return tuple(Phoneme(s, i * seconds, (i + 1) * seconds) for i, s in enumerate(symbols))


@pytest.mark.parametrize("lip", ["p", "b", "m"])
def test_every_bilabial_closes_the_lips_in_some_frame(lip: str):
    column = {name: i for i, name in enumerate(GENERATORS)}
    for offset in np.linspace(0, 0.04, 5):
        start = 0.20 + offset
        phonemes = (
            Phoneme("_", 0.0, 0.1),
            Phoneme("ɑ", 0.1, start),
            Phoneme(lip, start, start + 0.055),
            Phoneme("ɑ", start + 0.055, 0.6),
            Phoneme("_", 0.6, 0.8),
        )
        loud = np.random.default_rng(0).normal(size=12800).astype(np.float32) * 0.1
        acted = perform(phonemes, loud, 16000, 20, [0])
        frames = np.flatnonzero(np.abs((np.arange(20) + 0.5) / FPS - start - 0.03) < 0.05)
        identity = np.zeros((1, 80))
        points = build_head().landmarks68(
            identity, build_head().generators_to_coefficients(acted.generators * (np.arange(64) < 16))
        )
        opening = np.linalg.norm(points[:, 62] - points[:, 66], axis=1)
        assert opening[frames].min() < 0.025
        assert opening.max() > 0.1
        assert acted.generators[frames, column["jaw_open"]].min() < 0.3


def test_rounding_is_anticipated():
    """In "su" the lips round before the vowel begins, in "si" they do not (coarticulation)."""
    sound = np.ones(9600, np.float32) * 0.1
    rounded, spread = (
        perform(utterance("_", "s", vowel, vowel, "_", seconds=0.12), sound, 16000, 15, [0]).generators
        for vowel in ("u", "i")
    )
    during_s = round(0.20 * FPS)
    pucker = GENERATORS.index("pucker")
    assert rounded[during_s, pucker] > spread[during_s, pucker] + 0.08


def test_blinks_come_at_a_natural_rate_and_close_the_eyes():
    random = np.random.default_rng(0)
    moments = demo_performance.blink_times(random, 3000.0, [])
    assert 0.2 < len(moments) / 3000 < 0.45  # people who talk blink about every three seconds
    gaps = np.diff(moments)
    assert gaps.min() > 0.25 and gaps.max() < 10
    quiet = np.zeros(16000 * 20, np.float32)
    acted = perform((Phoneme("_", 0.0, 20.0),), quiet, 16000, 500, [1])
    assert 3 <= (np.diff(acted.blink.astype(int)) == 1).sum() <= 10
    left = acted.generators[:, GENERATORS.index("blink_left")]
    assert left.max() > 0.9 and left.min() >= 0.0
    # a blink takes 150 to 300 ms
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], left > 0.1, [0]]).astype(int))))[::2]
    assert 0.12 <= np.median(runs) / FPS <= 0.36


def test_blink_flag_agrees_with_the_eye_opening(takes):
    openings, flags = [], []
    for take in takes:
        openings.append(take.truth.truth_eye_opening / np.median(take.truth.truth_eye_opening, axis=0))
        flags.append(take.truth.truth_blink > 0)
    opening, flag = np.concatenate(openings), np.concatenate(flags)
    assert flag.any()
    assert opening[flag].max() < 0.75 and np.median(opening[~flag]) > 0.9


def test_a_pause_is_silent_and_closed(takes):
    for take in takes:
        quiet = take.truth.truth_viseme == 0
        middle = quiet & np.roll(quiet, 3) & np.roll(quiet, -3)
        middle[:3] = middle[-3:] = False
        if middle.any():
            assert np.median(take.truth.truth_lip_opening[middle]) < 0.03


def test_compound_phonemes_are_split_into_letters():
    sounds = split_sounds((Phoneme("aɪ", 0.0, 0.2), Phoneme("tʃ", 0.2, 0.3)))
    assert [PHONEMES[s.phoneme] for s in sounds] == ["a", "ɪ", "tʃ"]
    assert sounds[1].start == pytest.approx(0.1)


def test_styles_vary_between_takes_but_hair_stays():
    a, b = style(DemoSettings(), 3, 0), style(DemoSettings(), 3, 1)
    assert (a.haircut, a.hair_colour) == (b.haircut, b.hair_colour)
    assert a.backdrop != b.backdrop and not np.allclose(a.gamma, b.gamma)


def test_settings_refuse_what_cannot_be():
    for wrong in ({"identities": 1}, {"size_pixels": 97}, {"seconds": 0.2}, {"swaps_per_identity": 9}):
        with pytest.raises(ValueError):
            DemoSettings(**wrong)


@pytest.mark.parametrize("size", [128, 256])
def test_a_face_detector_finds_the_faces(size: int):
    """SCRFD finds nearly every face, with eyes, nose and corners of the mouth where they are."""
    if not weights.available("scrfd_500m"):
        pytest.skip("weights scrfd_500m are absent")
    from talkgen.faces.detection import make_detector

    detector = make_detector("insightface")
    settings = DemoSettings(seconds=2.0, size_pixels=size)
    found, frames, errors = 0, 0, []
    for plan in plan_clips(settings)[::5]:
        take = make_take(plan, settings)
        for index in range(0, 50, 12):
            frames += 1
            faces = detector.detect(take.frame(index))
            if not faces:
                continue
            found += 1
            face = max(faces, key=lambda f: f.score)
            p = take.truth.landmarks[index]
            truth = np.stack([p[36:42].mean(0), p[42:48].mean(0), p[30], p[48], p[54]])
            errors.append(
                np.linalg.norm(face.keypoints - truth, axis=1) / np.linalg.norm(truth[0] - truth[1])
            )
    assert found / frames > 0.98
    assert np.median(errors) < 0.08
    assert np.mean(np.array(errors) < 0.20) > 0.9


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_export_is_understood_by_the_adapter(layout: str, tmp_path: Path):
    settings = DemoSettings(
        identities=2, clips_per_identity=1, swaps_per_identity=0, seconds=1.0, size_pixels=96
    )
    videos = export_demo(tmp_path, layout, settings)
    adapter = importlib.import_module(f"talkgen.data.corpora.{layout}")
    clips = adapter.find_clips(tmp_path)
    assert {str(video.relative_to(tmp_path)) for video in videos} == {clip.video for clip in clips}
    size = {"voxceleb2": 224, "lrw": 256}.get(layout, 96)
    for video in videos:
        info = probe(video)
        assert (info.width, info.height, info.fps, info.has_audio) == (size, size, 25, True)
    if layout == "lrw":
        assert info.frames == 29 and all(video.with_suffix(".txt").exists() for video in videos)


def test_unknown_layout_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown layout"):
        export_demo(tmp_path, "vox1")


def test_video_shows_what_was_drawn(takes, tmp_path: Path):
    take = takes[0]
    settings = DemoSettings(size_pixels=128, seconds=6.0)
    write_video(take.waveform, [take], tmp_path / "take.mp4", settings)
    for index, frame in enumerate(read_frames(tmp_path / "take.mp4")):
        if index % 50 == 0:
            drawn = take.frame(index).astype(float)
            assert np.sqrt(((frame - drawn) ** 2).mean()) < 6


def test_a_listing_is_read_line_by_line(tmp_path: Path):
    """JSON leaves U+2028 as it is, and ``str.splitlines`` cuts there."""
    clip = RawClip("a", "demo", "train", "a.mp4", "x", notes="one\u2028two")
    write_manifest(tmp_path / "clips.jsonl", [clip])
    assert find_clips(tmp_path) == [clip]
    (tmp_path / "clips.jsonl").write_text("{")
    with pytest.raises(FileError, match="line 1"):
        find_clips(tmp_path)
