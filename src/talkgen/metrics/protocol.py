"""Under which conditions a table was made: two tables compare only where these lines agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "torch",
    "torchmetrics",
    "av",
    "numpy",
    "scipy",
    "opencv-python",
    "mediapipe",
    "insightface",
)
"""Packages whose version can move a number."""


def installed_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Package → installed version, talkgen first; a package that is not installed is left out."""
    from talkgen import __version__

    found = {"talkgen": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _range(numbers: Sequence[float]) -> str:
    """``25`` or ``25 to 125``."""
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


@dataclass(frozen=True)
class Protocol:
    """Everything that a number of the table depends on besides the row.

    Args:
        corpus: corpus and split, for example ``"demo, test split"``.
        fps: frames a second, one for each clip.
        frames: frames that were scored, one for each clip.
        sizes_px: width and height of the frames that were scored, one for each clip.
        crop: how the face was cut out, in words.
        codec: what lies between a row's frames and its metrics, in words.
        metrics: columns, which carry the variant ids.
        weights: weight name → sha256 of the file, of what the metrics loaded.
        versions: package → version.
        mean: how numbers are averaged, in words.
    """

    corpus: str
    fps: Sequence[float]
    frames: Sequence[int]
    sizes_px: Sequence[int]
    crop: str
    codec: str
    metrics: Sequence[str]
    weights: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    mean: str = "mean over frames, then over clips; 95 % bootstrap interval over clips"

    def line(self) -> str:
        """One line, the same for the same conditions."""
        weights = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(self.weights.items()))
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        parts = [
            self.corpus,
            f"{len(self.frames)} clips of {_range(self.frames)} frames",
            f"{_range(self.fps)} fps",
            f"{_range(self.sizes_px)} px",
            f"crop: {self.crop}",
            f"codec: {self.codec}",
            self.mean,
            f"metrics: {', '.join(self.metrics)}",
            f"weights: {weights or 'none'}",
            f"versions: {packages}",
        ]
        return " · ".join(parts)
