"""Windows are counted as defined, cover a patient, and are answered by the same weights with the gate and without."""

from __future__ import annotations

from collections import defaultdict
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from anymri.cohorts.phantom import write_phantoms
from anymri.data.patients import Patient, load_patient
from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
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
    free_method, gated_method = (config.model_copy(update={"gate": gate}).build(GLIOMA).eval() for gate in ("off", "window"))
    gated_method.load_state_dict(free_method.state_dict())
    image, _ = next(iter(script.windows(patient, 32, 2)))
    free, gated = (script.answer(m, image, (True,) * 4, (True, False, False, False)) for m in (free_method, gated_method))
    assert free.shape == gated.shape == (3, 32, 32, 32)
    assert (free != gated).any()  # Drawn at random, its head holds some class to be absent.
    assert all((m[1:] <= m[:-1]).all() for m in (free, gated))


def test_every_window_and_subset_is_counted(script: ModuleType, patient: Patient) -> None:
    everything = torch.ones(1, 3, 48, 48, 48)
    method = SimpleNamespace(
        task=GLIOMA, supports=lambda: subsets(GLIOMA.modalities), encode=lambda *_: None, decode=lambda *_: everything
    )
    tallies: defaultdict[tuple[str, str, bool], Any] = defaultdict(script.Tally)
    script.count({"off": method, "window": method}, patient, (48, 2), tallies)
    windows = len(list(script.windows(patient, 48, 2)))
    for region in GLIOMA.region_names:
        with_mark = [t.windows for (subsets, name, _), t in tallies.items() if name == region and subsets == "with T1c"]
        assert sum(with_mark) == 8 * windows
    assert sum(t.windows for t in tallies.values()) == 3 * 15 * windows
    lacking = [t for (_, _, there), t in tallies.items() if not there]
    assert all(t.drawn == t.windows and t.voxels == t.windows * 48**3 for t in lacking)
    assert not any(t.taken or t.emptied for t in tallies.values())  # Both are one.
