"""Fitting the built-in head to landmarks: speed, and what is found of the truth of the demo corpus.

    python benchmarks/face_fitting.py [--clips 16] [--write]

The clips are acted and not drawn: their truth is that of the demo corpus. Landmarks get noise, since those
of a network are never exact.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from document import keep

from talkgen.data.corpora.demo import make_take
from talkgen.data.corpora.demo_casting import DemoSettings, plan_clips
from talkgen.face3d.coefficients import Coefficients
from talkgen.face3d.fitting import FittingSettings, crop_camera, fit_landmarks
from talkgen.face3d.head import build_head
from talkgen.face3d.subspaces import (
    LANDMARKS,
    STYLETALK_LIP,
    Subspaces,
    disentangle,
    index_subspaces,
    indices_of_edits,
    motion_energy,
    region_shares,
)
from talkgen.faces.alignment import crop_matrices
from talkgen.faces.crop import CROPS, transform_points

SIZE = 128
SIZES = {"lip": 6, "eye": 4}
INDICES = {"lip": 13, "eye": 8}
HEAD = build_head()
STILL = np.zeros(80)


class Acted:
    """A clip: landmarks in pixels of its crop, and its truth."""

    def __init__(
        self, landmarks: np.ndarray, coefficients: np.ndarray, blink: np.ndarray, split: str
    ) -> None:
        self.landmarks, self.truth = landmarks, Coefficients.unpack(coefficients)
        self.blink, self.split = blink > 0, split


def acted(clips: int) -> list[Acted]:
    """Takes of the demo corpus, every fifth person held out; nothing is drawn."""
    settings = DemoSettings(
        identities=max(clips // 2, 2),
        clips_per_identity=2,
        swaps_per_identity=0,
        seconds=4.0,
        size_pixels=SIZE,
    )
    made = []
    for plan in plan_clips(settings)[:clips]:
        truth = make_take(plan, settings).truth
        crop = replace(CROPS["face"], size=SIZE)
        points = transform_points(crop_matrices(truth.landmarks, crop, 25.0), truth.landmarks)
        made.append(Acted(points, truth.truth_coefficients, truth.truth_blink, plan.split))
    return made


def openings(expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lips (decimetres) and lids of an expression, on the mean head."""
    points = HEAD.landmarks68(STILL, expression)
    lids = (points[:, [37, 38, 43, 44]] - points[:, [41, 40, 47, 46]])[..., 1].mean(1)
    return np.linalg.norm(points[:, 62] - points[:, 66], axis=1), lids


def events(shut: np.ndarray) -> int:
    """How many times it begins."""
    return int((np.diff(shut.astype(int), prepend=0) == 1).sum())


def fitting_row(clips: list[Acted], noise: float, per_frame: bool) -> tuple[str, list[np.ndarray]]:
    """Measures of all clips, and their fitted expressions."""
    camera = crop_camera(replace(CROPS["face"], size=SIZE))
    random = np.random.default_rng(0)
    numbers, fitted = [], []
    blinks = found = false = frames = 0
    began = time.process_time()
    for clip in clips:
        noisy = clip.landmarks + random.normal(size=clip.landmarks.shape) * noise
        if per_frame:  # what a regressor does that looks at each frame alone
            alone = FittingSettings(independent_frames=1)
            one = [fit_landmarks(HEAD, frame[None], camera, alone).coefficients for frame in noisy[:50]]
            parts = Coefficients.unpack(np.concatenate(one))
        else:
            parts = Coefficients.unpack(fit_landmarks(HEAD, noisy, camera).coefficients)
        n = len(parts.expression)
        frames += n
        fitted.append(parts.expression)
        (lips, lids), (true_lips, true_lids) = openings(parts.expression), openings(clip.truth.expression[:n])
        shut, truly = lids < 0.5 * np.median(lids), clip.blink[:n]
        near = np.convolve(truly, np.ones(5), "same") > 0
        blinks, found = blinks + events(truly), found + events(truly & shut)
        false += events(shut & ~near)
        numbers.append(
            [
                np.corrcoef(lips, true_lips)[0, 1],
                lips.std() / true_lips.std(),
                np.corrcoef(lids, true_lids)[0, 1],
                lids.std() / true_lids.std(),
                *(np.corrcoef(parts.angle[:, i], clip.truth.angle[:n, i])[0, 1] for i in range(3)),
            ]
        )
    seconds = time.process_time() - began
    lip, lip_size, lid, lid_size, *pose = np.median(numbers, axis=0)
    return (
        f"{lip:.2f} | {lip_size:.2f} | {lid:.2f} | {lid_size:.2f} | {found} of {blinks}, {false} false | "
        f"{' '.join(f'{r:.2f}' for r in pose)} | {frames / seconds:.0f} |"
    ), fitted


def share_rows(clips: list[Acted], fitted: list[np.ndarray]) -> list[str]:
    """Kept and leaked motion of held-out people, by the fitted coefficients."""
    energies = {name: motion_energy(HEAD, name) for name in LANDMARKS}
    centred = [expression - expression.mean(0) for expression in fitted]
    train = np.concatenate([e for e, clip in zip(centred, clips, strict=True) if clip.split == "train"])
    held_out = np.concatenate([e for e, clip in zip(centred, clips, strict=True) if clip.split == "test"])
    generators = {"lip": HEAD.lip_generators, "eye": HEAD.eye_generators}
    assert HEAD.mixing is not None
    edits = {name: HEAD.mixing[:, list(places)].T for name, places in generators.items()}
    ways: dict[str, Subspaces] = {
        "rotated subspaces, 6 and 4": disentangle(energies, SIZES, np.cov(train.T)),
        "rotated subspaces, 13 and 8": disentangle(energies, INDICES, np.cov(train.T)),
        "index rule, 13 and 8": index_subspaces(indices_of_edits(edits, train.std(0), INDICES)),
        "index rule with σ + 0.1, 13 and 8": index_subspaces(
            indices_of_edits(edits, train.std(0), INDICES, floor=0.1)
        ),
        "StyleTalk's 13": index_subspaces({"lip": STYLETALK_LIP}),
    }
    rows = []
    for name, way in ways.items():
        shares = region_shares(way, held_out, energies)
        cells = [
            f"{shares[own, own].kept:.2f} | "
            + " ".join(f"{shares[own, other].moved:.2f}" for other in LANDMARKS if other != own)
            if own in way.names
            else "– | –"
            for own in SIZES
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips = acted(arguments.clips)
    lines = [
        f"The built-in head fitted to {len(clips)} clips of demo people, in crops of {SIZE} pixels.",
        "Correlation and amplitude against the truth, median over clips; blinks: the lids less than half as",
        "far open as usual; frames per second of processor time on one thread.",
        "",
        "| identity | noise, px | lips r | lips, amplitude | lids r | lids, amplitude | blinks found "
        "| pitch yaw roll r | frames/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    kept: list[np.ndarray] = []
    for noise in (0.0, 0.5, 1.0):
        row, fitted = fitting_row(clips, noise, per_frame=False)
        lines.append(f"| one a clip | {noise} | {row}")
        kept = fitted if noise == 0.5 else kept
    row, _ = fitting_row(clips[::4], 0.5, per_frame=True)
    lines.append(f"| one a frame (every fourth clip, 2 s) | 0.5 | {row}")
    lines += [
        "",
        "Parts of the fitted expressions (noise 0.5) of held-out people: the share of a region's motion that",
        "its part keeps, and the share of the other regions' motion that it makes (lips: of lids and brows;",
        "lids: of lips and brows). The index rule is given the true movements as its edits.",
        "",
        "| way | lips kept | leaked | lids kept | leaked |",
        "|---|---|---|---|---|",
        *share_rows(clips, kept),
    ]
    print("\n".join(lines))
    if arguments.write:
        keep("face_fitting", "Coefficients from landmarks", "\n".join(lines))


if __name__ == "__main__":
    main()
