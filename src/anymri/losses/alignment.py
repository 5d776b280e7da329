"""How features of two networks are brought together: by what they correlate with, and by what a discriminator sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-12  # Of a mean square, against division by zero.
RAMP = 5.0  # Of the exponent: the weight starts at e⁻⁵ of its height.


def ramped(progress: float, length: float) -> float:
    """Return exp(−5 (1 − t/t_r)²), 1 from t_r on.

    Args:
        progress: t, a share of the training.
        length: t_r, likewise; 0 for no ramp.
    """
    passed = 1.0 if progress >= length else progress / length
    return math.exp(-RAMP * (1 - passed) ** 2)


def style_losses(teacher: Sequence[Tensor], student: Sequence[Tensor], *, relative: bool) -> Tensor:
    """Return ¼ Σ over pairs of maps of the mean squared difference of their correlations, shape (B,).

    The correlation of two maps is the matrix (C, C') of mean products over voxels, so it does not depend on the crop.

    Args:
        teacher: Maps (B, C, D, H, W) on one grid.
        student: The same, of the student.
        relative: Measure each difference by the mean square of the teacher's correlations, so that it does not depend on how large
            features are: it would grow with their fourth power. No gradient reaches this measure.
    """
    with torch.autocast(student[0].device.type, enabled=False):
        losses = []
        for theirs, ours in zip(_correlations(teacher), _correlations(student), strict=True):
            apart = (theirs - ours).square().mean((1, 2))
            losses.append(apart / theirs.detach().square().mean((1, 2)).clamp(min=TINY) if relative else apart)
        return 0.25 * torch.stack(losses).sum(0)


def _correlations(maps: Sequence[Tensor]) -> list[Tensor]:
    flat = [m.flatten(2).float() for m in maps]
    return [a @ b.transpose(1, 2) / a.shape[2] for a, b in combinations(flat, 2)]


def squared_differences(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean squared difference of each sample, shape (B,)."""
    return (one.float() - other.float()).square().flatten(1).mean(1)


def verdict_losses(verdict_B: Tensor, *, true: bool) -> Tensor:
    """Return the cross-entropy of each verdict of a discriminator, logits of shape (B,), with what is to be said."""
    verdict = verdict_B.float()
    return F.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, float(true)), reduction="none")
