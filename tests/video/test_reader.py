from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from bad_media import video
from recordings import number_of, numbered, write_numbered, write_wav

from talkgen.errors import FileError
from talkgen.video.reader import probe, read_frames


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
    from talkgen.video import reader

    decoded = []
    original = reader._decoded

    def counting(*args):
        for item in original(*args):
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(reader, "_decoded", counting)
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


@pytest.mark.parametrize(
    ("name", "codec", "aspect", "rotation", "shown"),
    [
        ("pal.mp4", "libx264", Fraction(16, 15), 0, (90, 77)),
        ("wide.mkv", "libx264", Fraction(2), 0, (90, 144)),
        ("narrow.mp4", "libx264", Fraction(8, 9), 0, (101, 72)),
        ("turned.mp4", "libx264", Fraction(2), 90, (144, 90)),
        ("television.mpg", "mpeg2video", Fraction(5, 3), 0, (90, 120)),  # 4:3, which is all this can state
        ("nearly.mp4", "libx264", Fraction(4096, 4095), 0, (90, 72)),
        ("broken.mp4", "libx264", Fraction(100), 0, (90, 72)),
    ],
)
def test_pixels_come_out_square(tmp_path, name, codec, aspect, rotation, shown):
    """A disc that was squeezed into the stored 72 × 90 pixels is round again."""
    file = tmp_path / name
    stretched = (shown[1], shown[0]) if rotation else shown
    y, x = np.mgrid[:90, :72]
    apart = np.hypot((y - 44.5) * stretched[0] / 90, (x - 35.5) * stretched[1] / 72)
    disc = np.repeat(np.where(apart < 30, 230, 20)[..., None], 3, -1).astype(np.uint8)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 90, "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(disc, format="rgb24")))
        container.mux(stream.encode(None))
    info = probe(file)
    assert (info.height, info.width) == shown
    for frame in (next(read_frames(file)), next(read_frames(file, fps=25))):
        assert frame.shape == (*shown, 3)
        inside = frame[..., 1] > 125
        assert abs(inside.any(0).sum() - 60) <= 2 and abs(inside.any(1).sum() - 60) <= 2
        assert 15 <= frame[inside.nonzero()[0].min() - 8, shown[1] // 2, 1] <= 27


def test_odd_size_is_read_exactly(tmp_path):
    file = write_numbered(tmp_path / "odd.mkv", [0.0, 0.04], "ffv1", "bgr0", size=(63, 47))
    assert next(read_frames(file)).shape == (47, 63, 3)


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


def test_a_jump_of_timestamps_is_not_filled_with_pictures(tmp_path):
    """At a constant rate the picture before it would be repeated for days."""
    video(tmp_path / "a.mkv", frames=4, times=[0, 0.04, 0.08, 2e6])
    made = read_frames(tmp_path / "a.mkv", fps=25)
    assert [next(made).shape for _ in range(2)] == [(160, 160, 3)] * 2
    with pytest.raises(FileError, match="timestamps are broken"):
        list(made)
    pauses = video(tmp_path / "b.mkv", frames=3, times=[0, 0.04, 1500])  # a talk with slides
    assert sum(1 for _ in read_frames(pauses, fps=1)) in (1500, 1501)
    late = video(tmp_path / "c.mkv", frames=3, times=[2000, 2000.04, 2000.08], seconds_of_sound=1)
    with pytest.raises(FileError, match=r"jumps from 0\.00 s to 2000"):
        next(read_frames(late, fps=25))


def test_a_picture_every_hour_is_a_broken_header(tmp_path):
    file = write_numbered(tmp_path / "a.mp4", [0.0, 4000.0, 8000.0])
    with pytest.raises(FileError, match=r"states a picture every \d+ s"):
        next(read_frames(file, fps=25))
