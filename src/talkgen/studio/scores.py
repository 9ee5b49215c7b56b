"""The numbers under results: each against what it was made of, by the metrics of ``metrics=studio``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from talkgen.comparison import compare
from talkgen.configuration import compose_config
from talkgen.metrics.contenders import Contender, GroundTruth
from talkgen.metrics.contenders import Generated as GeneratedFrames
from talkgen.metrics.identity_source import warps_of
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.table import NOT_APPLICABLE, Column, Row, Table
from talkgen.metrics.video_clips import FrameStream, VideoClips, VideoFile
from talkgen.video.reader import probe
from talkgen.video_evaluation import ScoredVideos

FRAMES = 100  # of a result that are looked at
FPS = 25.0
OWN_VIDEO = "unchanged video"
HINTS = {
    "sync confidence": "Do lips and sound belong together? By talkgen's own expert.",
    "abs sync offset": "Frames by which lips and sound seem shifted.",
    "LSE-C": "Lip-sync confidence by the published SyncNet.",
    "LSE-D": "Lip-sync distance by the published SyncNet.",
    "mouth opening r": "Does the mouth open when the true one does?",
    "LMD": "Distance of mouth landmarks to the true ones.",
    "CSIM": "Likeness to the person who should be seen.",
    "consistency": "Is it the same person in every frame?",
    "CPBD": "Sharpness.",
    "PSNR": "Likeness of pixels to the true frames.",
    "SSIM": "Likeness of structure to the true frames.",
    "face missed": "Frames in which no face is found.",
}


@dataclass
class ResultRow:
    """A result as a row of a table.

    Attributes:
        name: of the row.
        file: the video.
        truth_known: whether the clip shows what the result should be.
        wanted: key of the gallery: who should be seen.
        in_video: see ``Contender``.
    """

    name: str
    file: Path
    truth_known: bool
    wanted: str
    in_video: bool = True

    def generate(self, clips: VideoClips, number: int) -> Iterator[GeneratedFrames]:
        """The frames, at the size of the clip."""
        stream = FrameStream(self.file, clips.fps)
        for start, stop in clips.spans(number):
            frames = clips.fitted(number, start, stream.read(start, stop))
            yield GeneratedFrames(frames, truth_known=self.truth_known, person=self.wanted)


def score_results(
    order: Mapping[str, Any],
    results: Mapping[int, Path],
    target: Path,
    sound: Path | None,
    folder: Path,
) -> dict[str, Any]:
    """One table of all results of a job.

    A result of the target's own size is compared with the target, pixel by pixel where the target's own face
    says what it said; others stand for themselves, since nobody knows what they should be.

    Args:
        order: of the job.
        results: number of a variant → its video.
        target: video that was changed.
        sound: what drove the lips; None: the target's own.
        folder: of the job.

    Returns:
        Columns, rows and notes, as JSON.
    """
    values = {"cache": None, "device": order["device"], "sync_expert": _sync_expert(order["runs"])}
    cfg = compose_config("evaluate", {"metrics": "studio"}, values)
    (folder / "scores").mkdir(exist_ok=True)  # for the pictures that every table leaves
    size = probe(target)
    same = {n: file for n, file in results.items() if _size(file) == (size.width, size.height)}
    groups = [(target, same)] if same else []
    groups += [(file, {number: file}) for number, file in results.items() if number not in same]
    tables = [_table(cfg, order, truth, files, target, sound, folder) for truth, files in groups]
    known = sound is None and {
        order["variants"][n]["title"] for n in same if not order["variants"][n]["source"]
    }
    rows = [row for table in tables for row in _rows(table, known or set())]
    places = {variant["title"]: number for number, variant in enumerate(order["variants"])}
    rows.sort(key=lambda row: places.get(row["name"], -1))
    notes = list(dict.fromkeys(note for table in tables for note in table.notes))
    return {"columns": _columns(tables[0]), "rows": rows, "notes": notes}


def _sync_expert(runs: str) -> str | None:
    """The newest expert of evaluation below the folder of runs."""
    from talkgen.evaluation import newest_stage

    newest = newest_stage(runs, "evaluation_sync_expert")
    return None if newest is None else str(newest)


def _table(
    cfg: DictConfig,
    order: Mapping[str, Any],
    truth: Path,
    files: Mapping[int, Path],
    target: Path,
    sound: Path | None,
    folder: Path,
) -> Table:
    own = truth == target
    count = min(FrameStream(file, FPS).count for file in (truth, *files.values()))
    clip = VideoFile("target", truth, "target", sound or target)
    clips = VideoClips([clip], [min(count, FRAMES)], FPS)
    contenders: list[Contender] = [GroundTruth()] if own and not _is_still(target) else []
    for number, file in files.items():
        variant = order["variants"][number]
        known = own and sound is None and variant["source"] is None
        wanted = "source" if variant["source"] else "target"
        contenders.append(ResultRow(variant["title"], file, known, wanted))
    scored = ScoredVideos(clips, target, None)
    return compare(cfg, "", contenders, scored, folder / "scores", (), _people(cfg, order, target))


def _people(cfg: DictConfig, order: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """A picture of everyone who may be wanted: the first frame of the target, and the source."""
    import torch

    from talkgen.inference.target_video import read_picture
    from talkgen.video.reader import read_frames

    landmarks = open_landmark_source(cfg.landmarks)
    if not isinstance(landmarks, LandmarkSource):
        return {}
    pictures = {"target": next(iter(read_frames(target)))}
    source = next((variant["source"] for variant in order["variants"] if variant["source"]), None)
    if source is not None:
        pictures["source"] = read_picture(source)
    people: dict[str, Any] = {}
    for name, picture in pictures.items():
        frame = torch.from_numpy(picture.copy())[None]
        people[name] = frame, warps_of(landmarks(frame))
    return people


def _is_still(target: Path) -> bool:
    from talkgen.inference.disenttalk import is_still

    return is_still(target)


def _size(file: Path) -> tuple[int, int]:
    info = probe(file)
    return info.width, info.height


def _columns(table: Table) -> list[dict[str, Any]]:
    def hint(name: str) -> str:
        return next((words for start, words in HINTS.items() if name.startswith(start)), "")

    return [{"name": one.name, "heading": one.heading, "hint": hint(one.name)} for one in table.columns]


def _rows(table: Table, known: Collection[str]) -> list[dict[str, Any]]:
    """Rows as text; ``known`` names the results of which the true lips are known."""

    def cell(row: Row, column: Column) -> str:
        if column.name.startswith("mouth opening") and row.name not in known:
            return NOT_APPLICABLE  # the mouth that it would be compared with said something else
        return row.cells[column.name].text(column.digits)

    return [
        {
            "name": OWN_VIDEO if row.name == GroundTruth.name else row.name,
            "cells": [cell(row, column) for column in table.columns],
        }
        for row in table.rows
    ]
