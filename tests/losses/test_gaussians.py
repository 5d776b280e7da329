"""Divergences of Gaussians against torch and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from anymri.losses.gaussians import divergences_from_prior, gaussian_divergences


def gaussian(mean: float, variance: float) -> tuple[Tensor, Tensor]:
    return torch.full((1, 2, 3, 3, 3), mean), torch.full((1, 2, 3, 3, 3), 1 / variance)


def made(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 2, 4, 3, 5)
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) + 0.2


def normal(of: tuple[Tensor, Tensor]) -> Normal:
    return Normal(of[0], of[1].rsqrt())


def test_divergences_are_those_of_torch_sample_by_sample() -> None:
    one, other = made(0), made(1)
    expected = kl_divergence(normal(one), normal(other)).mean((1, 2, 3, 4))
    torch.testing.assert_close(gaussian_divergences(one, other), expected)
    expected = kl_divergence(normal(one), Normal(0.0, 1.0)).mean((1, 2, 3, 4))
    torch.testing.assert_close(divergences_from_prior(one), expected)


def test_divergences_by_hand() -> None:
    # Means 1 and 3, variances 2 and 4: ½ (½ + ln 2 − 1 + 4/4).
    assert gaussian_divergences(gaussian(1, 2), gaussian(3, 4)).item() == pytest.approx(0.5 * (0.5 + math.log(2)))
    assert divergences_from_prior(gaussian(1, 0.5)).item() == pytest.approx(0.5 * (0.5 + math.log(2) - 1 + 1))
    assert divergences_from_prior(gaussian(0, 1)) == 0
    assert gaussian_divergences(gaussian(7, 3), gaussian(7, 3)).item() == pytest.approx(0, abs=1e-6)
