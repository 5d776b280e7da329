"""One loss at every level of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Class logits (B, K, D, H, W) and shares of regions (B, R, D, H, W) on the same grid → a scalar.
LevelLoss = Callable[[Tensor, Tensor], Tensor]


def level_weights(levels: int) -> list[float]:
    """Return 1, ½, ¼ … normalised to sum 1, finest first, the coarsest 0 if there are more than three levels (as in nnU-Net)."""
    raw = [0.5**level for level in range(levels)]
    if levels > 3:
        raw[-1] = 0.0
    return [weight / sum(raw) for weight in raw]


def supervised(logits: Sequence[Tensor], target_BRDHW: Tensor, loss: LevelLoss) -> Tensor:
    """Return the weighted sum of the losses of all levels; a coarser level is compared with every 2nd, 4th … voxel of the target.

    Args:
        logits: Per level, finest first; each half as large along D, H, W as the one before.
        target_BRDHW: On the finest grid.
        loss: Of one level.
    """
    total = torch.zeros((), device=target_BRDHW.device)
    for level, (of_level, weight) in enumerate(zip(logits, level_weights(len(logits)), strict=True)):
        if weight:
            total = total + weight * loss(of_level, target_BRDHW[:, :, :: 2**level, :: 2**level, :: 2**level])
    return total
