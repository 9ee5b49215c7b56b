from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import numbered, write_numbered, write_wav

from talkgen.errors import FileError
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import SYNTHETIC_COMMENT, VideoWriter


def click_track(seconds: float = 2.0, at: float = 1.0, rate: int = 16000) -> np.ndarray:
    """Silence with a loud tone of 0.2 s."""
    waveform = np.zeros(int(seconds * rate), np.float32)
    tone = np.sin(2 * np.pi * 1000 * np.arange(int(0.2 * rate)) / rate)
    waveform[int(at * rate) : int(at * rate) + len(tone)] = 0.8 * tone
    return waveform


def write_flash(file: Path, audio, fps: float = 25, at: float = 1.0, seconds: float = 2.0, **options) -> Path:
    """Black video with a white frame at ``at`` seconds."""
    with VideoWriter(file, fps, 64, 48, audio=audio, preset="ultrafast", **options) as writer:
        for index in range(round(seconds * fps)):
            white = index == round(at * fps)
            writer.write(np.full((48, 64, 3), 255 if white else 0, np.uint8))
    return file


def flash_and_click_seconds(file: Path) -> tuple[float, float]:
    with av.open(str(file)) as container:
        flash = next(
            float(f.time) for f in container.decode(video=0) if f.to_ndarray(format="gray").mean() > 100
        )
    with av.open(str(file)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(float)).reshape(len(frame.layout.channels), -1)[0]
            if samples.dtype != float or frame.format.name.startswith("s16"):
                samples = samples / 32768
            loud = np.flatnonzero(samples > 0.2)
            if loud.size:
                return flash, float(frame.time) + loud[0] / frame.sample_rate
    raise AssertionError("no click in the sound")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", ["waveform", "wav", "mp4", "mkv", "mp3"])
def test_sound_and_picture_stay_together(tmp_path, suffix, source):
    clicks = click_track()
    audio: object = (clicks, 16000)
    if source == "wav":
        audio = write_wav(tmp_path / "sound.wav", clicks)
    elif source in ("mp4", "mkv"):
        audio = write_flash(tmp_path / f"source.{source}", (clicks, 16000))
    elif source == "mp3":
        audio = tmp_path / "sound.mp3"
        with av.open(str(audio), "w") as container:
            stream = container.add_stream("libmp3lame", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(clicks[None], format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    file = write_flash(tmp_path / f"out.{suffix}", audio)
    flash, click = flash_and_click_seconds(file)
    assert flash == pytest.approx(1.0, abs=0.01)
    assert abs(click - flash) <= 1 / 25
    assert probe(file).has_audio


def packets(file: Path) -> list[bytes]:
    with av.open(str(file)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_sound_is_copied_without_encoding_it_again(tmp_path):
    source = write_flash(tmp_path / "source.mp4", (click_track(), 16000))
    copy = write_flash(tmp_path / "copy.mov", source)
    assert packets(copy) == packets(source)[: len(packets(copy))]
    assert len(packets(copy)) >= len(packets(source)) - 2


def test_sound_ends_with_the_picture_unless_told_otherwise(tmp_path):
    long = (click_track(seconds=6.0), 16000)

    def audio_seconds(file: Path) -> float:
        with av.open(str(file)) as container:
            stream = container.streams.audio[0]
            return float(stream.duration * stream.time_base)

    assert audio_seconds(write_flash(tmp_path / "a.mp4", long)) == pytest.approx(2.0, abs=0.07)
    assert audio_seconds(write_flash(tmp_path / "b.mp4", long, trim_audio=False)) == pytest.approx(
        6.0, abs=0.1
    )


def test_stereo_and_unusual_rates(tmp_path):
    stereo = np.stack([click_track(rate=11000), click_track(rate=11000)], 1)
    file = write_flash(tmp_path / "a.mp4", (stereo, 11000))
    with av.open(str(file)) as container:
        assert container.streams.audio[0].codec_context.channels == 2
    flash, click = flash_and_click_seconds(file)
    assert abs(click - flash) <= 1 / 25
    with pytest.raises(ValueError, match="waveform"):
        write_flash(tmp_path / "b.mp4", (np.zeros((100, 3)), 16000))


@pytest.mark.parametrize("fps", [25, 29.97, 30000 / 1001, 23.976, 60, 12.5])
def test_rate_survives(tmp_path, fps):
    file = write_flash(tmp_path / "a.mp4", None, fps=fps)
    info = probe(file)
    assert info.fps == pytest.approx(fps, rel=1e-4)
    assert info.frames == round(2 * fps)


def test_colours_survive_writing_and_reading(tmp_path):
    """Mean error below half a level: swscale's default path would darken by more than one."""
    rng = np.random.default_rng(0)
    small = rng.integers(30, 225, (6, 8, 3), dtype=np.uint8)
    picture = np.kron(small, np.ones((16, 16, 1), np.uint8))
    for height in (96, 768):  # players guess another matrix for large pictures if it is not stated
        big = np.kron(picture, np.ones((height // 96, height // 96, 1), np.uint8))
        with VideoWriter(tmp_path / "a.mp4", 25, big.shape[1], big.shape[0], crf=1) as writer:
            writer.write(big)
        frame = next(read_frames(tmp_path / "a.mp4"))
        # The rims of the blocks differ, because yuv420p halves the resolution of colour.
        inside = np.zeros((16, 16), bool)
        inside[4:12, 4:12] = True
        inside = np.kron(np.tile(inside, (6, 8)), np.ones((height // 96, height // 96), bool))
        difference = frame[inside].astype(float) - big[inside]
        assert np.abs(difference.mean(0)).max() < 0.5
        assert np.sqrt((difference**2).mean()) < 2


def test_odd_sizes_are_padded_by_repetition(tmp_path):
    picture = np.full((47, 63, 3), 90, np.uint8)
    picture[:, -1] = 200
    with VideoWriter(tmp_path / "a.mp4", 25, 63, 47, crf=1) as writer:
        writer.write(picture)
    frame = next(read_frames(tmp_path / "a.mp4"))
    assert frame.shape == (48, 64, 3)
    assert np.abs(frame[:47, :63].astype(int) - picture)[:, :60].max() < 8
    assert abs(int(frame[20, 63, 0]) - 200) < 12


def test_generated_video_says_so_whatever_the_metadata(tmp_path):
    for tags in (None, {"title": "A test", "comment": "made by me"}):
        file = write_flash(tmp_path / "a.mp4", None, metadata=tags, synthetic=True)
        with av.open(str(file)) as container:
            assert container.metadata["comment"].startswith(SYNTHETIC_COMMENT)
            assert container.metadata.get("title") == (tags or {}).get("title")
    with av.open(str(write_flash(tmp_path / "b.mp4", None))) as container:
        assert "comment" not in container.metadata


def test_an_exception_leaves_no_file_and_keeps_the_old_one(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="boom"), VideoWriter(file, 25, 64, 48) as writer:
        writer.write(numbered(0))
        assert file.read_bytes() == b"old"
        raise RuntimeError("boom")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert file.read_bytes() == b"old"


def test_a_full_disk_is_named(tmp_path):
    """A limit on the size of files acts like a full disk."""
    rng = np.random.default_rng(0)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
    try:
        with (
            pytest.raises(FileError, match=r"a\.mp4.*cannot be written.*disk full"),
            VideoWriter(tmp_path / "a.mp4", 25, 128, 128, crf=1, preset="ultrafast") as writer,
        ):
            for _ in range(60):
                writer.write(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be(tmp_path):
    with pytest.raises(FileError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.webm", 25, 64, 48)
    with pytest.raises(FileError, match=r"folder .* does not exist"):
        VideoWriter(tmp_path / "no" / "folder.mp4", 25, 64, 48)
    with pytest.raises(FileError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 25, 64, 48):
        pass
    silent = write_numbered(tmp_path / "silent.mp4", [0.0])
    with pytest.raises(FileError, match="no sound"):
        VideoWriter(tmp_path / "a.mp4", 25, 64, 48, audio=silent)
    with VideoWriter(tmp_path / "a.mp4", 25, 64, 48) as writer:
        with pytest.raises(ValueError, match="frame must be uint8"):
            writer.write(numbered(0, 48, 64))
        writer.write(numbered(0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "silent.mp4"]


ENCODE_AND_HASH = """
import hashlib, sys
from pathlib import Path
import numpy as np
from talkgen.video.writer import VideoWriter

for size in (48, 64, 80, 96, 112, 128, 144):
    # Blocks that slide over each other, so that there is motion to search.
    noise = np.random.default_rng(size).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    ground = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    for _ in range(3):
        file = Path(sys.argv[1]) / "a.mp4"
        with VideoWriter(file, 25, size, size) as writer:
            for i in range(50):
                y, x = i % 40, 2 * i % 40
                writer.write(np.roll(ground, 3 * i, 0)[y : y + size, x : x + size])
        print(size, hashlib.sha256(file.read_bytes()).hexdigest())
"""


def test_the_same_frames_give_the_same_bytes_whatever_was_in_memory_before(tmp_path):
    """Fresh memory is filled with another byte in every process (glibc's MALLOC_PERTURB_)."""
    hashes: dict[str, set[str]] = {}
    for fill in (0, 1, 85, 170, 255):
        done = subprocess.run(
            [sys.executable, "-c", ENCODE_AND_HASH, str(tmp_path)],
            env={**os.environ, "MALLOC_PERTURB_": str(fill)},
            capture_output=True,
            text=True,
            check=True,
        )
        for line in done.stdout.splitlines():
            size, found = line.split()
            hashes.setdefault(size, set()).add(found)
    assert {size: len(found) for size, found in hashes.items()} == dict.fromkeys(
        ["48", "64", "80", "96", "112", "128", "144"], 1
    )


def test_memory_does_not_grow_with_length(tmp_path):
    """Writing and reading 600 frames of 1.4 MB touch at most a few dozen of them at a time."""
    frame = np.zeros((600, 800, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 25, 800, 600, preset="ultrafast") as writer:
        for _ in range(30):
            writer.write(frame)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(570):
            writer.write(frame)
    for i, _ in enumerate(read_frames(tmp_path / "a.mp4")):
        if i == 30:
            before = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 150  # all frames together are 864 MB


def test_a_real_clip(shared, tmp_path):
    clip = shared / "realclips" / "clips" / "rdradio10.mp4"
    info = probe(clip)
    assert (info.width, info.height, info.frames, info.fps) == (512, 512, 51, 25.0)
    frames = list(read_frames(clip))
    with VideoWriter(tmp_path / "a.mp4", info.fps, 512, 512, audio=clip, synthetic=True) as writer:
        for frame in frames:
            writer.write(frame)
    again = list(read_frames(tmp_path / "a.mp4", fps=25))
    assert len(again) == len(frames) == 51
    error = np.mean([(a.astype(float) - b) ** 2 for a, b in zip(again, frames, strict=True)])
    assert 10 * np.log10(255**2 / error) > 38
    assert packets(tmp_path / "a.mp4") == packets(clip)[: len(packets(tmp_path / "a.mp4"))]
