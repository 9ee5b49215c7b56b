"""A study from folders of videos to tables, with participants who are made up."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkgen.cli import main
from talkgen.errors import FileError, TalkgenError
from talkgen.study.page import TEMPLATE, read_key
from talkgen.study.plan import Trial, find_results, plan_sheets
from talkgen.study.report import mean_opinion, preference, read_answers

METHODS = ("ours", "theirs", "old")


@pytest.fixture()
def folders(tmp_path: Path) -> dict[str, Path]:
    for method in METHODS:
        for clip in ("ann/1", "ann/2", "bob/1"):
            file = tmp_path / method / f"{clip}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(f"{method} {clip}".encode())
    (tmp_path / "ours" / "only ours.mp4").write_bytes(b"x")
    (tmp_path / "faces").mkdir()
    for person in ("ann", "bob"):
        (tmp_path / "faces" / f"{person}.png").write_bytes(person.encode())
    return {method: tmp_path / method for method in METHODS}


@pytest.fixture()
def study(folders: dict[str, Path], tmp_path: Path) -> Path:
    named = [f"{method}={folder}" for method, folder in folders.items()]
    out = tmp_path / "study"
    own = ["--out", str(out), "--references", str(tmp_path / "faces"), "--participants", "7"]
    assert main(["study", "build", *named, *own]) == 0
    return out


def test_clips_that_all_have(folders: dict[str, Path]) -> None:
    results = find_results(folders)
    assert list(results) == ["ann/1", "ann/2", "bob/1"]
    assert results["bob/1"]["old"] == folders["old"] / "bob/1.mp4"


@pytest.mark.parametrize("trials", [None, 4])
def test_sides_and_clips_are_balanced(trials: int | None) -> None:
    clips = ["a", "b", "c"]
    sheets = plan_sheets(clips, METHODS, 18, trials, checks=2, seed=1)
    opinions = [[trial for trial in sheet if not trial.is_check] for sheet in sheets]
    assert {len(sheet) for sheet in opinions} == {trials or 9} and len(sheets) == 18
    shown = Counter(trial for sheet in opinions for trial in sheet)
    assert len(shown) == 2 * 3 * 3 and set(shown.values()) == {18 * (trials or 9) // 18}
    for even, odd in zip(opinions[::2], opinions[1::2], strict=True):
        assert {trial.mirrored() for trial in even} == set(odd)
        lefts = sum(METHODS.index(t.left) < METHODS.index(t.right) for t in even)
        assert abs(2 * lefts - len(even)) <= 1  # nobody sees one method always on the left
    assert len({tuple(sheet) for sheet in opinions}) == 18
    assert plan_sheets(clips, METHODS, 18, trials, checks=2, seed=1) == sheets


def test_checks_are_spread_and_never_first() -> None:
    for sheet in plan_sheets(["a", "b"], METHODS, 10, checks=3):
        places = [place for place, trial in enumerate(sheet) if trial.is_check]
        assert len(places) == 3 and places[0] > 0 and min(np.diff(places)) > 1
        assert all(
            {t.left, t.right} == {"chosen", "other"} and 1 <= t.rating <= 5 for t in sheet if t.is_check
        )


def shown_data(study: Path) -> dict[str, Any]:
    page = (study / "page" / "index.html").read_text()
    found = re.search(r"^const STUDY = (.*);$", page, re.M)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_page_tells_nothing(study: Path) -> None:
    page = (study / "page" / "index.html").read_text()
    assert not any(method in page.split("const STUDY")[1].split("\n")[0] for method in METHODS)
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere
    data, key = shown_data(study), read_key(study)
    assert len(data["sheets"]) == 8 and set(data["questions"]) == {"quality", "sync", "identity"}
    for shown, true in zip(data["sheets"][3], key["sheets"][3], strict=True):
        trial = Trial(**true)
        if trial.is_check:
            assert shown == {"check": "left" if trial.left == "chosen" else "right", "rating": trial.rating}
        else:
            content = (study / "page" / shown["left"]).read_bytes().decode()
            assert content == f"{trial.left} {trial.clip}"
            assert (study / "page" / shown["face"]).read_bytes().decode() == trial.clip.split("/")[0]
    assert len(list((study / "page" / "media").iterdir())) == 9 + 2


def test_a_page_that_cannot_be(folders: dict[str, Path], study: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ([f"a={folders['ours']}"], "needs two folders"),
        ([f"a={folders['ours']}", f"b={tmp_path / 'none'}"], "no such folder"),
        ([f"a={folders['ours']}", f"b={tmp_path / 'faces'}"], "holds no video"),
        ([f"a={folders['ours']}", f"b={folders['ours'] / 'ann'}"], "no clip is in every folder"),
        ([f"a={folders['ours']}", f"a={folders['old']}"], "names two folders"),
        ([str(folders["ours"])], "NAME=FOLDER"),
    ):
        with pytest.raises(TalkgenError, match=said):
            from talkgen.study.command import main as command

            command(["build", *arguments, "--out", str(tmp_path / "new")])
        assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))
    with pytest.raises(FileError, match="is there already"):
        command(["build", f"a={folders['ours']}", f"b={folders['old']}", "--out", str(study)])
    with pytest.raises(FileError, match="no picture for the clip 'bob/1'"):
        (tmp_path / "faces" / "bob.png").unlink()
        both = [f"a={folders['ours']}", f"b={folders['old']}", "--references", str(tmp_path / "faces")]
        command(["build", *both, "--out", str(tmp_path / "new")])


def answer_file(study: Path, number: int, attentive: bool = True, until: int | None = None) -> Path:
    """A participant who likes `ours` and rates it 5, `theirs` 3, `old` 1; every third prefers `old`."""
    key = read_key(study)
    rank = {"ours": 5, "theirs": 3, "old": 1}
    answers = []
    for place, true in enumerate(key["sheets"][number][:until]):
        trial = Trial(**true)
        sides = {"left": trial.left, "right": trial.right}
        if trial.is_check:
            preferred = "left" if trial.left == "chosen" else "right"
            stars = {side: trial.rating if attentive else trial.rating % 5 + 1 for side in sides}
        else:
            best = (
                "old"
                if number % 3 == 0 and "old" in sides.values()
                else max(sides.values(), key=rank.__getitem__)
            )
            preferred = next(side for side, method in sides.items() if method == best)
            stars = {side: rank[method] for side, method in sides.items()}
        ratings = {side: dict.fromkeys(key["questions"], stars[side]) for side in sides}
        answers.append(
            {"trial": place, "preference": preferred, "ratings": ratings, "plays": 2, "seconds": 9}
        )
    state = {"study": key["study"], "sheet": number, "participant": f"p{number}", "answers": answers}
    file = study / f"answers-{number}.json"
    file.write_text(json.dumps(state | {"started": f"2026-01-0{number + 1}", "finished": None}))
    return file


def test_what_the_answers_say(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [answer_file(study, number) for number in range(6)]
    answers = read_answers(files, read_key(study))
    assert answers.participants == 6 and len(answers.opinions) == 6 * 9
    ours = mean_opinion(answers, "ours", "sync")
    assert ours is not None and ours.mean == 5 and ours.answers == 6 * 6
    share = preference(answers, "ours", "old")  # two of six people always prefer the old one
    assert share is not None and share.interval is not None and share.answers == 18
    assert share.mean == pytest.approx(4 / 6) and share.interval.low < 0.5 < share.mean < share.interval.high
    other = preference(answers, "old", "ours")
    assert other is not None and other.mean == pytest.approx(2 / 6)
    assert preference(answers, "ours", "nobody") is None
    capsys.readouterr()
    careless, early = answer_file(study, 6, attentive=False), answer_file(study, 7, until=3)
    report = ["study", "report", str(study), *map(str, [*files, careless, early])]
    assert main([*report, "--out", str(tmp_path / "report.md")]) == 0
    said = capsys.readouterr().out
    assert said == (tmp_path / "report.md").read_text()
    assert "| ours | 5.00 (5.00 … 5.00) | 5.00 (5.00 … 5.00) | 5.00 (5.00 … 5.00) |" in said
    assert re.search(r"\| ours over theirs \| 100\.0 \(100\.0 … 100\.0\) \| \d+ \|", said)
    assert (
        "failed attention checks: answers-6.json" in said
        and "Stopped early, and counted: answers-7.json" in said
    )


def test_answers_that_do_not_fit(study: Path, tmp_path: Path) -> None:
    key, file = read_key(study), answer_file(study, 0)
    with pytest.raises(FileError, match="holds the same answers"):
        read_answers([file, file], key)
    good = json.loads(file.read_text())
    broken = tmp_path / "broken.json"
    for change, said in (
        ({"study": "other"}, "answers study other"),
        ({"sheet": 99}, "answers study"),
        ({"answers": [{"trial": 0}]}, "no answer file"),
        ({"answers": [good["answers"][0] | {"preference": "both"}]}, "no answer file"),
    ):
        broken.write_text(json.dumps(good | change))
        with pytest.raises(FileError, match=said):
            read_answers([broken], key)
    broken.write_text("[]")
    with pytest.raises(FileError, match="no answer file"):
        read_answers([broken], key)
    with pytest.raises(FileError, match="no such file"):
        read_key(tmp_path)


def test_the_pages_own_logic(tmp_path: Path) -> None:
    """The part of the script that needs no browser."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = re.search(r"<script>(.*)</script>", TEMPLATE.read_text(), re.S)
    assert script is not None
    (tmp_path / "page.js").write_text(script[1])
    questions = {"quality": "?", "sync": "?"}
    (tmp_path / "try.js").write_text(
        "const {chooseSheet, complete} = require('./page.js');"
        f"const questions = {json.dumps(questions)};"
        "const full = {preference: 'left', ratings: {left: {quality: 1, sync: 5},"
        " right: {quality: 2, sync: 3}}};"
        "const half = {preference: 'left', ratings: {left: {quality: 1, sync: 5}, right: {quality: 2}}};"
        "console.log(JSON.stringify([chooseSheet('?p=1', 8, .9), chooseSheet('?p=10', 8, .9),"
        "chooseSheet('', 8, .5),"
        "chooseSheet('?p=x', 8, .99), complete(full, questions), complete(half, questions),"
        "complete({...full, preference: null}, questions)]))"
    )
    said = subprocess.run(["node", "try.js"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == [0, 1, 4, 7, True, False, False]


VISITOR = """
<script>
const visit = setInterval(() => {
  const button = document.querySelector('#begin, #next');
  if (!button) {
    if (!document.querySelector('#save')) return;
    clearInterval(visit);
    const kept = Object.values(localStorage)[0];
    document.body.append(Object.assign(document.createElement('pre'), {id: 'kept', textContent: kept}));
    return;
  }
  const card = document.querySelector('.card');
  const said = card && card.textContent.match(/prefer the (\\w+) one, and give (\\d)/);
  for (const input of document.querySelectorAll('input[type=radio]')) {
    const wanted = input.name === 'preference' ? (said ? said[1] : 'left') : (said ? said[2] : '4');
    if (input.value === wanted) input.click();
  }
  button.click();
}, 20);
</script>
"""


def test_a_visit_in_a_browser(study: Path, tmp_path: Path) -> None:
    """A visitor who does what checks say, prefers the left one and gives 4 to everything."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = study / "page" / "index.html"
    visited = page.with_name("visited.html")
    visited.write_text(page.read_text().replace("</body>", VISITOR + "</body>"))
    own = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    time = ["--virtual-time-budget=20000", "--dump-dom", f"{visited.as_uri()}?p=3"]
    done = subprocess.run([browser, *own, *time], capture_output=True, text=True, timeout=120)
    kept = re.search(r'<pre id="kept">(.*?)</pre>', done.stdout, re.S)
    assert kept is not None, done.stdout[-2000:]
    file = tmp_path / "answers.json"
    file.write_text(kept[1])
    answers = read_answers([file], read_key(study))
    assert (answers.participants, len(answers.opinions), answers.unfinished) == (1, 9, [])
    state = json.loads(kept[1])
    assert (state["sheet"], state["participant"]) == (2, "anonymous") and state["finished"]
    for method in METHODS:
        score = mean_opinion(answers, method, "identity")
        assert score is not None and score.mean == 4
