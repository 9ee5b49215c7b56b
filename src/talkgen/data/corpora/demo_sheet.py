"""Pictures of the demo corpus for the docs: ``python -m talkgen.data.corpora.demo_sheet docs/images``."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen.audio.visemes import VISEMES
from talkgen.data.corpora.demo import make_take
from talkgen.data.corpora.demo_casting import DemoSettings, plan_clips
from talkgen.data.corpora.demo_performance import PHONEMES

Picture = NDArray[np.uint8]


def _rows(pictures: list[Picture], columns: int) -> Picture:
    """Pictures of one size as a table."""
    return np.vstack([np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])


def people(settings: DemoSettings) -> Picture:
    """Everyone once, while talking."""
    pictures = []
    for identity in range(settings.identities):
        plan = next(p for p in plan_clips(settings) if p.performer == identity and p.take == identity % 2)
        take = make_take(plan, settings)
        opening = take.truth.truth_lip_opening[15:65]
        pictures.append(take.frame(15 + int(np.argsort(opening)[int(0.72 * len(opening))])))
    return _rows(pictures, 6)


def utterance(settings: DemoSettings, identity: int, first: int, frames: int) -> Picture:
    """Frames of an utterance one after the other, with landmarks in the second half and the viseme below."""
    take = make_take(next(p for p in plan_clips(settings) if p.performer == identity), settings)
    pictures = []
    for index in range(first, first + frames):
        picture = take.frame(index)
        if index >= first + frames // 2:
            for x, y in take.truth.landmarks[index]:
                cv2.circle(
                    picture, (round(float(x) * 8), round(float(y) * 8)), 8, (90, 255, 90), -1, cv2.LINE_AA, 3
                )
        name = VISEMES[take.truth.truth_viseme[index]].name
        letter = PHONEMES[take.truth.truth_phoneme[index]]
        label = f"{index} {name}" + (f" {letter}" if letter.isascii() else "")
        cv2.putText(picture, label, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (255, 255, 255), 1, cv2.LINE_AA)
        pictures.append(picture)
    return _rows(pictures, 8)


def swaps(settings: DemoSettings, count: int) -> Picture:
    """A column a swap: source, target, and the target with the source's face."""
    columns = []
    plans = plan_clips(settings)
    for plan in [p for p in plans if p.swap_of][:count]:
        target = make_take(next(p for p in plans if p.id == plan.swap_of), settings)
        source = make_take(next(p for p in plans if p.performer == plan.face and p.swap_of is None), settings)
        columns.append(np.vstack([source.frame(20), target.frame(20), make_take(plan, settings).frame(20)]))
    return np.hstack(columns)


def main(folder: str) -> None:
    """Write ``demo_people.jpg``, ``demo_utterance.jpg`` and ``demo_swaps.jpg``, at most 400 kB each."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, picture in (
        ("people", people(DemoSettings(size_pixels=256))),
        ("utterance", utterance(DemoSettings(size_pixels=160), 3, 8, 32)),
        ("swaps", swaps(DemoSettings(size_pixels=192), 6)),
    ):
        coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
        (Path(folder) / f"demo_{name}.jpg").write_bytes(coded.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
