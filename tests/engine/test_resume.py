"""A training that is broken off and resumed ends where an unbroken one ends, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import anymri.methods
from anymri.domain.task import GLIOMA
from anymri.engine.checkpoint import read_newest
from anymri.engine.run import Run, RunFolder
from anymri.engine.training import Progress, fit
from anymri.errors import TrainingError

from ..doubles import DUEL
from ..material import made_patient, short_run

CPU = torch.device("cpu")
PATIENTS = [made_patient(GLIOMA, seed) for seed in range(3)]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "ccsd": ("ccsd", {}),
    "ccsd-bf16": ("ccsd", {"precision": "bf16"}),
    "dropout_unet": ("dropout_unet", {}),
    "sgd": ("dropout_unet", {"optimiser": "sgd"}),
    "adam": ("dropout_unet", {"optimiser": "adam"}),
    "accumulate": ("ccsd", {"accumulate": 2, "batch": 2}),
    "a bank": ("retrieval", {"accumulate": 2}),
    "two stages": ("duel", {}),
    "a coarse start": ("duel", {"coarse": 0.2}),
    "mixed patients": ("dropout_unet", {"batch": 2, "accumulate": 2, "generation": {"mix": 0.7}}),
}


class Broken(Exception):
    """Ends a training from outside."""


@dataclass(frozen=True)
class Outcome:
    """What a training leaves."""

    method: dict[str, Tensor]
    checkpoint: dict[str, Tensor]
    candidates: dict[str, bytes]
    log: list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _with_the_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anymri.methods, "METHODS", (*anymri.methods.METHODS, DUEL))
    monkeypatch.setattr("anymri.engine.training.LOG_EVERY", 2)


def trained(run: Run, path: Path, *, breaks: tuple[int, ...] = (), meanwhile: Callable[[RunFolder], None] | None = None) -> Outcome:
    """Train, broken off after these steps; ``meanwhile`` is what happens to the folder before each new start."""
    folder = RunFolder(path)

    def broken_at(step: int) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            if progress.step == step:
                raise Broken

        return report

    for number, step in enumerate(breaks):
        with pytest.raises(Broken):
            fit(run, PATIENTS, folder, resume=number > 0, device=CPU, report=broken_at(step))
        if meanwhile is not None:
            meanwhile(folder)
    method = fit(run, PATIENTS, folder, resume=bool(breaks), device=CPU)
    newest = read_newest(folder.checkpoints)
    assert newest is not None
    return Outcome(
        method.state_dict(),
        newest[0],
        {p.name: p.read_bytes() for p in sorted(folder.candidates.iterdir())},
        [json.loads(line) for line in folder.log.read_text().splitlines()],
    )


def assert_same(a: Outcome, b: Outcome) -> None:
    for before, after in ((a.method, b.method), (a.checkpoint, b.checkpoint)):
        assert before.keys() == after.keys()
        assert [k for k, v in before.items() if not torch.equal(v, after[k])] == []
    assert a.candidates == b.candidates
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in o.log if "warning" not in line] for o in (a, b)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_training_ends_where_an_unbroken_one_does(way: str, tmp_path: Path) -> None:
    method, settings = WAYS[way]
    run = short_run(method, **{"steps": 8, "checkpoint_minutes": 0, **settings})
    whole = trained(run, tmp_path / "whole")
    # The double's stages change after step 4: broken off within each, and just before and after the change.
    assert_same(whole, trained(run, tmp_path / "broken", breaks=(2, 4, 5, 7)))


def test_resuming_a_training_that_is_over_changes_nothing(tmp_path: Path) -> None:
    run = short_run("dropout_unet")
    whole = trained(run, tmp_path)
    again = fit(run, PATIENTS, RunFolder(tmp_path), resume=True, device=CPU)
    assert all(torch.equal(v, whole.method[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize("file", ["tensors.safetensors", "facts.json"])
@pytest.mark.parametrize("damage", ["half", "empty", "gone"])
def test_a_torn_checkpoint_is_passed_over_and_it_is_said(file: str, damage: str, tmp_path: Path) -> None:
    def tear(folder: RunFolder) -> None:
        newest = sorted(folder.checkpoints.glob("step_*"))[-1] / file
        content = newest.read_bytes()
        newest.unlink()
        if damage != "gone":
            newest.write_bytes(content[: len(content) // 2] if damage == "half" else b"")

    run = short_run("dropout_unet", steps=8, checkpoint_minutes=0)
    whole = trained(run, tmp_path / "whole")
    torn = trained(run, tmp_path / "torn", breaks=(5,), meanwhile=tear)
    assert_same(whole, torn)
    (warning,) = [line["warning"] for line in torn.log if "warning" in line]
    assert "step_00000004" in warning and "the one before it is used" in warning and "\n" not in warning


def test_no_readable_checkpoint_is_one_line(tmp_path: Path) -> None:
    def spoil(folder: RunFolder) -> None:
        for path in folder.checkpoints.glob("step_*/tensors.safetensors"):
            path.write_bytes(b"nothing")

    run = short_run("dropout_unet", checkpoint_minutes=0)
    with pytest.raises(TrainingError, match="no readable checkpoint is left, start again without --resume") as caught:
        trained(run, tmp_path, breaks=(4,), meanwhile=spoil)
    assert "\n" not in str(caught.value)


def test_two_checkpoints_are_kept_and_nothing_half_written(tmp_path: Path) -> None:
    run = short_run("dropout_unet", checkpoint_minutes=0)
    trained(run, tmp_path)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == ["step_00000005", "step_00000006"]
    assert [p.name for p in sorted((tmp_path / "candidates").iterdir())] == ["at_0.500.safetensors", "at_1.000.safetensors"]
    assert not list(tmp_path.rglob("*.part"))


def test_resuming_without_a_checkpoint_starts_afresh(tmp_path: Path) -> None:
    run = short_run("dropout_unet")
    whole = trained(run, tmp_path / "whole")
    again = fit(run, PATIENTS, RunFolder(tmp_path / "again"), resume=True, device=CPU)
    assert all(torch.equal(v, whole.method[k]) for k, v in again.state_dict().items())


def test_a_coarse_start_that_an_earlier_version_counted_is_not_gone_on_with(tmp_path: Path) -> None:
    run, folder = short_run("duel", steps=8, checkpoint_minutes=0, coarse=0.2), RunFolder(tmp_path)
    trained(run, tmp_path)
    for facts in folder.checkpoints.glob("*/facts.json"):
        content = json.loads(facts.read_text())
        assert content.pop("work") > 0 and content.pop("facts_sha256")
        facts.write_text(json.dumps(content))
    with pytest.raises(
        TrainingError, match="of an earlier version, which spread a coarse start over the steps otherwise; start an"
    ):
        fit(run, PATIENTS, folder, resume=True, device=CPU)
