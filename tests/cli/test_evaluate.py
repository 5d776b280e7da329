"""Finished weights scored under other settings of their method, by the command, and beside themselves in a report."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from anymri.domain.task import GLIOMA
from anymri.engine.model import Training, WeightsHeader, write_weights
from anymri.engine.run import Window

from ..material import tiny, write_made_cohort


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a",), ("b",)))
    return tmp_path / "prepared"


def test_settings_of_a_method_are_compared_in_a_report(run, weights: Path, prepared: Path, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    assert run("evaluate", weights, "--data", prepared, "--out", plain).code == 0
    done = run("evaluate", weights, "--data", prepared, "--out", other, "--set", "config.absent=zero")
    assert done.code == 0 and "note: scored as ccsd (absent=zero): not the settings that these weights" in done.err
    assert "ccsd (absent=zero)" in done.out and "* scored as ccsd (absent=zero)" in other.with_suffix(".md").read_text()
    with plain.open() as one, other.open() as two:
        rows = list(csv.DictReader(one)), list(csv.DictReader(two))
    assert {r["method"] for r in rows[0]} == {"ccsd"} and {r["method"] for r in rows[1]} == {"ccsd (absent=zero)"}
    assert {r["run"] for r in rows[0]} == {r["run"] for r in rows[1]}
    done = run("report", plain, other, "--out", tmp_path / "report")
    assert done.code == 0, done.err
    page = (tmp_path / "report" / "index.html").read_text()
    assert "ccsd (absent=zero)" in page and "measured: knowledge distillation" in page


def test_mistakes_are_one_line_and_nothing_is_written(run, weights: Path, prepared: Path, tmp_path: Path) -> None:
    for words, said in (
        ((weights, "--set", "config.widths=[4,8]"), "config.widths: changes the parameters of the network"),
        ((weights, "--set", "config.colour=red"), "setting 'config': setting 'colour': Extra inputs are not permitted"),
        ((weights, "--set", "config.absent"), "--set config.absent: expected FIELD=VALUE"),
        ((weights, "--set", "window.overlap=0"), "--set window.overlap=0: finished weights take settings of their method alone"),
        (("--masks", tmp_path, "--set", "config.absent=zero"), "--set changes settings of weights; masks (--masks DIR) have none"),
    ):
        done = run("evaluate", *words, "--data", prepared, "--out", tmp_path / "s.csv")
        assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1, done.err
    assert not (tmp_path / "s.csv").exists()


def test_cases_of_the_training_are_not_scored_unless_a_fold_is_named(run, prepared: Path, tmp_path: Path) -> None:
    def trained_on(*cases: str, fold: int | None = None) -> Path:
        method = tiny("dropout_unet", GLIOMA)
        config = method.config.model_dump(mode="json")
        made = Training(cases=cases, cohort={"name": "made_up"}, fold=fold)
        header = WeightsHeader(name="w", method="dropout_unet", config=config, task=GLIOMA.name, window=Window(), training=made)
        write_weights(tmp_path / "w.safetensors", method.state_dict(), header)
        return tmp_path / "w.safetensors"

    def scored(weights: Path, *words: str) -> tuple[set[str], str]:
        done = run("evaluate", weights, "--data", prepared, "--out", tmp_path / "s.csv", *words)
        assert done.code == 0, done.err
        with (tmp_path / "s.csv").open() as file:
            return {row["case"] for row in csv.DictReader(file)}, done.err

    cases, said = scored(trained_on("a", "of another cohort"))
    assert cases == {"b"} and "note: 1 cases that were in the training of these weights are left out" in said
    assert "are left out; --fold scores" in (tmp_path / "s.md").read_text()
    # Called as this cohort and with the same number of folds, but another one: all of it is new.
    cases, said = scored(trained_on("of another cohort", fold=1))
    assert cases == {"a", "b"} and "note" not in said
    cases, said = scored(trained_on("a", fold=1))
    assert cases == {"b"} and "note: fold 1 is scored, which these weights left out of their training" in said
    cases, said = scored(trained_on("a"), "--fold", "0")
    assert cases == {"a"} and "note: 1 of these 1 cases were in the training" in said
    cases, said = scored(trained_on("a", "b"))
    assert cases == {"a", "b"} and "note: 2 of these 2 cases were in the training" in said
    cases, said = scored(trained_on())
    assert cases == {"a", "b"} and "do not say which cases they were trained on" in said
