"""Names of stages in a method's folder; importing this costs nothing."""

from __future__ import annotations

from pathlib import Path

from talkgen.configuration import RunFolder

VQGAN_STAGE, SWAP_STAGE, SYNC_STAGE = "swaptalk_vqgan", "swaptalk_face_swap", "swaptalk_lip_sync"


def is_swaptalk(folder: str | Path) -> bool:
    """Whether a folder is that of the method, with a trained face-swapping or lip-sync module in it."""
    return any(RunFolder(Path(folder) / stage).last.is_file() for stage in (SWAP_STAGE, SYNC_STAGE))


DIFFUSION_STAGE, DISTILLED_STAGE = "diff2lip_diffusion", "diff2lip_distill"


def diff2lip_run(folder: str | Path) -> RunFolder | None:
    """The run of Diff2Lip that a folder stands for: the diffusion stage of a method, or the run itself."""
    place = Path(folder)
    if place.name in (DIFFUSION_STAGE, DISTILLED_STAGE) and RunFolder(place).last.is_file():
        return RunFolder(place)
    run = RunFolder(place / DIFFUSION_STAGE)
    return run if run.last.is_file() else None


def is_diff2lip(folder: str | Path) -> bool:
    """Whether there is a trained network of Diff2Lip: in a folder, or as a file of published weights."""
    published = Path(folder).suffix in (".pt", ".pth") and Path(folder).is_file()
    return published or diff2lip_run(folder) is not None


MOTION_STAGE, RENDERER_STAGE = "disenttalk_motion", "disenttalk_renderer"


def is_disenttalk(folder: str | Path) -> bool:
    """Whether a folder is that of the method, with trained motion in it (the mesh may render)."""
    return RunFolder(Path(folder) / MOTION_STAGE).last.is_file()
