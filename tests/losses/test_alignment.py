"""What brings two bottlenecks together, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from anymri.losses.alignment import ramped, squared_differences, style_losses, verdict_losses


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0674), (0.05, 2.8650), (0.1, 10.0), (0.5, 10.0), (1.0, 10.0)])
def test_the_weight_of_the_output_rises_over_its_ramp(progress: float, weight: float) -> None:
    assert 10 * ramped(progress, 0.1) == pytest.approx(weight, abs=5e-5)


def test_without_a_ramp_the_weight_is_whole_at_once() -> None:
    assert ramped(0.0, 0.0) == 1


@pytest.mark.parametrize("extent", [(2, 2, 2), (3, 5, 4)])
@pytest.mark.parametrize("relative", [True, False])
def test_style_of_ones_against_zeros_is_three_quarters_on_any_grid(extent: tuple[int, int, int], relative: bool) -> None:
    ones = [torch.ones(2, c, *extent) for c in (4, 3, 5)]
    losses = style_losses(ones, [torch.zeros_like(x) for x in ones], relative=relative)
    torch.testing.assert_close(losses, torch.full((2,), 0.75))
    torch.testing.assert_close(
        style_losses(ones, [-x for x in ones], relative=relative), torch.zeros(2)
    )  # products forget the sign


def test_style_is_the_mean_square_of_what_each_pair_of_layers_correlates() -> None:
    torch.manual_seed(0)
    teacher, student = ([torch.randn(2, c, 2, 3, 2) for c in (4, 3, 5)] for _ in range(2))
    expected = torch.zeros(2)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = torch.zeros(2, teacher[i].shape[1], teacher[j].shape[1])
        for sign, maps in ((1, teacher), (-1, student)):
            a, b = maps[i], maps[j]
            apart = apart + sign * (a[:, :, None] * b[:, None]).mean((3, 4, 5))
        expected = expected + apart.square().mean((1, 2)) / 4
    torch.testing.assert_close(style_losses(teacher, student, relative=False), expected)
    torch.testing.assert_close(style_losses(teacher, teacher, relative=False), torch.zeros(2))


def test_relative_style_does_not_depend_on_the_size_of_features_and_its_measure_carries_no_gradient() -> None:
    torch.manual_seed(0)
    teacher, student = ([torch.randn(1, c, 2, 2, 2) for c in (3, 2, 3)] for _ in range(2))
    once, scaled = (style_losses([s * t for t in teacher], [s * x for x in student], relative=True) for s in (1, 50))
    torch.testing.assert_close(once, scaled)
    absolute = [style_losses([s * t for t in teacher], [s * x for x in student], relative=False) for s in (1, 10)]
    torch.testing.assert_close(absolute[0] * 1e4, absolute[1])
    leaf = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
    half = torch.full((1, 1, 2, 2, 2), 0.5)
    # Three pairs, each (t² − ¼)²/m/4 with the measure m held at 1: the slope is 3·2·(1 − ¼)·2/4.
    style_losses([leaf] * 3, [half] * 3, relative=True).sum().backward()
    assert leaf.grad is not None and leaf.grad.sum().item() == pytest.approx(2.25)


def test_style_is_in_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    teacher, student = ([torch.randn(1, c, 2, 2, 2) for c in (3, 2, 3)] for _ in range(2))
    plain = style_losses(teacher, student, relative=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(style_losses(teacher, student, relative=True), plain)


def test_differences_are_of_each_sample() -> None:
    one, other = torch.zeros(2, 3, 2, 2, 2), torch.zeros(2, 3, 2, 2, 2)
    other[1, 0] = 3.0
    torch.testing.assert_close(squared_differences(one, other), torch.tensor([0.0, 3.0]))


def test_a_verdict_that_cannot_tell_costs_the_logarithm_of_two() -> None:
    undecided = torch.zeros(3)
    for true in (True, False):
        torch.testing.assert_close(verdict_losses(undecided, true=true), torch.full((3,), math.log(2)))
    sure = torch.tensor([10.0])
    assert verdict_losses(sure, true=True) < 1e-4 < 9.9 < verdict_losses(sure, true=False)
