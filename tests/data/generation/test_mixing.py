"""Mixing: the donor's inside a region of its lesion's shape, the recipient's elsewhere, from who knows all that is known there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anymri.data.generation.mixing import MixDraw, carved, draw_mix, mixed
from anymri.data.patches import PatchDraw
from anymri.data.patients import Patient
from anymri.domain.task import GLIOMA

from ...material import made_patient, task_with

SIZE = (12, 12, 12)
EQUAL = [1.0, 1.0, 1.0]
WHOLE = PatchDraw(0, (0, 0, 0))


def some(modalities: int = 4) -> list[Patient]:
    task = GLIOMA if modalities == 4 else task_with(modalities)
    return [made_patient(task, s, extent=(20 + 2 * s, 18, 16 + s)) for s in range(3)]


def drawn(patients: list[Patient], recipient: int, seed: int) -> tuple[PatchDraw, MixDraw] | None:
    return draw_mix(patients, recipient, SIZE, weights=EQUAL, rng=np.random.default_rng(seed))


def test_the_same_seed_draws_the_same() -> None:
    assert drawn(some(), 0, 3) == drawn(some(), 0, 3) != drawn(some(), 0, 4)


def test_a_patch_lies_at_the_same_place_of_both_brains() -> None:
    patients = some()
    for seed in range(20):
        found = drawn(patients, 1, seed)
        assert found is not None
        here, mix = found
        assert here.patient == 1 != mix.donor.patient
        centres = [np.array(patch.corner) - np.array(patients[patch.patient].image.shape[1:]) / 2 for patch in (here, mix.donor)]
        assert (np.abs(centres[0] - centres[1]) <= 0.5).all()
        assert -0.5 <= mix.depth <= 1


def test_who_lacks_a_modality_of_the_recipient_or_has_no_lesion_gives_nothing() -> None:
    whole, partly, healthy = some()
    partly = replace(partly, present=np.array([True, False, False, False]))
    healthy = replace(healthy, centres=())
    assert all(drawn([whole, partly, healthy], 0, seed) is None for seed in range(5))
    found = drawn([whole, partly, healthy], 1, 0)
    assert found is not None and found[1].donor.patient == 0


def test_who_does_not_know_what_the_recipient_knows_gives_nothing() -> None:
    whole, partly, other = some()
    partly = replace(partly, known=np.array([True, False, False]))
    other = replace(other, known=np.array([False, True, True]))
    assert all(drawn([whole, partly, other], 0, seed) is None for seed in range(5))
    donors = [{found[1].donor.patient for s in range(20) if (found := drawn([whole, partly, other], r, s))} for r in (1, 2)]
    assert donors == [{0}, {0}]  # Neither from the other: they know nothing in common, as tasks with disjoint regions have it.


@pytest.mark.parametrize(("depth", "compare"), [(-0.4, "smaller"), (0.0, "same"), (0.5, "larger")])
def test_the_region_has_the_shape_of_the_lesion(depth: float, compare: str) -> None:
    patient = made_patient(GLIOMA, 0, extent=(24, 24, 24))
    found = carved(patient, MixDraw(WHOLE, depth), (24, 24, 24), 1)
    lesion, brain = patient.shares[0] > 0, (patient.image != 0).any(0)
    assert found.any() and not (found & ~brain).any()
    if compare == "same":
        assert np.array_equal(found, lesion)
    else:
        inner, outer = (found, lesion) if compare == "smaller" else (lesion, found)
        assert not (inner & ~outer).any() and inner.sum() < outer.sum()


def test_where_no_lesion_lies_nothing_is_taken() -> None:
    patient = replace(made_patient(GLIOMA, 0), shares=np.zeros((3, 12, 12, 12), np.uint8))
    assert not carved(patient, MixDraw(WHOLE, 0.5), SIZE, 1).any()


@pytest.mark.parametrize("modalities", [2, 4, 5])
def test_inside_is_the_donors_outside_the_recipients(modalities: int) -> None:
    task = GLIOMA if modalities == 4 else task_with(modalities)
    pairs = [made_patient(task, s) for s in range(2)]
    (image, target), donor = ((torch.from_numpy(p.image).float(), torch.from_numpy(p.shares).float()) for p in pairs)
    region = torch.from_numpy(carved(pairs[1], MixDraw(WHOLE, 0.6), SIZE, 1))
    present = torch.tensor([True] * (modalities - 1) + [False])
    image[-1] = torch.nan
    found, labels = mixed(image, target, present, region, donor)
    region = region & (image[0] != 0)
    assert region.any()
    assert torch.equal(found[:-1, region], donor[0][:-1, region]) and torch.equal(found[:-1, ~region], image[:-1, ~region])
    assert torch.equal(labels[:, region], donor[1][:, region]) and torch.equal(labels[:, ~region], target[:, ~region])
    assert found[-1].isnan().all()
    assert (labels[:-1] >= labels[1:]).all()
