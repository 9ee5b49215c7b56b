"""Motion in use: length, eyes, pose, and that a stream gives what the whole does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from talkgen.audio.frame_features import FrameFeatures
from talkgen.configuration import RunFolder
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.errors import TalkgenError
from talkgen.face3d.coefficients import ANGLE, EXPRESSION, IDENTITY, TRANSLATION
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS
from talkgen.face3d.motion_statistics import lid_closure, motion_statistics
from talkgen.face3d.subspaces import LANDMARKS, disentangle, motion_energy
from talkgen.inference.motion import Motion, MotionGenerator, _morphable_model, there_and_back
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.motion_space import MotionSpace
from talkgen.models.disenttalk.noise import motion_schedule
from talkgen.models.disenttalk.sampling import Windowing

HEAD = build_head()
RANDOM = np.random.default_rng(0)
WAVE = (0.2 * RANDOM.normal(size=16000 * 2)).astype(np.float32)


def acted(frames: int) -> np.ndarray:
    """Coefficients of somebody who moves by chance and blinks now and then."""
    generators = 0.2 * RANDOM.normal(size=(frames, 64))
    for name in ("blink_left", "blink_right"):
        generators[:, GENERATORS.index(name)] = np.arange(frames) % 20 == 10
    made = RANDOM.normal(size=(frames, 257)).astype(np.float32)
    made[:, EXPRESSION] = HEAD.generators_to_coefficients(generators)
    return made


CLIPS = [acted(100) for _ in range(4)]


@pytest.fixture(scope="module")
def generator() -> MotionGenerator:
    torch.manual_seed(0)
    expressions = [clip[:, EXPRESSION] for clip in CLIPS]
    moving = np.concatenate([e - e.mean(0) for e in expressions]).astype(np.float64)
    energies = {name: motion_energy(HEAD, name) for name in LANDMARKS}
    split = disentangle(energies, {"lip": 6, "eye": 4}, np.cov(moving.T))
    space = MotionSpace((6, 4, 12))
    space.set_from(motion_statistics(expressions, list("abcd"), split, HEAD, 12))
    denoiser = MotionDenoiser((6, 4, 12), 640, width=16, blocks=1, heads=2)
    diffusion = GaussianDiffusion(motion_schedule(), "x0", learned_range=False)
    motion = Motion(denoiser, space, diffusion, None, "demo")
    return MotionGenerator(motion, FrameFeatures("mel"), DPMSolver(3), windowing=Windowing(20, 4, 3))


def closure(coefficients: np.ndarray) -> np.ndarray:
    return lid_closure(HEAD, coefficients[:, EXPRESSION])


@pytest.mark.parametrize("frames", [0, 1, 20, 50])
def test_any_length_in_the_sources_face(generator: MotionGenerator, frames: int) -> None:
    start = CLIPS[0][0]
    heard = generator.hear(WAVE)[:frames]
    made = generator.generate(heard, start)
    assert made.shape == (frames, 257) and made.dtype == np.float32
    if frames:
        others = np.setdiff1d(np.arange(257), np.arange(EXPRESSION.start, EXPRESSION.stop))
        np.testing.assert_array_equal(made[:, others], np.tile(start[others], (frames, 1)))
    if frames > 1:
        assert made[:, EXPRESSION].std(0).max() > 0
        np.testing.assert_array_equal(made, generator.generate(heard, start))
        assert not np.array_equal(made, generator.generate(heard, start, seed=1))


def test_a_sound_has_its_frames(generator: MotionGenerator) -> None:
    assert generator.hear(WAVE).shape == (50, generator.dim)
    assert generator.hear(WAVE, 60).shape == (60, generator.dim)
    assert generator.morphable_model == "demo"


def test_eyes_are_a_channel_of_their_own(generator: MotionGenerator) -> None:
    heard, start = generator.hear(WAVE)[:40], CLIPS[1]
    space = generator.motion.space

    def eyes(made: np.ndarray) -> np.ndarray:
        expression = torch.from_numpy(made[:, EXPRESSION])
        return space.encode(expression, expression.mean(0))[:, space.eyes].numpy()

    sampled = generator.generate(heard, start)
    off = generator.generate(heard, start, eye="off")
    assert np.abs(eyes(off)).max() < 1e-3 < np.abs(eyes(sampled)).max()
    copied = generator.generate(heard, start, eye="copied", eyes=CLIPS[2])
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(eyes(copied).T, eyes(CLIPS[2])[:40].T, strict=True)]
    assert min(r) > 0.999
    drive = np.zeros(40)
    drive[15:20] = 1
    driven = closure(generator.generate(heard, start, eye="driven", eyes=drive))
    assert driven[15:20].min() > 0.6 and np.delete(driven, slice(15, 20)).max() < 0.5
    # the lips are the same, whatever the eyes do
    for made in (off, copied):
        parts = [torch.from_numpy(x[:, EXPRESSION]) for x in (sampled, made)]
        lips = [space.encode(part, part.mean(0))[:, space.lips] for part in parts]
        torch.testing.assert_close(*lips, atol=1e-3, rtol=1e-3)


def test_pose_is_played_forwards_and_backwards(generator: MotionGenerator) -> None:
    heard, start = generator.hear(WAVE)[:7], CLIPS[1][0]
    pose = CLIPS[2][:4]
    made = generator.generate(heard, start, pose=pose)
    np.testing.assert_array_equal(made[:, ANGLE], pose[[0, 1, 2, 3, 2, 1, 0], ANGLE])
    six = np.concatenate([pose[:, ANGLE], pose[:, TRANSLATION]], axis=1)
    np.testing.assert_array_equal(generator.generate(heard, start, pose=six), made)
    np.testing.assert_array_equal(made[:, IDENTITY], np.tile(start[IDENTITY], (7, 1)))
    assert there_and_back(np.arange(3), 1).tolist() == [0, 0, 0]


def test_a_stream_gives_frames_before_the_sound_has_ended(generator: MotionGenerator) -> None:
    fed = 0

    def chunks() -> object:
        nonlocal fed
        for piece in np.array_split(WAVE, 23):
            fed += len(piece)
            yield piece

    start, made, when = CLIPS[0][0], [], []
    for frame in generator.stream(chunks(), start, hop=6):  # type: ignore[arg-type]
        made.append(frame)
        when.append(fed / 16000)
    assert np.shape(made) == (50, 257)
    wait = np.array(when) - (np.arange(50) + 1) / 25
    assert wait.max() <= generator.lookahead_seconds(6) + len(WAVE) / 23 / 16000 + 1e-6
    assert when[0] < 1.0


def test_a_stream_is_the_whole_where_windows_are_the_same(generator: MotionGenerator) -> None:
    """One window holds the whole sound."""
    whole = MotionGenerator(
        generator.motion, generator.features, generator.sampler, windowing=Windowing(60, 4, 3)
    )
    at_once = whole.generate(whole.hear(WAVE), CLIPS[0][0], seed=3)
    stream = list(whole.stream([WAVE], CLIPS[0][0], seed=3, hop=57))
    np.testing.assert_allclose(np.stack(stream), at_once, atol=1e-5)


def test_nonsense_is_refused(generator: MotionGenerator) -> None:
    heard, start = generator.hear(WAVE)[:5], CLIPS[0][0]
    for arguments, cause in (
        ({"start": start[:80]}, "start is"),
        ({"eye": "copied"}, "needs eyes"),
        ({"eye": "shut"}, "not 'shut'"),
        ({"eye": "copied", "eyes": np.zeros(5)}, "eyes to copy"),
        ({"eye": "driven", "eyes": CLIPS[0]}, "eyes to drive"),
        ({"pose": np.zeros((3, 7))}, "pose is"),
        ({"features": heard[:, :10]}, "hears 640"),
    ):
        given = {"features": heard, "start": start, **arguments}
        with pytest.raises(TalkgenError, match=cause):
            generator.generate(**given)  # type: ignore[arg-type]


def test_a_method_that_was_moved_brings_its_subspaces_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path in the run's config is that of where it was trained."""
    import talkgen.data.disentangled

    opened: list[Path] = []

    def note(folder: Path) -> SimpleNamespace:
        opened.append(folder)
        return SimpleNamespace(description=SimpleNamespace(morphable_model="demo"))

    monkeypatch.setattr(talkgen.data.disentangled, "Disentangled", note)
    config = OmegaConf.create({"disentangled": str(tmp_path / "old" / "parts")})
    run = RunFolder(tmp_path / "new" / "disenttalk_motion")
    assert _morphable_model(config, run) == "demo"
    (tmp_path / "old" / "parts").mkdir(parents=True)
    _morphable_model(config, run)
    assert opened == [tmp_path / "new" / "parts", tmp_path / "old" / "parts"]
