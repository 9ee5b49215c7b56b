#!/usr/bin/env python
"""Draw the fitted morphable model on clips, with the eyes' opening over time, and count blinks.

    python scripts/draw_fitted.py CLIP.mp4 [CLIP.mp4 …] --out FOLDER [--model FILE] [--landmarker mediapipe]

For each clip: ``NAME.mp4`` (face with found and fitted points | mesh, above the curve), ``NAME_fit.png``
(frames from all over the clip), ``NAME_eyes.png`` (both eyes in every frame, for counting by hand) and
``NAME_opening.png``. Prints a line a clip: frames, frames a second of fitting, distance of fitted from found
points, blinks of the found and of the fitted landmarks, and when.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import find_peaks

from talkgen.face3d.coefficients import Coefficients, rotation
from talkgen.face3d.fitting import fit_landmarks
from talkgen.face3d.model_files import open_morphable_model
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.faces.crop import CROPS
from talkgen.faces.detection import make_detector
from talkgen.faces.landmarks import make_landmarker
from talkgen.inference.fitted_face import FaceFitter, FittedFace
from talkgen.inference.mesh_preview import MeshPreview
from talkgen.metrics.blinks import PROMINENCE, eye_aspect_ratio
from talkgen.video.contact_sheet import contact_sheet
from talkgen.video.writer import VideoWriter

SIZE, STRIP = 256, 96
FOUND, FITTED = (90, 255, 90), (255, 80, 80)
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Opening:
    """Height over width of the eyes, mean of both, and the frames where they blink."""

    found: NDArray[np.float64]
    fitted: NDArray[np.float64]

    @staticmethod
    def blinks(ratio: NDArray[np.float64]) -> NDArray[np.int64]:
        """Frames at the bottom of each dip; one at either end of the clip counts as well."""
        ends = np.pad(ratio, 1, constant_values=float(np.median(ratio)))
        return find_peaks(-ends, prominence=PROMINENCE)[0] - 1


def project(
    model: MorphableModel, fitter: FaceFitter, coefficients: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The 68 fitted points of every frame, (frames, 68, 2), pixels of the crop."""
    parts = Coefficients.unpack(coefficients)
    points = model.landmarks68(parts.identity, parts.expression)
    turned = np.einsum("fij,flj->fli", rotation(parts.angle), points) + parts.translation[:, None]
    return fitter.camera.project(turned)


def openings(model: MorphableModel, fitted: FittedFace) -> Opening:
    """The found points as they are seen; the fitted ones seen from the front."""
    parts = Coefficients.unpack(fitted.coefficients)
    front = model.landmarks68(parts.identity, parts.expression)[..., :2]
    both = (torch.from_numpy(np.array(points, np.float64)) for points in (fitted.landmarks, front))
    found, model_eyes = (eye_aspect_ratio(points).numpy() for points in both)
    return Opening(found, model_eyes)


def with_points(crop: Picture, *points: tuple[NDArray[np.floating], tuple[int, int, int]]) -> Picture:
    """A copy with dots."""
    drawn = crop.copy()
    for places, colour in points:
        for x, y in places:
            cv2.circle(drawn, (round(float(x) * 8), round(float(y) * 8)), 10, colour, -1, cv2.LINE_AA, 3)
    return drawn


def curve(opening: Opening, width: int, height: int, now: int | None = None) -> Picture:
    """Both ratios over time; blinks as ticks."""
    picture = np.full((height, width, 3), 255, np.uint8)
    frames = len(opening.found)
    top = max(0.45, float(opening.found.max()), float(opening.fitted.max()))
    for ratio, colour, y in (
        (opening.found, (40, 160, 40), height - 4),
        (opening.fitted, (200, 40, 40), height - 12),
    ):
        x = np.linspace(0, width - 1, frames)
        line = np.stack([x, (height - 16) * (1 - ratio / top)], 1)
        cv2.polylines(picture, [np.round(line * 8).astype(np.int32)], False, colour, 1, cv2.LINE_AA, 3)
        for frame in Opening.blinks(ratio):
            cv2.circle(picture, (round(x[frame]), y), 3, colour, -1, cv2.LINE_AA)
    if now is not None:
        at = round(now * (width - 1) / max(frames - 1, 1))
        cv2.line(picture, (at, 0), (at, height - 1), (120, 120, 120), 1)
    return picture


def eyes(crop: Picture, points: NDArray[np.float32]) -> Picture:
    """Both eyes, 96 × 40 pixels."""
    low, high = points[36:48].min(0), points[36:48].max(0)
    middle, width = (low + high) / 2, 1.25 * (high - low)[0]
    matrix = np.array([[96 / width, 0, 0], [0, 96 / width, 0]])
    matrix[:, 2] = np.array([47.5, 19.5]) - matrix[:, :2] @ middle
    cut = cv2.warpAffine(crop, matrix, (96, 40), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)


def draw(clip: Path, out: Path, model: MorphableModel, fitter: FaceFitter) -> str:
    """All pictures of a clip; a line about it."""
    fitted = fitter.video(clip, progress=False)
    begun = time.perf_counter()
    fit_landmarks(fitter.model, fitted.landmarks, fitter.camera)
    rate = len(fitted.coefficients) / (time.perf_counter() - begun)
    points = project(fitter.model, fitter, fitted.coefficients)
    opening = openings(fitter.model, fitted)
    mesh = MeshPreview(model, replace(fitter.camera, size=SIZE), samples=2)
    shown, eye_rows = [], []
    chosen = set(np.linspace(0, len(points) - 1, 10).round().astype(int).tolist())
    with VideoWriter(
        out / f"{clip.stem}.mp4", 25, 2 * SIZE, SIZE + STRIP, audio=clip, synthetic=True
    ) as writer:
        for number, crop in enumerate(fitter.crops(clip, fitted)):
            drawn = with_points(crop, (fitted.landmarks[number], FOUND), (points[number], FITTED))
            bare = mesh(fitted.coefficients[number])
            strip = curve(opening, 2 * SIZE, STRIP, number)
            writer.write(np.concatenate([np.concatenate([drawn, bare], 1), strip]))
            eye_rows.append(eyes(crop, fitted.landmarks[number]))
            if number in chosen:
                shown.append(np.concatenate([crop, drawn, bare]))
    save(out / f"{clip.stem}_fit.png", contact_sheet(shown, 5))
    labels = [
        f"{number} {opening.found[number]:.2f} {opening.fitted[number]:.2f}"
        for number in range(len(eye_rows))
    ]
    save(out / f"{clip.stem}_eyes.png", contact_sheet(eye_rows, 12, labels))
    save(out / f"{clip.stem}_opening.png", curve(opening, 900, 220))
    told = ", ".join(
        f"{name} {len(frames)} at {'·'.join(map(str, frames.tolist())) or 'none'}"
        for name, frames in (
            ("found", Opening.blinks(opening.found)),
            ("fitted", Opening.blinks(opening.fitted)),
        )
    )
    both = float(np.corrcoef(opening.found, opening.fitted)[0, 1])
    return (
        f"{clip.stem}: {len(points)} frames, {rate:.0f} frames/s, off by {np.nanmedian(fitted.residual):.2f} "
        f"of {SIZE} px; blinks {told}; r of both openings {both:.2f}"
    )


def save(file: Path, picture: Picture) -> None:
    """As a PNG."""
    cv2.imwrite(str(file), picture[..., ::-1])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="demo", help="demo, or the file of a morphable model")
    parser.add_argument("--landmarker", default="insightface")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model = open_morphable_model(given.model)
    crop = replace(CROPS["face"], size=SIZE)
    fitter = FaceFitter(model, crop, make_detector("insightface"), make_landmarker(given.landmarker))
    for clip in given.clips:
        print(draw(clip, given.out, model, fitter), flush=True)


if __name__ == "__main__":
    main()
