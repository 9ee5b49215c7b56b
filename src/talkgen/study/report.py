"""What the answers of a study say: preference in per cent and mean opinion scores, with intervals.

People are resampled, not answers: what one person says of twenty clips is no twenty independent opinions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from talkgen.errors import FileError, TalkgenError
from talkgen.metrics.intervals import Interval
from talkgen.study.plan import Trial

_RESAMPLES = 2000
COLUMNS = {"quality": "visual quality", "sync": "lip-sync", "identity": "identity"}


@dataclass(frozen=True)
class Opinion:
    """What a participant said of one pair.

    Attributes:
        participant: number of the answer file.
        trial: what was shown.
        preferred: name of the method.
        ratings: method → question → 1 to 5.
    """

    participant: int
    trial: Trial
    preferred: str
    ratings: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Answers:
    """All answers of a study.

    Attributes:
        opinions: of everyone who passed the attention checks.
        participants: how many did.
        failed: files of those who did not.
        unfinished: files of those who stopped early; what they answered counts.
    """

    opinions: list[Opinion]
    participants: int
    failed: list[str]
    unfinished: list[str]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval (None where fewer than two people say something) and number of answers."""

    mean: float
    interval: Interval | None
    answers: int


def read_answers(files: Sequence[Path], key: Mapping[str, Any], allowed_failures: int = 0) -> Answers:
    """Answer files, translated by the key of their study.

    Args:
        files: json files that the page saved.
        key: see ``page.read_key``.
        allowed_failures: attention checks that a participant may fail.

    Raises:
        TalkgenError: there is none, one is no answer to this study, or two are the same.
    """
    if not files:
        raise TalkgenError("there are no answer files; participants save them at the end of the page")
    opinions: list[Opinion] = []
    failed: list[str] = []
    unfinished: list[str] = []
    seen: dict[tuple[str, str], Path] = {}
    passed = 0
    for number, file in enumerate(files):
        state = _read(file, key)
        who = (str(state["participant"]), str(state["started"]))
        if who in seen:
            raise FileError(file, f"holds the same answers as {seen[who]}; leave one away")
        seen[who] = file
        sheet = [Trial(**trial) for trial in key["sheets"][state["sheet"]]]
        answered = [(sheet[answer["trial"]], answer) for answer in state["answers"]]
        wrong = sum(not _passed(trial, answer) for trial, answer in answered if trial.is_check)
        if wrong > allowed_failures:
            failed.append(file.name)
            continue
        passed += 1
        if len(answered) < len(sheet):
            unfinished.append(file.name)
        opinions += [_opinion(number, trial, answer) for trial, answer in answered if not trial.is_check]
    return Answers(opinions, passed, failed, unfinished)


def _read(file: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    if not file.is_file():
        raise FileError(file, "no such file")
    try:
        state = json.loads(file.read_text("utf-8"))
        study, sheet, answers = state["study"], state["sheet"], state["answers"]
        fits = isinstance(sheet, int) and 0 <= sheet < len(key["sheets"])
        fits = fits and all(0 <= answer["trial"] < len(key["sheets"][sheet]) for answer in answers)
        for answer in answers:
            if answer["preference"] not in ("left", "right"):
                raise ValueError("preference")
            for side in ("left", "right"):
                for question in key["questions"]:
                    if int(answer["ratings"][side][question]) not in range(1, 6):
                        raise ValueError(question)
        state["participant"], state["started"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(file, "is no answer file of a study") from error
    if study != key["study"] or not fits:
        raise FileError(file, f"answers study {study}, not {key['study']}")
    return dict(state)


def _passed(trial: Trial, answer: Mapping[str, Any]) -> bool:
    """Whether a check was answered as it says."""
    wanted = "left" if trial.left == "chosen" else "right"
    given = [rating for side in ("left", "right") for rating in answer["ratings"][side].values()]
    return answer["preference"] == wanted and all(rating == trial.rating for rating in given)


def _opinion(participant: int, trial: Trial, answer: Mapping[str, Any]) -> Opinion:
    methods = {"left": trial.left, "right": trial.right}
    ratings = {methods[side]: answer["ratings"][side] for side in methods}
    return Opinion(participant, trial, methods[answer["preference"]], ratings)


def preference(answers: Answers, first: str, second: str, seed: int = 0) -> Estimate | None:
    """Share of the answers to ``first`` beside ``second`` that prefer the first; None: nobody was asked."""
    asked = [o for o in answers.opinions if {o.trial.left, o.trial.right} == {first, second}]
    return _estimate(asked, lambda opinion: float(opinion.preferred == first), seed)


def mean_opinion(answers: Answers, method: str, question: str, seed: int = 0) -> Estimate | None:
    """Mean of the ratings of a method; None: nobody was asked."""
    asked = [o for o in answers.opinions if question in o.ratings.get(method, {})]
    return _estimate(asked, lambda opinion: float(opinion.ratings[method][question]), seed)


def _estimate(asked: Sequence[Opinion], value: Callable[[Opinion], float], seed: int) -> Estimate | None:
    """Mean over answers, with a bootstrap interval over people."""
    if not asked:
        return None
    people = sorted({opinion.participant for opinion in asked})
    place = {person: index for index, person in enumerate(people)}
    sums, counts = np.zeros(len(people)), np.zeros(len(people))
    for opinion in asked:
        sums[place[opinion.participant]] += value(opinion)
        counts[place[opinion.participant]] += 1
    interval = None
    if len(people) > 1:
        drawn = np.random.default_rng(seed).integers(0, len(people), (_RESAMPLES, len(people)))
        low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
        interval = Interval(float(low), float(high))
    return Estimate(float(sums.sum() / counts.sum()), interval, int(counts.sum()))


def write_report(answers: Answers, key: Mapping[str, Any]) -> str:
    """Tables in Markdown: mean opinion scores, preferences, and who took part."""
    methods, questions = list(key["methods"]), list(key["questions"])
    lines = [
        f"{answers.participants} people, {len(answers.opinions)} pairs judged. In brackets: 95 % intervals, "
        "bootstrapped over people.",
        "",
        "| mean opinion (1 to 5) | "
        + " | ".join(COLUMNS[question] for question in questions)
        + " | answers |",
        "|---|" + "---:|" * (len(questions) + 1),
    ]
    for method in methods:
        scores = [mean_opinion(answers, method, question) for question in questions]
        count = max((score.answers for score in scores if score), default=0)
        lines.append(f"| {method} | " + " | ".join(_cell(score, 1, 2) for score in scores) + f" | {count} |")
    lines += ["", "| preferred, % | of the answers | answers |", "|---|---:|---:|"]
    for first, second in combinations(methods, 2):
        share = preference(answers, first, second)
        lines.append(f"| {first} over {second} | {_cell(share, 100, 1)} | {share.answers if share else 0} |")
    if answers.failed:
        lines += ["", f"Left out, for failed attention checks: {', '.join(answers.failed)}."]
    if answers.unfinished:
        lines += ["", f"Stopped early, and counted: {', '.join(answers.unfinished)}."]
    return "\n".join(lines) + "\n"


def _cell(estimate: Estimate | None, scale: float, digits: int) -> str:
    if estimate is None:
        return "–"
    text = f"{scale * estimate.mean:.{digits}f}"
    if estimate.interval is None:
        return text
    low, high = estimate.interval.low * scale, estimate.interval.high * scale
    return f"{text} ({low:.{digits}f} … {high:.{digits}f})"
