"""How far Gaussians are from each other."""

from __future__ import annotations

from torch import Tensor

Gaussian = tuple[Tensor, Tensor]  # Mean and precision 1/σ², each (B, C, D, H, W).


def gaussian_divergences(one: Gaussian, other: Gaussian) -> Tensor:
    """Return KL(one ‖ other), mean over channels and voxels, shape (B,)."""
    (mean, precision), (other_mean, other_precision) = one, other
    ratio = other_precision / precision
    apart = ratio - ratio.log() - 1 + other_precision * (mean - other_mean).square()
    return 0.5 * apart.flatten(1).mean(1)


def divergences_from_prior(one: Gaussian) -> Tensor:
    """Return KL(one ‖ N(0, I)), mean over channels and voxels, shape (B,)."""
    mean, precision = one
    return 0.5 * (1 / precision + precision.log() - 1 + mean.square()).flatten(1).mean(1)
