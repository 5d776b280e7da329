"""Which subsets learn from which: students of a set at hand, and paths that lose one modality after the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from anymri.losses.agreement import cosine_scores


def students_of(present_BM: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Draw k for every sample, uniform on 1..present − 1, and return its C(present, k) subsets, sample by sample in parallel.

    Returns:
        Pairs (keep of the samples in question, which samples those are). A sample with one modality has no student.
    """
    per_sample: list[list[tuple[int, ...]]] = []
    for row in present_BM.tolist():
        at_hand = [m for m, p in enumerate(row) if p]
        if len(at_hand) < 2:
            per_sample.append([])
            continue
        k = int(torch.randint(1, len(at_hand), (), generator=generator))
        per_sample.append(list(combinations(at_hand, k)))
    students = []
    for i in range(max(map(len, per_sample))):
        rows = torch.tensor([len(s) > i for s in per_sample])
        keep = torch.zeros_like(present_BM)
        for b, subsets in enumerate(per_sample):
            if len(subsets) > i:
                keep[b, list(subsets[i])] = True
        rows = rows.to(present_BM.device)
        students.append((keep[rows], rows))
    return students


def cosine_criticality(features_BMF: Tensor, among_BM: Tensor) -> Tensor:
    """Return s(m) = −Σ cos(f_m, f_n) over the other modalities that are ``among``, shape (B, M); −∞ for those that are not.

    Features of modalities that are not ``among`` are not looked at. No gradient.
    """
    cosine = cosine_scores(features_BMF.detach()).masked_fill(~among_BM[:, None, :], 0.0)
    score = -(cosine.sum(2) - cosine.diagonal(dim1=1, dim2=2))
    return score.masked_fill(~among_BM, -torch.inf)


def path(score_of: Callable[[Tensor], Tensor], present_BM: Tensor, *, rescore: bool) -> list[list[int]]:
    """Return, per sample, the present modalities in the order in which they are removed, highest score first.

    Args:
        score_of: Modalities that remain (B, M) → their scores (B, M).
        present_BM: Where the path begins.
        rescore: Ask for scores again after each removal. Of two, which cosine scores alike, that over the full set decides.
    """
    full = score_of(present_BM)
    if not rescore:
        return descending(full, present_BM)
    orders: list[list[int]] = [[] for _ in full]
    remaining = present_BM.clone()
    for _ in range(full.shape[1]):
        tied = remaining.sum(1, keepdim=True) == 2
        score = torch.where(tied, full, score_of(remaining))
        for b, order in enumerate(descending(score, remaining)):
            if order:
                orders[b].append(order[0])
                remaining[b, order[0]] = False
    return orders


def descending(score_BM: Tensor, among_BM: Tensor) -> list[list[int]]:
    """Return, per sample, the indices that are ``among``, by falling score; ties in axis order."""
    orders = score_BM.argsort(dim=1, descending=True, stable=True).tolist()
    allowed = among_BM.tolist()
    return [[m for m in order if allowed[b][m]] for b, order in enumerate(orders)]
