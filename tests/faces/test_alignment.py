from __future__ import annotations

import numpy as np
import pytest

from talkgen.faces.alignment import ARCFACE_TEMPLATE, crop_matrices, identity_warp, similarity_transform
from talkgen.faces.crop import CROPS, CropSettings, invert, transform_points


def rotation(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def test_a_known_similarity_is_recovered():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 2)) * 50
    for degrees in (0, 30, 179, -90):
        true = rotation(degrees, 1.7, (12, -5))
        found = similarity_transform(points, transform_points(true, points))
        np.testing.assert_allclose(found, true, atol=1e-4)
    # Many frames at once, and against one target.
    moved = np.stack([transform_points(rotation(d, 0.5, (d, 3)), points) for d in range(10)])
    back = similarity_transform(moved, points)
    assert back.shape == (10, 2, 3) and back.dtype == np.float32
    np.testing.assert_allclose(transform_points(back, moved), np.broadcast_to(points, moved.shape), atol=1e-3)


def test_it_is_the_least_squares_solution():
    rng = np.random.default_rng(1)
    source, target, weights = rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), rng.random(5)
    design = np.zeros((10, 4))  # x' = a x - b y + tx, y' = b x + a y + ty
    design[0::2] = np.c_[source[:, 0], -source[:, 1], np.ones(5), np.zeros(5)]
    design[1::2] = np.c_[source[:, 1], source[:, 0], np.zeros(5), np.ones(5)]
    root = np.sqrt(np.repeat(weights, 2))
    a, b, tx, ty = np.linalg.lstsq(design * root[:, None], target.ravel() * root, rcond=None)[0]
    np.testing.assert_allclose(
        similarity_transform(source, target, weights), [[a, -b, tx], [b, a, ty]], atol=1e-5
    )


def test_a_mirrored_target_is_not_mirrored_back():
    points = ARCFACE_TEMPLATE.astype(float)
    mirrored = points * [-1, 1] + [112, 0]
    assert np.linalg.det(similarity_transform(points, mirrored)[:, :2]) > 0


def test_coinciding_points_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        similarity_transform(np.ones((5, 2)), ARCFACE_TEMPLATE)


def test_identity_warp_equals_the_published_alignment(reference):
    """insightface's norm_crop (skimage's SimilarityTransform) on the same five points."""
    with np.load(reference / "face_alignment.npz") as vectors:
        keypoints, matrix = vectors["keypoints"], vectors["matrix"]
    np.testing.assert_allclose(identity_warp(keypoints), matrix, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(identity_warp(ARCFACE_TEMPLATE), np.eye(2, 3), atol=1e-5)


# Crops


def points_at(x: float, y: float, scale: float = 2.0, degrees: float = 0.0) -> np.ndarray:
    """ArcFace's template with the middle of its eyes at (x, y)."""
    centred = ARCFACE_TEMPLATE - ARCFACE_TEMPLATE[:2].mean(0)
    return transform_points(rotation(degrees, scale, (x, y)), centred)


def centre_of(matrices: np.ndarray, size: int) -> np.ndarray:
    middle = (size - 1) / 2
    return transform_points(invert(matrices), [[middle, middle]])[:, 0]


@pytest.mark.parametrize("name", list(CROPS))
def test_the_middle_passes_just_under_the_eyes(name):
    settings = CROPS[name]
    matrices = crop_matrices(np.stack([points_at(300, 200)] * 9), settings)
    assert matrices.shape == (9, 2, 3) and matrices.dtype == np.float32
    eyes, nose, mouth = transform_points(matrices, points_at(300, 200))[0, [0, 2, 3]]
    half = settings.size / 2
    assert eyes[1] < half - 0.04 * settings.size and nose[1] > half and mouth[1] > half
    assert eyes[1] == pytest.approx(settings.eye_line * settings.size, abs=1.0)
    side = settings.size / matrices[0, 0, 0]
    assert side == pytest.approx(settings.scale * 110 * 2, rel=1e-3)


def test_pixel_centres_are_whole_numbers():
    """The middle of the crop, and so the symmetric crop, lies half a pixel before size / 2."""
    even = crop_matrices(points_at(300, 200)[None], CropSettings(size=256, eye_line=0.5, smoothing_seconds=0))
    eyes = transform_points(even, points_at(300, 200))[0, :2]
    np.testing.assert_allclose(eyes.mean(0), [127.5, 127.5], atol=0.02)


def test_rotation_is_kept_as_pose_or_turned_level():
    tilted = np.stack([points_at(300, 200, degrees=20)] * 5)
    upright = crop_matrices(tilted, CropSettings(rotate=False))
    np.testing.assert_allclose(upright[:, 0, 1], 0, atol=1e-6)
    level = transform_points(crop_matrices(tilted, CropSettings(rotate=True)), tilted)[2]
    # The template's own eyes are 0.2 of 112 pixels apart in height.
    assert abs(level[0, 1] - level[1, 1]) < 1.0
    straight = crop_matrices(np.stack([points_at(300, 200)] * 5), CropSettings())
    np.testing.assert_allclose(upright[:, 0, 0], straight[:, 0, 0], rtol=1e-4)


def test_a_steady_motion_is_followed_without_lead_or_lag():
    path = np.stack([points_at(200 + 5 * i, 200 + 2 * i) for i in range(50)])
    settings = CropSettings()
    still = centre_of(crop_matrices(path[:1], settings), 256)
    centres = centre_of(crop_matrices(path, settings), 256)
    expected = still + np.stack([5 * np.arange(50), 2 * np.arange(50)], 1)
    np.testing.assert_allclose(centres, expected, atol=0.02)


def test_noise_is_smoothed_and_outliers_are_dropped():
    rng = np.random.default_rng(0)
    clean = np.stack([points_at(300, 200)] * 60)
    noisy = clean + rng.normal(0, 2, clean.shape)
    noisy[30] += 80  # the detector jumps once
    raw = centre_of(crop_matrices(noisy, CropSettings(smoothing_seconds=0)), 256)
    smoothed = centre_of(crop_matrices(noisy, CropSettings()), 256)
    assert np.abs(np.diff(raw, axis=0)).mean() > 4 * np.abs(np.diff(smoothed, axis=0)).mean()
    assert np.abs(smoothed[30] - smoothed.mean(0)).max() < 3


def test_an_opening_mouth_does_not_zoom():
    """The corners of the mouth move as in wide speech; the crop breathes less than half a per cent."""
    speaking = np.stack([points_at(300, 200)] * 50)
    wave = np.sin(np.arange(50) / 2)[:, None]
    speaking[:, 3:] += np.stack([0 * wave, 10 * wave], -1)  # 10 of 81 pixels between eyes and mouth
    speaking[:, 3, 0] += 4 * wave[:, 0]
    speaking[:, 4, 0] -= 4 * wave[:, 0]
    matrices = crop_matrices(speaking, CropSettings(smoothing_seconds=0))
    zoom = matrices[:, 0, 0] / matrices[:, 0, 0].mean()
    assert np.abs(zoom - 1).max() < 0.03
    smoothed = crop_matrices(speaking, CropSettings())[:, 0, 0]
    assert np.ptp(smoothed[12:-12]) / smoothed.mean() < 0.005
    assert np.ptp(smoothed) < 0.5 * np.ptp(matrices[:, 0, 0])  # at the ends half of the window is missing
    equal = similarity_transform(speaking, ARCFACE_TEMPLATE)
    equal_zoom = np.sqrt(np.linalg.det(equal[:, :, :2]))
    assert np.ptp(equal_zoom) / equal_zoom.mean() > 1.8 * np.ptp(zoom)


@pytest.mark.filterwarnings("error")
def test_frames_without_a_face_are_interpolated():
    path = np.stack([points_at(200 + 3 * i, 200) for i in range(40)]).astype(float)
    whole = crop_matrices(path, CropSettings())
    path[10:20] = np.nan
    path[0] = path[39] = np.nan
    patched = crop_matrices(path, CropSettings())
    assert np.isfinite(patched).all()
    np.testing.assert_allclose(patched[5:35], whole[5:35], atol=0.3)
    with pytest.raises(ValueError, match="no frame has a face"):
        crop_matrices(np.full((4, 5, 2), np.nan), CropSettings())


def test_landmarks_and_keypoints_cut_the_same():
    from talkgen.faces.ibug import LEFT_EYE, LEFT_MOUTH, NOSE_TIP, RIGHT_EYE, RIGHT_MOUTH

    keypoints = points_at(300, 200, 1.5)
    landmarks = np.zeros((3, 68, 2), np.float32)
    for part, point in zip((LEFT_EYE, RIGHT_EYE, NOSE_TIP, LEFT_MOUTH, RIGHT_MOUTH), keypoints, strict=True):
        landmarks[:, part] = point
    np.testing.assert_allclose(
        crop_matrices(landmarks, CropSettings()),
        crop_matrices(np.stack([keypoints] * 3), CropSettings()),
        atol=1e-4,
    )
    with pytest.raises(ValueError, match="5 or 68"):
        crop_matrices(np.zeros((3, 106, 2)), CropSettings())


def test_impossible_settings_are_refused():
    for bad in ({"size": 0}, {"scale": 0.0}, {"eye_line": 1.2}, {"smoothing_seconds": -1.0}):
        with pytest.raises(ValueError, match="impossible crop"):
            CropSettings(**bad)


def test_real_crops_are_steady_and_complete(clips, detector, landmarker):
    """All landmarks lie inside the crop, eyes above its middle, mouth below; it does not jitter."""
    from talkgen.video.reader import read_frames

    for clip in [clip for clip in clips if clip.stem in ("vrt2", "katiehill_a", "yir31_a")]:
        frames = list(read_frames(clip, seconds=3))
        faces = [detector("insightface").detect(frame)[0] for frame in frames]
        keypoints = np.stack([face.keypoints for face in faces])
        matrices = crop_matrices(keypoints, CROPS["face"])
        for i in range(0, len(frames), 10):
            points = transform_points(matrices[i], landmarker("insightface").landmarks(frames[i], faces[i]))
            assert points[17:].min() > 0 and points.max() < 256
            assert points[36:48, 1].max() < 132 and points[48:, 1].min() > 140
        jitter = np.abs(np.diff(centre_of(matrices, 256) * matrices[0, 0, 0], 3, axis=0)).mean()
        unsmoothed = crop_matrices(keypoints, CropSettings(smoothing_seconds=0))
        raw = np.abs(np.diff(centre_of(unsmoothed, 256) * unsmoothed[0, 0, 0], 3, axis=0)).mean()
        assert jitter < 0.2 and jitter < 0.25 * raw
