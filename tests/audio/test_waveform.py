"""Reading and writing of waveforms."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition

from talkgen.audio.waveform import _zero_seconds, load_waveform, resample, save_waveform, to_int16
from talkgen.errors import FileError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def click_at(seconds: float, rate: int = 16000, length: float = 2.0) -> np.ndarray:
    waveform = np.zeros(round(length * rate), np.float32)
    waveform[round(seconds * rate) :][:80] = 0.8
    return waveform


def write_container(
    file, waveform, rate, audio_codec, video_frames=0, audio_delay_seconds=0.0, video_delay=0
):
    """A container with (optionally) a grey picture at 25 fps, and sound that begins later."""
    with av.open(str(file), "w") as container:
        video = None
        if video_frames:
            video = container.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(audio_codec, rate=rate, layout="mono")
        for number in range(video_frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
            picture.pts = number + video_delay
            container.mux(video.encode(picture))
        if video_frames:
            container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(
            (waveform * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = rate
        frame.pts = round(audio_delay_seconds * rate)
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


def onset(waveform: np.ndarray, rate: int = 16000) -> float:
    return int(np.argmax(np.abs(waveform) > 0.2)) / rate


def test_sixteen_bit_round_trip_is_exact(tmp_path):
    samples = np.arange(-32768, 32768, 3, dtype=np.int16)
    save_waveform(tmp_path / "a.wav", samples / np.float32(32768))
    np.testing.assert_array_equal(to_int16(load_waveform(tmp_path / "a.wav")), samples)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]  # no temporary file is left
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"


def test_values_outside_are_clipped_not_wrapped():
    np.testing.assert_array_equal(to_int16(np.array([1.5, 1.0, -1.5])), [32767, 32767, -32768])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.wav"
    save_waveform(file, np.zeros(10))
    before = file.read_bytes()
    with pytest.raises(ValueError, match="finite"):
        save_waveform(file, np.array([np.nan]))
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_come_back_at_sixteen_kilohertz(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate, subtype="FLOAT")
    waveform = load_waveform(tmp_path / "a.wav")
    assert waveform.shape == (16000,) and waveform.dtype == np.float32
    np.testing.assert_allclose(waveform[500:-500], tone(1.0, 16000)[500:-500], atol=1e-3)  # no delay either


def test_channels_are_averaged(tmp_path):
    both = np.stack([tone(0.5, 16000), np.zeros(8000, np.float32)], axis=1)
    soundfile.write(tmp_path / "a.flac", both, 16000)
    np.testing.assert_allclose(load_waveform(tmp_path / "a.flac"), both[:, 0] / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("start", "seconds"), [(0.0, 0.5), (1.2345, 0.7), (2.5, 0.5), (2.9, 5.0), (0.05, None)]
)
def test_a_piece_equals_a_cut_of_the_whole(tmp_path, start, seconds):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * 44100)
    soundfile.write(tmp_path / "a.wav", noise, 44100, subtype="FLOAT")
    whole = load_waveform(tmp_path / "a.wav")
    piece = load_waveform(tmp_path / "a.wav", start_seconds=start, seconds=seconds)
    first = round(start * 16000)
    expected = whole[first:] if seconds is None else whole[first : first + round(seconds * 16000)]
    assert piece.shape == expected.shape
    np.testing.assert_allclose(piece, expected, atol=1e-6)


def test_sound_of_a_video(tmp_path):
    write_container(tmp_path / "a.mp4", click_at(1.0, 48000), 48000, "aac", video_frames=50)
    waveform = load_waveform(tmp_path / "a.mp4")
    assert onset(waveform) == pytest.approx(1.0, abs=0.003)
    assert abs(len(waveform) - 32000) < 2000  # AAC fills its last packet
    assert onset(load_waveform(tmp_path / "a.mp4", start_seconds=0.9, seconds=0.5)) == pytest.approx(
        0.1, abs=0.003
    )


def test_sound_that_begins_after_the_picture_keeps_its_time(tmp_path):
    write_container(tmp_path / "a.mkv", click_at(0.5, 48000), 48000, "pcm_s16le", 50, audio_delay_seconds=0.4)
    assert onset(load_waveform(tmp_path / "a.mkv")) == pytest.approx(0.9, abs=0.003)
    assert onset(load_waveform(tmp_path / "a.mkv", start_seconds=0.2)) == pytest.approx(0.7, abs=0.003)


def test_pictures_that_begin_after_the_sound_do_not_move_it(tmp_path):
    """Time zero is the same for sound and pictures: the earlier of both beginnings."""
    file = tmp_path / "a.mkv"
    write_container(file, click_at(0.5, 48000), 48000, "pcm_s16le", 50, video_delay=10)
    assert onset(load_waveform(file)) == pytest.approx(0.5, abs=0.003)


def test_real_clips_last_as_long_as_their_pictures(shared):
    for file in sorted((shared / "realclips" / "clips").glob("*.mp4")):
        with av.open(str(file)) as container:
            video_seconds = container.streams.video[0].frames / 25
        waveform = load_waveform(file)
        assert abs(len(waveform) / 16000 - video_seconds) < 0.1
        assert np.abs(waveform).max() > 0.01


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        load_waveform(tmp_path / "missing.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(FileError, match="empty"):
        load_waveform(tmp_path / "empty.wav")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(FileError, match=r"noise\.mp4.*cannot be decoded"):
        load_waveform(tmp_path / "noise.mp4")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(FileError, match="no sound samples"):
        load_waveform(tmp_path / "none.wav")
    save_waveform(tmp_path / "short.wav", np.zeros(16000))
    with pytest.raises(FileError, match="ends before second 2"):
        load_waveform(tmp_path / "short.wav", start_seconds=2)


def test_a_silent_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with pytest.raises(FileError, match="no audio stream"):
        load_waveform(tmp_path / "mute.mp4")


def test_resample_keeps_the_length_and_type():
    assert resample(np.zeros(22051), 22050, 16000).shape == (16001,)
    same = np.zeros(5, np.float32)
    assert resample(same, 16000, 16000) is same
    with pytest.raises(ValueError, match="cannot be read"):
        load_waveform("a.wav", start_seconds=-1)


def test_a_cover_image_is_no_first_picture() -> None:
    def stream(start: int | None, cover: bool = False) -> SimpleNamespace:
        disposition = Disposition.attached_pic if cover else Disposition(0)
        return SimpleNamespace(start_time=start, time_base=Fraction(1, 1000), disposition=disposition)

    def container(video: list[SimpleNamespace], audio: list[SimpleNamespace]) -> Any:
        return SimpleNamespace(streams=SimpleNamespace(video=video, audio=audio))

    cover, late = stream(0, cover=True), stream(500)
    assert _zero_seconds(container([cover], [late])) == 0.5
    assert _zero_seconds(container([cover, stream(200)], [late])) == 0.2
    assert _zero_seconds(container([stream(None)], [late])) == 0.5  # as video/container.py has it
    assert _zero_seconds(container([stream(40)], [stream(-23)])) == 0.0


@pytest.mark.parametrize("rate", [0, 1, 2**31 - 1])
def test_a_rate_that_no_sound_has_is_refused(tmp_path, rate):
    """A rate of 1 would become 16,000 times as many samples."""
    save_waveform(tmp_path / "a.wav", np.zeros(4000))
    content = bytearray((tmp_path / "a.wav").read_bytes())
    assert int.from_bytes(content[24:28], "little") == 16000
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(FileError, match=r"samples a second|cannot be decoded"):
        load_waveform(tmp_path / "a.wav")


def test_a_header_that_promises_hours_costs_no_memory(tmp_path, monkeypatch):
    """Sound is read in pieces, until there is none."""
    monkeypatch.setattr("talkgen.audio.waveform._READ_FRAMES", 1000)
    sound = np.sin(np.arange(4321, dtype=np.float32) / 9) * 0.5
    soundfile.write(tmp_path / "a.flac", np.stack([sound, -sound / 2], axis=1), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    whole = load_waveform(tmp_path / "a.flac")
    assert np.allclose(whole, sound / 4, atol=1e-4) and len(whole) == 4321
    content[21] |= 0x0F  # the upper bits of STREAMINFO's 36 for the number of samples
    (tmp_path / "b.flac").write_bytes(content)
    assert soundfile.info(tmp_path / "b.flac").frames > 6e10
    assert np.array_equal(load_waveform(tmp_path / "b.flac"), whole)
