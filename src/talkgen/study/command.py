"""``talkgen study build`` and ``talkgen study report``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError


def main(arguments: Sequence[str]) -> int:
    """``talkgen study``.

    Args:
        arguments: ``build NAME=FOLDER NAME=FOLDER --out STUDY``, or ``report STUDY ANSWERS.json …``.

    Raises:
        TalkgenError: inputs are missing or do not fit.
    """
    given = _parser().parse_args(list(arguments))
    if given.command == "build":
        return _build(given)
    return _report(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talkgen study", description="Ask people which results they prefer; see docs/user_study.md."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a page from folders of results")
    build.add_argument(
        "folders", nargs="+", metavar="NAME=FOLDER", help="videos of the same names, by method"
    )
    build.add_argument("--out", type=Path, required=True, help="new folder: page/ to show, key.json to keep")
    build.add_argument("--references", type=Path, help="pictures of the people, by name of clip")
    build.add_argument("--participants", type=int, default=24, help="sheets that are laid out (default 24)")
    build.add_argument("--trials", type=int, help="pairs that a participant judges (default: all)")
    build.add_argument("--checks", type=int, default=2, help="attention checks a participant (default 2)")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--title", default="Talking faces")
    report = commands.add_parser("report", help="preference in per cent and mean opinion scores")
    report.add_argument("study", type=Path, help="folder that build wrote")
    report.add_argument("answers", nargs="+", type=Path, metavar="ANSWERS.json")
    report.add_argument(
        "--allowed-failures", type=int, default=0, help="checks that one may fail (default 0)"
    )
    report.add_argument("--out", type=Path, help="also write the tables into this file")
    return parser


def _build(given: argparse.Namespace) -> int:
    from talkgen.study.page import build_study

    folders: dict[str, Path] = {}
    for item in given.folders:
        name, separator, folder = item.partition("=")
        if not separator or not name or not folder:
            raise TalkgenError(f"{item!r}: name each folder, NAME=FOLDER")
        if name in folders:
            raise TalkgenError(f"{name!r} names two folders")
        folders[name] = Path(folder)
    page = build_study(
        folders,
        given.out,
        given.references,
        given.participants,
        given.trials,
        given.checks,
        given.seed,
        given.title,
    )
    kept = given.out / "key.json"
    print(f"written to {page}: show that folder (index.html?p=1 is participant 1), keep {kept}")
    return 0


def _report(given: argparse.Namespace) -> int:
    from talkgen.study.page import read_key
    from talkgen.study.report import read_answers, write_report

    key = read_key(given.study)
    text = write_report(read_answers(given.answers, key, given.allowed_failures), key)
    print(text, end="")
    if given.out is not None:
        write_atomically(given.out, text.encode())
    return 0
