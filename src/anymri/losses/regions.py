"""From exclusive classes to nested regions and back, on tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Membership = Sequence[Sequence[bool]]  # R × K: does class k belong to region r (Task.membership)


def region_logits(class_logits_BKDHW: Tensor, membership: Membership) -> Tensor:
    """Return logits_BRDHW whose sigmoid is the summed softmax probability of each region's classes."""
    logits = class_logits_BKDHW.float()
    regions = []
    for row in membership:
        inside = [k for k, belongs in enumerate(row) if belongs]
        outside = [k for k, belongs in enumerate(row) if not belongs]
        regions.append(logits[:, inside].logsumexp(1) - logits[:, outside].logsumexp(1))
    return torch.stack(regions, 1)


def class_groups(membership: Membership, known: Sequence[bool]) -> tuple[list[list[int]], Tensor]:
    """Return the classes that a reference with these known regions can tell apart, and how their shares follow from the regions'.

    Args:
        membership: R × K table.
        known: Which of the R regions the reference tells.

    Returns:
        Groups of class indices that look alike to the reference, and a matrix (groups × (known regions + 1)) that maps a voxel's
        region shares, followed by a one, to the share of each group. Exact for nested and for disjoint regions.
    """
    rows = [row for row, tells in zip(membership, known, strict=True) if tells]
    patterns: dict[tuple[bool, ...], list[int]] = {}
    for k in range(len(membership[0])):
        patterns.setdefault(tuple(row[k] for row in rows), []).append(k)
    system = torch.tensor(
        [[float(p[r]) for p in patterns] for r in range(len(rows))] + [[1.0] * len(patterns)], dtype=torch.float64
    )
    return list(patterns.values()), torch.linalg.pinv(system).float()
