"""Coefficients of a morphable model for every clip of a store, whether or not the store was prepared with
them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from talkgen.data.array_cache import ArrayCache
from talkgen.data.clip import Clip
from talkgen.data.clip_preparation import LandmarkFitter
from talkgen.data.store import Store
from talkgen.faces.crop import CROPS, CropSettings

NAME = "coefficients"


def fit_store(
    folder: str | Path, store: Store, fitter: LandmarkFitter, array: str | None = None, progress: bool = True
) -> ArrayCache:
    """Float32 (frames, 257) of every clip; made once, and gone on with after an interruption.

    The store's own `coefficients` are taken where they are by the same model; else its landmarks are fitted,
    which needs no pictures.

    Args:
        folder: where they lie.
        store: the clips.
        fitter: `face3d.fitting.load_clip_fitter(model)`.
        array: another array of the store that holds coefficients, such as the demo corpus's
            `truth_coefficients`; nothing is fitted then.
        progress: show a bar.

    Raises:
        FileError: the folder holds coefficients of something else, or a shard is damaged.
    """
    own = (store.description["settings"].get("networks_sha256") or {}).get(NAME)
    name = array or (NAME if own == fitter.sha256 else None)

    def make(clip: Clip) -> np.ndarray:
        if name is not None:
            return store.array(clip, name)
        return fitter(store.array(clip, "landmarks"), store_crop(store, clip))

    key = f"{fitter.sha256} {array or 'fitted'}"
    return ArrayCache.build(
        folder, store, key, make, "coefficients" if name else "fit coefficients", progress
    )


def store_crop(store: Store, clip: Clip) -> CropSettings:
    """How the faces of a store were cropped; `face` where it does not say."""
    return dataclasses.replace(CROPS[store.description["settings"].get("crop", "face")], size=clip.size)
