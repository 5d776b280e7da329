"""Methods side by side, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import anymri.compare as comparing
from anymri.domain.task import GLIOMA
from anymri.engine.run import Run, RunFolder
from anymri.errors import TrainingError
from anymri.report.measured import gather

from ..material import write_made_cohort

SMALL = ("--size", "tiny", "--steps", "1", "--set", "batch=1", "--set", "patch=[16,16,16]", "--set", "window.stride=1")
QUICK = (*SMALL, "--set", "window.size=[16,16,16]", "--set", "validation=0", "--set", "precision=float32", "--set", "threads=1")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a",), ("b", "c")))
    return tmp_path / "prepared"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Run]:
    """Collect the runs that would be trained and scored."""
    found: dict[str, Run] = {}
    monkeypatch.setattr(comparing, "_done", lambda name, run, *given, **options: found.update({name: run}))
    monkeypatch.setattr(comparing, "conclude", lambda outcomes, out: out / "report" / "index.html")
    return found


def test_two_methods_are_compared_and_one_that_fails_is_tried_again(
    run, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, out = comparing.train, tmp_path / "out"

    def failing(run: Run, data: Path, folder: Path, **options: object) -> object:
        if run.method == "uhved":
            raise TrainingError("loss is not finite")
        return honest(run, data, folder, **options)  # type: ignore[arg-type]

    words = ("compare", "ccsd", "uhved", "--data", prepared, "--out", out, *QUICK)
    monkeypatch.setattr(comparing, "train", failing)
    done = run(*words)
    assert done.code == 2 and done.err.count("\n") == 1 and "1 of 2 runs failed" in done.err
    assert "failed: uhved_fold0: loss is not finite" in done.out and f"report in {out / 'report' / 'index.html'}" in done.out
    assert [m.label for m in gather([out]).arenas[0].methods] == ["ccsd"]
    monkeypatch.setattr(comparing, "train", honest)
    refused = run(*words)
    assert refused.code == 2 and "holds a comparison already; add --resume" in refused.err and refused.err.count("\n") == 1
    written = (out / "ccsd_fold0" / "scores.csv").stat().st_mtime_ns
    done = run("compare", "--resume", "--data", prepared, "--out", out)
    assert done.code == 0, done.err
    assert (out / "ccsd_fold0" / "scores.csv").stat().st_mtime_ns == written
    text = (out / "report" / "report.md").read_text(encoding="utf-8")
    assert "| *measured: knowledge distillation* |" in text and "| *measured: multi-task learning* |" in text
    assert (out / "scores.csv").read_text().count("\n") == 1 + sum(
        len((out / f"{m}_fold0" / "scores.csv").read_text().splitlines()) - 1 for m in ("ccsd", "uhved")
    )
    done = run("report", out, "--out", tmp_path / "again")
    assert done.code == 0, done.err
    for name in ("report.md", "table_means.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / "report" / name).read_bytes()


def test_all_have_the_same_budget_seed_and_folds(run, prepared: Path, tmp_path: Path, trained: dict[str, Run]) -> None:
    words = ("ccsd", "dropout_unet.base", "--folds", "2", "--minutes", "0.5", "--seed", "7", "--set", "validation=0")
    done = run("compare", *words, "--data", prepared, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert list(trained) == ["ccsd_fold0", "dropout_unet.base_fold0", "ccsd_fold1", "dropout_unet.base_fold1"]
    assert {(r.steps, r.minutes, r.seed, r.patch) for r in trained.values()} == {(None, 0.5, 7, trained["ccsd_fold0"].patch)}
    assert [r.fold for r in trained.values()] == [0, 0, 1, 1]
    widths = [r.config["widths"][0] for r in trained.values()]
    assert widths[0] < widths[1] or trained["ccsd_fold0"].config != trained["dropout_unet.base_fold0"].config
    recorded = json.loads((tmp_path / "out" / "set.json").read_text())
    assert recorded["runs"] == list(trained) and recorded["settings"]["ccsd_fold1"]["fold"] == 1


def test_a_set_and_a_fold_are_named(run, prepared: Path, tmp_path: Path, trained: dict[str, Run]) -> None:
    done = run("compare", "six_categories", "--fold", "1", "--steps", "9", "--data", prepared, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert {(r.fold, r.steps) for r in trained.values()} == {(1, 9)}
    assert {"shaspec_fold1", "dropout_unet_fold1", "uhved_fold1", "adamm_fold1", "ccsd_fold1"} <= set(trained)
    more = run(
        "compare", "six_categories", "--fold", "1", "--steps", "8", "--data", prepared, "--out", tmp_path / "out", "--resume"
    )
    assert more.code == 2 and "was begun with other settings, they differ in steps" in more.err


def test_who_trains_weights_that_hold_something_of_patients_is_told(
    run, prepared: Path, tmp_path: Path, trained: dict[str, Run]
) -> None:
    done = run("compare", "retrieval", "uhved", *QUICK, "--data", prepared, "--out", tmp_path / "out")
    assert done.code == 0
    assert "note: retrieval_fold0: these weights hold pooled features" in done.err and "uhved_fold0: these" not in done.err


def test_after_an_interruption_the_same_command_goes_on(run, prepared: Path, tmp_path: Path, trained: dict[str, Run]) -> None:
    words = ("compare", "ccsd", "adamm", *QUICK, "--data", prepared, "--out", tmp_path / "out")
    assert run(*words).code == 0
    RunFolder(tmp_path / "out" / "ccsd_fold0").path.mkdir()
    RunFolder(tmp_path / "out" / "ccsd_fold0").write_record(trained["ccsd_fold0"], {})
    assert run(*words).code == 2
    assert run(*words, "--resume").code == 0


def test_another_protocol_scores_all_and_is_gone_on_with(
    run, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr(comparing, "_done", lambda *given, means: found.append(means.protocol.name))
    monkeypatch.setattr(comparing, "conclude", lambda outcomes, out: out / "report" / "index.html")
    names, rest = ("compare", "ccsd", "uhved", *QUICK), ("--data", prepared, "--out", tmp_path / "out")
    assert run(*names, *rest, "--protocol", "rfnet").code == 0
    assert json.loads((tmp_path / "out" / "set.json").read_text())["protocol"] == "rfnet"
    assert run("compare", "--resume", *rest).code == 0 and found == ["rfnet"] * 4
    done = run(*names, *rest, "--resume")
    assert done.code == 2 and "was begun with protocol rfnet, not anymri; give the same options" in done.err
    # A record of before there was a choice is of the project's own rules.
    record = json.loads((tmp_path / "out" / "set.json").read_text())
    del record["protocol"]
    (tmp_path / "out" / "set.json").write_text(json.dumps(record))
    assert run(*names, *rest, "--resume").code == 0 and found[4:] == ["anymri"] * 2


def test_listed_cases_that_are_not_there_are_named_or_left_out(
    run, prepared: Path, tmp_path: Path, trained: dict[str, Run]
) -> None:
    cases = 'cases={"train": ["a", "x"], "validation": ["b"], "test": ["c", "y"]}'
    words = ("compare", "ccsd.brats2018", "--set", cases, "--data", prepared, "--out", tmp_path / "out")
    done = run(*words)
    assert done.code == 2 and done.err.splitlines()[:2] == ["missing: x", "missing: y"] and "add --allow-missing" in done.err
    assert not (tmp_path / "out").exists()
    done = run(*words, "--allow-missing")
    assert done.code == 0 and "2 listed cases are not there and are left out" in done.err
    (left,) = trained.values()
    assert left.cases is not None and left.cases.all == ("a", "b", "c")
    assert run("compare", "--resume", "--data", prepared, "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the methods to compare; without them --resume goes on"),
        (("--resume", "--steps", "3"), "goes on with --out as it was begun, and takes no settings"),
        (("--resume",), "holds no comparison; name the methods to compare"),
        (("ccsd", "heart"), "'heart' is neither a method nor a recipe"),
        (("ccsd.huge",), "'ccsd.huge' is neither a size of ccsd"),
        (("ccsd", "--size", "huge"), "method ccsd has no size 'huge'"),
        (("ccsd", "--steps", "1", "--minutes", "1"), "give --steps or --minutes, not both"),
        (("ccsd", "--folds", "2", "--fold", "1"), "give --folds N for the first N folds or --fold K for one of them, not both"),
        (("ccsd", "--fold", "2", "--set", "validation=0"), "fold 2 does not exist; this cohort has folds 0 to 1"),
        (("ccsd", "--folds", "3", "--set", "validation=0"), "fold 2 does not exist"),
        (("ccsd.base", "six_categories", "--size", "tiny"), "--size tiny: every name says its size or is a recipe"),
        (("ccsd", "--set", "task=metastasis"), "prepared for task glioma, ccsd_fold0 is for metastasis; give --set task=glioma"),
        (("ccsd", "--set", "fold=1"), "is said by --fold or --folds, not by --set"),
        (("ccsd", "--set", "speed=1"), "setting 'speed'"),
        (("ccsd", "six_categories"), "'ccsd' is there twice, with different settings (the second time by six_categories)"),
        (("ccsd.base", "six_categories"), "ccsd.base and "),
        (("ccsd.table1.small",), "a set whose runs leave out folds of their own (0, 1, 2, 3, 4) is for 'anymri train'"),
        (("ccsd.table1",), "split1 and split2 differ in cases"),
        (("ccsd.brats2018", "ccsd.base"), "ccsd.brats2018 and ccsd.base differ in cases, "),
        (("ccsd", "--protocol", "kind"), "protocol 'kind' is unknown"),
        (("--resume", "--protocol", "rfnet"), "goes on with --out as it was begun, and takes no settings"),
        (("--resume", "--allow-missing"), "goes on with --out as it was begun, and takes no settings"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(run, prepared: Path, tmp_path: Path, words, said: str) -> None:
    done = run("compare", *words, "--data", prepared, "--out", tmp_path / "out")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
