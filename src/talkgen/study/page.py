"""The page of a study: one folder that any web server, or a double click, can show.

Videos get names that say nothing of the method; ``key.json``, which stays with the researcher, says which is
which.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from talkgen.data.files import write_atomically
from talkgen.errors import FileError, TalkgenError
from talkgen.study.plan import Trial, find_results, plan_sheets

TEMPLATE = Path(__file__).with_name("page.html")
QUESTIONS = {
    "quality": "Visual quality: is the picture sharp, natural and free of faults?",
    "sync": "Lip-sync: do the lips move with what is heard?",
    "identity": "Identity: is it the person of the small picture?",
}
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def build_study(
    folders: Mapping[str, Path],
    out: Path,
    references: Path | None = None,
    participants: int = 24,
    trials: int | None = None,
    checks: int = 2,
    seed: int = 0,
    title: str = "Talking faces",
) -> Path:
    """Write ``page/`` (to be shown) and ``key.json`` (to be kept) into a new folder.

    Args:
        folders: method → folder of videos of the same names.
        out: folder of the study; it must not exist yet.
        references: folder with a picture of the person for every clip (its name, or that of a folder above
            the clip); without it nothing is asked about identity.
        participants, trials, checks, seed: see ``plan_sheets``.
        title: heading of the page.

    Returns:
        The page's ``index.html``.

    Raises:
        TalkgenError: inputs are missing, or ``out`` is there already.
    """
    if out.exists():
        raise FileError(out, "is there already; a study that has begun must not change, so give another name")
    results = find_results(folders)
    clips, methods = list(results), list(folders)
    sheets = plan_sheets(clips, methods, participants, trials, checks, seed)
    study = hashlib.sha256(json.dumps([clips, methods, seed, participants]).encode()).hexdigest()[:10]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "page" / "media").mkdir(parents=True)
    try:
        codes = {
            (clip, method): _copy(file, partial / "page", f"{study}/{clip}/{method}")
            for clip, files in results.items()
            for method, file in files.items()
        }
        faces = {} if references is None else _faces(clips, references, partial / "page", study)
        asked = {key: text for key, text in QUESTIONS.items() if key != "identity" or faces}
        shown = [[_shown(trial, codes, faces) for trial in sheet] for sheet in sheets]
        data = {"study": study, "title": title, "questions": asked, "sheets": shown}
        page = TEMPLATE.read_text("utf-8").replace("/*STUDY*/null", _inside_script(data))
        write_atomically(partial / "page" / "index.html", page.encode())
        key = {
            "study": study,
            "methods": methods,
            "clips": clips,
            "seed": seed,
            "questions": list(asked),
            "sheets": [[asdict(trial) for trial in sheet] for sheet in sheets],
        }
        write_atomically(partial / "key.json", json.dumps(key, indent=1, ensure_ascii=False).encode())
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out / "page" / "index.html"


def _copy(file: Path, page: Path, secret: str) -> str:
    name = f"media/{hashlib.sha256(secret.encode()).hexdigest()[:16]}{file.suffix.lower()}"
    shutil.copyfile(file, page / name)
    return name


def _faces(clips: Sequence[str], references: Path, page: Path, study: str) -> dict[str, str]:
    known = {
        file.relative_to(references).with_suffix("").as_posix(): file
        for file in sorted(references.rglob("*"))
        if file.suffix.lower() in PICTURES
    }
    faces = {}
    for clip in clips:
        names = [clip, *(parent.as_posix() for parent in Path(clip).parents)]
        file = next((known[name] for name in names if name in known), None)
        if file is None:
            raise FileError(references, f"holds no picture for the clip {clip!r}; name it {clip}.png")
        faces[clip] = _copy(file, page, f"{study}/{file}")
    return faces


def _shown(trial: Trial, codes: Mapping[tuple[str, str], str], faces: Mapping[str, str]) -> dict[str, Any]:
    """What the page knows of a trial: files, but no names."""
    if trial.is_check:
        return {"check": "left" if trial.left == "chosen" else "right", "rating": trial.rating}
    sides = {"left": codes[trial.clip, trial.left], "right": codes[trial.clip, trial.right]}
    return sides | ({"face": faces[trial.clip]} if faces else {})


def _inside_script(data: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


def read_key(study: Path) -> dict[str, Any]:
    """``key.json`` of a study.

    Raises:
        FileError: it is missing or damaged.
    """
    file = study / "key.json"
    if not file.is_file():
        raise FileError(file, "no such file; give the folder that `talkgen study build` wrote")
    try:
        key = json.loads(file.read_text("utf-8"))
        if not {"study", "methods", "sheets", "questions"} <= key.keys():
            raise KeyError("study")
    except (ValueError, KeyError, AttributeError) as error:
        raise TalkgenError(f"{file}: is not the key of a study") from error
    return dict(key)
