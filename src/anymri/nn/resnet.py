"""ShaSpec's encoder: a 3D ResNet of bottlenecks, then parallel convolutions of growing dilation. All kernels are standardised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymri.nn.blocks import LEAK, InstanceNorm, StandardisedConv, Stride

_GROWTH = 4  # Channels after a bottleneck per plane in it.
_DILATIONS = (2, 4, 8)
STEM_STRIDE = (1, 2, 2)


class Bottleneck(nn.Module):
    """1×1×1 to the planes, 3×3×3 with the stride, 1×1×1 to four times the planes, plus the input.

    Args:
        channels_in: Channels of the input.
        planes: Channels between.
        stride: Of the 3×3×3 convolution and, if there is one, of the shortcut's.
    """

    def __init__(self, channels_in: int, planes: int, *, stride: int = 1) -> None:
        super().__init__()
        channels_out = _GROWTH * planes
        self.inner = nn.Sequential(
            _convolved(channels_in, planes, 1),
            _convolved(planes, planes, 3, stride=stride),
            StandardisedConv(planes, channels_out, 1),
            InstanceNorm(channels_out),
        )
        changed = stride > 1 or channels_in != channels_out
        self.shortcut = (
            nn.Sequential(StandardisedConv(channels_in, channels_out, 1, stride=stride), InstanceNorm(channels_out))
            if changed
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4·planes, D', H', W'), sizes divided by the stride and rounded up."""
        return F.leaky_relu(self.inner(x) + self.shortcut(x), LEAK)


class DilatedPyramid(nn.Module):
    """One 1×1×1, three dilated 3×3×3 convolutions and the spatial mean side by side, reduced to as many channels as came in.

    The branch of the mean is one voxel: an instance norm of it would return its shift whatever comes in, so it has none.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_convolved(channels, channels, 1), *(_convolved(channels, channels, 3, dilation=d) for d in _DILATIONS)]
        )
        self.mean = nn.Sequential(StandardisedConv(channels, channels, 1), nn.LeakyReLU(LEAK, inplace=True))
        self.merged = _convolved((len(_DILATIONS) + 2) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        mean = self.mean(x.mean((2, 3, 4), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.merged(torch.cat([*(branch(x) for branch in self.branches), mean], 1))


class ResNetEncoder(nn.Module):
    """Stem, four stages of bottlenecks, reduction, dilated pyramid.

    Args:
        channels_in: Channels of the input.
        planes: Channels of the stem, then the planes of the four stages, finest first.
        depths: Bottlenecks of each stage.
        channels_out: Channels after the reduction.
    """

    def __init__(self, channels_in: int, planes: Sequence[int], depths: Sequence[int], channels_out: int) -> None:
        super().__init__()
        width = planes[0]
        self.stem = _convolved(channels_in, width, 7, stride=STEM_STRIDE)
        stages = []
        for stage, (inner, depth) in enumerate(zip(planes[1:], depths, strict=True)):
            blocks = [Bottleneck(width, inner, stride=1 if stage == 0 else 2)]
            width = _GROWTH * inner
            blocks += [Bottleneck(width, inner) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.reduced = _convolved(width, channels_out, 1)
        self.pyramid = DilatedPyramid(channels_out)

    def trunk(self, x: Tensor) -> list[Tensor]:
        """Return the features of the stem and of all stages but the last, finest first, then the last one's after the reduction.

        Strides along D, H, W are (1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16) and (16, 32, 32).
        """
        x = self.stem(x)
        features = [x]
        x = F.max_pool3d(x, 3, stride=2, padding=1)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        features[-1] = self.reduced(x)
        return features

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one feature map per level, finest first; the last has gone through the pyramid."""
        *finer, last = self.trunk(x)
        return [*finer, self.pyramid(last)]


def skip_channels(planes: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of every level above the bottleneck of a ``ResNetEncoder`` with these planes, finest first."""
    return (planes[0], *(_GROWTH * p for p in planes[1:-1]))


def _convolved(channels_in: int, channels_out: int, size: int, *, stride: Stride = 1, dilation: int = 1) -> nn.Sequential:
    """Return a standardised convolution, norm and activation."""
    return nn.Sequential(
        StandardisedConv(channels_in, channels_out, size, stride=stride, dilation=dilation),
        InstanceNorm(channels_out),
        nn.LeakyReLU(LEAK, inplace=True),
    )
