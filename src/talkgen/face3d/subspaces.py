"""Which part of an expression is lips, which is lids, and which is the rest.

In coefficients that were learned from scans, every one of them moves lips, lids and brows at once, so that no
choice of indices parts them; a subspace in any direction does. With Σ the covariance of the coefficients in a
corpus, Σ = R Rᵀ, and L_r: coefficients → landmarks or vertices of a region, M_r = Rᵀ L_rᵀ L_r R is the
motion of a region in whitened coefficients, and the directions

    M_own v = λ (M_others + ε 1) v                          generalised eigenvectors, largest λ first

move their own region most for what they move of the others. The own part of an expression is its projection
on the first directions of a region along those of the other regions (oblique), and what no region takes is
`global`: the parts add up to the whole. It is closed form, needs no edited pictures, and serves any
morphable model.

`index_subspaces` is DisentTalk's rule, largest |Δ| / σ between original and edited frames, and
`STYLETALK_LIP` the fixed indices of StyleTalk and DreamTalk, for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from talkgen.errors import FileError
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.npz import read_npz

Array = NDArray[np.float64]

STYLETALK_LIP = (0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14)
"""The 13 coefficients that StyleTalk and DreamTalk take for the lower face, in the order of Deep3D's 64."""

BLINK_INDICES = (16, 17, 18, 19, 22, 25, 32, 42)
"""The eight of Deep3D's 64 that follow blinks most closely, measured on real clips; StyleTalk names none."""

LANDMARKS = {"lip": slice(48, 68), "eye": slice(36, 48), "brow": slice(17, 27)}
"""Which of the 68 landmarks tell how a region moves."""


@dataclass(frozen=True)
class Subspaces:
    """A split of the expression into regions and a rest.

    Attributes:
        names: of the regions; the rest is `global`.
        directions: (sum of sizes, k) rows in coefficients; those of a region stand together.
        sizes: of the regions.
        readers: (sum of sizes, k): amounts = readers @ expression. Readers of one region do not see the
            directions of another.
    """

    names: tuple[str, ...]
    directions: Array
    sizes: tuple[int, ...]
    readers: Array

    def amounts(self, expression: NDArray[np.floating], name: str) -> Array:
        """How much of each direction of a region is in expressions `(..., k)`: `(..., size)`."""
        return np.asarray(expression, np.float64) @ self.readers[self._place(name)].T

    def part(self, expression: NDArray[np.floating], name: str) -> Array:
        """The part of expressions `(..., k)` that is a region's, or `global`; all parts add up to the
        whole."""
        whole = np.asarray(expression, np.float64)
        if name == "global":
            return whole - (whole @ self.readers.T) @ self.directions
        place = self._place(name)
        return (whole @ self.readers[place].T) @ self.directions[place]

    def exchange(
        self, expression: NDArray[np.floating], other: NDArray[np.floating], names: Sequence[str]
    ) -> Array:
        """Expressions with the parts `names` of another's."""
        mixed = np.asarray(expression, np.float64)
        for name in names:
            mixed = mixed - self.part(expression, name) + self.part(other, name)
        return mixed

    def _place(self, name: str) -> slice:
        if name not in self.names:
            raise ValueError(f"no region {name!r}; there are {', '.join((*self.names, 'global'))}")
        number = self.names.index(name)
        start = sum(self.sizes[:number])
        return slice(start, start + self.sizes[number])

    def save(self, file: str | Path) -> None:
        """Write an npz."""
        file = Path(file)
        temporary = file.with_name(f".{file.name}.partial.npz")
        np.savez(
            temporary,
            names=np.array(self.names),
            directions=self.directions,
            sizes=np.array(self.sizes),
            readers=self.readers,
        )
        temporary.replace(file)

    @classmethod
    def load(cls, file: str | Path) -> Subspaces:
        """What `save` wrote; raises FileError where it cannot be read."""
        try:
            content = read_npz(file)
            names = tuple(str(name) for name in content["names"])
            sizes = tuple(int(size) for size in content["sizes"])
            return cls(names, content["directions"], sizes, content["readers"])
        except (FileError, ValueError, KeyError, TypeError) as error:
            raise FileError(file, f"holds no subspaces ({error}); make them again") from error


def motion_energy(model: MorphableModel, region: str) -> Array:
    """LᵀL (k, k) of a region of LANDMARKS: square motion of its landmarks, summed."""
    basis = model.expression_basis[:, model.landmark_vertices[LANDMARKS[region]]]
    flat = basis.reshape(len(basis), -1).astype(np.float64)
    energy: Array = flat @ flat.T
    return energy


def disentangle(
    energies: Mapping[str, Array], sizes: Mapping[str, int], covariance: Array, ridge: float = 1.0
) -> Subspaces:
    """Subspaces of regions.

    Args:
        energies: region → LᵀL (k, k), by `motion_energy`. Those that are in `sizes` get a subspace; the
            others are to be left alone.
        sizes: region → number of directions.
        covariance: Σ (k, k), of the coefficients within clips.
        ridge: ε, in mean energies of the others; more of it keeps more of a region's own motion, and leaks
            more.

    Raises:
        ValueError: more directions than coefficients, a region without energy, or without others.
    """
    count = len(covariance)
    if sum(sizes.values()) > count or min(sizes.values()) < 1:
        raise ValueError(f"there are {count} coefficients for {sum(sizes.values())} directions")
    if missing := sorted(sizes.keys() - energies.keys()):
        raise ValueError(f"no energy of {', '.join(missing)}")
    if len(energies) < 2:
        raise ValueError("one region alone has nothing to be parted from")
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    values = np.maximum(values, values[-1] * 1e-8)
    root = vectors * np.sqrt(values)
    # every region counts by how much it moves in the corpus, so that lips do not drown lids
    white = {name: root.T @ energy @ root for name, energy in energies.items()}
    white = {name: energy / np.trace(energy) for name, energy in white.items()}
    found = []
    for name, size in sizes.items():
        others = sum((white[other] for other in energies if other != name), np.zeros((count, count)))
        others = others + ridge * np.trace(others) / count * np.eye(count)
        _, ordered = eigh(white[name], others)  # smallest first
        best = ordered[:, ::-1][:, :size]
        found.append(best / np.linalg.norm(best, axis=0))
    directions = np.concatenate(found, axis=1)
    readers = np.linalg.pinv(directions) @ (vectors / np.sqrt(values)).T  # R⁻¹ before
    return Subspaces(tuple(sizes), (root @ directions).T, tuple(sizes.values()), readers)


def index_subspaces(indices: Mapping[str, Sequence[int]], count: int = 64) -> Subspaces:
    """Regions that own coefficients, as StyleTalk's `{"lip": STYLETALK_LIP}`.

    Raises:
        ValueError: a coefficient is given twice, or there is none of that number.
    """
    flat = [index for part in indices.values() for index in part]
    if len(set(flat)) < len(flat) or not all(0 <= index < count for index in flat):
        raise ValueError(f"indices must be different numbers from 0 to {count - 1}: {flat}")
    rows = np.eye(count)[flat]
    return Subspaces(tuple(indices), rows, tuple(len(part) for part in indices.values()), rows)


def indices_of_edits(
    edits: Mapping[str, NDArray[np.floating]],
    deviation: NDArray[np.floating],
    sizes: Mapping[str, int],
    floor: float = 0.0,
) -> dict[str, tuple[int, ...]]:
    """DisentTalk's rule: the coefficients with the largest mean |Δ| / σ when a region is edited.

    Args:
        edits: region → Δ (pairs, k), edited less original.
        deviation: σ (k,) in the corpus.
        sizes: region → number of coefficients; a region earlier in it chooses first.
        floor: added to σ. Without it the last coefficients, whose σ is tiny, win by their noise.

    Raises:
        ValueError: more coefficients are asked for than there are.
    """
    count = len(deviation)
    if sum(sizes.values()) > count:
        raise ValueError(f"there are {count} coefficients for {sum(sizes.values())} places")
    taken: set[int] = set()
    chosen = {}
    for name, size in sizes.items():
        score = np.abs(edits[name]).mean(0) / (np.asarray(deviation) + floor)
        free = [int(index) for index in np.argsort(-score, kind="stable") if int(index) not in taken]
        chosen[name] = tuple(free[:size])
        taken |= set(chosen[name])
    return chosen


def natural_edits(
    clips: Sequence[NDArray[np.floating]],
    energies: Mapping[str, Array],
    regions: Sequence[str],
    pairs: int = 400,
    seed: int = 0,
) -> dict[str, Array]:
    """Pairs of frames of a clip between which one region moved and the others hardly did: Δ (pairs, k) of
    each region, for `indices_of_edits`. They stand in for edited pictures, which nobody has published.

    Args:
        clips: expressions (frames, k) of each.
        energies: region → LᵀL, of all regions.
        regions: of which edits are wanted.
        pairs: of each region.
        seed: of the candidates.
    """
    random = np.random.default_rng(seed)
    candidates = []
    for clip in clips:
        whole = np.asarray(clip, np.float64)
        first, second = random.integers(len(whole), size=(2, max(8, 50 * pairs // len(clips))))
        candidates.append(whole[first] - whole[second])
    change = np.concatenate(candidates)
    moved = {name: np.einsum("nk,kj,nj->n", change, energy, change) for name, energy in energies.items()}
    moved = {name: energy / max(float(energy.mean()), 1e-12) for name, energy in moved.items()}
    edits = {}
    for region in regions:
        others = sum((moved[name] for name in moved if name != region), np.zeros(len(change)))
        edits[region] = change[np.argsort(-(moved[region] - others), kind="stable")[:pairs]]
    return edits


@dataclass(frozen=True)
class RegionShare:
    """How much of a region's motion a part of the expression makes.

    Attributes:
        kept: 1 − ‖all − part‖² / ‖all‖², how well the part reproduces the region's motion.
        moved: ‖part‖² / ‖all‖², how much the part moves the region: the leak, where the region is another's.
    """

    kept: float
    moved: float


def region_shares(
    subspaces: Subspaces, expression: NDArray[np.floating], energies: Mapping[str, Array]
) -> dict[tuple[str, str], RegionShare]:
    """(part, region) → shares, for expressions (n, k) less the mean of their clip."""
    whole = np.asarray(expression, np.float64)
    shares = {}
    for name in (*subspaces.names, "global"):
        part = subspaces.part(whole, name)
        for region, energy in energies.items():
            total = _square(whole, energy)
            shares[name, region] = RegionShare(
                1 - _square(whole - part, energy) / total, _square(part, energy) / total
            )
    return shares


def _square(expression: Array, energy: Array) -> float:
    return float(np.einsum("nk,kj,nj->", expression, energy, expression, optimize=True))
