"""Morphable models by name or file.

    open_morphable_model("demo")                      the built-in head
    open_morphable_model("ict_facekit.npz")           ICT-FaceKit, converted by `convert_ict`
    open_morphable_model("BFM_model_front.mat")       Basel Face Model as Deep3DFaceRecon ships it
    open_morphable_model("flame.npz")                 FLAME, converted by `convert_flame`

None of the three files can come with this project: they have licences of their own.
"""

from __future__ import annotations

from pathlib import Path

from talkgen.errors import FileError, TalkgenError
from talkgen.face3d.bfm import read_bfm
from talkgen.face3d.flame import read_flame
from talkgen.face3d.head import build_head
from talkgen.face3d.ict_facekit import read_ict
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.npz import array_names


def open_morphable_model(model: str | Path) -> MorphableModel:
    """The model that is meant.

    Args:
        model: `demo`, or a file whose layout is told by its suffix and content.

    Raises:
        TalkgenError: there is no such model, or the file cannot be used.
    """
    if str(model) == "demo":
        return build_head()
    file = Path(model)
    if not file.is_file():
        raise TalkgenError(f"morphable_model={model}: no such file; give demo, or the file of a model")
    if file.suffix == ".mat":
        return read_bfm(file)
    if file.suffix == ".npz":
        names = array_names(file)
        if {"neutral", "expr", "ident"} <= names:
            return read_ict(file)
        if {"v_template", "shapedirs"} <= names:
            return read_flame(file)
        raise FileError(
            file, "holds neither ICT-FaceKit (neutral, expr, ident) nor FLAME (v_template, shapedirs)"
        )
    if file.suffix == ".pkl":
        raise FileError(
            file,
            "is a pickle, which can run code when it is read; "
            "talkgen.face3d.flame.convert_flame makes an .npz of it",
        )
    raise FileError(
        file, "is no morphable model that is known here: give .npz (ICT-FaceKit, FLAME) or .mat (BFM)"
    )
