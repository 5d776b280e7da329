"""Classes, regions, and what a reference can tell of them."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from anymri.domain.task import GLIOMA, PROSTATE, TASKS, Task
from anymri.losses.regions import class_groups, region_logits

DISJOINT = ((False, True, False, False), (False, False, True, True))


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_region_logits_are_logits_of_summed_softmax(task: Task) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, len(task.classes), 3, 3, 3, dtype=torch.float64)
    probability = logits.softmax(1)
    summed = torch.stack([probability[:, list(row)].sum(1) for row in torch.tensor(task.membership)], 1)
    torch.testing.assert_close(region_logits(logits, task.membership), summed.logit().float())


def test_region_logits_stay_finite_where_probabilities_round_to_one() -> None:
    logits = torch.zeros(1, 4, 1, 1, 1)
    logits[0, 3] = 200.0
    found = region_logits(logits, GLIOMA.membership)
    assert torch.isfinite(found).all() and (found > 190).all()
    assert region_logits(logits.half(), GLIOMA.membership).dtype == torch.float32


def test_nested_regions_never_contradict_each_other() -> None:
    found = region_logits(5 * torch.randn(1, 4, 6, 6, 6), GLIOMA.membership)
    assert (found[:, :-1] >= found[:, 1:]).all()


@pytest.mark.parametrize(
    ("known", "groups"),
    [
        ((True, True, True), [[0], [1], [2], [3]]),
        ((True, False, False), [[0], [1, 2, 3]]),
        ((False, True, False), [[0, 2], [1, 3]]),
        ((False, False, True), [[0, 1, 2], [3]]),
        ((True, False, True), [[0], [1, 2], [3]]),
    ],
)
def test_groups_of_nested_regions(known: tuple[bool, ...], groups: list[list[int]]) -> None:
    assert class_groups(GLIOMA.membership, known)[0] == groups


@pytest.mark.parametrize("membership", [GLIOMA.membership, PROSTATE.membership, DISJOINT], ids=["nested", "two", "disjoint"])
def test_shares_of_groups_follow_from_shares_of_regions(membership: tuple[tuple[bool, ...], ...]) -> None:
    classes = torch.rand(len(membership[0]), 50).softmax(0)
    regions = torch.tensor(membership).float() @ classes
    for known in product((False, True), repeat=len(membership)):
        if any(known):
            groups, matrix = class_groups(membership, known)
            assert sorted(k for group in groups for k in group) == list(range(len(membership[0])))
            found = matrix[:, :-1] @ regions[torch.tensor(known)] + matrix[:, -1:]
            expected = torch.stack([classes[group].sum(0) for group in groups])
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_hard_labels_give_hard_shares() -> None:
    _, matrix = class_groups(GLIOMA.membership, (True, True, True))
    torch.testing.assert_close(matrix, matrix.round(), rtol=0, atol=1e-6)
