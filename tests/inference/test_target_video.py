from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.crop import CropSettings
from talkgen.faces.detection import Face
from talkgen.inference.target_video import (
    TargetVideo,
    crop_source,
    face_region,
    follow_face,
    ping_pong,
    put_label,
    read_picture,
    scaled,
    whole_crop,
)
from talkgen.video.writer import VideoWriter

CROP = CropSettings(size=48, scale=1.3, smoothing_seconds=0.0)


def numbered(index: int, size: tuple[int, int] = (128, 96)) -> np.ndarray:
    """A picture that stays the same but for a patch whose brightness is its number."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    frame = np.stack([x + 30, 2 * y, 200 - x // 2 - y // 2], -1).astype(np.uint8)
    frame[:24, :24] = 20 + 3 * index
    return frame


def number_of(frame: np.ndarray) -> int:
    return round((float(frame[4:20, 4:20].mean()) - 20) / 3)


def face_at(x: float, y: float, scale: float = 0.5) -> Face:
    points = ARCFACE_TEMPLATE * scale + (x, y)
    box = np.array([x, y, x + 112 * scale, y + 112 * scale], np.float32)
    return Face(box, 0.9, points.astype(np.float32))


class Detector:
    """Finds what a function of the frame's number says."""

    def __init__(self, faces: Callable[[int], list[Face]]) -> None:
        self.faces = faces

    def detect(self, frame: np.ndarray) -> list[Face]:
        return self.faces(number_of(frame))


def video(file: Path, frames: int, fps: float = 25, size: tuple[int, int] = (128, 96)) -> Path:
    with VideoWriter(file, fps, *size, crf=10) as writer:
        for index in range(frames):
            writer.write(numbered(index, size))
    return file


def test_ping_pong_turns_without_a_jump() -> None:
    assert ping_pong(4, 9).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert ping_pong(4, 2).tolist() == [0, 1]
    assert ping_pong(1, 3).tolist() == [0, 0, 0]
    assert (np.abs(np.diff(ping_pong(17, 500))) == 1).all()


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 60])
def test_frames_come_in_any_order(tmp_path: Path, fps: float) -> None:
    target = follow_face(
        video(tmp_path / "v.mp4", 40, fps), CROP, Detector(lambda _: [face_at(20, 20)]), progress=False
    )
    assert (len(target), target.width, target.height) == (40, 128, 96)
    assert target.fps == pytest.approx(fps, rel=1e-4) and target.has_face.all()
    order = ping_pong(40, 130)
    assert [number_of(frame) for frame in target.read(order)] == order.tolist()
    assert [number_of(frame) for frame in target.read(np.array([7, 7, 3, 30]))] == [7, 7, 3, 30]


def test_short_gaps_are_followed_and_long_ones_left_alone(tmp_path: Path) -> None:
    """Missed in frames 5 and 6 (bridged), gone from 20 to 35 (a face is no longer there)."""
    seen = lambda i: not (5 <= i <= 6 or 20 <= i <= 35)  # noqa: E731
    detector = Detector(lambda i: [face_at(10 + i, 20)] if seen(i) else [])
    target = follow_face(video(tmp_path / "v.mp4", 50), CROP, detector, progress=False)
    assert np.flatnonzero(~target.has_face).tolist() == list(range(20, 36))
    assert np.isnan(target.matrices[20:36]).all() and np.isfinite(target.matrices[target.has_face]).all()
    # the interpolated frame 5 has the crop of a face at 10 + 5
    alone = follow_face(
        video(tmp_path / "w.mp4", 50), CROP, Detector(lambda i: [face_at(10 + i, 20)]), progress=False
    )
    assert target.matrices[5] == pytest.approx(alone.matrices[5], abs=0.05)


def test_a_face_that_comes_back_elsewhere_is_followed_too(tmp_path: Path) -> None:
    detector = Detector(lambda i: [face_at(5, 20)] if i < 10 else [face_at(60, 20)] if i >= 15 else [])
    target = follow_face(video(tmp_path / "v.mp4", 30), CROP, detector, progress=False)
    assert np.flatnonzero(~target.has_face).tolist() == [10, 11, 12, 13, 14]


def test_choice_between_faces(tmp_path: Path) -> None:
    file = video(tmp_path / "v.mp4", 12)
    detector = Detector(lambda _: [face_at(70, 20, 0.4), face_at(5, 20, 0.5)])
    by = {
        choose: follow_face(file, CROP, detector, choose, progress=False).matrices[0]
        for choose in ("size", "index:0", "index:1")
    }
    assert by["size"] == pytest.approx(by["index:0"])
    assert not np.allclose(by["index:1"], by["index:0"])
    with pytest.raises(FileError, match=r"no face 2 from the left \(from 0\) was found"):
        follow_face(file, CROP, detector, "index:2", progress=False)
    for wrong, said in (("largest", "size, longest, speaker or index:N"), ("speaker", "give size, longest")):
        with pytest.raises(TalkgenError, match=said):
            follow_face(file, CROP, detector, wrong, progress=False)


def test_detecting_in_every_third_frame_follows_the_same_face(tmp_path: Path) -> None:
    file, detector = video(tmp_path / "v.mp4", 31), Detector(lambda i: [face_at(10 + i, 20)])
    every = follow_face(file, CROP, detector, progress=False)
    third = follow_face(file, CROP, detector, detect_every=3, progress=False)
    assert third.has_face.all()
    assert third.matrices == pytest.approx(every.matrices, abs=0.1)


def test_no_face_and_no_video(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no face was found in its 10 frames"):
        follow_face(video(tmp_path / "v.mp4", 10), CROP, Detector(lambda _: []), progress=False)
    with pytest.raises(FileError):
        follow_face(tmp_path / "none.mp4", CROP, Detector(lambda _: []), progress=False)


def test_source_picture(tmp_path: Path) -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:, :64] = (200, 30, 10)
    file = tmp_path / "source ü.png"
    cv2.imencode(".png", picture[..., ::-1])[1].tofile(file)
    assert np.array_equal(read_picture(file), picture)
    faces = [face_at(80, 20, 0.2), face_at(4, 20, 0.5)]
    detector = Detector(lambda _: faces)
    crop = crop_source(picture, CROP, detector)
    assert crop.shape == (48, 48, 3) and abs(crop[24, 24].astype(int) - (200, 30, 10)).max() < 3
    with pytest.raises(FileError, match="no face was found in it"):
        crop_source(picture, CROP, Detector(lambda _: []), file)
    with pytest.raises(FileError, match="no such file"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(FileError, match="no picture that can be read"):
        read_picture(tmp_path / "text.png")


def test_regions_of_a_crop() -> None:
    whole = face_region(CROP, 96, lower_half=False)
    lower = face_region(CROP, 96, lower_half=True)
    assert whole.max() == 1 and whole[0].max() == 0 and whole[:, 0].max() == 0
    assert lower[:48].max() == 0 and lower[60, 48] > 0.9
    assert (lower <= whole + 1e-6).all()
    assert whole == pytest.approx(whole[:, ::-1], abs=1e-6)
    edge = whole_crop(96)
    assert edge[48, 48] == 1 and edge[0].max() < 0.1


def test_scaled_matrices_agree_with_resizing() -> None:
    """The centre of the crop stays the centre, and its corners stay half a pixel outside."""
    matrix = np.array([[[1.0, 0, 0], [0, 1.0, 0]]], np.float32)
    half = scaled(matrix, 0.5)[0]
    corner = half @ (-0.5, -0.5, 1)  # the outer corner of the first pixel
    assert corner == pytest.approx((-0.5, -0.5))
    assert half @ (47.5, 47.5, 1) == pytest.approx((23.5, 23.5))


def test_label_is_drawn_in_a_copy() -> None:
    frame = np.full((120, 160, 3), 90, np.uint8)
    labelled = put_label(frame, "synthetic")
    assert (frame == 90).all() and (labelled[90:] != 90).any() and (labelled[:60] == 90).all()


def test_a_file_that_was_exchanged_is_noticed(tmp_path: Path) -> None:
    file = video(tmp_path / "v.mp4", 5)
    target = TargetVideo(file, 25.0, 128, 96, np.zeros((9, 2, 3), np.float32), np.ones(9, bool))
    with pytest.raises(FileError, match="gave 5 of 9 frames"):
        list(target.read(np.arange(9)))


def test_a_picture_that_would_fill_the_memory_is_refused_unseen(tmp_path):
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 30_000, 30_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(header + bytes(100))
    with pytest.raises(FileError, match="has 30000 × 30000 pixels, more than 250 million; shrink it"):
        read_picture(tmp_path / "a.png")
