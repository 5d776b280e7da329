"""Which modalities are dropped in training. The draw is apart from its effect."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def draw_subsets(present_BM: Tensor, generator: torch.Generator) -> Tensor:
    """Return, per sample, a non-empty subset of what is present, uniform over all of them; bool, shape (B, M)."""
    keep = torch.zeros_like(present_BM)
    for b, row in enumerate(present_BM.tolist()):
        at_hand = [m for m, p in enumerate(row) if p]
        code = int(torch.randint(1, 2 ** len(at_hand), (), generator=generator))
        keep[b, [m for i, m in enumerate(at_hand) if code >> i & 1]] = True
    return keep


def draw_by_size(present_BM: Tensor, generator: torch.Generator) -> Tensor:
    """Return, per sample, a subset whose size is uniform on 1..present, uniform among those of its size; bool, shape (B, M)."""
    keep = torch.zeros_like(present_BM)
    for b, row in enumerate(present_BM.tolist()):
        at_hand = torch.tensor([m for m, p in enumerate(row) if p])
        size = int(torch.randint(1, len(at_hand) + 1, (), generator=generator))
        keep[b, at_hand[torch.randperm(len(at_hand), generator=generator)[:size]]] = True
    return keep


def draw_bernoulli(present_BM: Tensor, generator: torch.Generator, *, keep_probability: float) -> Tensor:
    """Return, per sample, every present modality kept with a probability, drawn again while nothing is kept; bool, shape (B, M)."""
    keep = torch.zeros_like(present_BM)
    for b, row in enumerate(present_BM.tolist()):
        at_hand = [m for m, p in enumerate(row) if p]
        kept: list[int] = []
        while not kept:
            coins = torch.rand(len(at_hand), generator=generator).tolist()
            kept = [m for m, coin in zip(at_hand, coins, strict=True) if coin < keep_probability]
        keep[b, kept] = True
    return keep


def draw_weighted(present_BM: Tensor, generator: torch.Generator, *, weights: Mapping[tuple[bool, ...], float]) -> Tensor:
    """Return, per sample, one of the given subsets that are within what is present, by its weight; bool, shape (B, M).

    Where none of them is, all that is present is kept.
    """
    keep = present_BM.clone()
    for b, row in enumerate(present_BM.tolist()):
        possible = [mask for mask in weights if all(p or not m for m, p in zip(mask, row, strict=True))]
        share = torch.tensor([weights[mask] for mask in possible])
        if share.sum() > 0:
            keep[b] = torch.tensor(possible[int(torch.multinomial(share, 1, generator=generator))])
    return keep


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """Return a generator on a device that follows from the given one, which is on the processor."""
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
