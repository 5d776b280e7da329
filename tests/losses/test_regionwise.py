"""Losses of each region by itself, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anymri.losses.regionwise import region_cross_entropy, region_dice_loss

ALL = torch.ones(1, 3, dtype=torch.bool)


def maps(*shares: float, edge: int = 10) -> Tensor:
    return torch.stack([torch.full((edge, edge, edge), s) for s in shares])[None]


def test_zero_logits_against_foreground_everywhere() -> None:
    logits, target = torch.zeros(1, 3, 60, 60, 60), maps(1, 1, 1, edge=60)
    assert region_dice_loss(logits, target, ALL).item() == pytest.approx(1 / 3, abs=1e-5)
    assert region_cross_entropy(logits, target, ALL).item() == pytest.approx(3 * math.log(2), rel=1e-5)


def test_the_summand_is_in_the_denominator_alone() -> None:
    # One voxel, p = ½, y = 1: 1 − 1/(½ + 1 + 1). An empty region costs 1 and has no gradient.
    logits = torch.zeros(1, 2, 1, 1, 1, requires_grad=True)
    loss = region_dice_loss(logits, maps(1, 0, edge=1), ALL[:, :2])
    assert loss.item() == pytest.approx((0.6 + 1) / 2)
    loss.backward()
    assert logits.grad is not None and logits.grad[0, 0] < 0 and logits.grad[0, 1] == 0


def test_what_is_unknown_costs_nothing_and_is_not_read() -> None:
    known = torch.tensor([[True, False, True]])
    logits, target = torch.zeros(1, 3, 10, 10, 10, requires_grad=True), maps(1, math.nan, 0)
    dice, entropy = region_dice_loss(logits, target, known), region_cross_entropy(logits, target, known)
    assert dice.item() == pytest.approx((1 - 1000 / 1501 + 1) / 2)
    assert entropy.item() == pytest.approx(2 * math.log(2))
    (dice + entropy).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and not logits.grad[:, 1].any()
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert region_dice_loss(logits, target, nothing) == 0 and region_cross_entropy(logits, target, nothing) == 0


def test_samples_are_measured_apart() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 4, 4), torch.rand(2, 3, 4, 4, 4)
    for loss in (region_dice_loss, region_cross_entropy):
        alone = [loss(logits[b : b + 1], target[b : b + 1], ALL) for b in range(2)]
        torch.testing.assert_close(loss(logits, target, ALL.expand(2, -1)), (alone[0] + alone[1]) / 2)
