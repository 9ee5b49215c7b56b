"""The table as text: golden markdown, LaTeX and csv; intervals."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
import torch

from talkgen.metrics.footage import Footage
from talkgen.metrics.intervals import Interval, bootstrap_interval
from talkgen.metrics.protocol import Protocol
from talkgen.metrics.psnr import PSNR
from talkgen.metrics.table import NOT_AVAILABLE, Cell, Column, Row, Table, measured_cell

TABLE = Table(
    title="Reconstruction",
    columns=[Column("PSNR[rgb]", 2, True), Column("LMD[mouth,px@256]", 3, False), Column("codes_%", 0, None)],
    rows=[
        Row(
            "ground truth",
            2,
            {
                "PSNR[rgb]": Cell(100.0, Interval(100.0, 100.0), {"a": 100.0, "b": 100.0}),
                "LMD[mouth,px@256]": Cell(None, absent=NOT_AVAILABLE),
                "codes_%": Cell(None),
            },
        ),
        Row(
            "my_run",
            2,
            {
                "PSNR[rgb]": Cell(24.314, Interval(23.9, 24.769), {"a": 23.9, "b": 24.769}),
                "LMD[mouth,px@256]": Cell(None, absent=NOT_AVAILABLE),
                "codes_%": Cell(12.0, None, {"a": 12.0, "b": math.nan}),
            },
        ),
    ],
    protocol=Protocol(
        corpus="demo, test split",
        fps=[25.0, 25.0],
        frames=[50, 75],
        sizes_px=[128, 128],
        crop="store",
        codec="none",
        metrics=["PSNR[rgb]"],
        weights={"scrfd_500m": "0123456789abcdef"},
        versions={"talkgen": "1"},
    ),
    notes=["LMD needs landmarks_106: `talkgen weights get landmarks_106`"],
)

MARKDOWN = """\
### Reconstruction

|              | n |          PSNR[rgb] ↑ | LMD[mouth,px@256] ↓ | codes_% |
|--------------|--:|---------------------:|--------------------:|--------:|
| ground truth | 2 |               100.00 |                 n/a |       – |
| my_run       | 2 | 24.31 [23.90, 24.77] |                 n/a |      12 |

_Protocol: demo, test split · 2 clips of 50 to 75 frames · 25 fps · 128 px · crop: store · codec: none · \
mean over frames, then over clips; 95 % bootstrap interval over clips · metrics: PSNR[rgb] · \
weights: scrfd_500m 0123456789ab · versions: talkgen 1_

LMD needs landmarks_106: `talkgen weights get landmarks_106`
"""


def test_markdown() -> None:
    assert TABLE.markdown() == MARKDOWN


def test_upright_has_a_line_a_metric() -> None:
    lines = TABLE.markdown(upright=True).splitlines()[2:7]
    assert lines == [
        "|                     | ground truth |               my_run |",
        "|---------------------|-------------:|---------------------:|",
        "| n                   |            2 |                    2 |",
        "| PSNR[rgb] ↑         |       100.00 | 24.31 [23.90, 24.77] |",
        "| LMD[mouth,px@256] ↓ |          n/a |                  n/a |",
    ]


def test_latex_has_booktabs_rules_and_escapes() -> None:
    text = TABLE.latex()
    assert r"\begin{tabular}{lrrrr}" in text
    assert r"my\_run & 2 & 24.31 {\scriptsize [23.90, 24.77]} & n/a & 12 \\" in text
    assert r" & $n$ & PSNR[rgb] $\uparrow$ & LMD[mouth,px@256] $\downarrow$ & codes\_\% \\" in text
    assert r"ground truth & 2 & 100.00 & n/a & -- \\" in text


def test_csv_and_json_keep_full_precision() -> None:
    lines = list(csv.reader(io.StringIO(TABLE.csv())))
    assert lines[0][:5] == ["row", "n", "PSNR[rgb]", "PSNR[rgb] low", "PSNR[rgb] high"]
    assert lines[2] == ["my_run", "2", "24.314", "23.9", "24.769", "n/a", "", "", "12.0", "", ""]
    read = json.loads(TABLE.json())
    assert read["rows"][1]["cells"]["codes_%"]["per_clip"] == {"a": 12.0, "b": None}
    assert read["rows"][0]["cells"]["LMD[mouth,px@256]"]["absent"] == "n/a"
    assert read["protocol"]["frames"] == [50, 75]


def test_per_clip_csv_has_a_line_a_row_and_clip() -> None:
    lines = list(csv.reader(io.StringIO(TABLE.per_clip_csv())))
    assert lines[0] == ["row", "clip", "PSNR[rgb]", "LMD[mouth,px@256]", "codes_%"]
    assert lines[3:] == [["my_run", "a", "23.9", "", "12.0"], ["my_run", "b", "24.769", "", ""]]


def test_cell_of_a_metric_names_its_clips() -> None:
    metric = PSNR()
    for clip, value in ((1, 110), (0, 101)):
        frames = torch.full((2, 16, 16, 3), value, dtype=torch.uint8)
        metric.update(Footage(clip, frames, torch.full_like(frames, 100)))
    cell = measured_cell(metric, ["first", "second"])
    assert list(cell.per_clip) == ["first", "second"]
    assert cell.per_clip["first"] == pytest.approx(20 * math.log10(255))
    assert cell.interval is not None and cell.interval.low < cell.value < cell.interval.high


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_cell_of_a_metric_without_footage_is_empty() -> None:
    assert measured_cell(PSNR(), []).text(2) == "–"


def test_bootstrap_is_deterministic_and_covers() -> None:
    values = [20.1, 21.7, 24.3, 26.9, 28.2]
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first is not None and 20 < first.low < 24 < first.high < 28
    assert bootstrap_interval([5.0] * 4) == Interval(5.0, 5.0)
    assert bootstrap_interval([1.0]) is None
    assert bootstrap_interval([1.0, math.nan]) is None


def test_bootstrap_has_the_width_of_the_normal_theory() -> None:
    """For many clips the interval of the mean is ± 1.96 σ / √n."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    interval = bootstrap_interval(values.tolist())
    assert interval is not None
    width = 2 * 1.96 * values.std().item() / math.sqrt(400)
    assert interval.high - interval.low == pytest.approx(width, rel=0.08)
