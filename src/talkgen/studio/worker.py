"""The process in which networks run: ``python -m talkgen.studio.worker``.

A line of JSON on standard input is an order; lines of JSON on standard output say what has been done; bars of
tqdm on standard error say how far it is. Networks stay open from one order to the next. The studio ends the
process where a job is cancelled.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from omegaconf import OmegaConf

from talkgen.configuration import compose_config
from talkgen.errors import FileError, TalkgenError, from_os_error
from talkgen.generation import methods
from talkgen.generation_method import Generate, GenerationFiles

Tell = Callable[[Mapping[str, Any]], None]
_MOST_OPEN = 3  # methods whose networks stay in memory


class OpenMethods:
    """Methods with their networks, the last few that were used."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Generate] = OrderedDict()

    def get(self, method: str, folder: Path, values: Mapping[str, Any]) -> Generate:
        """A method with these values of ``configs/generate.yaml``.

        Raises:
            TalkgenError: it cannot be opened.
        """
        cfg = compose_config("generate", {}, {"method": method, "run": str(folder), **values})
        weights = max((file.stat().st_mtime for file in folder.rglob("*.ckpt")), default=0.0)
        key = f"{weights} {OmegaConf.to_yaml(cfg)}"
        if key not in self._open:
            while len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)
            self._open[key] = methods()[method].open(cfg, folder)
        self._open.move_to_end(key)
        return self._open[key]


def work(order: Mapping[str, Any], folder: Path, opened: OpenMethods, tell: Tell) -> None:
    """Make the videos of an order, and measure them.

    Args:
        order: see ``job_request.JobOrder``.
        folder: of the job; everything is written there.
        opened: networks.
        tell: takes what has been done.

    Raises:
        TalkgenError: nothing of it could be made.
    """
    from talkgen.inference.preview import write_preview
    from talkgen.inference.request import Request, as_files

    target = Path(order["target"])
    if order["still"]:
        target = first_frame(target, folder / "target.png")
    audio = Path(order["audio"]) if order["audio"] else None
    if audio is None and order["text"] is None and order["still"]:
        audio = Path(order["target"])  # the picture of a video does not speak; the video does
    results: dict[int, Path] = {}
    request = Request(target, folder / "0.mp4", None, audio, order["text"], order["language"], order["voice"])
    request.check()
    with as_files(request) as (video, sound):
        for number, variant in enumerate(order["variants"]):
            tell({"event": "begun", "part": number})
            out = folder / f"{number}.mp4"
            begun = time.perf_counter()
            try:
                generate = opened.get(
                    variant["method"],
                    Path(variant["folder"]),
                    {**variant["values"], "device": order["device"]},
                )
                source = Path(variant["source"]) if variant["source"] else None
                written = generate(GenerationFiles(source, video, sound, out))
                write_preview(out)
            except (TalkgenError, OSError) as error:
                known = from_os_error(error) if isinstance(error, OSError) else error
                if known is None:
                    raise
                tell({"event": "refused", "part": number, "reason": without_folders(known)})
                continue
            results[number] = out
            tell(
                {
                    "event": "written",
                    "part": number,
                    "frames": written.frames,
                    "without_face": written.without_face,
                    "video_seconds": written.seconds,
                    "worked_seconds": time.perf_counter() - begun,
                }
            )
        if results and order["measure"]:
            from talkgen.studio.scores import score_results

            tell({"event": "measuring"})
            try:
                scores = score_results(order, results, video, sound, folder)
            except TalkgenError as error:  # the videos are good; that they cannot be measured is a note
                scores = {"columns": [], "rows": [], "notes": [without_folders(error)]}
            tell({"event": "scores", "scores": scores})


def first_frame(file: Path, out: Path) -> Path:
    """The first frame of a video as a picture; a picture is taken as it is."""
    import cv2

    from talkgen.data.files import write_atomically
    from talkgen.inference.request import is_picture
    from talkgen.video.reader import read_frames

    if is_picture(file):
        return file
    frame = next(iter(read_frames(file)), None)
    if frame is None:
        raise FileError(file, "has no frame")
    write_atomically(out, cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    return out


def without_folders(error: TalkgenError) -> str:
    """What is wrong, without names of the studio's files, which say nothing to the user."""
    return error.cause if isinstance(error, FileError) else str(error)


def serve(orders: TextIO, tell: Tell) -> None:
    """Work on orders until there are no more."""
    opened = OpenMethods()
    for line in orders:
        asked = json.loads(line)
        try:
            work(asked["order"], Path(asked["folder"]), opened, tell)
        except (TalkgenError, OSError) as error:
            known = from_os_error(error) if isinstance(error, OSError) else error
            if known is None:
                raise
            tell({"event": "failed", "reason": without_folders(known)})
        tell({"event": "done"})


def main() -> int:
    """Take orders from standard input; what methods print goes to standard error."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(event: Mapping[str, Any]) -> None:
        said.write(json.dumps(event) + "\n")
        said.flush()

    serve(sys.stdin, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
