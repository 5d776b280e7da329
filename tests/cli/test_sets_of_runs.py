"""A recipe that is a set of runs, and recipes that list their cases, by the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import anymri.recipes as recipes
from anymri.domain.task import GLIOMA
from anymri.engine.run import Parts, Run

from ..material import short_run, write_made_cohort


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a",), ("b", "c")))
    return tmp_path / "prepared"


def two() -> Mapping[str, Run]:
    return {name: short_run("ccsd", steps=1, validation=0, seed=seed) for seed, name in enumerate(("first", "second"))}


def listing() -> Run:
    return short_run(
        "ccsd", steps=1, cases=Parts(train=("a", "b", "x"), validation=("y",), test=("c", "z")).model_dump(mode="json")
    )


def lists() -> Mapping[str, Run]:
    """Return two runs that list cases of which some are there: x is in both lists, y and z in one."""
    parts = (Parts(train=("a", "x"), test=("c", "y")), Parts(train=("b", "z"), test=("c", "x")))
    return {f"split{i}": short_run("ccsd", steps=1, cases=p.model_dump(mode="json")) for i, p in enumerate(parts)}


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "RECIPES", {"two": two, "listing": listing, "lists": lists})


def test_a_set_is_trained_and_scored_by_one_command_and_resumed_by_it(run, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("train", "two", "--data", prepared, "--out", out, "--fold", "0")
    assert done.code == 0, done.err
    assert f"anymri report {out / 'first'} {out / 'second'} --out DIR" in done.out
    assert sorted(p.parent.name for p in out.glob("*/scores.csv")) == ["first", "second"]
    again = run("train", "two", "--data", prepared, "--out", out, "--fold", "0")
    assert (again.code, "add --resume" in again.err) == (2, True)
    (out / "second" / "scores.csv").unlink()
    more = run("train", "two", "--data", prepared, "--out", out, "--fold", "0", "--resume")
    assert more.code == 0, more.err
    assert (out / "second" / "scores.csv").is_file()


def test_missing_cases_are_all_named_and_left_out_if_that_is_asked_for(run, prepared: Path, tmp_path: Path) -> None:
    done = run("train", "listing", "--data", prepared, "--out", tmp_path / "out")
    assert done.code == 2
    assert [line for line in done.err.splitlines() if line.startswith("missing: ")] == ["missing: x", "missing: y", "missing: z"]
    assert "add --allow-missing" in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    done = run("train", "listing", "--data", prepared, "--out", tmp_path / "out", "--allow-missing")
    assert done.code == 0, done.err
    assert "3 listed cases are not there and are left out" in done.err


def test_missing_cases_of_a_set_are_named_once(run, prepared: Path, tmp_path: Path) -> None:
    done = run("train", "lists", "--data", prepared, "--out", tmp_path / "out")
    assert done.code == 2 and not (tmp_path / "out").exists()
    assert [line for line in done.err.splitlines() if line.startswith("missing: ")] == ["missing: x", "missing: y", "missing: z"]
    done = run("train", "lists", "--data", prepared, "--out", tmp_path / "out", "--allow-missing")
    assert done.code == 0, done.err
    assert done.err.count("3 listed cases are not there and are left out") == 1
    assert sorted(p.parent.name for p in (tmp_path / "out").glob("*/scores.csv")) == ["split0", "split1"]


def test_a_fold_takes_the_place_of_listed_cases(run, prepared: Path, tmp_path: Path) -> None:
    done = run("train", "listing", "--data", prepared, "--out", tmp_path / "out", "--fold", "1", "--set", "validation=0")
    assert done.code == 0, done.err


def test_a_set_whose_runs_become_one_is_refused(run, prepared: Path, tmp_path: Path) -> None:
    done = run("train", "two", "--data", prepared, "--out", tmp_path / "out", "--fold", "0", "--seed", "2")
    assert done.code == 2 and "'first' and 'second' are the same run; leave one of them out" in done.err
    assert not (tmp_path / "out").exists()
