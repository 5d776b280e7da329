"""What a reference does not know is neither learnt nor scored, whatever its bits say; such patients train beside complete ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.engine.evaluation import evaluate
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.engine.training import train
from anymri.metrics.protocol import ANYMRI
from anymri.volumes.store import read_case, read_image, read_labels, read_truth, write_case

from ..material import back_propagated, made_batch, measured, short_run, tiny, write_made_case, write_made_cohort

FOLDS = (("a", "b"), ("c", "d"))
KNOWN = {"glioma": ("WT",), "prostate": ("LES",)}  # The outermost region alone, and the innermost alone.


def spoil(folder: Path, task: Task, seed: int) -> None:
    """Write noise into the bits of every region that the reference does not know."""
    case = read_case(folder)
    unknown = sum(1 << r for r, name in enumerate(task.region_names) if name not in case.known_regions)
    assert unknown
    labels, truth = read_labels(folder), read_truth(folder).array
    noise = np.random.default_rng(seed).integers(0, 256, (2, max(labels.size, truth.size)), dtype=np.uint8)
    mask = np.uint8(unknown)
    labels_too, truth_too = (a & ~mask | n[: a.size].reshape(a.shape) & mask for a, n in zip((labels, truth), noise, strict=True))
    assert (labels_too != labels).any() and (truth_too != truth).any()
    write_case(folder, case, read_image(folder), labels_too, truth_too)


@pytest.fixture(params=[GLIOMA, PROSTATE], ids=lambda t: t.name)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


def cohort(path: Path, task: Task) -> Path:
    write_made_cohort(path, task, folds=FOLDS, partly=("x", "y"))
    for seed, name in enumerate("xy"):
        first = task.modalities.names[:1]
        write_made_case(path / "cases" / name, task, seed + 4, modalities=first, known=KNOWN[task.name])
    return path


@pytest.mark.parametrize("method", ["ccsd", "dropout_unet"])
def test_unknown_regions_do_not_touch_what_is_learnt(tmp_path: Path, task: Task, method: str) -> None:
    run = short_run(method, task=task.name, steps=4, fold=0)
    learnt = []
    for seed in (0, 1, None):
        prepared = cohort(tmp_path / f"data{seed}", task)
        for name in ("x", "y") if seed is not None else ():
            spoil(prepared / "cases" / name, task, seed)
        learnt.append(train(run, prepared, tmp_path / f"run{seed}").method.state_dict())
    for other in learnt[1:]:
        assert all(torch.equal(value, other[key]) for key, value in learnt[0].items())


@pytest.mark.parametrize("method", ["ccsd", "dropout_unet"])
def test_known_regions_of_the_same_cases_are_learnt(task: Task, method: str) -> None:
    """The gradient of a batch with partial references is that of the known regions alone, and it is not zero."""
    batch = made_batch(task)
    known = torch.tensor([[name in KNOWN[task.name] for name in task.region_names]] * len(batch.names))
    noise = torch.rand(batch.target_BRDHW.shape, generator=torch.Generator().manual_seed(1)).round()
    spoilt = torch.where(known[:, :, None, None, None], batch.target_BRDHW, noise)
    results = []
    for target in (batch.target_BRDHW, spoilt):
        results.append(back_propagated(tiny(method, task), replace(batch, target_BRDHW=target, known_BR=known)))
    (terms, gradients), (others, other_gradients) = results
    assert measured(terms) == measured(others) and gradients.keys() == other_gradients.keys()
    assert all(torch.equal(g, other_gradients[name]) for name, g in gradients.items())
    assert any(bool(g.abs().sum()) for g in gradients.values())


def test_unknown_regions_are_left_out_of_scores(tmp_path: Path, task: Task) -> None:
    prepared = cohort(tmp_path / "data", task)
    window = Window(stride=1, size=(16, 16, 16))
    method = tiny("dropout_unet", task).eval()
    header = WeightsHeader(name="m", method="dropout_unet", config={}, task=task.name, window=window)
    model = Model(method, header, "0" * 64)
    folders = [prepared / "cases" / n for n in "ax"]
    first = evaluate(model, folders, tmp_path / "first.csv", protocol=ANYMRI, device=torch.device("cpu"))
    assert {r.region for r in first if r.case == "a"} == set(task.region_names)
    assert {r.region for r in first if r.case == "x"} == set(KNOWN[task.name])
    spoil(prepared / "cases" / "x", task, 3)
    assert evaluate(model, folders, tmp_path / "second.csv", protocol=ANYMRI, device=torch.device("cpu")) == first
