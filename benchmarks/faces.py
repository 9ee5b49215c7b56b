"""How long talkgen takes to find, cut and put back faces, against the usual way in the same run.

    python benchmarks/faces.py clips/            # a folder of talking-face clips; prints the tables
    python benchmarks/faces.py clips/ --write    # also keeps them in docs/performance/faces.md

It also measures how exact that is. The usual way is written here as Wav2Lip's and Diff2Lip's inference do
it: a detector on every frame at its native resolution (their network is S3FD, which runs here with random
weights, as the time of a convolution does not depend on them; its Python post-processing is left out), and
pasting by
blending the whole frame in floating point. Frames are 1920 × 1080 (a clip's frame in the middle of a larger
picture), crops 512 × 512.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import timing
import torch
from document import keep

from talkgen.errors import MissingPackage, MissingWeights
from talkgen.faces.alignment import ARCFACE_TEMPLATE, crop_matrices, similarity_transform
from talkgen.faces.blending import paste_back
from talkgen.faces.crop import CropSettings, crop_frame, invert, transform_points
from talkgen.faces.detection import Face, make_detector
from talkgen.faces.ibug import mouth_opening
from talkgen.faces.landmarks import make_landmarker
from talkgen.faces.mask import lower_half_mask
from talkgen.faces.tracking import smooth, track_faces
from talkgen.video.reader import read_frames

SIZE = 512
seconds = partial(timing.seconds, repeats=15, wall=True)


def usual_detection(frame: np.ndarray) -> Callable[[], object]:
    """S3FD's convolutions on the frame as it is."""
    from face_alignment.detection.sfd.net_s3fd import s3fd

    network = s3fd().eval()
    batch = torch.from_numpy(frame.transpose(2, 0, 1)[None].astype(np.float32))

    def detect() -> object:
        with torch.inference_mode():
            return network(batch)

    return detect


def usual_paste(frame: np.ndarray, crop: np.ndarray, matrix: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The whole frame in floating point."""
    size = frame.shape[1::-1]
    back = invert(matrix).astype(float)
    placed = cv2.warpAffine(crop, back, size).astype(np.float32)
    weight = cv2.warpAffine(mask, back, size)[..., None]
    return (weight * placed + (1 - weight) * frame.astype(np.float32)).astype(np.uint8)


def times(clip: Path) -> str:
    small = next(read_frames(clip, start_seconds=1.0))
    frame = np.zeros((1080, 1920, 3), np.uint8)
    face_picture = cv2.resize(small, (900, 900))
    frame[90:990, 510:1410] = face_picture
    detector, landmarker = make_detector(), make_landmarker()
    (face,) = detector.detect(frame)
    native = make_detector("insightface", size=1920)
    matrix = crop_matrices(face.keypoints[None], CropSettings(size=SIZE))[0]
    mask = lower_half_mask(SIZE, SIZE / 16)
    crop = crop_frame(frame, matrix, SIZE)
    small_matrix = matrix / 4
    detection, at_native = seconds(lambda: detector.detect(frame)), seconds(lambda: native.detect(frame))
    rows = [
        ("detection: S3FD at native resolution", seconds(usual_detection(frame), repeats=2), detection),
        ("detection: SCRFD at native resolution", at_native, detection),
        (
            "detection in every 4th frame, the others interpolated (a frame)",
            at_native,
            detection / 4,
        ),
        (
            "landmarks: dlib's 68 (talkgen: InsightFace's 106, mapped)",
            dlib_seconds(frame, face),
            seconds(lambda: landmarker.landmarks(frame, face)),
        ),
        (
            "crop 512 × 512",
            seconds(lambda: cv2.warpAffine(frame, matrix, (SIZE, SIZE))),
            seconds(lambda: crop_frame(frame, matrix, SIZE)),
        ),
        (
            "crop 128 × 128 (talkgen: antialiased)",
            seconds(lambda: cv2.warpAffine(frame, small_matrix, (128, 128))),
            seconds(lambda: crop_frame(frame, small_matrix, 128)),
        ),
        (
            "paste back",
            seconds(lambda: usual_paste(frame, crop, matrix, mask)),
            seconds(lambda: paste_back(frame, crop, matrix, mask)),
        ),
    ]
    return table(
        ("what", "usual way, ms", "talkgen, ms", "times faster"),
        [(w, f"{1e3 * a:.2f}" if a == a else "–", f"{1e3 * b:.2f}", f"{a / b:.1f}") for w, a, b in rows],
    )


def dlib_seconds(frame: np.ndarray, face: Face) -> float:
    try:
        reference = make_landmarker("dlib")
    except (MissingPackage, MissingWeights):
        return float("nan")
    return seconds(lambda: reference.landmarks(frame, face))


def exactness(clips: list[Path]) -> list[str]:
    """Tables of landmarks against dlib, of detection in every k-th frame, and of the steadiness of crops."""
    detector = make_detector()
    landmarkers = {}
    for name in ("insightface", "mediapipe", "dlib"):
        try:
            landmarkers[name] = make_landmarker(name)
        except (MissingPackage, MissingWeights) as missing:
            print(missing)
    errors: dict[str, list[np.ndarray]] = {name: [] for name in landmarkers}
    skipped: dict[int, list[np.ndarray]] = {2: [], 4: [], 8: []}
    steadiness: dict[str, list[tuple[float, float]]] = {}
    for clip in clips:
        frames = list(read_frames(clip))
        faces = [detector.detect(frame)[:1] for frame in frames]
        if not all(faces):
            continue
        keypoints = np.stack([face[0].keypoints for face in faces])
        eyes = float(np.linalg.norm(keypoints[:, 0] - keypoints[:, 1], axis=-1).mean())
        landmarks = np.stack(
            [landmarkers["insightface"].landmarks(f, x[0]) for f, x in zip(frames, faces, strict=True)]
        )
        for frame, (face,) in zip(frames[::8], faces[::8], strict=True):
            found = {name: marks.landmarks(frame, face) for name, marks in landmarkers.items()}
            if "dlib" in found:
                corners = np.linalg.norm(found["dlib"][36] - found["dlib"][45])
                for name, points in found.items():
                    errors[name].append(np.linalg.norm(points - found["dlib"], axis=1) / corners)
        for step, gaps in skipped.items():
            (track,) = track_faces([face if i % step == 0 else [] for i, face in enumerate(faces)])
            guessed = np.flatnonzero(~track.found)
            distance = np.linalg.norm(track.keypoints[guessed] - keypoints[guessed], axis=-1)
            gaps.append(distance.ravel() / eyes)
        opening = mouth_opening(landmarks)
        for name, weights, settings in (
            ("all five points alike, every frame", None, CropSettings(smoothing_seconds=0)),
            ("stable points, every frame", (1, 1, 0.4, 0.1, 0.1), CropSettings(smoothing_seconds=0)),
            ("stable points, smoothed (talkgen)", None, CropSettings()),
        ):
            if settings.smoothing_seconds:
                matrices = crop_matrices(keypoints, settings).astype(float)
            else:
                matrices = similarity_transform(keypoints, ARCFACE_TEMPLATE, weights).astype(float)
                matrices = matrices * 256 / 143
            zoom = 0.5 * np.log(np.linalg.det(matrices[:, :, :2]))
            middle = transform_points(invert(matrices), [[127.5, 127.5]])[:, 0] * np.exp(zoom.mean())
            follows = np.corrcoef(zoom - smooth(zoom, 50), opening - smooth(opening, 50))[0, 1]
            jitter = np.abs(np.diff(middle, 3, axis=0)).mean()
            steadiness.setdefault(name, []).append((float(jitter), float(follows)))

    parts = {"all": slice(0, 68), "outline": slice(0, 17), "eyes": slice(36, 48), "mouth": slice(48, 68)}
    agreement = table(
        ("landmarks", *parts),
        [
            (name, *(f"{np.mean(np.array(rows)[:, part]):.3f}" for part in parts.values()))
            for name, rows in errors.items()
            if name != "dlib" and rows
        ],
    )
    strides = table(
        ("detector runs in", "median", "95 %"),
        [
            (f"one frame in {step}", *(f"{np.quantile(np.concatenate(rows), q):.3f}" for q in (0.5, 0.95)))
            for step, rows in skipped.items()
        ],
    )
    steady = table(
        ("crop", "jitter, px of 256", "zoom follows mouth, r"),
        [
            (name, f"{np.mean([r[0] for r in rows]):.3f}", f"{np.median([r[1] for r in rows]):+.2f}")
            for name, rows in steadiness.items()
        ],
    )
    return [agreement, strides, steady]


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(r) + " |" for r in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder of talking-face clips, one face in each")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clips = sorted(arguments.clips.glob("*.mp4"))
    if not clips:
        parser.error(f"no .mp4 in {arguments.clips}")
    speed = times(clips[0])
    agreement, strides, steady = exactness(clips)
    report = f"""One thread, OpenCV {cv2.__version__}, least of 15; frames of 1920 × 1080 pixels.

{speed}

Mean distance to dlib's 68 points over {len(clips)} clips, in distances between the outer corners of the
eyes:

{agreement}

Distance of interpolated keypoints from those detected in every frame, in distances between the eyes:

{strides}

Steadiness of crops: mean third difference of the centre, and how much the zoom breathes with the opening of
the mouth (correlation, slow movements removed):

{steady}
"""
    print(report)
    if arguments.write:
        keep("faces", "Faces", report)


if __name__ == "__main__":
    main()
