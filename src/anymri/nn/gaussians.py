"""What modalities say of a latent map as Gaussians, and the product of what several say.

A Gaussian is carried as its precision 1/σ² and its mean times that: of independent voices these add up, and silence is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymri.nn.blocks import Encoder
from anymri.nn.shared_specific import added, chosen

EXTREME = 8.0  # Bound on the logarithm of a variance: beyond it, precision would overflow or vanish.


class GaussianEncoder(nn.Module):
    """The encoder of a U-Net for an image of one channel, with the mean and log-variance of a Gaussian at every level.

    Args:
        widths: Channels of the latent map per level, finest first.
        depths: Convolutions per level.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Encoder(1, widths, depths)
        self.heads = nn.ModuleList(nn.Conv3d(width, 2 * width, 1) for width in widths)

    def forward(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return 1/σ² and μ/σ² of every level, finest first, each (B, C, D, H, W) in single precision."""
        levels = []
        for head, feature in zip(self.heads, self.trunk(image), strict=True):
            mean, log_variance = head(feature).float().chunk(2, 1)
            precision = (-log_variance.clamp(-EXTREME, EXTREME)).exp()
            levels.append((precision, mean * precision))
        return levels


def product(precisions: Sequence[Tensor], weighted: Sequence[Tensor], keep_BM: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and precision of the product of what is kept and the prior N(0, I).

    Args:
        precisions: 1/σ², one (B, C, D, H, W) per modality. What is not kept is not looked at.
        weighted: μ/σ², likewise.
        keep_BM: Which modalities speak.
    """
    keep = keep_BM.t().tolist()
    precision, sums = (added([chosen(x, rows, None) for x, rows in zip(of, keep, strict=True)]) for of in (precisions, weighted))
    precision = 1 + precision
    return sums / precision, precision


def drawn(mean: Tensor, precision: Tensor, generator: torch.Generator) -> Tensor:
    """Return a sample of a Gaussian; the generator is on its device. Numbers are drawn row by row whatever the memory layout."""
    return mean + torch.randn(mean.shape, generator=generator, device=mean.device) * precision.rsqrt()
