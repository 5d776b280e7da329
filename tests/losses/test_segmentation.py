"""Dice and cross-entropy against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from anymri.domain.task import GLIOMA, PROSTATE, TASKS, Task
from anymri.losses.segmentation import class_dice_loss, cross_entropy, dice_loss, segmentation_loss

ALL = torch.ones(1, 3, dtype=torch.bool)


def target_of(classes: list[int], task: Task = GLIOMA) -> torch.Tensor:
    """Return region shares (1, R, 1, 1, n) of a row of voxels of these classes."""
    member = torch.tensor(task.membership, dtype=torch.float32)
    return member[:, classes][None, :, None, None, :]


def logits_of(probability: list[list[float]]) -> torch.Tensor:
    """Return class logits (1, K, 1, 1, n) of voxels with these class probabilities."""
    return torch.tensor(probability).log().t()[None, :, None, None, :]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_zero_logits_cost_the_logarithm_of_the_classes(task: Task) -> None:
    k, r = len(task.classes), len(task.regions)
    target = torch.rand(2, r, 3, 3, 3).sort(1, descending=True).values  # soft and nested
    value = cross_entropy(torch.zeros(2, k, 3, 3, 3), target, torch.ones(2, r, dtype=torch.bool), task.membership)
    assert value.item() == pytest.approx(math.log(k), rel=1e-6)


def test_cross_entropy_of_hard_classes_is_torchs_own() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 4, 3, 3, 3), torch.randint(0, 4, (2, 3, 3, 3))
    target = torch.tensor(GLIOMA.membership, dtype=torch.float32)[:, classes].transpose(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, classes)
    torch.testing.assert_close(cross_entropy(logits, target, ALL.expand(2, 3), GLIOMA.membership), expected)


def test_cross_entropy_of_mixed_voxels_weighs_the_classes() -> None:
    # A voxel of which 3/4 are tumour, 1/2 core and 1/4 enhancing: each class has a quarter.
    target = torch.tensor([0.75, 0.5, 0.25]).reshape(1, 3, 1, 1, 1)
    value = cross_entropy(logits_of([[0.1, 0.2, 0.3, 0.4]]), target, ALL, GLIOMA.membership)
    assert value.item() == pytest.approx(-sum(map(math.log, (0.1, 0.2, 0.3, 0.4))) / 4, rel=1e-5)


def test_an_unknown_region_costs_nothing_wherever_it_lies() -> None:
    probability = [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]  # background, NCR, ED, ET
    target = target_of([3, 0])
    target[:, 1:] = torch.nan
    known = torch.tensor([[True, False, False]])
    expected = -(math.log(0.9) + math.log(0.7)) / 2  # tumour as a whole; background
    assert cross_entropy(logits_of(probability), target, known, GLIOMA.membership).item() == pytest.approx(expected, rel=1e-5)
    # The inner regions known alone: edema cannot be told from background.
    target = target_of([2, 1])
    target[:, 0] = torch.nan
    known = torch.tensor([[False, True, True]])
    expected = -(math.log(0.1 + 0.3) + math.log(0.1)) / 2
    assert cross_entropy(logits_of(probability), target, known, GLIOMA.membership).item() == pytest.approx(expected, rel=1e-5)


def test_a_sample_whose_reference_tells_nothing_costs_nothing() -> None:
    logits = torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    target = torch.full((2, 2, 2, 2, 2), torch.nan)
    target[0] = 0.0
    known = torch.tensor([[True, True], [False, False]])
    value = segmentation_loss(logits, target, known, PROSTATE.membership)
    value.backward()
    assert torch.isfinite(value) and logits.grad is not None
    assert not logits.grad[1].any() and logits.grad[0].any()


def test_dice_by_hand() -> None:
    half = torch.full((1, 1, 2, 2, 2), 0.5)
    known = torch.ones(1, 1, dtype=torch.bool)
    ones, zeros = torch.ones_like(half), torch.zeros_like(half)
    assert dice_loss(half, ones, known).item() == pytest.approx(1 - (2 * 4 + 1) / (4 + 8 + 1))
    assert dice_loss(half, zeros, known).item() == pytest.approx(1 - 1 / (4 + 1))
    assert dice_loss(ones, ones, known).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(zeros, zeros, known).item() == pytest.approx(0, abs=1e-6)  # nothing to find, nothing found
    assert dice_loss(half, ones, known, smooth=0.0).item() == pytest.approx(1 - 8 / 12)


def test_dice_is_the_mean_over_what_is_known() -> None:
    probability = torch.tensor([0.5, 1.0]).reshape(1, 2, 1, 1, 1).expand(2, 2, 2, 2, 2)
    target = torch.ones(2, 2, 2, 2, 2)
    first, second = 1 - 9 / 13, 0.0
    known = torch.tensor([[True, True], [True, False]])
    assert dice_loss(probability, target, known).item() == pytest.approx((first + second + first) / 3)
    target[1, 1] = torch.nan
    assert dice_loss(probability, target, known).item() == pytest.approx((first + second + first) / 3)
    assert dice_loss(probability, target, torch.zeros(2, 2, dtype=torch.bool)).item() == 0


def test_zero_logits_against_all_foreground() -> None:
    # p(outer) = 3/4, p(core) = 1/2, p(enhancing) = 1/4 of 64 voxels that are all enhancing.
    target = torch.ones(1, 3, 4, 4, 4)
    dice = [1 - (2 * 64 * p + 1) / (64 * p + 64 + 1) for p in (0.75, 0.5, 0.25)]
    value = segmentation_loss(torch.zeros(1, 4, 4, 4, 4), target, ALL, GLIOMA.membership)
    assert value.item() == pytest.approx(math.log(4) + sum(dice) / 3, rel=1e-6)


def test_neighbours_in_the_batch_are_scored_apart() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 3, 3, 3), torch.rand(2, 3, 3, 3, 3).sort(1, descending=True).values
    together = segmentation_loss(logits, target, ALL.expand(2, 3), GLIOMA.membership)
    apart = [segmentation_loss(logits[b : b + 1], target[b : b + 1], ALL, GLIOMA.membership) for b in range(2)]
    torch.testing.assert_close(together, (apart[0] + apart[1]) / 2)


def test_dice_of_classes_by_hand() -> None:
    probability = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]).t()[None, :, None, None, :]
    target = target_of([3, 0])
    value = class_dice_loss(probability, target, ALL, GLIOMA.membership, smooth=1e-5)
    # Necrosis and edema are not there; enhancing tumour: 2·0.4 / (0.5 + 1).
    assert value.item() == pytest.approx(1 - (1e-5 / (0.3 + 1e-5) + 1e-5 / (0.4 + 1e-5) + 0.8 / 1.5) / 3, rel=1e-4)
    whole = segmentation_loss(probability.log(), target, ALL, GLIOMA.membership, dice="classes", smooth=1e-5)
    torch.testing.assert_close(whole, value + cross_entropy(probability.log(), target, ALL, GLIOMA.membership))
    # A perfect answer costs nothing, an absent class included.
    perfect = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]).t()[None, :, None, None, :]
    assert class_dice_loss(perfect, target, ALL, GLIOMA.membership).item() == pytest.approx(0, abs=1e-6)


def test_dice_of_classes_that_a_reference_cannot_tell_apart() -> None:
    probability = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]).t()[None, :, None, None, :]
    target, known = target_of([3, 0]), torch.tensor([[True, False, False]])
    target[:, 1:] = torch.nan  # All tumour is one class.
    value = class_dice_loss(probability, target, known, GLIOMA.membership)
    assert value.item() == pytest.approx(1 - (2 * 0.9 + 1) / (0.9 + 0.3 + 1 + 1), rel=1e-5)
    target = target_of([3, 0])
    target[:, 0] = torch.nan  # Edema and background look alike and do not count.
    value = class_dice_loss(probability, target, torch.tensor([[False, True, True]]), GLIOMA.membership)
    expected = 1 - (1 / (0.3 + 1) + (2 * 0.4 + 1) / (0.5 + 1 + 1)) / 2
    assert value.item() == pytest.approx(expected, rel=1e-5)
    nothing = class_dice_loss(probability, torch.full_like(target, torch.nan), ~ALL, GLIOMA.membership)
    assert nothing.item() == 0


def test_dice_of_classes_is_a_mean_over_samples() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 3, 3, 3), torch.rand(2, 3, 3, 3, 3).sort(1, descending=True).values
    both = class_dice_loss(logits.softmax(1), target, ALL.expand(2, 3), GLIOMA.membership)
    each = [class_dice_loss(logits[b : b + 1].softmax(1), target[b : b + 1], ALL, GLIOMA.membership) for b in range(2)]
    torch.testing.assert_close(both, torch.stack(each).mean())
