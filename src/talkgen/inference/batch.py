"""Many videos from a table: ``face,audio,text,out …``, a line each; what is there already is skipped."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from talkgen.data.files import write_atomically
from talkgen.errors import FileError, TalkgenError, from_os_error
from talkgen.inference.changed_video import Written
from talkgen.inference.request import Request

COLUMNS = ("face", "source", "audio", "text", "language", "voice", "out")


@dataclass
class BatchOutcome:
    """What became of a batch.

    Attributes:
        written: videos that were made now.
        skipped: outputs that were there already.
        rejected: line of the table, its output and the reason, of those that could not be made.
    """

    written: list[Written] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    rejected: list[tuple[int, Path, str]] = field(default_factory=list)


def read_batch(
    file: str | Path, source: Path | None, language: str, voice: str | None
) -> list[tuple[int, Request]]:
    """Line numbers (from 1, the header) and requests of a csv file; its paths are relative to its folder.

    Args:
        file: with a header of ``COLUMNS``, of which ``face`` and ``out`` are needed.
        source, language, voice: for lines that name none.

    Raises:
        FileError: it is missing or no such table, or two lines write the same file.
    """
    path = Path(file)
    if not path.is_file():
        raise FileError(file, "no such file; give a csv file with the columns face, audio or text, out")
    try:
        rows = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        lines = [(rows.line_num, row) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(file, f"is no csv file in UTF-8 ({error})") from error
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FileError(file, f"has a column {name!r}; there are {', '.join(COLUMNS)}{hint}")
    if missing := [name for name in ("face", "out") if name not in names]:
        raise FileError(
            file, f"has no column {missing[0]!r}; its first line names the columns: face,audio,out"
        )
    requests: list[tuple[int, Request]] = []
    taken: dict[Path, int] = {}
    for number, row in lines:
        if None in row:
            raise FileError(file, f"line {number} has more values than columns; put quotes around commas")
        cell = {name: (value or "").strip() or None for name, value in row.items()}
        if not any(cell.values()):
            continue
        if cell["face"] is None or cell["out"] is None:
            raise FileError(file, f"line {number} lacks {'face' if cell['face'] is None else 'out'}")
        out = path.parent / cell["out"]
        if out in taken:
            raise FileError(file, f"lines {taken[out]} and {number} both write {cell['out']}")
        taken[out] = number
        own = {key: path.parent / value for key in ("source", "audio") if (value := cell.get(key))}
        requests.append(
            (
                number,
                Request(
                    target=path.parent / cell["face"],
                    out=out,
                    source=own.get("source", source),
                    audio=own.get("audio"),
                    text=cell.get("text"),
                    language=cell.get("language") or language,
                    voice=cell.get("voice") or voice,
                ),
            )
        )
    if not requests:
        raise FileError(file, "has no line below its header")
    return requests


def rejects_file(batch: str | Path) -> Path:
    """Where the reasons for what was not made are written: ``jobs.rejects.csv`` beside ``jobs.csv``."""
    return Path(batch).with_suffix(".rejects.csv")


def run_batch(
    requests: Sequence[tuple[int, Request]],
    make: Callable[[Request], Written],
    rejects: Path,
    overwrite: bool = False,
) -> BatchOutcome:
    """Make every video that is not there yet; a line that fails is noted and the next begins.

    Args:
        requests: see ``read_batch``.
        make: makes one video; a file appears complete or not at all, so that what is there is finished.
        rejects: table of what failed and why; removed when nothing did.
        overwrite: make also what is there already.
    """
    outcome = BatchOutcome()
    rejects.unlink(missing_ok=True)
    for place, (line, request) in enumerate(requests, 1):
        if request.out.exists() and not overwrite:
            outcome.skipped.append(request.out)
            continue
        print(f"[{place}/{len(requests)}] {request.out}", flush=True)
        try:
            outcome.written.append(make(request))
        except (TalkgenError, OSError) as error:
            known = from_os_error(error) if isinstance(error, OSError) else error
            if known is None:
                raise
            outcome.rejected.append((line, request.out, str(known)))
            print(f"rejected: {known}", flush=True)
            _write_rejects(rejects, outcome.rejected)
    return outcome


def _write_rejects(file: Path, rejected: Sequence[tuple[int, Path, str]]) -> None:
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(("line", "out", "reason"))
    writer.writerows(rejected)
    write_atomically(file, table.getvalue().encode())
