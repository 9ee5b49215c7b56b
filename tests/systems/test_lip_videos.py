"""Sample videos of the lip-sync stage: truth, own sound, other sound."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import latent_encoders
import numpy as np
import torch

from talkgen.data.latent_data import LatentData
from talkgen.data.windows import WindowSettings
from talkgen.systems.callbacks.lip_videos import LipVideos, mels
from talkgen.video.reader import probe, read_frames


class Loudness(torch.nn.Module):
    """Pictures as bright as the mel of their frame is loud."""

    device = torch.device("cpu")

    def sample(self, codes, reference_codes, heard):
        assert codes.shape == (5, 2, 3)
        assert reference_codes.shape == (1, 2, 3)
        assert heard.shape == (5, 1, 80, 16)
        level = (heard.mean(dim=(1, 2, 3)) / 4).clamp(-1, 1)
        return level.view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


def make_data(root: Path, folder: Path) -> LatentData:
    encode = functools.partial(latent_encoders.LevelCodes, folder)
    window = WindowSettings(frames=5, reference_frames=1, mel_per_frame=True)
    data = LatentData(str(root), encode, window, batch_size=2)
    data.prepare_data()
    return data


def test_mels_are_those_of_the_batches(tiny_store, tmp_path):
    data = make_data(tiny_store, tmp_path)
    dataset = data.dataset("val")
    clip = dataset.clips[0]
    heard = mels(data, clip, 40)
    for slot in (0, 3, 7):
        sample = dataset.sample(0, slot)
        assert np.array_equal(sample["mel_per_frame"], heard[sample["frame"] : sample["frame"] + 5])


def test_truth_own_sound_and_other_sound_stand_side_by_side(tiny_store, tmp_path):
    data = make_data(tiny_store, tmp_path)
    own, other = data.clips("val")[0], data.clips("train")[0]
    data.clips = lambda split: [own, other]  # type: ignore[method-assign]
    trainer = SimpleNamespace(
        is_global_zero=True,
        num_training_batches=10,
        datamodule=SimpleNamespace(data=data),
        callbacks=[],
        loggers=[],
    )
    callback = LipVideos(tmp_path / "samples", every=5, clips=2, seconds=1.0)
    for batch in range(10):
        callback.on_train_batch_end(trainer, Loudness(), None, None, batch)  # type: ignore[arg-type]
    files = sorted(file.name for file in (tmp_path / "samples").iterdir())
    names = [clip.id.replace("/", "_") for clip in (own, other)]
    assert files == sorted(f"step-{step:07d}-{name}.mp4" for step in (5, 10) for name in names)
    file = tmp_path / "samples" / f"step-0000010-{names[0]}.mp4"
    info = probe(file)
    assert (info.width, info.height, info.has_audio) == (48, 16, True)
    frames = np.stack(list(read_frames(file))).astype(float)
    assert len(frames) == 25
    for column, clip in ((1, own), (2, other)):
        expected = (np.clip(mels(data, clip, 25).mean(axis=(1, 2, 3)) / 4, -1, 1) + 1) * 127.5
        shown = frames[:, 4:12, 16 * column + 4 : 16 * column + 12].mean(axis=(1, 2, 3))
        assert np.abs(shown - expected).max() < 8
