"""What a training starts from and which cases it sees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import anymri.methods
from anymri.domain.case import Split
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.engine.parts import parts_of
from anymri.engine.run import RunFolder
from anymri.engine.training import train
from anymri.errors import CaseError, TrainingError, UsageError, WeightsError

from ..doubles import DUEL, PLACED
from ..material import short_run, write_made_cohort

FOLDS = (("a", "b"), ("c", "d", "e"), ("f",))


@pytest.fixture(autouse=True)
def _with_the_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anymri.methods, "METHODS", (*anymri.methods.METHODS, DUEL, PLACED))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    write_made_cohort(path, GLIOMA, folds=FOLDS, partly=("x", "y"))
    return path


# Weights to start from


def test_a_training_may_start_from_weights(prepared: Path, tmp_path: Path) -> None:
    first = train(short_run("dropout_unet"), prepared, tmp_path / "first")
    weights = tmp_path / "first" / "weights.safetensors"
    run = short_run("dropout_unet", init=str(weights), steps=1, learning_rate=1e-12, weight_decay=0.0)
    second = train(run, prepared, tmp_path / "second")
    for key, value in first.method.state_dict().items():
        torch.testing.assert_close(second.method.state_dict()[key], value, rtol=1e-3, atol=1e-6)
    for wrong in (short_run("ccsd", init=str(weights)), short_run("dropout_unet", config={"widths": [4, 6]}, init=str(weights))):
        with pytest.raises(WeightsError, match=r"weights of dropout_unet for glioma; a start for this run needs") as caught:
            train(wrong, prepared, tmp_path / "third")
        assert "\n" not in str(caught.value)
        assert not RunFolder(tmp_path / "third").record.exists()


# Which cases serve what


def test_parts() -> None:
    split = Split(FOLDS, ("x", "y"))
    run = short_run("placed", fold=0, validation=2)
    parts = parts_of(run, split)
    assert parts.test == ("a", "b") and len(parts.validation) == 2 and set(parts.validation) <= {"c", "d", "e", "f"}
    assert sorted((*parts.train, *parts.validation)) == ["c", "d", "e", "f", "x", "y"]
    assert not set(parts.train) & set(parts.validation)
    everything = parts_of(short_run("placed", validation=0), split)
    assert everything.train == ("a", "b", "c", "d", "e", "f", "x", "y") and everything.validation == everything.test == ()
    many = Split((tuple(f"n{i:02}" for i in range(20)), ("t",)))
    assert parts_of(short_run("placed", fold=1, validation=4), many).validation == ("n02", "n07", "n12", "n17")
    with pytest.raises(UsageError, match="4 complete training cases are too few to take 4 out for validation"):
        parts_of(short_run("placed", fold=0, validation=4), split)
    with pytest.raises(UsageError, match="fold 3 does not exist"):
        parts_of(short_run("placed", fold=3), split)


def test_cases_with_unknown_regions_alone_may_be_trained_on() -> None:
    assert parts_of(short_run("placed", validation=0), Split(((),), ("x",))).train == ("x",)
    with pytest.raises(UsageError, match="no case is left to train on"):
        parts_of(short_run("placed", validation=0, fold=0), Split((("a",),)))


@pytest.fixture
def blinded(prepared: Path, tmp_path: Path) -> Path:
    """Return a cohort whose fold 0 has nothing but its names: whoever opens a test case fails."""
    path = tmp_path / "blinded"
    shutil.copytree(prepared, path)
    for name in FOLDS[0]:
        shutil.rmtree(path / "cases" / name)
    return path


def test_training_never_sees_a_test_case(blinded: Path, tmp_path: Path) -> None:
    run = short_run("dropout_unet", fold=0, validation=1, window={"stride": 2, "size": (8, 8, 8)}, patch=(4, 4, 4))
    model = train(run, blinded, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    record = json.loads(folder.record.read_text())
    assert record["cases"]["test"] == list(FOLDS[0]) and len(record["cases"]["validation"]) == 1
    assert record["cohort"]["name"] == "made_up" and record["cohort"]["licence"] == "none"
    assert set(json.loads(folder.selection.read_text())["scores"]) == {"at_0.500", "at_1.000"}
    assert not set(FOLDS[0]) & set(model.header.training.cases)
    assert model.header.window == run.window and model.header.training.seed == run.seed and model.sha256
    assert {p.name for p in folder.path.iterdir()} >= {"run.json", "log.jsonl", "selection.json", "weights.safetensors"}


def test_a_folder_that_holds_a_run_is_not_overwritten(prepared: Path, tmp_path: Path) -> None:
    run, out = short_run("placed"), tmp_path / "run"
    first = train(run, prepared, out)
    with pytest.raises(TrainingError, match="holds a run already; add --resume"):
        train(run, prepared, out)
    with pytest.raises(TrainingError, match="holds a run with other settings"):
        train(short_run("placed", seed=1), prepared, out, resume=True)
    assert train(run, prepared, out, resume=True).sha256 == first.sha256


def test_a_cohort_of_another_task_leaves_nothing(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="is for prostate; give --set task=glioma, or prepare it again with --task prostate$"):
        train(short_run("placed", task=PROSTATE.name), prepared, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cohort_that_cannot_be_read_leaves_no_run(blinded: Path, tmp_path: Path) -> None:
    for _ in range(2):  # The second time, too, it is the case that is named, not a run that is there already.
        with pytest.raises(CaseError, match="case.json: not found"):
            train(short_run("placed", fold=1), blinded, tmp_path / "run")
