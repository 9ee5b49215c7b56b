"""How expressions move in a corpus, in the directions of `Subspaces`: numbers of unit variance.

An expression ψ is a person's rest, and motion about it. In directions D with readers E (lips, lids, then the
principal directions of what is left),

    z = ((ψ − rest) E) / σ,        ψ = rest + (z σ) D,

σ within clips. A clip's own mean is its rest. Of a few frames (a source picture is one) the rest is not the
mean, for nobody knows how far the mouth was open just then; the mean shrunk towards the corpus is:

    rest = μ + B / (B + W / n) (mean − μ)        in each direction, B between people and W within clips

(empirical Bayes, as James & Stein 1961).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkgen.errors import FileError
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.face3d.subspaces import Subspaces
from talkgen.faces.ibug import LEFT_EYE, RIGHT_EYE
from talkgen.npz import read_npz

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MotionStatistics:
    """See the module; n directions of k coefficients.

    Attributes:
        names: of the regions, `global` last.
        sizes: (regions,) directions of each.
        encode: (k, n) E.
        decode: (n, k) D.
        mean: (k,) μ, the mean expression of the corpus.
        deviation: (n,) σ.
        between: (n,) variance between people over the variance within clips, B / W.
        blink: (n,) z when the lids are shut, less z when they are as far open as they go; 0 outside the eyes.
        landmarks: (n, 204) what z does to the 68 landmarks, decimetres.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    encode: Array
    decode: Array
    mean: Array
    deviation: Array
    between: Array
    blink: Array
    landmarks: Array

    def save(self, file: str | Path) -> None:
        """Write an npz."""
        file = Path(file)
        temporary = file.with_name(f".{file.name}.partial.npz")
        np.savez(temporary, **{f.name: np.asarray(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]
        temporary.replace(file)

    @classmethod
    def load(cls, file: str | Path) -> MotionStatistics:
        """What `save` wrote; raises FileError where it cannot be read."""
        try:
            content = read_npz(file)
            names = tuple(str(name) for name in content["names"])
            sizes = tuple(int(size) for size in content["sizes"])
            rest = {f.name: content[f.name] for f in fields(cls) if f.name not in ("names", "sizes")}
            return cls(names, sizes, **rest)
        except (FileError, ValueError, KeyError, TypeError) as error:
            raise FileError(
                file, f"holds no statistics of motion ({error}); make them with talkgen disentangle"
            ) from error


def motion_statistics(
    expressions: Sequence[NDArray[np.floating]],
    people: Sequence[str],
    subspaces: Subspaces | None,
    model: MorphableModel,
    rest_size: int = 20,
) -> MotionStatistics:
    """Measure a corpus.

    Args:
        expressions: (frames, k) of each clip.
        people: who is seen in it.
        subspaces: regions; None: none are told apart, and everything is `global` (for the paper's ablation).
        model: whose coefficients they are.
        rest_size: directions that are kept of what belongs to no region; the first ones by variance.
    """
    clips = [np.asarray(expression, np.float64) for expression in expressions]
    moving = np.concatenate([clip - clip.mean(0) for clip in clips])
    left = moving if subspaces is None else subspaces.part(moving, "global")
    _, vectors = np.linalg.eigh(left.T @ left)
    main = vectors[:, ::-1][:, :rest_size]  # (k, rest)
    names = ("global",) if subspaces is None else (*subspaces.names, "global")
    sizes = (main.shape[1],) if subspaces is None else (*subspaces.sizes, main.shape[1])
    if subspaces is None:
        encode, decode = main, main.T
    else:
        taken_off = np.eye(len(main)) - subspaces.readers.T @ subspaces.directions
        encode = np.concatenate([subspaces.readers.T, taken_off @ main], axis=1)
        decode = np.concatenate([subspaces.directions, main.T])
    amounts = moving @ encode
    deviation = np.maximum(amounts.std(0), 1e-8)
    mean = np.mean([clip.mean(0) for clip in clips], axis=0)
    rests: dict[str, list[Array]] = {person: [] for person in people}
    for clip, person in zip(clips, people, strict=True):
        rests[person].append(clip.mean(0))
    persons = np.stack([np.mean(rest, axis=0) for rest in rests.values()])
    between = ((persons - mean) @ encode).var(0) / deviation**2
    basis = model.expression_basis[:, model.landmark_vertices].reshape(model.expression_basis.shape[0], -1)
    landmarks = (decode * deviation[:, None]) @ basis
    blink = np.zeros(len(decode))
    if "eye" in names:
        first = sum(sizes[: names.index("eye")])
        eye = slice(first, first + sizes[names.index("eye")])
        shut = np.concatenate([lid_closure(model, clip) for clip in clips])
        shut = shut - np.concatenate([np.full(len(clip), lid_closure(model, clip).mean()) for clip in clips])
        z = amounts[:, eye] / deviation[eye]
        blink[eye] = shut @ z / max(float(shut @ shut), 1e-12)
    return MotionStatistics(names, sizes, encode, decode, mean, deviation, between, blink, landmarks)


def lid_closure(model: MorphableModel, expression: NDArray[np.floating]) -> Array:
    """How far the lids are closed in each frame of a clip (frames, k): 0 as open as they get (95th
    percentile), 1 shut; on the mean head."""
    points = model.landmarks68(np.zeros(len(model.identity_basis)), expression).astype(np.float64)
    gap = np.mean([_gap(points[:, eye]) for eye in (LEFT_EYE, RIGHT_EYE)], axis=0)
    closure: Array = 1 - gap / np.quantile(gap, 0.95)
    return closure


def _gap(eye: NDArray[np.floating]) -> Array:
    """Lower less upper lid (frames,), signed: lids that overlap are no gap."""
    height: Array = (eye[:, 1, 1] - eye[:, 5, 1] + eye[:, 2, 1] - eye[:, 4, 1]) / 2
    return height
