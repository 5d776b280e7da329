"""The same on a GPU: training, resuming, predicting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.engine.inference import device_named, region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import RunFolder
from anymri.engine.training import Progress, fit
from anymri.methods.method import Method

from ..material import ALL_METHODS, made_patient, short_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


class Broken(Exception):
    """Ends a training from outside."""


def logits_of(method: Method, device: torch.device, precision: str) -> np.ndarray:
    window = short_run("ccsd").window
    model = Model(method, WeightsHeader(name="m", method="m", config={}, task="glioma", window=window))
    image = made_patient(GLIOMA, 7).image.astype(np.float32)
    keeps = [s.mask for s in subsets(GLIOMA.modalities)]
    return np.stack(list(region_logits_of(model, image, (True,) * 4, keeps, device=device, precision=precision)))


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_is_resumed_and_its_weights_predict_alike_on_both(method: str, precision: str, tmp_path: Path) -> None:
    gpu = device_named("cuda")
    patients = [made_patient(GLIOMA, seed) for seed in range(3)]
    run = short_run(method, steps=10, precision=precision, checkpoint_minutes=0)

    def report(progress: Progress) -> None:
        if progress.step == 6:
            raise Broken

    with pytest.raises(Broken):
        fit(run, patients, RunFolder(tmp_path), resume=False, device=gpu, report=report)
    trained = fit(run, patients, RunFolder(tmp_path), resume=True, device=gpu)
    assert next(trained.parameters()).device.type == "cuda"
    there, half = logits_of(trained, gpu, "float32"), logits_of(trained, gpu, "auto")
    here = logits_of(trained, torch.device("cpu"), "auto")
    assert np.abs(there - here).max() < 0.02 and np.abs(half - here).max() < 0.5
