"""Runs side by side: each in a folder of its own, what is done is kept, one that fails stops no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import anymri.compare as comparing
from anymri.compare import SCORES, Means, compare
from anymri.domain.task import GLIOMA
from anymri.engine.run import Parts, Run, checked_run
from anymri.errors import TrainingError, UsageError
from anymri.metrics.protocol import PROTOCOLS
from anymri.metrics.scores import read_scores
from anymri.report.measured import gather

from .material import short_run, write_made_cohort

MEANS = Means(PROTOCOLS[0], torch.device("cpu"))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a",), ("b", "c")))
    return tmp_path / "prepared"


def pair(**settings: object) -> dict[str, Run]:
    run = short_run("ccsd", steps=2, validation=0, fold=0, **settings)
    content = run.model_dump(mode="json")
    return {"with": run, "bare": checked_run({**content, "config": {**content["config"], "dmcd": 0.0}})}


def test_every_run_is_trained_and_scored_on_the_cases_left_out(prepared: Path, tmp_path: Path) -> None:
    outcomes = compare(pair(), prepared, tmp_path / "out", means=MEANS)
    assert [(o.name, o.reason) for o in outcomes] == [("with", ""), ("bare", "")]
    tables = [read_scores(o.folder / SCORES) for o in outcomes]
    assert [{row.case for row in table} for table in tables] == [{"a"}, {"a"}]
    assert tables[0] != tables[1]
    # A report keeps the order of the set, whatever the names.
    assert [m.label for m in gather([tmp_path / "out"]).arenas[0].methods] == ["ccsd: as by default", "ccsd: dmcd 0"]


def test_one_that_fails_stops_no_other_and_is_tried_again(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = comparing.train

    def failing(run: Run, data: Path, out: Path, **options: object) -> object:
        if out.name == "with":
            raise TrainingError("loss is not finite")
        return honest(run, data, out, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(comparing, "train", failing)
    first = compare(pair(), prepared, tmp_path / "out", means=MEANS)
    assert [(o.name, o.reason) for o in first] == [("with", "loss is not finite"), ("bare", "")]
    written = (tmp_path / "out" / "bare" / SCORES).stat().st_mtime_ns
    monkeypatch.setattr(comparing, "train", honest)
    again = compare(pair(), prepared, tmp_path / "out", means=MEANS)
    assert [o.reason for o in again] == ["", ""]
    assert (tmp_path / "out" / "bare" / SCORES).stat().st_mtime_ns == written, "what was done is not done again"


@pytest.mark.parametrize(
    ("error", "said"),
    [(MemoryError(), "MemoryError"), (RuntimeError(""), "RuntimeError"), (RuntimeError("no memory\nadvice"), "no memory")],
)
def test_a_failure_that_says_little_stops_no_other(
    error: Exception, said: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(run: Run, data: Path, out: Path, **options: object) -> object:
        raise error

    monkeypatch.setattr(comparing, "train", failing)
    outcomes = compare(pair(), prepared, tmp_path / "out", means=MEANS)
    assert [(o.name, o.reason) for o in outcomes] == [("with", said), ("bare", said)]


def test_a_folder_of_other_settings_is_not_touched(prepared: Path, tmp_path: Path) -> None:
    compare(pair(), prepared, tmp_path / "out", means=MEANS)
    (outcome, other) = compare(pair(seed=5), prepared, tmp_path / "out", means=MEANS)
    assert "other settings" in outcome.reason and "other settings" in other.reason
    assert json.loads((tmp_path / "out" / "with" / "run.json").read_text())["run"]["seed"] == 0


def test_nothing_is_trained_where_nothing_is_left_to_test(prepared: Path, tmp_path: Path) -> None:
    runs = {"all": short_run("ccsd", steps=2, validation=0)}
    with pytest.raises(UsageError, match="all: no case is left out for testing"):
        compare(runs, prepared, tmp_path / "out", means=MEANS)
    assert not (tmp_path / "out").exists()


def test_a_run_may_list_its_cases(prepared: Path, tmp_path: Path) -> None:
    listed = short_run("ccsd", steps=1, cases=Parts(train=("a", "b"), test=("c",)).model_dump(mode="json"))
    (outcome,) = compare({"listed": listed}, prepared, tmp_path / "out", means=MEANS)
    assert outcome.reason == "" and {row.case for row in read_scores(outcome.folder / SCORES)} == {"c"}
    with pytest.raises(UsageError, match="2 of 4 cases that this run lists are not among the prepared ones .*: x, y; prepare"):
        compare(
            {"more": listed.model_copy(update={"cases": Parts(train=("a", "x"), validation=("y",), test=("c",))})},
            prepared,
            tmp_path / "more",
            means=MEANS,
        )
    with pytest.raises(UsageError, match="case a is listed more than once"):
        short_run("ccsd", cases={"train": ["a"], "test": ["a"]})
