"""Soft Dice and cross-entropy against references that may be soft, and may not know every region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from anymri.losses.regions import Membership, class_groups

Dice = Literal["regions", "classes"]


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


def class_dice_loss(
    probability_BKDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor, membership: Membership, *, smooth: float = 1.0
) -> Tensor:
    """Return 1 − soft Dice of the classes but background, the mean over samples and classes; sums run over one sample and class.

    Classes that the reference cannot tell apart count as one; those that it cannot tell from background do not count.

    Args:
        probability_BKDHW: 0 to 1.
        target_BRDHW: 0 to 1; content of unknown regions is not read.
        known_BR: Which regions the reference tells.
        membership: R × K.
        smooth: Voxels added to numerator and denominator.
    """
    losses = []
    for b, known in enumerate(known_BR.tolist()):
        if not any(known):
            continue
        groups, shares = _class_shares(target_BRDHW[b], known, membership)
        for group, share in zip(groups, shares, strict=True):
            if any(row[group[0]] for row, tells in zip(membership, known, strict=True) if tells):
                probability = probability_BKDHW[b, group].sum(0)
                overlap = (probability * share).sum()
                losses.append(1 - (2 * overlap + smooth) / (probability.sum() + share.sum() + smooth))
    return torch.stack(losses).mean() if losses else probability_BKDHW.new_zeros(())


def cross_entropy(class_logits_BKDHW: Tensor, target_BRDHW: Tensor, known_BR: Tensor, membership: Membership) -> Tensor:
    """Return the mean over voxels and samples of the cross-entropy between classes and the shares that the regions imply.

    Classes that the reference cannot tell apart are summed before the logarithm: an unknown region costs nothing wherever it lies.
    """
    log_p = class_logits_BKDHW.float().log_softmax(1)
    total = log_p.new_zeros(())
    for b, known in enumerate(known_BR.tolist()):
        if not any(known):
            continue
        groups, shares = _class_shares(target_BRDHW[b], known, membership)
        grouped = torch.stack([log_p[b, g].logsumexp(0) if len(g) > 1 else log_p[b, g[0]] for g in groups])
        total = total - (shares * grouped).sum(0).mean()
    return total / len(known_BR)


def segmentation_loss(
    class_logits_BKDHW: Tensor,
    target_BRDHW: Tensor,
    known_BR: Tensor,
    membership: Membership,
    *,
    dice: Dice = "regions",
    smooth: float = 1.0,
) -> Tensor:
    """Return soft Dice over regions, or over classes, + cross-entropy over classes, equal weight; ``smooth`` is that of Dice."""
    probability = class_logits_BKDHW.float().softmax(1)
    if dice == "classes":
        overlap = class_dice_loss(probability, target_BRDHW, known_BR, membership, smooth=smooth)
    else:
        regions = torch.stack([probability[:, [k for k, inside in enumerate(row) if inside]].sum(1) for row in membership], 1)
        overlap = dice_loss(regions, target_BRDHW, known_BR, smooth=smooth)
    return overlap + cross_entropy(class_logits_BKDHW, target_BRDHW, known_BR, membership)


def _class_shares(target_RDHW: Tensor, known: Sequence[bool], membership: Membership) -> tuple[list[list[int]], Tensor]:
    """Return the groups of classes that a reference can tell apart, and each voxel's share of each group, (groups, D, H, W)."""
    groups, matrix = class_groups(membership, known)
    matrix = matrix.to(target_RDHW.device)
    return groups, torch.tensordot(matrix[:, :-1], target_RDHW[list(known)], 1) + matrix[:, -1, None, None, None]
