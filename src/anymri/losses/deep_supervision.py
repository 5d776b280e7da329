"""One loss at every level of a decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anymri.losses.regions import Membership
from anymri.losses.segmentation import Dice, segmentation_loss


def level_weights(levels: int) -> list[float]:
    """Return 1, ½, ¼ … normalised to sum 1, finest first, the coarsest 0 if there are more than three levels (as in nnU-Net)."""
    raw = [0.5**level for level in range(levels)]
    if levels > 3:
        raw[-1] = 0.0
    return [weight / sum(raw) for weight in raw]


def deep_segmentation_loss(
    levels: Sequence[Tensor],
    target_BRDHW: Tensor,
    known_BR: Tensor,
    membership: Membership,
    *,
    dice: Dice = "regions",
    smooth: float = 1.0,
) -> Tensor:
    """Return the weighted sum of the losses of all levels; a coarser level is compared with every 2nd, 4th … voxel of the target.

    Args:
        levels: Class logits (B, K, D, H, W), finest first; each half as large along D, H, W as the one before.
        target_BRDHW: On the finest grid, 0 to 1.
        known_BR: Which regions count.
        membership: Which class belongs to which region.
        dice: What Dice runs over.
        smooth: Of Dice.
    """
    total = levels[0].new_zeros((), dtype=torch.float32)
    for level, (logits, weight) in enumerate(zip(levels, level_weights(len(levels)), strict=True)):
        if weight:
            target = target_BRDHW[:, :, :: 2**level, :: 2**level, :: 2**level]
            total = total + weight * segmentation_loss(logits, target, known_BR, membership, dice=dice, smooth=smooth)
    return total
