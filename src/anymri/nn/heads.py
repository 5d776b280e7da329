"""Heads that say one thing about a whole map: what is in it, and which network made it."""

from __future__ import annotations

from torch import Tensor, nn

from anymri.nn.residual_unet import GROUPS


class PresenceHead(nn.Sequential):
    """3×3×3 convolution, group norm, ReLU, 1×1×1 convolution: one map of logits per class, to be averaged over voxels."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.GroupNorm(GROUPS, channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, classes, 1),
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the logit of each class's presence in each sample, (B, classes)."""
        return super().forward(input).float().mean((2, 3, 4))


class Discriminator(nn.Sequential):
    """Tells whose map it is. Convolutions with stride 2 and a mean over voxels: any grid will do."""

    def __init__(self, channels: int) -> None:
        widths = (channels, channels // 2, channels, 2 * channels)
        layers: list[nn.Module] = []
        for source, width in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv3d(source, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Conv3d(widths[-1], 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Return one logit per sample, (B,)."""
        return super().forward(input).mean((1, 2, 3, 4))
