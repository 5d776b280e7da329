"""From tissues and regions to images alike those that are prepared: z-scores inside the brain, 0 outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.generation.geometry import coarse_size, random_field, spread
from anymri.data.generation.settings import Generation
from anymri.domain.appearance import TISSUES, Appearance, Look, ring_classes
from anymri.domain.task import Task

CLIP = 10.0  # Standard deviations, as the preparation clips.
_ANY = (-2.5, 2.5)  # Between which a tissue lies that may look any way.
_COARSE, _FINE = 6, 2  # Voxels between the nodes of textures.


@dataclass(frozen=True, eq=False)
class Palette:
    """How the tissues of one patient look.

    Attributes:
        means_MK: Of each tissue, then of each ring of nested regions.
        within_MK: How uneven it is.
        blur_M: Standard deviation of the blur, in voxels.
        turn_M: The angle between two textures that each modality shows: some look alike, others do not.
        seed: Of the texture.
    """

    means_MK: NDArray[np.float64]
    within_MK: NDArray[np.float64]
    blur_M: NDArray[np.float64]
    turn_M: NDArray[np.float64]
    seed: int


def draw_palette(settings: Generation, appearance: Appearance, task: Task, rng: np.random.Generator) -> Palette:
    """Draw how the tissues of a patient look: around plausible means, or now and then any way."""
    names = (*(t.name for t in TISSUES), *ring_classes(task))
    any_way = rng.random() < settings.random_contrast
    means, within = np.zeros((2, len(task.modalities), len(names)))
    for m, modality in enumerate(task.modalities.names):
        known = appearance.looks.get(modality, {})
        for k, name in enumerate(names):
            look, chance, position = known.get(name), rng.normal(), rng.uniform(*_ANY)
            strange = any_way or look is None
            means[m, k] = position if strange or look is None else look.mean + chance * look.between * settings.contrast_spread
            within[m, k] = (look or Look(0.0)).within * settings.texture * rng.uniform(0.6, 1.4)
    blur = rng.uniform(0.5, 1.0, len(task.modalities)) * settings.partial_volume
    return Palette(means, within, blur, rng.uniform(0, 2 * math.pi, len(blur)), int(rng.integers(2**31)))


def looked_up(table: Tensor, pairs_DHW: Tensor) -> Tensor:
    """Return the mean over two samples of each voxel of what a table says of them.

    Args:
        table: (K,).
        pairs_DHW: K times the index of the first sample plus that of the second, int32.
    """
    return ((table[:, None] + table) * 0.5).flatten().index_select(0, pairs_DHW.flatten()).view(pairs_DHW.shape)


def painted(palette: Palette, pairs_DHW: Tensor, target_RDHW: Tensor, brain_DHW: Tensor, shares_K: NDArray[np.float64]) -> Tensor:
    """Return the images of a patch, (M, D, H, W).

    Args:
        palette: How tissues look.
        pairs_DHW: What two samples of each voxel are, as ``looked_up`` reads them.
        target_RDHW: Share of each voxel in each of the nested regions.
        brain_DHW: Share of each voxel in the brain.
        shares_K: What share of the whole brain tissues and rings take, by which its mean and deviation are known.
    """
    device, (d, h, w) = brain_DHW.device, brain_DHW.shape
    modalities, healthy = len(palette.means_MK), len(TISSUES)
    textures = _texture(2, (d, h, w), palette.seed, device)
    means, within = (torch.as_tensor(t, dtype=torch.float32, device=device) for t in (palette.means_MK, palette.within_MK))
    # Beyond the brain goes on what lies in its sulci, so that blur darkens no rim.
    order = [healthy - 1, *range(healthy)]
    rings = list(target_RDHW - torch.cat([target_RDHW[1:], torch.zeros_like(target_RDHW[:1])])) if target_RDHW.any() else []
    channels = []
    for m in range(modalities):
        base, uneven = means[m, order], within[m, order]
        noise = (textures[0] * math.cos(palette.turn_M[m])).add_(textures[1], alpha=math.sin(palette.turn_M[m]))
        channel = looked_up(base, pairs_DHW).addcmul_(looked_up(uneven, pairs_DHW), noise)
        if rings:
            channel.mul_(1 - target_RDHW[0])
        for r, ring in enumerate(rings):
            channel.addcmul_(ring, noise * within[m, healthy + r] + means[m, healthy + r])
        channels.append(_scored(_blurred(channel, float(palette.blur_M[m])), palette, m, shares_K))
    return torch.stack(channels).mul_(brain_DHW)


def _texture(channels: int, size: tuple[int, int, int], seed: int, device: torch.device) -> Tensor:
    """Return fields of about unit variance with detail at two scales, (C, D, H, W)."""
    coarse, fine = coarse_size(size, _COARSE), coarse_size(size, _FINE)
    rough = spread(random_field(channels, coarse, seed, device), fine)
    return spread(rough * 1.2 + random_field(channels, fine, seed + 1, device), size)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Return the image with each voxel mixed with its two neighbours along each axis in turn; their border goes on."""
    share = sigma**2 / 2  # Of each neighbour: a kernel (share, 1 - 2 share, share) has the variance 2 share.
    for axis in range(3) if share else ():
        count = image.shape[axis]
        before = torch.cat([image.narrow(axis, 0, 1), image.narrow(axis, 0, count - 1)], axis)
        after = torch.cat([image.narrow(axis, 1, count - 1), image.narrow(axis, count - 1, 1)], axis)
        image = before.add_(after).mul_(share).add_(image, alpha=1 - 2 * share)
    return image


def _scored(image: Tensor, palette: Palette, m: int, shares_K: NDArray[np.float64]) -> Tensor:
    """Return z-scores by the mean and deviation of the whole brain, which the shares of its tissues tell."""
    means = palette.means_MK[m]
    mean = float(shares_K @ means)
    variance = float(shares_K @ (means**2 + palette.within_MK[m] ** 2)) - mean**2
    scale = 1 / max(variance, 1e-4) ** 0.5
    return image.sub_(mean).mul_(scale).clamp_(-CLIP, CLIP)
