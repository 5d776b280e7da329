"""A plain 3D U-Net as nnU-Net lays it out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymri.nn.blocks import ConvNormAct, Encoder


class PlainUNet(nn.Module):
    """Two convolutions per stage, transposed upsampling, concatenated skips, a 1×1×1 head at every decoder level.

    Args:
        channels_in: Channels of the input.
        widths: Channels per stage, finest first.
        classes: K.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, widths, [2] * len(widths), bias=True)
        ups, blocks, heads = [], [], []
        for coarse, fine in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True):
            ups.append(nn.ConvTranspose3d(coarse, fine, 2, stride=2))
            blocks.append(nn.Sequential(ConvNormAct(2 * fine, fine, bias=True), ConvNormAct(fine, fine, bias=True)))
            heads.append(nn.Conv3d(fine, classes, 1))
        self.ups, self.blocks, self.heads = nn.ModuleList(ups), nn.ModuleList(blocks), nn.ModuleList(heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return class logits per decoder level, finest first; the coarser ones only in training."""
        *skips, x = self.encoder(x)
        outputs = []
        for up, block, head, skip in zip(self.ups, self.blocks, self.heads, reversed(skips), strict=True):
            x = block(torch.cat((up(x), skip), 1))
            if self.training or up is self.ups[-1]:
                outputs.append(head(x))
        return outputs[::-1]
