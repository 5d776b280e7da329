"""Weights that hold something of single patients: whoever trains, imports or lists them is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.model import WeightsHeader, read_model, write_weights
from anymri.engine.run import RunFolder, Window
from anymri.methods import METHODS, method_named
from anymri.weights import FOLDER, caution, import_file, known

from ..material import short_run, write_made_cohort


def written(path: Path, method: str) -> Path:
    torch.manual_seed(0)
    config = method_named(method).config.sized("tiny")
    network = config.build(GLIOMA)
    network.strip()
    settings = config.model_dump(mode="json")
    window = Window(stride=4, size=(48, 48, 48))
    write_weights(
        path, network.state_dict(), WeightsHeader(name=path.stem, method=method, config=settings, task="glioma", window=window)
    )
    return path


def test_who_imports_or_lists_a_bank_is_told(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "imported"))
    told = run("weights", "import", written(tmp_path / "with-a-bank.safetensors", "retrieval"))
    assert told.code == 0 and told.out == "imported as with-a-bank\n"
    assert told.err == (
        "note: these weights hold pooled features of the training patients, by which they could be recognised; "
        "do not pass them on unless those who answer for the patients' data have agreed\n"
    )
    silent = run("weights", "import", written(tmp_path / "without.safetensors", "dropout_unet"))
    assert silent.code == 0 and not silent.err
    lines = run("weights", "list").out.splitlines()
    (place,) = [i for i, line in enumerate(lines) if line.startswith("with-a-bank")]
    assert lines[place + 1].strip() == told.err.strip()
    assert sum("note:" in line for line in lines) == 1


def test_who_exports_a_bank_is_told(run, tmp_path: Path) -> None:
    for method, notes in (("retrieval", 1), ("dropout_unet", 0)):
        weights = written(tmp_path / f"{method}.safetensors", method)
        done = run("export", weights, "--format", "bundle", "--out", tmp_path / method)
        assert done.code == 0, done.err
        assert done.err.count("note: these weights hold pooled features of the training patients") == notes


def test_who_trains_a_bank_is_told(run, tmp_path: Path) -> None:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a",), ("b",)))
    words = ["--data", tmp_path / "prepared", "--fold", 0, "--device", "cpu"]
    for method, notes in (("retrieval", 1), ("dropout_unet", 0)):
        RunFolder(tmp_path / method).path.mkdir()
        RunFolder(tmp_path / method).write_record(short_run(method, steps=1, candidates=(1.0,)), {})
        done = run("train", "--from", tmp_path / method, "--out", tmp_path / f"{method}-run", *words)
        assert done.code == 0, done.err
        assert done.err.count("note: these weights hold pooled features of the training patients") == notes


def test_no_shipped_weights_hold_anything_of_a_patient() -> None:
    # To ship some that do is a decision: this test has to be changed by whoever makes it.
    shipped = [line for line in known() if line.file.parent == FOLDER]
    assert shipped and all(not method_named(read_model(line.file).header.method).config.holds for line in shipped)


def test_methods_that_hold_something_have_state_that_is_no_weight() -> None:
    for entry in METHODS:
        network = entry.config.sized("tiny").build(GLIOMA)
        network.strip()
        buffers = [b for b in network.buffers() if b.is_floating_point()]
        assert bool(buffers) == bool(entry.config.holds), entry.name
    assert caution("") == ""


def test_weights_to_start_from_are_told_by_their_hash(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "imported"))
    file = import_file(written(tmp_path / "start.safetensors", "dropout_unet")).file
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a",), ("b",)))
    config = method_named("dropout_unet").config.sized("tiny").model_dump_json()
    settings = (f"config={config}", "patch=[16,16,16]", "window.stride=4", "window.size=[48,48,48]", "validation=0")
    words = [*("train", "dropout_unet", "--data", tmp_path / "prepared", "--steps", 1, "--init", "start")]
    words += [word for setting in settings for word in ("--set", setting)]
    done = run(*words, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    done = run(*words, "--out", tmp_path / "again")
    assert done.code == 2 and "SHA-256 is" in done.err and len(done.err.splitlines()) == 1
    assert not (tmp_path / "again" / "weights.safetensors").exists()
