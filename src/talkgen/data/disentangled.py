"""The folder that `talkgen disentangle` leaves: coefficients of a store, subspaces of its expressions, and
how they move in it.

::

    disentangled.json   morphable model, rule, sizes; written last
    coefficients/       `ArrayCache`, float32 (frames, 257) of each clip
    heard/<kind>/       `ArrayCache`, features of each frame; made by whoever needs them
    subspaces.npz       `Subspaces`
    motion.npz          `MotionStatistics`
    shares.md, .csv     what each rule keeps and leaks
    subspaces.png       picture of them
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from talkgen.audio.frame_features import FrameFeatures
from talkgen.data.array_cache import ArrayCache
from talkgen.data.coefficient_cache import fit_store
from talkgen.data.files import write_atomically
from talkgen.data.speech_cache import hear_store
from talkgen.data.store import Store
from talkgen.errors import FileError
from talkgen.face3d.fitting import load_clip_fitter
from talkgen.face3d.motion_statistics import MotionStatistics
from talkgen.face3d.subspaces import Subspaces

FILE = "disentangled.json"


@dataclass(frozen=True)
class Description:
    """What a folder was made with.

    Attributes:
        morphable_model: what `open_morphable_model` takes.
        sha256: of its numbers.
        array: array of the store that the coefficients are; None: fitted, or the store's `coefficients`.
        rule: of the subspaces.
        sizes: directions of each region, the rest last.
    """

    morphable_model: str
    sha256: str
    array: str | None
    rule: str
    sizes: tuple[int, ...]


class Disentangled:
    """Such a folder, opened.

    Args:
        folder: where.

    Raises:
        FileError: it is not complete.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        file = self.folder / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            self.description = Description(**{**content, "sizes": tuple(content["sizes"])})
        except FileNotFoundError as error:
            raise FileError(
                folder,
                "was not made yet: train.py experiment=disenttalk_disentangle, or talkgen disentangle "
                "data.root=STORE out=FOLDER",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise FileError(file, f"is damaged ({error}); delete the folder") from error

    @cached_property
    def subspaces(self) -> Subspaces:
        """The regions; a FileError where none are told apart (`rule=none`)."""
        return Subspaces.load(self.folder / "subspaces.npz")

    @cached_property
    def statistics(self) -> MotionStatistics:
        """What makes motion numbers of unit variance."""
        return MotionStatistics.load(self.folder / "motion.npz")

    def coefficients(self, store: Store, progress: bool = True) -> ArrayCache:
        """Those of a store, made where they are not.

        Raises:
            FileError: they are of another corpus, or the morphable model has changed.
        """
        fitter = load_clip_fitter(self.description.morphable_model)
        return fit_store(self.folder / "coefficients", store, fitter, self.description.array, progress)

    def heard(self, store: Store, features: FrameFeatures, progress: bool = True) -> ArrayCache:
        """What the frames of a store hear, made where it is not."""
        return hear_store(self.folder / "heard" / features.kind, store, features, progress)

    @staticmethod
    def write(folder: Path, description: Description) -> None:
        """The file that says that all else is there."""
        write_atomically(folder / FILE, (json.dumps(asdict(description), indent=1) + "\n").encode())


def load_statistics(folder: str | Path) -> MotionStatistics:
    """`Disentangled(folder).statistics`, for configs."""
    return Disentangled(folder).statistics
