"""Which classes are in a window at all: targets, a Dice loss that such a verdict weighs, and a gate that takes classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from anymri.losses.regions import Membership, class_groups

LEAST_SHARE = 1e-3  # Of one voxel: below the share of a single fine voxel in a coarse one, above what rounding makes of zero.
GATED = 1e4  # By how much the logit of a class that is taken out is lowered.
FLOOR = -30.0  # Logit of a region none of whose classes is left.
EPS = 1e-7


@dataclass(frozen=True)
class Group:
    """Classes that a reference cannot tell apart, and the share of each voxel that belongs to them, (D, H, W)."""

    classes: tuple[int, ...]
    share: Tensor


@dataclass(frozen=True)
class Truth:
    """What the references of a batch say in terms of classes.

    Attributes:
        groups: Of each sample.
        present_BK: 1 where a class occurs, 0 elsewhere; background included.
        told_BK: For which classes the reference tells.
    """

    groups: tuple[tuple[Group, ...], ...]
    present_BK: Tensor
    told_BK: Tensor


def class_truth(target_BRDHW: Tensor, known_BR: Tensor, membership: Membership) -> Truth:
    """Return what region shares say of classes; the content of unknown regions is not read.

    Of a group that nothing belongs to, every class is known to be absent; else only a class that is alone in its group is told.
    """
    classes = len(membership[0])
    present = torch.zeros((len(known_BR), classes), device=target_BRDHW.device)
    told = torch.zeros_like(present, dtype=torch.bool)
    samples = []
    for b, known in enumerate(known_BR.tolist()):
        found, matrix = class_groups(membership, known)
        matrix = matrix.to(target_BRDHW.device)
        shares = torch.tensordot(matrix[:, :-1], target_BRDHW[b, known], 1) + matrix[:, -1, None, None, None]
        groups = tuple(Group(tuple(g), share) for g, share in zip(found, shares.clamp(0, 1), strict=True))
        for group in groups:
            occurs = group.share.amax() > LEAST_SHARE
            present[b, list(group.classes)] = occurs.to(present.dtype)
            told[b, list(group.classes)] = True if len(group.classes) == 1 else ~occurs
        samples.append(groups)
    return Truth(tuple(samples), present, told)


def presence_loss(presence_BK: Tensor, truth: Truth) -> Tensor:
    """Return the cross-entropy between presence logits of the classes without background and the truth, mean over what is told."""
    told = truth.told_BK[:, 1:]
    apart = F.binary_cross_entropy_with_logits(presence_BK.float(), truth.present_BK[:, 1:], reduction="none")
    return (apart * told).sum() / told.sum().clamp(min=1)


def weighted_dice_loss(probability_BKDHW: Tensor, truth: Truth, presence_BK: Tensor | None, *, exclusive: bool) -> Tensor:
    """Return Σ over classes of (1 + |p − y|)·(1 − Dice), denominators squared, on each sample; the mean over samples.

    Background, and classes that a reference cannot tell apart, have weight 1. A reference that tells nothing costs nothing.

    Args:
        probability_BKDHW: 0 to 1.
        truth: What the references say.
        presence_BK: Presence logits of the classes without background; weights carry no gradient. None: all weights are 1.
        exclusive: Whether probabilities sum to 1 over classes; else a group's probability is that of its likeliest class.
    """
    samples = []
    apart = None if presence_BK is None else (presence_BK.detach().float().sigmoid() - truth.present_BK[:, 1:]).abs()
    for b, groups in enumerate(truth.groups):
        losses = []
        for group in groups:
            p = probability_BKDHW[b, list(group.classes)]
            p = p[0] if len(p) == 1 else p.sum(0) if exclusive else p.amax(0)
            dice = (2 * (p * group.share).sum() + EPS) / ((p * p).sum() + (group.share * group.share).sum() + EPS)
            alone = len(group.classes) == 1 and group.classes[0] > 0
            losses.append((1 - dice) * (1 + apart[b, group.classes[0] - 1] if alone and apart is not None else 1.0))
        told = len(groups) > 1
        samples.append(torch.stack(losses).sum() * told)
    return torch.stack(samples).mean()


def without_classes(class_logits_BKDHW: Tensor, absent_BK: Tensor) -> Tensor:
    """Return the logits with those of absent classes lowered so far that they are never chosen; background stays.

    Args:
        class_logits_BKDHW: Background first.
        absent_BK: Which of the classes without background are taken out.
    """
    lowered = F.pad(absent_BK, (1, 0)).to(torch.float32) * GATED
    return class_logits_BKDHW.float() - lowered[:, :, None, None, None]


def most_present(presences_BK: Sequence[Tensor]) -> Tensor:
    """Return the highest presence logit of each class over windows, (B, K)."""
    return torch.stack(list(presences_BK)).amax(0)
