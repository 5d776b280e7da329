"""How far what every subset says of a latent map is from the prior, and from what all say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

_SLAB = 2**16  # Voxels that a processor's cache holds of all that a subset needs.


def subset_divergences(precisions: Sequence[Tensor], weighted: Sequence[Tensor], present_BM: Tensor) -> Tensor:
    """Return the mean over subsets S of KL(q_S ‖ prior) plus that over S other than all of KL(q_all ‖ q_S); q_all is a constant.

    q_S is the product of its members' Gaussians and of the prior N(0, I): Λ_S = 1 + Σ Λ_m, μ_S = Σ Λ_m μ_m / Λ_S. Divergences are
    means over channels and voxels, and the result a mean over samples. Its gradient, which has a closed form, is computed with it,
    slab by slab, while what all subsets need of a slab is in the processor's cache.

    Args:
        precisions: Λ_m of every modality, each (B, C, D, H, W).
        weighted: Λ_m μ_m, likewise.
        present_BM: Which modalities are at hand; S are the subsets of these. Others are not looked at.
    """
    return _SubsetDivergences.apply(present_BM.tolist(), *precisions, *weighted)  # type: ignore[no-any-return]


class _SubsetDivergences(torch.autograd.Function):
    """Value and gradient in one pass; the backward pass only scales."""

    @staticmethod
    def forward(ctx: Any, present: list[list[bool]], *maps: Tensor) -> Tensor:
        gradients = [torch.zeros_like(m) for m in maps]
        value = maps[0].new_zeros((), dtype=torch.float64)
        share = 1 / len(present) / maps[0][0].numel()
        for b, row in enumerate(present):
            members = [m for m, at_hand in enumerate(row) if at_hand]
            own = [*members, *(len(row) + m for m in members)]
            for slab in _slabs(maps[0][b]):
                said, leave = ([of[i][b][slab] for i in own] for of in (maps, gradients))
                value += share * _slab_divergences(said, leave, share)
        ctx.gradients = gradients
        return value.to(maps[0].dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient.mul_(gradients[0]) for gradient in ctx.gradients)


def _slabs(map_CDHW: Tensor) -> Iterator[tuple[slice, slice]]:
    depth = map_CDHW.shape[1]
    rows = max(1, depth * _SLAB // map_CDHW.numel()) if map_CDHW.device.type == "cpu" else depth
    return ((slice(None), slice(start, start + rows)) for start in range(0, depth, rows))


def _slab_divergences(said: Sequence[Tensor], gradients: Sequence[Tensor], share: float) -> Tensor:
    """Return the sum over voxels, and add share times its gradient; precisions come first, then as many weighted means."""
    n = len(said) // 2
    precisions, weighted = said[:n], said[n:]
    subsets = 2**n - 1
    whole, mean_of_all, log_of_all = _moments(1 + sum(precisions[1:], precisions[0]), sum(weighted[1:], weighted[0]))
    total = whole.new_zeros((), dtype=torch.float64)
    for size in range(1, n + 1):
        prior, apart = 0.5 / subsets, 0.5 / (subsets - 1) if size < n else 0.0
        for members in combinations(range(n), size):
            precision = 1 + sum((precisions[m] for m in members[1:]), precisions[members[0]])
            inverse, mean, log = _moments(precision, sum((weighted[m] for m in members[1:]), weighted[members[0]]))
            square = mean * mean
            total += prior * (inverse + log + square - 1).sum(dtype=torch.float64)
            by_precision = (inverse - inverse * inverse - 2 * square * inverse).mul_(prior * share)
            by_weighted = (mean * inverse).mul_(2 * prior * share)
            if apart:
                away = mean - mean_of_all
                ratio = precision * whole
                total += apart * (ratio - log + log_of_all - 1 + precision * away * away).sum(dtype=torch.float64)
                by_precision.add_(whole - inverse - away * (mean + mean_of_all), alpha=apart * share)
                by_weighted.add_(away, alpha=2 * apart * share)
            for m in members:
                gradients[m].add_(by_precision)
                gradients[n + m].add_(by_weighted)
    return total


def _moments(precision: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return 1/Λ, μ and log Λ."""
    inverse = precision.reciprocal()
    return inverse, weighted * inverse, precision.log()
