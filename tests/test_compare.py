"""Runs side by side: each in a folder of its own, what is done is kept, one that fails stops no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import anymri.compare as comparing
from anymri.compare import SCORES, Means, begun_runs, check_alike, compare, on_folds
from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA
from anymri.engine.run import Parts, Run, RunFolder, checked_run
from anymri.engine.training import fit
from anymri.errors import InputFileError, TrainingError, UsageError
from anymri.methods.method import Method
from anymri.metrics.protocol import PROTOCOLS
from anymri.metrics.scores import read_scores
from anymri.report.measured import ORDER, gather

from .material import ALL_METHODS, made_patient, short_run, write_made_cohort

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
    [
        (MemoryError(), "MemoryError"),
        (RuntimeError(""), "RuntimeError"),
        (RuntimeError("no memory\nadvice"), "RuntimeError: no memory"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_a_failure_that_says_little_stops_no_other(
    error: Exception, said: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(run: Run, data: Path, out: Path, **options: object) -> object:
        raise error

    monkeypatch.setattr(comparing, "train", failing)
    outcomes = compare(pair(), prepared, tmp_path / "out", means=MEANS)
    assert [(o.name, o.reason) for o in outcomes] == [("with", said), ("bare", said)]


def test_a_folder_of_other_settings_or_other_cases_is_not_touched(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_done", lambda *given, **options: None)
    out = tmp_path / "out"
    compare(pair(), prepared, out, means=MEANS)
    record = (out / ORDER).read_bytes()
    with pytest.raises(UsageError, match="with was begun with other settings, they differ in optimiser, seed; give the same"):
        compare(pair(seed=5, optimiser="sgd"), prepared, out, means=MEANS)
    with pytest.raises(UsageError, match="was begun with the runs with, bare, not bare; "):
        compare({"bare": pair()["bare"]}, prepared, out, means=MEANS)
    write_made_cohort(tmp_path / "other", GLIOMA, folds=(("a", "b"), ("c",)))
    with pytest.raises(UsageError, match="other: its cases or folds are not those that .*out was begun with"):
        compare(pair(), tmp_path / "other", out, means=MEANS)
    assert (out / ORDER).read_bytes() == record
    assert begun_runs(out) == pair()


def test_a_run_folder_of_other_settings_is_not_touched(prepared: Path, tmp_path: Path) -> None:
    """The record of the set may be gone, or of an earlier version."""
    RunFolder(tmp_path / "out" / "with").path.mkdir(parents=True)
    RunFolder(tmp_path / "out" / "with").write_record(pair(seed=5)["with"], {})
    (outcome,) = compare({"with": pair()["with"]}, prepared, tmp_path / "out", means=MEANS)
    assert "other settings" in outcome.reason
    assert json.loads((tmp_path / "out" / "with" / "run.json").read_text())["run"]["seed"] == 5


def test_what_records_no_comparison_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no comparison; name the methods"):
        begun_runs(tmp_path)
    for content, error in (
        ("{", InputFileError),
        ('{"runs": ["a"]}', UsageError),
        ('{"settings": {"a": {"method": "none"}}}', InputFileError),
    ):
        (tmp_path / ORDER).write_text(content)
        with pytest.raises(error, match=r"set\.json: ") as caught:
            begun_runs(tmp_path)
        assert "\n" not in str(caught.value)


def test_nothing_is_trained_where_nothing_is_left_to_test(prepared: Path, tmp_path: Path) -> None:
    runs = {"all": short_run("ccsd", steps=2, validation=0)}
    with pytest.raises(UsageError, match="all: no case is left out for testing"):
        compare(runs, prepared, tmp_path / "out", means=MEANS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("empty", "part"), [("train", Parts(test=("c",))), ("test", Parts(train=("a", "b")))])
def test_a_list_without_cases_fails_alone(prepared: Path, tmp_path: Path, empty: str, part: Parts) -> None:
    runs = {
        name: short_run("ccsd", steps=1, cases=parts.model_dump(mode="json"))
        for name, parts in (("bare", part), ("tested", Parts(train=("a", "b"), test=("c",))))
    }
    first, second = compare(runs, prepared, tmp_path / "out", means=MEANS)
    assert first.reason == f"no case of its {empty} list is there; prepare some of them"
    assert second.reason == "" and (second.folder / SCORES).is_file() and not first.folder.exists()


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


# The same for all


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Collect what methods are given to learn from, in the place of learning from it."""
    found: list[Batch] = []

    def seen(method: Method, batch: Batch, *, generator: torch.Generator, **options: object) -> dict[str, float]:
        found.append(batch)
        torch.rand(1 + len(type(method).__name__), generator=generator)  # Each draws as much chance as it likes.
        return {"loss": 1.0}

    monkeypatch.setattr("anymri.engine.step.back_propagate", seen)
    return found


def test_every_method_learns_from_the_same_patches_in_the_same_order(batches: list[Batch], tmp_path: Path) -> None:
    patients = [made_patient(GLIOMA, 0), made_patient(GLIOMA, 1), made_patient(GLIOMA, 2, present=(True, False, True, True))]
    seen: dict[str, list[Batch]] = {}
    for method in ALL_METHODS:
        run = short_run(method, steps=3, batch=2, accumulate=2, seed=3)
        fit(run, patients, RunFolder(tmp_path / method), resume=False, device=torch.device("cpu"))
        seen[method] = batches.copy()
        batches.clear()
    first = seen[ALL_METHODS[0]]
    assert len(first) == 6 and not torch.equal(first[0].image_BMDHW, first[1].image_BMDHW)
    for others in seen.values():
        for mine, other in zip(first, others, strict=True):
            assert mine.names == other.names and torch.equal(mine.origin_B3, other.origin_B3)
            assert torch.equal(mine.image_BMDHW, other.image_BMDHW) and torch.equal(mine.target_BRDHW, other.target_BRDHW)


def test_runs_that_would_not_see_the_same_are_refused() -> None:
    one = short_run("ccsd", learning_rate=1e-3, optimiser="adam")
    check_alike({"one": one, "two": short_run("adamm", learning_rate=1e-2)})  # How it learns is a method's own.
    others = {
        "patch, batch": short_run("adamm", patch=(16, 16, 16), batch=2),
        "seed, steps, minutes": short_run("adamm", seed=1, steps=None, minutes=1.0),
        "fold, validation": short_run("adamm", fold=1, validation=1),
        "generation": short_run("adamm", generation={"mix": 0.5}),
    }
    for fields, other in others.items():
        with pytest.raises(UsageError, match=f"one and other differ in {fields}: what is compared must learn from the same"):
            check_alike({"one": one, "same": one, "other": other})


def test_folds_of_one_method_are_one_column_with_every_case_once(prepared: Path, tmp_path: Path) -> None:
    runs = on_folds({"ccsd": short_run("ccsd", steps=1, validation=0)}, (0, 1))
    assert list(runs) == ["ccsd_fold0", "ccsd_fold1"]
    outcomes = compare(runs, prepared, tmp_path / "out", means=MEANS)
    assert [o.reason for o in outcomes] == ["", ""]
    ((method,),) = (a.methods for a in gather([tmp_path / "out"]).arenas)
    ((scored,),) = (method.by_seed.values(),)
    assert method.label == "ccsd" and len(method.trainings) == 2
    rows = [(r.case, r.subset, r.region, r.metric) for r in scored]
    assert {r[0] for r in rows} == {"a", "b", "c"} and len(set(rows)) == len(rows)
