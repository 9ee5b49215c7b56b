from __future__ import annotations

import numpy as np
import pytest

from talkgen.faces.detection import Face
from talkgen.faces.ibug import mouth_opening
from talkgen.faces.tracking import (
    box_iou,
    choose_track,
    extend_track,
    fill_gaps,
    smooth,
    speaking_score,
    track_faces,
)
from talkgen.video.reader import read_frames

OFFSETS = np.array([[-15, -10], [15, -10], [0, 5], [-10, 20], [10, 20]], np.float32)


def face(x: float, y: float, half: float = 40.0) -> Face:
    centre = np.array([x, y], np.float32)
    box = np.concatenate([centre - half, centre + half]).astype(np.float32)
    return Face(box, 0.9, centre + OFFSETS * half / 40)


def centres(track) -> np.ndarray:
    return (track.boxes[:, 0] + track.boxes[:, 2]) / 2


def test_a_moving_face_is_one_track():
    (track,) = track_faces([[face(100 + 5 * i, 80)] for i in range(30)])
    assert (track.start, track.stop) == (0, 30) and track.found.all()
    np.testing.assert_allclose(centres(track), 100 + 5 * np.arange(30))
    np.testing.assert_allclose(track.keypoints[7], np.array([135, 80]) + OFFSETS)


def test_gaps_are_filled_and_marked():
    frames = [[face(100 + 2 * i, 80)] if not 10 <= i < 18 else [] for i in range(30)]
    (track,) = track_faces(frames)
    assert track.found.sum() == 22 and not track.found[10:18].any()
    np.testing.assert_allclose(centres(track), 100 + 2 * np.arange(30), atol=1e-4)
    assert len(track_faces(frames, max_gap=8)) == 1
    assert [(t.start, t.stop) for t in track_faces(frames, max_gap=7)] == [(0, 10), (18, 30)]


def test_faces_that_pass_each_other_keep_their_tracks():
    """They overlap in the middle; heights differ a little, so the keypoints tell them apart."""
    frames = [[face(50 + 4 * i, 80), face(250 - 4 * i, 110)] for i in range(50)]
    rng = np.random.default_rng(0)
    for faces in frames:
        rng.shuffle(faces)
    tracks = track_faces(frames)
    assert len(tracks) == 2
    slopes = sorted(round(float(np.polyfit(np.arange(50), centres(track), 1)[0]), 3) for track in tracks)
    assert slopes == [-4, 4]


def test_false_alarms_and_cuts():
    frames = [[face(100, 80)] + ([face(400, 300, 10)] if i == 5 else []) for i in range(20)]
    assert len(track_faces(frames)) == 2
    assert len(track_faces(frames, min_found=3)) == 1
    tracks = track_faces(frames, min_found=3, cuts=[12])
    assert [(track.start, track.stop) for track in tracks] == [(0, 12), (12, 20)]


def test_clips_without_any_face_give_no_track():
    assert track_faces([[], [], []]) == []
    assert track_faces([]) == []
    with pytest.raises(ValueError, match="no face track"):
        choose_track([])


def test_a_face_that_comes_late_and_leaves_early_is_held():
    """A frame without a face never aborts a clip: every frame has a position, real or held."""
    (track,) = track_faces([[]] * 4 + [[face(100 + i, 80)] for i in range(5)] + [[]] * 3)
    assert track.start == 4
    whole = extend_track(track, 12)
    assert (whole.start, whole.stop) == (0, 12)
    np.testing.assert_allclose(centres(whole), [100] * 4 + [100, 101, 102, 103, 104] + [104] * 3)
    assert whole.found.tolist() == [False] * 4 + [True] * 5 + [False] * 3
    with pytest.raises(ValueError, match="clip has 8"):
        extend_track(track, 8)


def test_choosing():
    small = [[face(100, 80, 20)] for _ in range(30)]
    large = [[face(300, 80, 60)] if i < 10 else [] for i in range(30)]
    tracks = track_faces([a + b for a, b in zip(small, large, strict=True)])
    assert centres(choose_track(tracks))[0] == 300
    assert centres(choose_track(tracks, "longest"))[0] == 100
    assert centres(choose_track(tracks, (120.0, 60.0)))[0] == 100
    assert choose_track(tracks, 1) is tracks[1]
    assert choose_track(tracks, "speaker", speaking=[0.1, 0.4]) is tracks[1]
    for by in (2, -1):
        with pytest.raises(ValueError, match="there are 2"):
            choose_track(tracks, by)
    with pytest.raises(ValueError, match="speaking score"):
        choose_track(tracks, "speaker")
    with pytest.raises(ValueError, match="not 'beauty'"):
        choose_track(tracks, "beauty")


def test_the_speaker_moves_with_the_sound():
    rng = np.random.default_rng(0)
    talking = np.repeat(rng.random(10) > 0.5, 15)  # phrases and pauses of 0.6 s
    syllables = np.abs(np.sin(np.arange(150) * 0.9))
    loud = talking * (0.5 + syllables) + 0.01 * rng.random(150)
    speaker = 0.2 * talking * np.roll(syllables, 1) + 0.01 * rng.random(150)
    listener = 0.02 * rng.random(150)
    other = 0.2 * (1 - talking) * syllables + 0.01 * rng.random(150)
    scores = [speaking_score(mouth, loud) for mouth in (speaker, listener, other, np.zeros(150))]
    assert scores[0] > 0.6 and max(scores[1:]) < 0.3 and scores[3] == 0
    assert speaking_score([0.1, 0.2], [1, 2]) == 0  # too short to tell


def test_real_speakers_score_above_people_who_listen(clips, detector, landmarker):
    """A speaker against somebody whose mouth is frozen up to the noise of the landmarks."""
    import av

    score = {}
    for name in ("vrt2", "may"):
        (clip,) = [clip for clip in clips if clip.stem == name]
        marks = []
        for frame in read_frames(clip):
            marks.append(landmarker("insightface").landmarks(frame, detector("insightface").detect(frame)[0]))
        opening = mouth_opening(np.array(marks))
        with av.open(str(clip)) as container:
            sound = np.concatenate([f.to_ndarray().ravel() for f in container.decode(audio=0)])
        loud = np.sqrt((sound[: len(opening) * 640].reshape(-1, 640) ** 2).mean(1))
        still = opening.mean() + 0.005 * np.random.default_rng(0).normal(size=len(opening))
        score[name] = (speaking_score(opening, loud), speaking_score(still, loud))
    assert all(own > still + 0.05 for own, still in score.values()), score


# Smoothing


def test_smoothing_does_not_lead_or_lag_a_moving_box():
    """The moving average of frames i ... i + 4 is 10 px ahead of a box that moves 5 px a frame."""
    moving = 100 + 5.0 * np.arange(40)
    assert np.abs(smooth(moving, 5) - moving).max() < 1e-9
    assert np.abs(smooth(moving, 11) - moving).max() < 1e-9  # also at both ends
    leading = np.array([moving[i : i + 5].mean() for i in range(36)])
    assert np.abs(leading - moving[:36]).max() == 10


def test_smoothing_by_hand_and_of_noise():
    np.testing.assert_allclose(
        smooth([0, 0, 0, 1, 0, 0, 0], 2)[2:5], np.array([1, np.e**2, 1]) / (2 + np.e**2)
    )
    noise = np.random.default_rng(0).normal(size=(4000, 2))
    assert smooth(noise, 10).std() < 0.45 * noise.std()
    assert smooth(noise, 10).shape == noise.shape
    # Symmetric: smoothing backwards is the same.
    np.testing.assert_allclose(smooth(noise[::-1], 7)[::-1], smooth(noise, 7))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 5])
def test_clips_shorter_than_the_window(frames):
    values = np.arange(frames, dtype=float)
    np.testing.assert_allclose(smooth(values, 25), values, atol=1e-9)
    np.testing.assert_array_equal(smooth(values, 1), values)


def test_gaps_are_interpolated():
    nan = np.nan
    np.testing.assert_allclose(fill_gaps([nan, 1, nan, nan, 4, nan]), [1, 1, 2, 3, 4, 4])
    partly = fill_gaps([[0, 0], [nan, 5], [2, 4]])
    np.testing.assert_allclose(partly, [[0, 0], [1, 2], [2, 4]])
    with pytest.raises(ValueError, match="no frame has a face"):
        fill_gaps([nan, nan])


def test_overlap_of_boxes():
    a, b = np.array([0, 0, 10, 10.0]), np.array([5, 0, 15, 10.0])
    assert box_iou(a, a) == 1 and box_iou(a, b) == pytest.approx(1 / 3)
    assert box_iou(a, a + 20) == 0 and box_iou(np.zeros(4), np.zeros(4)) == 0
