"""The main path on a CUDA device, held against the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Run, RunFolder, Window
from anymri.engine.training import fit
from anymri.methods import METHODS

from ..material import ALL_TASKS, made_patient

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("method", [m.name for m in METHODS])
def test_training_and_prediction(method: str, tmp_path: Path) -> None:
    task, device = ALL_TASKS["glioma"], torch.device("cuda")
    partial = made_patient(task, 2, present=(True, False, True, False))
    patients = [made_patient(task, 1), partial]
    window = Window(stride=1, size=(16, 16, 16))
    run = Run.of(
        method, "tiny", {"steps": 4, "batch": 2, "patch": (16, 16, 16), "window": window.model_dump(), "checkpoint_minutes": 0}
    )
    trained = fit(run, patients, RunFolder(tmp_path), resume=False, device=device)
    resumed = fit(run, patients, RunFolder(tmp_path), resume=True, device=device)
    for name, value in trained.state_dict().items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, resumed.state_dict()[name])
    header = WeightsHeader(name="gpu", method=method, config=run.config, task=task.name, window=window)
    image, present = patients[0].image.astype(np.float32), (True,) * 4
    keeps = [present, (True, False, False, False)]
    on_gpu = list(region_logits_of(Model(trained, header), image, present, keeps, device=device, precision="float32"))
    trained.to("cpu")
    on_cpu = list(region_logits_of(Model(trained, header), image, present, keeps, device=torch.device("cpu")))
    for a, b in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-2)
