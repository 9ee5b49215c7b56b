from __future__ import annotations

import resource
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from talkgen.errors import FileError
from talkgen.video.io import SYNTHETIC_COMMENT, VideoWriter, probe, read_frames

# Videos made on the spot, whose frames say by their brightness which they are


def numbered(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A grey picture whose brightness is its number: 3 levels a frame from 20, so up to 75 frames."""
    return np.full((height, width, 3), 20 + 3 * index, np.uint8)


def number_of(frame: np.ndarray) -> int:
    """The number of a decoded picture."""
    return round((float(frame.mean()) - 20) / 3)


def write_numbered(
    file: Path,
    seconds_of_frames: Sequence[float],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction = Fraction(25),
    clock: Fraction = Fraction(1, 90_000),
    rotation: int = 0,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """A video with frame i at the given time."""
    with av.open(str(file), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.bit_rate = 4_000_000
        if options:
            stream.options = options
        stream.codec_context.time_base = clock
        if rotation:
            stream.set_display_rotation(rotation)
        for index, seconds in enumerate(seconds_of_frames):
            frame = av.VideoFrame.from_ndarray(numbered(index, *size), format="rgb24").reformat(
                format=pixel_format
            )
            frame.pts, frame.time_base = round(seconds / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def numbers(*args, **kwargs) -> list[int]:
    return [number_of(frame) for frame in read_frames(*args, **kwargs)]


def shown(times: list[float], fps: float, count: int, start: float = 0.0) -> list[int]:
    """What a player shows: the last picture that has begun."""
    moments = [start + i / fps for i in range(count)]
    return [max([i for i, t in enumerate(times) if t <= moment + 0.002], default=0) for moment in moments]


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("h264.mkv", "libx264", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("mjpeg.avi", "mjpeg", "yuvj420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("ten_bit.mp4", "libx265", "yuv420p10le"),
        ("mpeg2.mpg", "mpeg2video", "yuv420p"),
    ],
)
def test_every_container_and_codec_gives_all_frames_in_order(tmp_path, name, codec, pixel_format):
    times = [i / 25 for i in range(20)]
    clock = Fraction(1, 25)
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    file = write_numbered(tmp_path / name, times, codec, pixel_format, clock=clock, options=options)
    assert numbers(file) == list(range(20))
    info = probe(file)
    assert (info.width, info.height, info.has_audio) == (64, 48, False)
    assert info.fps == pytest.approx(25)
    if codec != "mpeg2video":  # this container states no length
        assert info.seconds == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24), Fraction(50), Fraction(15)])
def test_frames_are_chosen_by_presentation_time(tmp_path, rate):
    times = [float(i / rate) for i in range(40)]
    file = write_numbered(tmp_path / "a.mp4", times, rate=rate)
    count = round(40 / rate * 25)
    got = numbers(file, fps=25)
    assert abs(len(got) - count) <= 1
    assert got == shown(times, 25, len(got))


def test_variable_rate(tmp_path):
    times = [0.0, 0.04, 0.3, 0.34, 0.35, 0.9, 1.0, 1.04]
    file = write_numbered(tmp_path / "a.mkv", times, clock=Fraction(1, 1000))
    got = numbers(file, fps=25)
    assert got[: round(1.04 * 25)] == shown(times, 25, 26)
    assert numbers(file) == list(range(8))


def test_a_millisecond_clock_does_not_shift_frames(tmp_path):
    times = [i / 30 for i in range(30)]  # WebM stores 0.033, 0.067, 0.1 ...
    file = write_numbered(
        tmp_path / "a.webm", times, "libvpx-vp9", rate=Fraction(30), clock=Fraction(1, 1000)
    )
    assert numbers(file, fps=30) == list(range(30))


def test_a_range_is_the_same_as_cutting_the_whole(tmp_path):
    times = [i / 25 for i in range(75)]
    file = write_numbered(tmp_path / "a.mp4", times, codec_options={"g": "10"})
    assert numbers(file, start_seconds=1.2, seconds=0.4) == list(range(30, 40))
    assert numbers(file, fps=25, start_seconds=1.2, seconds=0.4) == list(range(30, 40))
    assert numbers(file, fps=12.5, start_seconds=2.0) == list(range(50, 75, 2))
    assert numbers(file, start_seconds=2.9) == [73, 74] or numbers(file, start_seconds=2.9) == [74]
    assert numbers(file, fps=25, start_seconds=99) == []
    assert numbers(file, fps=25, seconds=0) == []


def test_seeking_does_not_decode_what_comes_before(tmp_path, monkeypatch):
    file = write_numbered(tmp_path / "a.mp4", [i / 25 for i in range(75)], codec_options={"g": "5"})
    from talkgen.video import io

    decoded = []
    original = io._decoded

    def counting(*args):
        for item in original(*args):
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(io, "_decoded", counting)
    assert numbers(file, start_seconds=2.4, seconds=0.2) == list(range(60, 65))
    assert len(decoded) < 15 and min(decoded) > 2.0


def test_late_video_start_counts_from_the_first_sound(tmp_path):
    """A recording whose picture begins 0.4 s after its sound: a player shows the first picture meanwhile."""
    times = [0.4 + i / 25 for i in range(10)]
    file = tmp_path / "late.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts, frame.time_base = round(seconds * 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 12800), np.int16), format="s16", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    assert numbers(file, fps=25) == [0] * 10 + list(range(10))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_flag_is_applied(tmp_path, rotation):
    file = tmp_path / "turned.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # white top left quarter
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(rotation)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    info = probe(file)
    frame = next(read_frames(file))
    assert info.rotation == rotation
    assert (info.height, info.width) == frame.shape[:2] == ((48, 64) if rotation == 180 else (64, 48))
    expected = np.rot90(picture, rotation // 90)  # counter-clockwise, as set_display_rotation
    assert np.abs(frame.astype(int) - expected).mean() < 8


def test_odd_size_is_read_exactly(tmp_path):
    file = write_numbered(tmp_path / "odd.mkv", [0.0, 0.04], "ffv1", "bgr0", size=(63, 47))
    assert next(read_frames(file)).shape == (47, 63, 3)


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


def test_a_still_picture_is_one_frame(tmp_path):
    file = tmp_path / "face.png"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(7), format="rgb24")))
        container.mux(stream.encode(None))
    assert numbers(file) == [7]
    assert numbers(file, fps=25) == [7]


# Bad files


def write_wav(file: Path, waveform: np.ndarray, rate: int = 16000) -> Path:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    return file


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("folder", "folder"),
        ("absent", "does not exist"),
        ("empty", "empty"),
        ("text", "text|cannot be opened"),
        ("noise", "cannot be opened|no picture"),
        ("sound", "only sound"),
        ("cut index", "cannot be opened|cut off"),
    ],
)
def test_files_that_are_no_video(tmp_path, kind, says):
    file = tmp_path / "a.mp4"
    if kind == "folder":
        file.mkdir()
    elif kind == "empty":
        file.touch()
    elif kind == "text":
        file = tmp_path / "a.txt"
        file.write_text("a transcript\n" * 50)
    elif kind == "noise":
        file.write_bytes(np.random.default_rng(0).bytes(50_000))
    elif kind == "sound":
        file = write_wav(tmp_path / "a.wav", np.zeros(1600))
    elif kind == "cut index":  # an MP4 keeps its index at the end
        write_numbered(file, [i / 25 for i in range(20)])
        file.write_bytes(file.read_bytes()[:-400])
    for use in (probe, lambda name: list(read_frames(name))):
        with pytest.raises(FileError, match=says) as caught:
            use(file)
        assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_truncated_file_gives_what_it_holds_and_then_raises(tmp_path, name):
    rng = np.random.default_rng(0)
    file = tmp_path / name
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    options = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    with av.open(str(file), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 10
        for _ in range(100):
            noise = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    got = []
    with pytest.raises(FileError, match=r"cut off|broken") as caught:
        for frame in read_frames(file):
            got.append(frame)
    assert 30 <= len(got) <= 60
    assert " s" in str(caught.value)
    with pytest.warns(UserWarning, match=r"cut off|broken"):
        assert len(list(read_frames(file, on_error="stop"))) == len(got)


def test_bad_arguments_are_refused_at_once(tmp_path):
    file = write_numbered(tmp_path / "a.mp4", [0.0])
    for bad in ({"fps": 0}, {"start_seconds": -1}, {"seconds": -1}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match=r"fps|seconds|on_error"):
            read_frames(file, **bad)


# Writing


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
