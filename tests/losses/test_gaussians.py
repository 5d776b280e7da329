"""Divergences of subsets against torch's, value and gradient, and by hand."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from anymri.losses import gaussians
from anymri.losses.gaussians import subset_divergences


def made(modalities: int, samples: int, seed: int) -> list[Tensor]:
    """Return precisions, then weighted means."""
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, 2, 5, 3, 4)
    precisions = [torch.rand(shape, generator=generator, dtype=torch.float64) + 0.2 for _ in range(modalities)]
    means = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(modalities)]
    return [m.requires_grad_() for m in (*precisions, *(p * m for p, m in zip(precisions, means, strict=True)))]


def expected(maps: list[Tensor], present_BM: Tensor) -> Tensor:
    """Return the same from torch's own divergences, subset by subset."""
    modalities, total = len(maps) // 2, torch.zeros((), dtype=torch.float64)
    for b, row in enumerate(present_BM.tolist()):
        at_hand = [m for m in range(modalities) if row[m]]

        def q(members: tuple[int, ...], b: int = b) -> Normal:
            precision = 1 + torch.stack([maps[m][b] for m in members]).sum(0)
            return Normal(torch.stack([maps[modalities + m][b] for m in members]).sum(0) / precision, precision.rsqrt())

        whole = Normal(q(tuple(at_hand)).mean.detach(), q(tuple(at_hand)).stddev.detach())
        every = [s for size in range(1, len(at_hand) + 1) for s in combinations(at_hand, size)]
        total = total + torch.stack([kl_divergence(q(s), Normal(0.0, 1.0)).mean() for s in every]).mean()
        if every[:-1]:
            total = total + torch.stack([kl_divergence(whole, q(s)).mean() for s in every[:-1]]).mean()
    return total / len(present_BM)


@pytest.mark.parametrize("slab", [1, 24, 2**16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_value_and_gradient_are_those_of_torch(slab: int, channels_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussians, "_SLAB", slab)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    maps = made(3, 3, seed=slab)
    given = [m.contiguous(memory_format=torch.channels_last_3d) if channels_last else m for m in maps]
    found = subset_divergences(given[:3], given[3:], present)
    reference = expected(maps, present)
    torch.testing.assert_close(found, reference)
    wanted = torch.autograd.grad(reference, maps)
    for mine, theirs in zip(torch.autograd.grad(3 * found, maps), wanted, strict=True):
        torch.testing.assert_close(mine, 3 * theirs)


def test_what_is_not_at_hand_is_not_looked_at() -> None:
    maps, present = made(3, 1, seed=0), torch.tensor([[True, False, True]])
    value = subset_divergences(maps[:3], maps[3:], present)
    spoilt = [m.detach().clone().fill_(math.nan).requires_grad_() if i % 3 == 1 else m for i, m in enumerate(maps)]
    found = subset_divergences(spoilt[:3], spoilt[3:], present)
    assert torch.equal(found, value)
    assert [bool(g.any()) for g in torch.autograd.grad(found, spoilt)] == [True, False, True] * 2


def test_two_equal_voices_by_hand() -> None:
    # Each says N(2, 1): alone Λ = 2 and μ = 1, together Λ = 3 and μ = 4/3.
    precision, weighted = torch.ones(1, 1, 2, 2, 2), torch.full((1, 1, 2, 2, 2), 2.0)
    found = subset_divergences([precision] * 2, [weighted] * 2, torch.ones(1, 2, dtype=torch.bool))
    to_prior = (2 * 0.5 * (1 / 2 + math.log(2) - 1 + 1) + 0.5 * (1 / 3 + math.log(3) - 1 + 16 / 9)) / 3
    from_all = 0.5 * (2 / 3 - math.log(2 / 3) - 1 + 2 / 9)
    assert found.item() == pytest.approx(to_prior + from_all)
