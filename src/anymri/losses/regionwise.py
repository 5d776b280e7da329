"""Dice and cross-entropy of each region by itself, as networks with one sigmoid per region are trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def region_dice_loss(logits_BRDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor) -> Tensor:
    """Return 1 − 2Σpy/(Σp + Σy + 1), mean over what is known; sums run over one sample and region at a time.

    Nothing is added to the numerator: an empty region costs 1 whatever is said and has no gradient; cross-entropy takes care of it.
    """
    target = torch.where(known_BR[:, :, None, None, None], target_BRDHW, 0.0)
    p, axes = logits_BRDHW.float().sigmoid(), (2, 3, 4)
    dice = 2 * (p * target).sum(axes) / (p.sum(axes) + target.sum(axes) + 1)
    return ((1 - dice) * known_BR).sum() / known_BR.sum().clamp(min=1)


def region_cross_entropy(logits_BRDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor) -> Tensor:
    """Return the binary cross-entropy, mean over voxels, summed over the regions that are known, mean over samples."""
    target = torch.where(known_BR[:, :, None, None, None], target_BRDHW, 0.0)
    losses = F.binary_cross_entropy_with_logits(logits_BRDHW.float(), target, reduction="none").mean((2, 3, 4))
    return (losses * known_BR).sum() / len(known_BR)
