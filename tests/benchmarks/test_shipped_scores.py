"""What the documents say of the shipped weights is what the stored scores say."""

from __future__ import annotations

from pathlib import Path

import pytest

from anymri.metrics.scores import Score, ScoreTable, read_scores

from ..material import benchmark

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    "measurements": ROOT / "docs" / "measurements.md",
    "ccsd-base": ROOT / "src" / "anymri" / "weights" / "ccsd-base.md",
    "ccsd-small": ROOT / "src" / "anymri" / "weights" / "ccsd-small.md",
}
script = benchmark("shipped_scores")


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    return script.tables()


def test_measurements_hold_every_table_as_it_is_printed(printed: dict[str, str]) -> None:
    text = DOCUMENTS["measurements"].read_text(encoding="utf-8")
    assert [heading for heading, table in printed.items() if table not in text] == []


@pytest.mark.parametrize("name", ["ccsd-base", "ccsd-small"])
def test_a_card_has_the_scores_that_are_stored(printed: dict[str, str], name: str) -> None:
    card = DOCUMENTS[name].read_text(encoding="utf-8")
    patients = len({row.case for row in read_scores(script.STORED / "shipped" / f"{name}.csv")})
    assert printed[f"{name}, every subset"] in card and f"{patients} patients" in card


def test_every_run_left_one_fold_out() -> None:
    of_case: dict[str, set[int]] = {}
    fold_of = script.left_out()
    for file in sorted((script.STORED / "shipped").glob("*-*.csv")):
        for row in read_scores(file):
            of_case.setdefault(row.case, set()).add(fold_of[row.run])
    assert {len(folds) for folds in of_case.values()} == {1}


def made(run: str, dice: float) -> list[Score]:
    subsets = ("T1c", "T1", "T1+T1c")
    return [
        Score("m", "c", f"{run}{case}", s, region, "dice", dice + case / 100, "1", 0, run, "anymri")
        for case in range(3)
        for s in subsets
        for region in script.REGIONS
    ]


def test_folds_that_chose_the_recipe_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "left_out", lambda: {"a": 0, "b": 2, "c": 4})
    table = ScoreTable((*made("a", 0.5), *made("b", 0.7), *made("c", 0.9)))
    rows = [line.split(" | ") for line in script.folds(table).splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 0", "| 2", "| 4", "| 0 and 4", "| 0, 2 and 4"]
    assert [row[1].split(" ")[0] for row in rows] == ["51.0", "71.0", "91.0", "71.0", "71.0"]
    assert script.folds_beside({"x": table}).splitlines()[-2].startswith("| 0 and 4 | 71.0 / 71.0 / 71.0 |")


def test_differences_are_in_points_with_their_sign() -> None:
    better, worse = ScoreTable(tuple(made("a", 0.5))), ScoreTable(tuple(made("a", 0.55)))
    head, _, row, *_ = script.paired("worse − better", better, worse).splitlines()
    assert head == "| worse − better, 3 patients | WT | TC | ET |"
    assert row == "| mean of 15 | −5.0 [−5.0, −5.0], p 0.75 | −5.0 [−5.0, −5.0], p 0.75 | −5.0 [−5.0, −5.0], p 0.75 |"
