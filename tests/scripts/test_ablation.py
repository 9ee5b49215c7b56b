"""What all ablations share: sharing of stages, going on, mean and spread, what the paper says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ablation
import pytest
from ablation import Ablation, Cells, Method, Variant

from talkgen.errors import TalkgenError


def score(run: Ablation, variant: Variant, folder: Path) -> Cells:
    return run.evaluate(folder, *variant.scoring)["row"]


METHOD = Method(
    ("codes", "expert", "lips"),
    ("lips",),
    {
        "base": Variant("all"),
        "other": Variant("other lips", {"lips": ["colour=red"]}),
        "codes": Variant("other codes", {"codes": ["bits=3"]}),
        "twice": Variant("scored anew", scoring=["steps=2"]),
    },
    score,
    keys={"expert": ("size",)},
)


@pytest.fixture(autouse=True)
def _table(commands: Any) -> None:
    commands.columns = {"r": True}
    commands.rows = lambda seed: {"row": {"r": [0.2, 0.4, None][seed]}}


def test_nothing_is_trained_that_nobody_needs(commands: Any, tmp_path: Path) -> None:
    run = Ablation(METHOD, tmp_path, "ab", overrides=["size=tiny", "x=1"], of_stage={"lips": ["y=2"]})
    run.make("other", 1)
    assert commands.trained() == ["base/seed-0/codes", "base/seed-0/expert", "other/seed-1/lips"]
    assert [given[4:] for given in commands.given] == [
        ("seed=0", "size=tiny", "x=1"), ("seed=0", "size=tiny"),
        ("seed=1", "size=tiny", "x=1", "y=2", "colour=red"),
    ]  # fmt: skip
    run.make("codes", 1)  # all that comes after codes is another one
    assert commands.trained()[3:] == [
        *(f"codes/seed-0/{stage}" for stage in ("codes", "expert")), "codes/seed-1/lips",
    ]  # fmt: skip


def test_a_table_is_made_again_only_where_something_has_changed(commands: Any, tmp_path: Path) -> None:
    def scored(variant: str = "base", scoring: tuple[str, ...] = ()) -> int:
        before = commands.scored()
        Ablation(METHOD, tmp_path, "ab", scoring=scoring).tables({"t": [variant]}, 1)
        return int(commands.scored()) - before

    assert scored() == 1
    assert scored() == 0
    assert scored("other") == 1
    assert scored(scoring=("clips=2",)) == 1  # else one table would hold scores of unlike clips
    later = (tmp_path / "ab/base/seed-0/evaluation/table.json").stat().st_mtime + 10
    os.utime(tmp_path / "ab/base/seed-0/codes/checkpoints/last.ckpt", (later, later))
    assert scored(scoring=("clips=2",)) == 1


def test_a_table_stands_before_the_next_variant_is_trained(
    commands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: str) -> None:
        if "colour=red" in arguments:
            raise TalkgenError("stopped (exit code 1)")
        commands(*arguments)

    monkeypatch.setattr(ablation, "talkgen", fails)
    with pytest.raises(TalkgenError):
        Ablation(METHOD, tmp_path, "ab").tables({"table": ["base", "other"]}, 2)
    heading, _, seeds, r = (tmp_path / "ab/table.md").read_text().splitlines()
    assert heading.split() == ["|", "|", "all", "|"] and seeds.split()[3] == "2"
    assert "0.300 ± 0.141" in r


def test_spread_needs_two_seeds_and_skips_what_has_no_value() -> None:
    found = {"a": [{"r": 1.0}, {"r": 3.0}, {"r": None}], "b": [{"r": 5.0, "x": 2.0}]}
    assert ablation.as_csv(found).splitlines() == [
        "variant,seeds,r,r std,x,x std",
        f"a,3,2.0,{2**0.5},,",
        "b,1,5.0,,2.0,",
    ]
    text = ablation.markdown(found)
    assert "2.000 ± 1.414" in text and "5.000 ±" not in text


def test_what_the_paper_says_stands_apart(commands: Any, tmp_path: Path) -> None:
    text = Ablation(METHOD, tmp_path, "ab").tables({"one": ["base"], "two": ["other"]}, 1, ["swaptalk"])
    assert text.index("### one") < text.index("### two") < text.index("#### As published")
    for name in ("one", "two"):
        file = (tmp_path / "ab" / f"{name}.md").read_text()
        measured, _, published = file.partition("#### As published: SwapTalk")
        assert "r ↑" in measured and "_Source: " in published and "r ↑" not in published
    with pytest.raises(TalkgenError, match="published=nobody"):
        Ablation(METHOD, tmp_path, "ab").tables({"one": ["base"]}, 1, ["nobody"])


def test_what_was_trained_is_not_replaced_by_a_link(commands: Any, tmp_path: Path) -> None:
    (tmp_path / "ab/other/seed-0/codes").mkdir(parents=True)
    with pytest.raises(TalkgenError, match="should be shared"):
        Ablation(METHOD, tmp_path, "ab").make("other", 0)
