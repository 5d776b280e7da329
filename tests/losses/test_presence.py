"""Which classes are there: truth out of region shares, the Dice loss that verdicts weigh, and the gate."""

from __future__ import annotations

import math

import pytest
import torch

from anymri.domain.task import GLIOMA, PROSTATE, TASKS, Task
from anymri.losses.presence import (
    Truth,
    class_truth,
    most_present,
    presence_loss,
    weighted_dice_loss,
    without_classes,
)
from anymri.losses.regions import region_logits


def shares_of(task: Task, classes_DHW: torch.Tensor) -> torch.Tensor:
    """Return target_BRDHW of one sample whose voxels are these classes."""
    inside = torch.tensor(task.membership)
    return inside[:, classes_DHW].float()[None]


def truth_of(task: Task, classes_DHW: torch.Tensor, known: tuple[bool, ...] | None = None) -> Truth:
    told = torch.tensor([known or (True,) * len(task.regions)])
    return class_truth(shares_of(task, classes_DHW), told, task.membership)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_a_full_reference_tells_every_class(task: Task) -> None:
    classes = torch.arange(8).reshape(2, 2, 2) % len(task.classes)
    truth = truth_of(task, classes)
    assert truth.told_BK.all() and (truth.present_BK == 1).all()
    for group in truth.groups[0]:
        torch.testing.assert_close(group.share, (classes == group.classes[0]).float())


def test_a_class_occurs_if_any_part_of_a_voxel_belongs_to_it() -> None:
    target = torch.zeros(2, 3, 2, 2, 2)
    target[0, 0, 0, 0, 0] = 1 / 216  # one voxel in a cube of six by six by six
    truth = class_truth(target, torch.ones(2, 3, dtype=torch.bool), GLIOMA.membership)
    assert truth.present_BK[:, GLIOMA.classes.index("ED")].tolist() == [1, 0]
    assert truth.present_BK[:, GLIOMA.classes.index("ET")].tolist() == [0, 0]


def test_a_partial_reference_tells_what_is_alone_and_what_cannot_be_there() -> None:
    names = GLIOMA.classes
    some = torch.zeros(2, 2, 2, dtype=torch.int64)
    some[0] = names.index("ED")
    outer = (True, False, False)
    truth = truth_of(GLIOMA, some, outer)
    assert truth.told_BK[0].tolist() == [True, False, False, False]  # something lies inside, which of the three is not known
    nothing = truth_of(GLIOMA, torch.zeros(2, 2, 2, dtype=torch.int64), outer)
    assert nothing.told_BK[0].all() and nothing.present_BK[0].tolist() == [1, 0, 0, 0]


def test_an_undecided_presence_costs_the_logarithm_of_two() -> None:
    truth = truth_of(PROSTATE, torch.tensor([0, 1, 1, 0]).reshape(1, 2, 2))
    torch.testing.assert_close(presence_loss(torch.zeros(1, 2), truth), torch.tensor(math.log(2)))
    right = torch.tensor([[9.0, -9.0]])
    assert presence_loss(right, truth) < 2e-4 and presence_loss(-right, truth) > 8.9


def test_presence_that_the_reference_does_not_tell_costs_nothing() -> None:
    classes = torch.full((1, 2, 2), GLIOMA.classes.index("ED"))
    logits = torch.tensor([[5.0, -3.0, 1.0]], requires_grad=True)
    loss = presence_loss(logits, truth_of(GLIOMA, classes, (True, False, False)))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_dice_by_hand() -> None:
    # 1 − 2·½/(¼ + 1) = 0.2 for a class that is everywhere and is predicted with ½; the other class has a truth of nothing.
    truth = class_truth(torch.ones(1, 1, 4, 4, 4), torch.tensor([[True]]), ((False, True),))
    half = torch.full((1, 2, 4, 4, 4), 0.5)
    plain = weighted_dice_loss(half, truth, None, exclusive=True)
    torch.testing.assert_close(plain, torch.tensor(0.2 + 1.0))
    weighed = weighted_dice_loss(half, truth, torch.zeros(1, 1), exclusive=True)  # 1 + |½ − 1| = 1.5
    torch.testing.assert_close(weighed, torch.tensor(1.5 * 0.2 + 1.0))
    sure = weighted_dice_loss(half, truth, torch.tensor([[20.0]]), exclusive=True)
    torch.testing.assert_close(sure, plain)


def test_dice_is_of_each_sample_and_its_weight_carries_no_gradient() -> None:
    torch.manual_seed(0)
    classes = [torch.randint(0, 4, (3, 3, 3)) for _ in range(2)]
    target = torch.cat([shares_of(GLIOMA, c) for c in classes])
    known = torch.ones(2, 3, dtype=torch.bool)
    probability = torch.rand(2, 4, 3, 3, 3).softmax(1)
    presence = torch.randn(2, 3, requires_grad=True)
    together = weighted_dice_loss(probability, class_truth(target, known, GLIOMA.membership), presence, exclusive=True)
    assert not together.requires_grad
    alone = []
    for b in range(2):
        loss = torch.zeros(())
        for k in range(4):
            p, y = probability[b, k], (classes[b] == k).float()
            dice = (2 * (p * y).sum() + 1e-7) / ((p * p).sum() + (y * y).sum() + 1e-7)
            weight = 1.0 if k == 0 else 1 + (presence[b, k - 1].sigmoid().detach() - y.amax()).abs()
            loss = loss + weight * (1 - dice)
        alone.append(loss)
    torch.testing.assert_close(together, torch.stack(alone).mean())


@pytest.mark.parametrize("exclusive", [True, False])
def test_classes_that_a_reference_cannot_tell_apart_count_as_one(exclusive: bool) -> None:
    torch.manual_seed(0)
    outer = (torch.rand(2, 2, 2) > 0.5).long() * GLIOMA.classes.index("ED")
    outer[0, 0, 0], outer[1, 1, 1] = 0, GLIOMA.classes.index("ED")
    probability = torch.rand(1, 4, 2, 2, 2)
    truth = truth_of(GLIOMA, outer, (True, False, False))
    loss = weighted_dice_loss(probability, truth, torch.randn(1, 3), exclusive=exclusive)
    expected = torch.zeros(())
    inside = probability[0, 1:].sum(0) if exclusive else probability[0, 1:].amax(0)
    for p, y in ((probability[0, 0], (outer == 0).float()), (inside, (outer > 0).float())):
        expected = expected + 1 - 2 * (p * y).sum() / ((p * p).sum() + (y * y).sum())
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_reference_that_tells_nothing_teaches_nothing(exclusive: bool) -> None:
    probability = torch.rand(1, 4, 2, 2, 2, requires_grad=True)
    target = torch.full((1, 3, 2, 2, 2), torch.nan)
    truth = class_truth(target, torch.zeros(1, 3, dtype=torch.bool), GLIOMA.membership)
    loss = weighted_dice_loss(probability, truth, torch.zeros(1, 3), exclusive=exclusive)
    loss.backward()
    assert loss == 0 and probability.grad is not None and (probability.grad == 0).all()
    assert not truth.told_BK[:, 1:].any()


def test_a_class_that_is_taken_out_is_never_chosen_and_the_rest_is_as_it_was() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 2, 2) * 10
    absent = torch.tensor([[False, False, True], [False, False, False]])
    left = without_classes(logits, absent)
    assert torch.equal(left[1], logits[1]) and torch.equal(left[:, :3], logits[:, :3])
    torch.testing.assert_close(left[0, 3], logits[0, 3] - 1e4)
    regions = region_logits(left, GLIOMA.membership)
    assert (regions[0, 2] < -9000).all()
    of_three = logits[0, :3].softmax(0)
    torch.testing.assert_close(regions[0, 0].sigmoid(), of_three[1:].sum(0))


def test_a_class_is_as_present_as_in_the_window_that_shows_most_of_it() -> None:
    seen = [torch.tensor([[-1.0, 3.0]]), torch.tensor([[2.0, -5.0]])]
    assert most_present(seen).tolist() == [[2.0, 3.0]]
