"""Soft Dice and cross-entropy against references that may be soft, and may not know every region."""

from __future__ import annotations

import torch
from torch import Tensor

from anymri.losses.regions import Membership, class_groups


def dice_loss(probability_BRDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Return 1 − soft Dice, the mean over the samples and regions that are known; sums run over one sample and region at a time.

    Args:
        probability_BRDHW: 0 to 1.
        target_BRDHW: 0 to 1; content of unknown regions is not read.
        known_BR: Which regions count.
        smooth: Voxels added to numerator and denominator, so that an empty region has a gradient and no division by zero.
    """
    target = torch.where(known_BR[:, :, None, None, None], target_BRDHW, 0.0)
    axes = (2, 3, 4)
    overlap = (probability_BRDHW * target).sum(axes)
    dice = (2 * overlap + smooth) / (probability_BRDHW.sum(axes) + target.sum(axes) + smooth)
    return ((1 - dice) * known_BR).sum() / known_BR.sum().clamp(min=1)


def cross_entropy(class_logits_BKDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor, membership: Membership) -> Tensor:
    """Return the mean over voxels and samples of the cross-entropy between classes and the shares that the regions imply.

    Classes that the reference cannot tell apart are summed before the logarithm: an unknown region costs nothing wherever it lies.
    """
    log_p = class_logits_BKDHW.float().log_softmax(1)
    total = log_p.new_zeros(())
    for b, known in enumerate(known_BR.tolist()):
        if not any(known):
            continue
        groups, matrix = class_groups(membership, known)
        matrix = matrix.to(log_p.device)
        shares = torch.tensordot(matrix[:, :-1], target_BRDHW[b, known], 1) + matrix[:, -1, None, None, None]
        grouped = torch.stack([log_p[b, g].logsumexp(0) if len(g) > 1 else log_p[b, g[0]] for g in groups])
        total = total - (shares * grouped).sum(0).mean()
    return total / len(known_BR)


def segmentation_loss(class_logits_BKDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor, membership: Membership) -> Tensor:
    """Return soft Dice over regions + cross-entropy over classes, equal weight."""
    probability = class_logits_BKDHW.float().softmax(1)
    regions = torch.stack([probability[:, [k for k, inside in enumerate(row) if inside]].sum(1) for row in membership], 1)
    dice = dice_loss(regions, target_BRDHW, known_BR)
    return dice + cross_entropy(class_logits_BKDHW, target_BRDHW, known_BR, membership)
