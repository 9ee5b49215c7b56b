"""Names of SwapTalk's stages in a method's folder; importing this costs nothing."""

from __future__ import annotations

from pathlib import Path

from talkgen.configuration import RunFolder

VQGAN_STAGE, SWAP_STAGE, SYNC_STAGE = "swaptalk_vqgan", "swaptalk_face_swap", "swaptalk_lip_sync"


def is_swaptalk(folder: str | Path) -> bool:
    """Whether a folder is that of the method, with a trained face-swapping or lip-sync module in it."""
    return any(RunFolder(Path(folder) / stage).last.is_file() for stage in (SWAP_STAGE, SYNC_STAGE))
