"""How far synthetic images are from real ones, and latent maps of one patient from each other, inside the brain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def absolute_errors(made_BDHW: Tensor, image_BDHW: Tensor, brain_BDHW: Tensor) -> Tensor:
    """Return the mean absolute difference over the voxels of the brain, shape (B,); 0 where there is no brain."""
    return _inside((made_BDHW.float() - image_BDHW.float()).abs(), brain_BDHW)


def latent_variances(latents: Sequence[Tensor], present_BM: Tensor, brain_BDHW: Tensor) -> Tensor:
    """Return the variance over the modalities that are present, mean over channels and voxels of the brain, shape (B,).

    Args:
        latents: One (B, C, D, H, W) per modality. What is not present is not looked at.
        present_BM: Which count; the sum of squares is divided by how many they are.
        brain_BDHW: Which voxels count.
    """
    count = present_BM.sum(1)[:, None, None, None, None]
    pairs = [(z.float(), rows[:, None, None, None, None]) for z, rows in zip(latents, present_BM.unbind(1), strict=True)]
    mean = torch.stack([torch.where(rows, z, 0.0) for z, rows in pairs]).sum(0) / count
    squares = torch.zeros_like(mean)
    for z, rows in pairs:
        squares = squares + torch.where(rows, z - mean, 0.0).square()
    return _inside((squares / count).mean(1), brain_BDHW)


def _inside(values_BDHW: Tensor, brain_BDHW: Tensor) -> Tensor:
    """Return the mean over the brain of each sample."""
    axes = (1, 2, 3)
    return torch.where(brain_BDHW, values_BDHW, 0.0).sum(axes) / brain_BDHW.sum(axes).clamp(min=1)
