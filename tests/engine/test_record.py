"""A run folder says how its run came about; a run is repeated from it alone, and goes on with the same data alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.record import source_state
from anymri.engine.run import RunFolder, checked_run
from anymri.engine.training import train
from anymri.errors import TrainingError, WeightsError
from anymri.volumes.store import read_case, read_image, read_labels, read_truth, write_case

from ..material import short_run, write_made_cohort


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    write_made_cohort(path, GLIOMA, folds=(("a", "b"), ("c", "d")))
    return path


def settings() -> dict:
    return {"steps": 2, "validation": 1, "fold": 0}


def test_the_record_holds_all_that_a_repetition_needs(prepared: Path, tmp_path: Path) -> None:
    train(short_run("dropout_unet", **settings()), prepared, tmp_path / "run")
    facts = RunFolder(tmp_path / "run").read_facts()
    assert facts["run"]["seed"] == 0 and facts["init"] is None
    assert {"anymri", "torch", "numpy", "python"} <= set(facts["versions"]) and facts["versions"]["numpy"] == np.__version__
    assert set(facts["data"]) == {"c", "d"} and all(len(d) == 64 for d in facts["data"].values())
    assert facts["machine"]["threads"] == torch.get_num_threads() and facts["machine"]["processes"] == 1
    assert facts["command"] and (facts["source"] is None or len(facts["source"]["commit"]) == 40)


def test_a_record_repeats_its_run(prepared: Path, tmp_path: Path) -> None:
    train(short_run("dropout_unet", **settings()), prepared, tmp_path / "run")
    again = RunFolder(tmp_path / "run").read_run()
    train(again, prepared, tmp_path / "again")
    first, second = (RunFolder(tmp_path / name) for name in ("run", "again"))
    for path in sorted(p.relative_to(first.path) for p in first.path.rglob("*.safetensors")):
        if path.name != "weights.safetensors":  # Its header holds the folder's name.
            assert (first.path / path).read_bytes() == (second.path / path).read_bytes(), path
    assert first.read_facts()["data"] == second.read_facts()["data"]


def test_where_a_case_lies_and_how_it_is_stored_does_not_matter(prepared: Path, tmp_path: Path) -> None:
    run = short_run("dropout_unet", **settings())
    train(run, prepared, tmp_path / "run")
    moved = tmp_path / "moved"
    shutil.copytree(prepared, moved)
    folder = moved / "cases" / "c"
    write_case(folder, read_case(folder), read_image(folder), read_labels(folder), read_truth(folder).array)
    train(run, moved, tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["c", "d"])  # One is trained on, the other chosen by.
def test_a_case_that_was_changed_is_not_gone_on_with(name: str, prepared: Path, tmp_path: Path) -> None:
    run, changed = short_run("dropout_unet", **settings()), tmp_path / "changed"
    shutil.copytree(prepared, changed)
    train(run, changed, tmp_path / "run")
    folder = changed / "cases" / name
    labels = read_labels(folder).copy()
    labels[tuple(np.argwhere(labels)[0])] = 0
    write_case(folder, read_case(folder), read_image(folder), labels, read_truth(folder).array)
    with pytest.raises(TrainingError, match=rf"changed: 1 of 2 cases are not those that .* the first is {name};"):
        train(run, changed, tmp_path / "run", resume=True)
    facts = RunFolder(tmp_path / "run").read_facts()
    (tmp_path / "run" / "run.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "data"}))
    train(run, changed, tmp_path / "run", resume=True)  # A record without hashes is believed.


def test_weights_to_start_from_are_known_by_their_hash(prepared: Path, tmp_path: Path) -> None:
    train(short_run("dropout_unet", **settings()), prepared, tmp_path / "first")
    weights = tmp_path / "start.safetensors"
    shutil.copy(tmp_path / "first" / "weights.safetensors", weights)
    run = short_run("dropout_unet", init=str(weights), **settings())
    train(run, prepared, tmp_path / "second")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert RunFolder(tmp_path / "second").read_facts()["init"] == {"file": str(weights), "sha256": digest}
    train(run, prepared, tmp_path / "second", resume=True)
    train(short_run("dropout_unet", seed=9, **settings()), prepared, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", weights)
    with pytest.raises(WeightsError, match=r"start.safetensors: its SHA-256 is no longer that in .*run.json; restore the file"):
        train(run, prepared, tmp_path / "second", resume=True)
    with pytest.raises(WeightsError, match=rf"start.safetensors: SHA-256 is \w+, expected {digest}"):
        train(checked_run({**run.model_dump(), "init_sha256": digest}), prepared, tmp_path / "third")
    assert not (tmp_path / "third" / "run.json").exists()


def git(folder: Path, *words: str) -> None:
    names = {f"GIT_{who}_{what}": "nobody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env={**os.environ, **names})


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_state_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert source_state(package) is None
    git(tmp_path / "checkout", "init", "-q")
    assert source_state(package) is None  # It lies inside a checkout that does not know it.
    git(tmp_path / "checkout", "add", ".")
    git(tmp_path / "checkout", "commit", "-q", "-m", "first")
    clean = source_state(package)
    assert clean is not None and len(clean["commit"]) == 40 and clean["changed"] is False
    (package / "__init__.py").write_text("changed = True")
    assert source_state(package) == {**clean, "changed": True}
    index = tmp_path / "checkout" / ".git" / "index"
    git(tmp_path / "checkout", "commit", "-q", "-a", "-m", "second")
    content = index.read_bytes()
    os.utime(package / "__init__.py", (1, 1))  # What makes git want to write its index anew.
    assert source_state(package) is not None
    assert index.read_bytes() == content  # To be asked changes nothing, and takes no lock that a kill could leave behind.
    monkeypatch.setenv("PATH", "")
    assert source_state(package) is None


def test_tensorboard_shows_the_log(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr("anymri.engine.training.LOG_EVERY", 1)
    train(short_run("dropout_unet", steps=3), prepared, tmp_path / "run")
    lines = [json.loads(line) for line in RunFolder(tmp_path / "run").log.read_text().splitlines()]
    shown = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    shown.Reload()
    assert set(shown.Tags()["scalars"]) == {"seconds", "share", "running", "seg"}
    assert [(e.step, e.value) for e in shown.Scalars("seg")] == [(line["step"], pytest.approx(line["seg"])) for line in lines]
