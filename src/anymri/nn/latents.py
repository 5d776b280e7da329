"""Latent maps at full resolution that are to mean the same whichever modality they are of, and the way back to images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymri.nn.blocks import LEAK, Encoder, InstanceNorm
from anymri.nn.shared_specific import SumDecoder


class LatentEncoder(nn.Module):
    """A U-Net from an image of one channel to a map as fine as the image.

    Its last norm has no scale: maps of several modalities cannot come closer to each other by all becoming small.

    Args:
        widths: Channels per level, finest first; the map has as many as the first.
        depths: Convolutions per level.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        *finer, last = widths
        self.encoder = Encoder(1, widths, depths)
        self.decoder = SumDecoder(last, finer, 1)
        self.decoder.head = nn.Identity()  # The map is what would be given to it.
        self.norm = InstanceNorm(widths[0], affine=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the map, (B, C, D, H, W), of an image (B, 1, D, H, W)."""
        *skips, last = self.encoder(image)
        return self.norm(self.decoder(last, skips))


class ImageBranch(nn.Sequential):
    """Two 3×3×3 convolutions and one of a voxel, from a latent map to the image of one modality; intensities are not normalised."""

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv3d(channels, channels, 3, padding=1), nn.LeakyReLU(LEAK, inplace=True)]
        super().__init__(*layers, nn.Conv3d(channels, 1, 1))


def largest(latents: Sequence[Tensor], keep_BM: Tensor) -> Tensor:
    """Return the voxelwise maximum over what is kept, (B, C, D, H, W); every sample keeps something.

    Args:
        latents: One (B, C, D, H, W) per modality. What is not kept is not looked at.
        keep_BM: Which modalities speak.
    """
    fused: Tensor | None = None
    for latent, kept in zip(latents, keep_BM.unbind(1), strict=True):
        if not kept.any():
            continue
        said = latent if kept.all() else torch.where(kept[:, None, None, None, None], latent, -torch.inf)
        fused = said if fused is None else torch.maximum(fused, said)
    if fused is None:
        raise ValueError("nothing is kept; expected at least one modality")
    return fused
