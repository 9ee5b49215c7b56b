from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from talkgen.audio.mel import mel_spectrogram
from talkgen.configuration import RunFolder
from talkgen.data import clip_preparation
from talkgen.data import prepare as prepare_module
from talkgen.data.clip import Clip
from talkgen.data.dataset import ClipWindows, collate
from talkgen.data.store import Store, StoreWriter
from talkgen.data.windows import WindowSettings, to_model_range
from talkgen.errors import TalkgenError
from talkgen.faces.detection import Face
from talkgen.faces.ibug import keypoints_from_landmarks
from talkgen.inference.av_offset import AVOffset, clip_offset, load_av_offset
from talkgen.losses.lip_sync import ShiftedInfoNCE
from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet
from talkgen.preparation import main
from talkgen.systems.sync_expert import SyncExpertSystem
from talkgen.video.writer import VideoWriter

SIZE = 128
FRAMES = 60
# One bit a frame: bright or dark, loud or silent. No stretch of five frames says where it is by chance.
BITS = np.random.default_rng(3).integers(0, 2, FRAMES)


class BitExpert(nn.Module):
    """Compares the brightness of five frames with their loudness: an expert by construction."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sharpness", torch.zeros(1))  # comes from the checkpoint
        self.dim = 5

    def embed_audio(self, mel: Tensor) -> Tensor:
        loud = nn.functional.interpolate(mel.mean(2), size=5, mode="area").flatten(1)
        return self._unit(loud)

    def embed_face(self, face: Tensor) -> Tensor:
        return self._unit(face.unflatten(1, (5, 3)).mean((2, 3, 4)))

    def _unit(self, values: Tensor) -> Tensor:
        centred = values - values.mean(1, keepdim=True)
        return nn.functional.normalize(centred, dim=1) * self.sharpness


@pytest.fixture
def bit_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("bit_expert")
    module.BitExpert = BitExpert  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bit_expert", module)
    monkeypatch.setenv("TALKGEN_TRUST", "bit_expert")
    return write_run(
        tmp_path / "runs/bits",
        {"expert": {"_target_": "bit_expert.BitExpert"}},
        {"expert.sharpness": torch.ones(1)},
    )


def write_run(folder: Path, system: dict[str, Any], weights: dict[str, Tensor], size: int = 96) -> Path:
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    system = {"_target_": "talkgen.systems.sync_expert.SyncExpertSystem", "channel_order": "bgr", **system}
    config = {"system": system, "data": {"root": "gone", "window": {"frames": 5, "size": size}}}
    OmegaConf.save(OmegaConf.create(config), run.config)
    torch.save({"state_dict": weights}, run.last)
    return folder


def sound(early: int) -> np.ndarray:
    """Noise in the frames whose bit is 1, moved towards the beginning by `early` frames."""
    bits = np.roll(BITS, -early)
    noise = np.random.default_rng(0).normal(size=FRAMES * 640)
    return (0.2 * noise * np.repeat(bits, 640)).astype(np.float32)


def picture(bit: int) -> np.ndarray:
    frame = np.full((SIZE, SIZE, 3), 90, np.uint8)
    frame[60:90, 45:85] = 150 if bit else 90  # too small a change to be taken for a cut
    return frame


def face_points() -> np.ndarray:
    """A face that does not move, roughly: eyes, nose, mouth and chin are where they should be."""
    points = np.random.default_rng(1).uniform(50, 80, (68, 2)).astype(np.float32)
    points[36:42], points[42:48], points[30] = (50, 50), (78, 50), (64, 64)
    points[17:27, 1], points[48], points[54], points[8] = 42, (54, 78), (74, 78), (64, 90)
    return np.repeat(points[None], FRAMES, 0)


@pytest.mark.parametrize("early", range(-4, 5))
def test_the_offset_is_found(bit_run: Path, early: int) -> None:
    offset = pickle.loads(pickle.dumps(load_av_offset(bit_run)))
    frames = np.stack([picture(bit) for bit in BITS])
    found, confidence = offset(frames, sound(early), np.zeros((FRAMES, 68, 2), np.float32))
    assert found == early
    assert confidence > 0.5


class StillFace:
    """Finds the face where it always is."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        points = face_points()[0]
        return [Face(np.array([40, 30, 88, 95], np.float32), 1.0, keypoints_from_landmarks(points[None])[0])]

    def landmarks(self, frame: np.ndarray, face: Face) -> np.ndarray:
        return face_points()[0]


@pytest.mark.parametrize("early", [-4, -1, 0, 3])
def test_prepare_corrects_it(
    bit_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: int
) -> None:
    """From a file, through the command, to the store: what is stored is together, whatever the file was."""
    monkeypatch.setattr(clip_preparation, "make_detector", lambda name: StillFace())
    monkeypatch.setattr(clip_preparation, "make_landmarker", lambda name: StillFace())
    prepare_module._preparer.cache_clear()
    (tmp_path / "raw").mkdir()
    with VideoWriter(tmp_path / "raw/a.mp4", 25, SIZE, SIZE, audio=(sound(early), 16000), crf=10) as writer:
        for bit in BITS:
            writer.write(picture(bit))
    arguments = [
        "corpus=folder", f"source={tmp_path / 'raw'}", f"out={tmp_path / 'out'}", "executor=serial",
        "progress=false", "settings.size=96", "settings.speech=energy", "settings.filters.min_sharpness=0",
        "settings.filters.min_face_pixels=10", f"settings.av_expert={bit_run}",
    ]  # fmt: skip
    assert main(arguments) == 0
    store = Store.open(tmp_path / "out")
    clip = store.clips[0]
    assert clip.checks["av_offset_frames"] == early
    stored = store.array(clip, "waveform") / np.float32(32768)
    expert = load_av_offset(bit_run)
    assert expert(store.frames(clip), stored, store.array(clip, "landmarks"))[0] == 0
    np.testing.assert_allclose(store.array(clip, "mel"), mel_spectrogram(stored), atol=2e-2)
    # Another checkpoint under the same path would measure something else: refused, with its name.
    torch.save({"state_dict": {"expert.sharpness": torch.full((1,), 2.0)}}, RunFolder(bit_run).last)
    with pytest.raises(TalkgenError, match=r"networks_sha256\.av_expert"):
        main(arguments)


def test_offset_and_confidence_by_hand() -> None:
    """Sound that is early by 2: the picture at t agrees with the sound at t − 2."""
    face = torch.eye(20)
    audio = torch.roll(face, -2, 0)
    audio[-2:] = 0
    assert clip_offset(audio, face, 6) == (2.0, 1.0)  # all other shifts agree nowhere: median 0
    assert clip_offset(face, face, 6) == (0.0, 1.0)
    assert clip_offset(face[:5], face[:5]) == (0.0, 0.0)  # too short to say
    assert clip_offset(audio[:8], face[:8])[0] == 2  # and reaches only as far as five windows remain
    assert clip_offset(torch.ones(20, 4), torch.ones(20, 4)) == (0.0, 0.0)


def test_the_expert_sees_and_hears_what_it_was_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waveform = (sound(0) * 32767).astype(np.int16)
    landmarks = face_points() + rng.normal(0, 2, (FRAMES, 68, 2)).astype(np.float32)
    warp = np.tile(np.eye(2, 3, dtype=np.float32), (FRAMES, 1, 1))
    arrays = {"mel": mel_spectrogram(waveform / np.float32(32768)), "waveform": waveform}
    with StoreWriter(tmp_path / "store") as writer:
        clip = Clip("a", "folder", "val", "a", FRAMES, 25.0, SIZE)
        pictures = rng.integers(0, 255, (FRAMES, SIZE, SIZE, 3), np.uint8)
        writer.add(
            clip, pictures, arrays | {"landmarks": landmarks, "identity_warp": warp, "crop_matrix": warp}
        )
    store = Store.open(tmp_path / "store")
    clip = store.clips[0]

    torch.manual_seed(0)
    expert = SyncNet(width=0.0625, final_relu=False)
    for layer in expert.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    expert(torch.randn(8, 1, 80, 16), torch.rand(8, 15, 48, 96))  # else all embeddings are nearly the same
    node = {"_target_": "talkgen.models.experts.syncnet.SyncNet", "width": 0.0625, "final_relu": False}
    seen = {"above": -0.08, "below": 0.08, "motion": True}
    view = {"_target_": "talkgen.models.experts.lip_view.LipView", **seen}
    weights = {f"expert.{key}": value for key, value in expert.state_dict().items()}
    offset = load_av_offset(write_run(tmp_path / "run", {"expert": node, "view": view}, weights, size=64))
    audio, face = offset.embed(store.frames(clip), waveform / np.float32(32768), landmarks)
    assert len(audio) == len(face) == FRAMES - 4

    partial: Any = torch.optim.SGD
    system = SyncExpertSystem(expert, ShiftedInfoNCE(), partial, view=LipView(**seen)).eval()  # type: ignore[arg-type]
    window = WindowSettings(frames=5, size=64, stride=3, shifted_mels=1)
    windows = ClipWindows(store, store.clips, window, seed=0, jitter=False)
    batch = to_model_range(collate([windows[0, number] for number in range(0, len(windows), 4)]))
    with torch.no_grad():
        trained_audio, trained_face, _ = system.embed(batch)
    torch.testing.assert_close(audio[batch["frame"]], trained_audio, atol=1e-4, rtol=0)
    torch.testing.assert_close(face[batch["frame"]], trained_face, atol=1e-4, rtol=0)
    assert len(batch["frame"]) >= 4 and face.std(0).max() > 0.05  # they differ from window to window


def test_what_cannot_be_an_expert_is_refused_at_once(tmp_path: Path, bit_run: Path) -> None:
    arguments = ["corpus=folder", f"source={tmp_path}", f"out={tmp_path / 'out'}"]
    with pytest.raises(TalkgenError, match=r"neither a run folder nor a checkpoint.*experiment=sync_expert"):
        main([*arguments, f"settings.av_expert={tmp_path / 'runs/none'}"])
    other = write_run(tmp_path / "runs/other", {"vqgan": {}}, {})
    with pytest.raises(TalkgenError, match="give one of experiment=sync_expert"):
        main([*arguments, f"settings.av_expert={other}"])
    with pytest.raises(TalkgenError, match="fps=30 will not do"):
        main([*arguments, f"settings.av_expert={bit_run}", "settings.fps=30"])
    assert load_av_offset(RunFolder(bit_run).last) == load_av_offset(bit_run)
    assert isinstance(load_av_offset(bit_run), AVOffset)
