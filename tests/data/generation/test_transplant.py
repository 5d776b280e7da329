"""Transplants: nothing changes outside, regions stay nested, contrast comes from the surroundings alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from anymri.data.generation.settings import Generation
from anymri.data.generation.transplant import TransplantDraw, draw_transplant, transplanted
from anymri.data.patches import PatchDraw, make_batch
from anymri.data.patients import Patient
from anymri.domain.task import GLIOMA

from ...material import made_patient, task_with

SIZE = (24, 24, 24)
EXTENT = (32, 30, 28)


def drawn(patients: list[Patient], seed: int, recipient: int = 0) -> tuple[PatchDraw, TransplantDraw] | None:
    return draw_transplant(Generation(), patients, recipient, SIZE, voxel_mm=4.0, rng=np.random.default_rng(seed))


def some(task_modalities: int = 4, count: int = 2) -> list[Patient]:
    task = GLIOMA if task_modalities == 4 else task_with(task_modalities)
    return [made_patient(task, s, extent=EXTENT) for s in range(count)]


def made(patients: list[Patient], seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return image and target before and after."""
    found = drawn(patients, seed)
    assert found is not None
    patch, draw = found
    batch = make_batch(patients, [patch], SIZE, 1)
    before = batch.image_BMDHW[0], batch.target_BRDHW[0]
    return before, transplanted(*before, batch.present_BM[0], draw, patients[draw.donor], stride=1)


@pytest.mark.parametrize("modalities", [2, 4, 5])
def test_nothing_changes_outside(modalities: int) -> None:
    for seed in range(4):
        recipient, donor = some(modalities)
        recipient = replace(recipient, shares=np.zeros_like(recipient.shares))
        (image, target), (found, labels) = made([recipient, donor], seed)
        same = (labels == target).all(0)
        assert 20 < (~same).sum() < same.sum()
        assert torch.equal(found[:, same], image[:, same])
        assert (found[image == 0] == 0).all() and (labels[:, (image == 0).all(0)] == target[:, (image == 0).all(0)]).all()
        assert (labels[:-1] >= labels[1:] - 1e-6).all() and labels.min() >= 0 and labels.max() <= 1 + 1e-6


def test_what_was_there_is_overgrown_in_the_reference_too() -> None:
    (_, target), (_, labels) = made(some(), 0)
    assert (labels[0] >= target[0] - 1e-6).all() and (labels[0] > target[0]).any()


def test_contrast_is_that_to_the_surroundings_alone() -> None:
    patients = some()
    brain = patients[1].image != 0
    brighter = replace(patients[1], image=np.where(brain, patients[1].image * np.float16(2) + np.float16(3), 0).astype(np.float16))
    calm = replace(patients[1], image=patients[1].image * np.float16(0.5))
    first = made(patients, 3)[1][0]
    again = made([patients[0], brighter], 3)[1][0]
    assert (first - again).abs().mean() < 0.1  # Noise of a donor that is twice as loud is made less by a half.
    assert (first - made([patients[0], calm], 3)[1][0]).abs().mean() < 0.1


def test_the_same_seed_gives_the_same_bits() -> None:
    (_, first), (_, again), (_, other) = (made(some(), seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and not torch.equal(first[1], other[1])


def test_an_absent_modality_stays_as_it_is() -> None:
    patients = [replace(p, present=np.array([True, False, True, True])) for p in some()]
    for patient in patients:
        patient.image[1] = np.nan
    (_, target), (found, labels) = made(patients, 0)
    assert found[1].isnan().all() and not found[[0, 2, 3]].isnan().any() and not torch.equal(labels, target)
    zero = [replace(p, image=np.nan_to_num(p.image)) for p in patients]
    assert torch.equal(made(zero, 0)[1][0][[0, 2, 3]], found[[0, 2, 3]])


def test_only_the_wholly_known_give_and_take() -> None:
    whole, partly, fewer = some(count=3)
    partly = replace(partly, known=np.array([True, False, False]))
    fewer = replace(fewer, present=np.array([True, True, False, False]))
    assert drawn([whole, partly, fewer], 0) is None
    assert drawn([partly, whole], 0) is None
    assert drawn([fewer, whole], 0) is not None


def test_without_surroundings_nothing_is_done() -> None:
    patients = some()
    lonely = replace(patients[1], image=np.where(patients[1].shares[0] > 0, patients[1].image, np.float16(0)))
    (image, target), (found, labels) = made([patients[0], lonely], 0)
    assert torch.equal(found, image) and torch.equal(labels, target)
