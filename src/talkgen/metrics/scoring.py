"""Show contenders and metrics the clips, piece by piece, and keep pictures of what was seen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from talkgen.data.files import write_atomically
from talkgen.metrics.contenders import Clips, Contender, Generated
from talkgen.metrics.footage import MOUTH_POINTS, Footage
from talkgen.metrics.identity_source import Gallery, IdentitySource, warps_of
from talkgen.metrics.pictures import contact_sheet, side_by_side
from talkgen.video.writer import VideoWriter

SHEET_CLIPS = 6
"""Clips on the contact sheet."""


class FootageMetric(Protocol):
    """A metric of this package that looks at frames."""

    needs: frozenset[str]

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip."""


def score(
    contenders: Sequence[Contender],
    metrics: Sequence[Sequence[FootageMetric]],
    clips: Clips,
    landmarks: Callable[[Tensor], Tensor] | None,
    out: Path,
    identity: IdentitySource | None = None,
    gallery: Gallery | None = None,
) -> list[int]:
    """Show every metric of every contender all clips, in constant memory.

    Each frame is made once, detected once and recognised once, whatever the number of metrics. Also writes
    ``sheet.png`` and ``sample.mp4``: the first clip with its sound, contenders that are ``in_video`` side by
    side.

    Args:
        contenders: the first must be the ground truth.
        metrics: those of each contender.
        clips: what is scored.
        landmarks: frames → points, by a detector; None where its weights are missing.
        out: folder for the pictures.
        identity: recogniser, or None where its weights are missing or nothing asks for it.
        gallery: the people that it knows.

    Returns:
        For each contender the number of clips of which something was scored.
    """
    seen: list[set[int]] = [set() for _ in contenders]
    named: list[str] = []
    sheet: list[tuple[str, list[NDArray[np.uint8]]]] = []
    total = sum(clips.frame_count(number) for number in range(len(clips)))
    with tqdm(total=total, unit="frame", desc="scoring", mininterval=0.5) as progress:
        for number, clip in enumerate(clips.clips):
            middle = clips.frame_count(number) // 2
            streams = [contender.generate(clips, number) for contender in contenders]
            with contextlib.ExitStack() as stack:
                video = stack.enter_context(_sample_video(out, contenders, clips)) if number == 0 else None
                for (start, stop), *pieces in zip(clips.spans(number), *streams, strict=True):
                    observer = _Observer(clips, number, start, stop, landmarks, identity, gallery)
                    for piece, row, clips_of_row in zip(pieces, metrics, seen, strict=True):
                        if not piece.scored:
                            continue
                        clips_of_row.add(number)
                        footage = observer.footage(pieces[0].frames, piece)
                        for metric in row:
                            if not piece.heard_only or "sound" in metric.needs:
                                metric.update(footage)
                    pictures = [piece.frames.numpy() for piece in pieces]
                    if video is not None:
                        shown = [p for p, one in zip(pictures, contenders, strict=True) if one.in_video]
                        for frames in zip(*shown, strict=True):
                            video.write(side_by_side(frames))
                    if len(sheet) < SHEET_CLIPS and start <= middle < stop:
                        pairs = zip(pieces, pictures, strict=True)
                        sheet.append((clip.id, [p[middle - start] for one, p in pairs if not one.heard_only]))
                        named = [
                            c.name for c, one in zip(contenders, pieces, strict=True) if not one.heard_only
                        ]
                    progress.update(stop - start)
    _, png = cv2.imencode(".png", contact_sheet(named, sheet)[..., ::-1])
    write_atomically(out / "sheet.png", png.tobytes())
    return [len(numbers) for numbers in seen]


class _Observer:
    """Looks at the rows' frames of one piece of one clip; what several rows share it looks at once."""

    def __init__(
        self,
        clips: Clips,
        number: int,
        start: int,
        stop: int,
        landmarks: Callable[[Tensor], Tensor] | None,
        identity: IdentitySource | None,
        gallery: Gallery | None,
    ) -> None:
        self.number, self.start = number, start
        self.person = clips.clips[number].identity
        self.landmarks, self.identity, self.gallery = landmarks, identity, gallery
        self._detected: dict[int, tuple[Tensor, Tensor | None]] = {}  # by id; the frames keep it taken
        self.points = clips.landmarks(number, start, stop)
        if self.points is None:
            self.points = self._points_of(clips.frames(number, start, stop))
        self.warps = clips.identity_warps(number, start, stop) if identity else None
        self.sound = clips.sound(number, start, stop)

    def footage(self, target: Tensor, piece: Generated) -> Footage:
        """What the metrics of a row are shown."""
        truth = target if piece.truth is None else piece.truth
        return Footage(
            self.number,
            piece.frames,
            truth,
            None if self.points is None else self.points[:, MOUTH_POINTS],
            self._points_of(piece.frames),
            self._points_of(truth),
            piece.codes,
            piece.truth_known,
            target,
            self._points_of(target),
            self.points,
            self._identities(piece.frames),
            self.gallery.vectors if self.gallery else None,
            self.gallery.place(piece.person or self.person) if self.gallery else None,
            self.sound if piece.sound is None else piece.sound,
            piece.motion,
        )

    def _points_of(self, frames: Tensor) -> Tensor | None:
        if id(frames) not in self._detected:
            self._detected[id(frames)] = frames, self.landmarks(frames) if self.landmarks else None
        return self._detected[id(frames)][1]

    def _identities(self, frames: Tensor) -> Tensor | None:
        """Aligned by the points that were detected, where they were, else by those of the corpus."""
        if self.identity is None or self.warps is None:
            return None
        points, warps = self._points_of(frames), self.warps
        if points is not None:
            found = warps_of(points)
            warps = np.where(np.isfinite(found).all((1, 2), keepdims=True), found, warps)
        return self.identity(frames, warps, self.start)


def _sample_video(out: Path, contenders: Sequence[Contender], clips: Clips) -> VideoWriter:
    height, width = clips.frame_size(0)
    width *= sum(contender.in_video for contender in contenders)
    sound = (clips.waveform(0), 16000)
    return VideoWriter(out / "sample.mp4", clips.clips[0].fps, width, height, audio=sound, synthetic=True)
