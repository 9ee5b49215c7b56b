"""Pairs of rows, their p and its correction, and what a table makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from talkgen.metrics.protocol import Protocol
from talkgen.metrics.published import PublishedTable, read_published
from talkgen.metrics.report import html_page
from talkgen.metrics.significance import compare_rows, holm, signed_rank_p
from talkgen.metrics.table import Cell, Column, Row, Table

COLUMNS = [Column("PSNR", 2, True), Column("LMD", 3, False)]


def row(name: str, psnr: list[float], lmd: list[float]) -> Row:
    def cell(values: list[float]) -> Cell:
        clips = {f"clip{n}": value for n, value in enumerate(values)}
        return Cell(float(np.nanmean(values)), None, clips)

    return Row(name, len(psnr), {"PSNR": cell(psnr), "LMD": cell(lmd)})


@pytest.fixture
def table() -> Table:
    clips = np.arange(10.0)
    rows = [
        row("truth", [99.0] * 10, [0.0] * 10),
        row("a", list(20 + clips), list(3 + clips / 9)),
        row("b", list(21 + 1.1 * clips), list(3.01 + clips / 9 * (-1) ** clips)),
        row("c", list(19 + clips), [3.0, float("nan"), *(4.0 - clips[2:] / 3)]),
    ]
    comparisons = compare_rows(rows, COLUMNS, dict.fromkeys("abc", "lips"))
    published = PublishedTable("paper <x>", "somewhere", ["FID"], {"theirs & ours": ["9.1"]}, ["not ours"])
    protocol = Protocol("demo", [25.0], [10], [96], "none", "none", ["PSNR"], versions={"talkgen": "0"})
    return Table("A & B", COLUMNS, rows, protocol, ["a note"], comparisons, [published])


def test_p_by_hand() -> None:
    # All six differences of one sign: 2 of the 2⁶ signs are as extreme.
    assert signed_rank_p(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)
    assert signed_rank_p(np.array([1.0, -1.0])) == pytest.approx(1)
    assert signed_rank_p(np.zeros(4)) == 1


def test_holm_by_hand() -> None:
    # Sorted .01 .03 .04 → 3 × .01, 2 × .03, then at least as much as before.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_only_rows_of_a_task_over_common_clips(table: Table) -> None:
    assert {(one.first, one.second) for one in table.comparisons} == {("a", "b"), ("a", "c"), ("b", "c")}
    ab, ac, _ = (one for one in table.comparisons if one.column == "PSNR")
    assert ab.difference == pytest.approx(-1.45) and ab.clips == 10 and ab.differs
    assert ac.p == pytest.approx(2 / 2**10) and ac.p_holm == pytest.approx(3 * 2 / 2**10)
    assert [one.clips for one in table.comparisons if one.column == "LMD"] == [10, 9, 9]


def test_marks_in_every_form(table: Table) -> None:
    marks = table.marks
    assert marks["b", "PSNR"] == "best" and ("a", "PSNR") not in marks and ("truth", "PSNR") not in marks
    best = min("abc", key=lambda name: table.rows["-abc".index(name)].cells["LMD"].value or 9)
    assert marks[best, "LMD"] == "best" and list(marks.values()).count("tied") >= 1
    text = table.markdown()
    assert "**25.95**" in text and " ≈ |" in text and "significance.csv" in text
    assert "#### As published: paper <x>" in text and "_Source: somewhere_" in text
    assert "As published" not in table.markdown(upright=True)
    latex = table.latex()
    assert r"\textbf{25.95}" in latex and r"\underline{" in latex and latex.count(r"\toprule") == 2
    assert r"theirs \& ours & 9.1" in latex
    lines = table.significance_csv().splitlines()
    assert lines[0].startswith("column,first,second,clips,difference,p") and len(lines) == 7
    content = json.loads(table.json())
    assert content["comparisons"][0]["differs"] is True and content["published"][0]["rows"] == {
        "theirs & ours": ["9.1"]
    }


def test_equal_rows_are_not_ranked() -> None:
    rows = [row(name, [1.0] * 6, [2.0] * 6) for name in "ab"]
    comparisons = compare_rows(rows, COLUMNS, {"a": "x", "b": "x"})
    protocol = Protocol("demo", [25.0], [10], [96], "none", "none", [], versions={})
    assert [one.p for one in comparisons] == [1, 1]
    assert Table("", COLUMNS, rows, protocol, (), comparisons).marks == {}


def test_page_needs_no_other_file(table: Table, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "sheet.png").write_bytes(b"png")
    page = html_page(table, tmp_path)
    assert "data:image/png;base64,cG5n" in page and "<video" not in page
    assert "A &amp; B" in page and "paper &lt;x&gt;" in page and "<script" not in page
    assert '<td class="best">25.95' in page
    for address in ("src=", "href="):
        assert page.count(address) == page.count(address + '"data:')


@pytest.mark.parametrize("name", ["swaptalk", "diff2lip", "disenttalk"])
def test_published_tables_can_be_read(name: str) -> None:
    block = read_published(name)
    assert block.rows and block.source
    with pytest.raises(ValueError, match="2 values for 1 columns"):
        PublishedTable("", "", ["FID"], {"x": ["1", "2"]})


def test_published_numbers_as_printed() -> None:
    block = read_published("swaptalk")
    ours = dict(zip(block.columns, block.rows["self-driven: SwapTalk"], strict=True))
    assert (ours["FID"], ours["LSE-C"], ours["Consistency"]) == ("11.6", "9.08", "78.00")
