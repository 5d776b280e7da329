"""The U-Net with modality dropout, trained like nnU-Net: what its runs say, and that such a run trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anymri.data.augment import Augmentation
from anymri.domain.task import GLIOMA
from anymri.engine.run import Run, RunFolder, checked_run
from anymri.engine.training import fit
from anymri.methods.dropout_unet import DropoutUNetConfig
from anymri.recipes import run_named

from ..material import made_patient, short_run


@pytest.mark.parametrize(
    ("name", "size", "edge"), [("dropout_unet.nnunet", "paper", 128), ("dropout_unet.nnunet.base", "base", 96)]
)
def test_the_runs(name: str, size: str, edge: int) -> None:
    run = run_named(name)
    assert isinstance(run, Run)
    assert (run.patch, run.window.size, run.window.stride, run.batch) == ((edge,) * 3, (edge,) * 3, 1, 2)
    assert (run.optimiser, run.learning_rate, run.weight_decay, run.schedule, run.warm_up) == ("sgd", 1e-2, 3e-5, "poly", 0)
    assert (run.steps, run.clip, run.average) == (250_000, 12, 0)
    assert run.augmentation == Augmentation.nnunet()
    config = run.method_config
    assert isinstance(config, DropoutUNetConfig)
    assert config.widths == DropoutUNetConfig.sized("paper" if size == "paper" else "base").widths
    assert (config.dice, config.smooth, config.initialisation, config.presence) == ("classes", 1e-5, "he", True)
    assert checked_run(json.loads(run.model_dump_json())) == run


def test_such_a_run_trains(tmp_path: Path) -> None:
    recipe = run_named("dropout_unet.nnunet.base")
    assert isinstance(recipe, Run)
    fields = ("optimiser", "learning_rate", "weight_decay", "warm_up", "schedule", "clip", "average", "augmentation")
    whole = recipe.model_dump(mode="json")
    settings = {field: whole[field] for field in fields}
    config = {**whole["config"], "widths": [4, 8]}
    run = short_run("dropout_unet", batch=2, steps=4, config=config, candidates=(1.0,), **settings)
    patients = [made_patient(GLIOMA, 0), made_patient(GLIOMA, 1, present=(True, False, True, True))]
    for seed in (0, 1):
        folder = RunFolder(tmp_path / str(seed))
        network = fit(run.model_copy(update={"seed": seed}), patients, folder, resume=False, device=torch.device("cpu"))
        assert all(torch.isfinite(p).all() for p in network.parameters())
