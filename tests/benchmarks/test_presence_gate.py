"""Windows are counted as defined, cover a patient, and are answered by the same weights with the gate and without."""

from __future__ import annotations

from collections import defaultdict
from types import ModuleType

import numpy as np
import pytest
import torch

from anymri.cohorts.phantom import write_phantoms
from anymri.data.patients import Patient, load_patient
from anymri.domain.task import GLIOMA
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.methods.adamm import AdaMMConfig
from anymri.preparation.pipeline import prepare_cohort
from anymri.volumes.store import list_cases

from ..material import benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("presence_gate")


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    root = tmp_path_factory.mktemp("gate")
    prepare_cohort(
        write_phantoms(root / "raw", GLIOMA, seeds=[2], shape=(48, 48, 40), spacing_mm=(2.0, 2.0, 2.0)), GLIOMA, root / "p"
    )
    return load_patient(list_cases(root / "p")[0], GLIOMA, 2)


def test_windows_are_counted_as_defined(script: ModuleType) -> None:
    tally, there = script.Tally(), np.array([True, True, False, False])
    tally.add(np.array([True, False, True, False]), np.array([False, False, False, False]), there)
    tally.add(np.array([False] * 4), np.array([False] * 4), there)
    tally.add(np.array([True, True, True, False]), np.array([True, False, True, False]), there)
    assert vars(tally) == {"windows": 3, "drawn": 2, "emptied": 1, "voxels": 3, "taken": 2}


def test_windows_cover_a_patient_once(script: ModuleType, patient: Patient) -> None:
    found = list(script.windows(patient, 32, 2))
    assert all(image.shape == (1, 4, 32, 32, 32) and truth.shape == (3, 32, 32, 32) for image, truth in found)
    inside = patient.shares * 2 >= 8
    assert sum(int(truth[0].any()) for _, truth in found) >= 1
    assert sum(int(truth.sum()) for _, truth in found) >= int(inside.sum())


def test_the_same_weights_answer_with_and_without_the_gate(script: ModuleType, patient: Patient) -> None:
    torch.manual_seed(0)
    config = AdaMMConfig.sized("tiny")
    method = config.build(GLIOMA)
    method.strip()
    header = WeightsHeader(name="a", method="adamm", config=config.model_dump(mode="json"), task=GLIOMA.name, window=Window())
    model = Model(method.eval(), header)
    image, _ = next(iter(script.windows(patient, 32, 2)))
    free, gated = (script.answer(model, gate, image, (True,) * 4, (True, False, False, False)) for gate in ("off", "window"))
    assert free.shape == gated.shape == (3, 32, 32, 32)
    assert (free != gated).any()  # Drawn at random, its head holds some class to be absent.
    assert all((m[1:] <= m[:-1]).all() for m in (free, gated))
    tallies: defaultdict[tuple[str, str, bool], object] = defaultdict(script.Tally)
    script.count(model, patient, 32, tallies)
    assert {key[0] for key in tallies} == {"with T1c", "without T1c"}
