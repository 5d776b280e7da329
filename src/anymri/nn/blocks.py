"""Convolutional blocks that every network here is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.01
Stride = int | tuple[int, int, int]


class InstanceNorm(nn.Module):
    """Instance normalisation, with affine unless told otherwise, that keeps the channels-last layout.

    torch's own reshapes to (1, B·C, …) and so copies every channels-last tensor twice. Batch statistics of a single sample are the
    same numbers, and that kernel has a channels-last form.
    """

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return each sample's channels at mean 0 and variance 1 over its voxels, scaled and shifted; shape (B, C, D, H, W)."""
        samples = x.split(1) if len(x) > 1 else (x,)
        normed = [F.batch_norm(sample, None, None, self.weight, self.bias, training=True) for sample in samples]
        return torch.cat(normed) if len(x) > 1 else normed[0]


class StandardisedConv(nn.Conv3d):
    """A convolution without bias whose kernels are used with mean 0 and variance 1, whatever their scale."""

    def __init__(self, channels_in: int, channels_out: int, size: int, *, stride: Stride = 1, dilation: int = 1) -> None:
        padding = dilation * (size // 2)
        super().__init__(channels_in, channels_out, size, stride=stride, padding=padding, dilation=dilation, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, channels_out, D', H', W'), sizes divided by the stride and rounded up."""
        return F.conv3d(input, standard_kernels(self.weight), None, self.stride, self.padding, self.dilation)


def standard_kernels(weight_OIDHW: Tensor) -> Tensor:
    """Return each output channel's kernel minus its mean, over its standard deviation (unbiased).

    Source: Qiao et al., 2019 (weight standardisation).
    """
    variance, mean = torch.var_mean(weight_OIDHW, (1, 2, 3, 4), keepdim=True)
    return (weight_OIDHW - mean) / (variance + 1e-12).sqrt()


class ConvNormAct(nn.Sequential):
    """3×3×3 convolution → InstanceNorm with affine → LeakyReLU. The norm's shift stands for the convolution's bias unless asked."""

    def __init__(
        self, channels_in: int, channels_out: int, *, stride: int = 1, bias: bool = False, standardised: bool = False
    ) -> None:
        if standardised:
            convolution: nn.Conv3d = StandardisedConv(channels_in, channels_out, 3, stride=stride)
        else:
            convolution = nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=bias)
        super().__init__(convolution, InstanceNorm(channels_out), nn.LeakyReLU(LEAK, inplace=True))


class ResidualBlock(nn.Module):
    """Convolution, norm, activation, convolution, norm, sum, activation (ResNet's basic block)."""

    def __init__(self, channels: int, *, standardised: bool = False) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels, standardised=standardised)
        if standardised:
            convolution: nn.Conv3d = StandardisedConv(channels, channels, 3)
        else:
            convolution = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Sequential(convolution, InstanceNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        return F.leaky_relu(x + self.second(self.first(x)), LEAK)


class Encoder(nn.Module):
    """Levels of convolutions, the first of every level but the topmost with stride 2.

    Args:
        channels_in: Channels of the input.
        widths: Channels per level, finest first.
        depths: Convolutions per level.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], depths: Sequence[int], *, bias: bool = False) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [ConvNormAct(channels_in, width, stride=1 if level == 0 else 2, bias=bias)]
            blocks += [ConvNormAct(width, width, bias=bias) for _ in range(depth - 1)]
            levels.append(nn.Sequential(*blocks))
            channels_in = width
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one feature map per level, finest first; sizes halve from level to level."""
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features
