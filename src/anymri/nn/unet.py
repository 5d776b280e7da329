"""A plain 3D U-Net as nnU-Net lays it out, and its decoder for several encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymri.nn.blocks import ConvNormAct, Encoder

Layers = tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList]


def decoder_layers(widths: Sequence[int], classes: int, *, streams: int = 1) -> Layers:
    """Return transposed convolutions, pairs of convolutions and 1×1×1 heads of a decoder, coarsest level first.

    Args:
        widths: Channels per stage of one encoder and of the decoder, finest first.
        classes: K.
        streams: How many encoders there are; their features are concatenated behind the decoder's own.
    """
    ups, blocks, heads = [], [], []
    channels_in = streams * widths[-1]
    for width in reversed(widths[:-1]):
        ups.append(nn.ConvTranspose3d(channels_in, width, 2, stride=2))
        blocks.append(nn.Sequential(ConvNormAct((1 + streams) * width, width, bias=True), ConvNormAct(width, width, bias=True)))
        heads.append(nn.Conv3d(width, classes, 1))
        channels_in = width
    return nn.ModuleList(ups), nn.ModuleList(blocks), nn.ModuleList(heads)


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
        self.ups, self.blocks, self.heads = decoder_layers(widths, classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return class logits per decoder level, finest first; the coarser ones only in training."""
        *skips, x = self.encoder(x)
        outputs = []
        for up, block, head, skip in zip(self.ups, self.blocks, self.heads, reversed(skips), strict=True):
            x = block(torch.cat((up(x), skip), 1))
            if self.training or up is self.ups[-1]:
                outputs.append(head(x))
        return outputs[::-1]


class StreamDecoder(nn.Module):
    """The decoder of that U-Net behind several encoders, whose features it takes one encoder at a time.

    The first layer that sees the concatenated features is linear, so what each encoder contributes to it is computed by itself and
    added up: the numbers of the concatenation, but a subset of the encoders costs no more than a sum.

    Args:
        streams: How many encoders.
        widths: Channels per level of each, finest first.
        classes: K.
    """

    def __init__(self, streams: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.ups, self.blocks, self.heads = decoder_layers(widths, classes, streams=streams)

    def share(self, level: int, stream: int, feature: Tensor) -> Tensor:
        """Return what one encoder's feature contributes at a level; of the coarsest, twice its size.

        Args:
            level: 0 is the finest.
            stream: Which encoder.
            feature: Of that level, (B, C, D, H, W).
        """
        width = self.widths[level]
        part = slice(stream * width, (stream + 1) * width)
        if level == len(self.widths) - 1:
            return F.conv_transpose3d(feature, self._coarsest().weight[part], stride=2)
        return F.conv3d(feature, self._skips(level)[:, part], padding=1)

    def share_of_constants(self, level: int, vectors_BSC: Tensor, size: Sequence[int]) -> Tensor:
        """Return what features that are the same everywhere contribute, (B, C', *size).

        Args:
            level: 0 is the finest.
            vectors_BSC: The feature of each encoder.
            size: D, H, W of the result.
        """
        vector = vectors_BSC.flatten(1)[..., None, None, None]
        if level == len(self.widths) - 1:
            found = F.conv_transpose3d(vector, self._coarsest().weight, stride=2)
            places = [[i % 2 for i in range(n)] for n in size]
        else:
            # Inside, every voxel is alike; at a border the kernel leaves the box. Three voxels along an axis show all there is.
            box = [min(n, 3) for n in size]
            found = F.conv3d(vector.expand(-1, -1, *box), self._skips(level), padding=1)
            places = [[min(i, 1) if i < n - 1 else b - 1 for i in range(n)] for n, b in zip(size, box, strict=True)]
        for axis, along in enumerate(places, start=2):
            found = found.index_select(axis, torch.tensor(along, device=found.device))
        return found

    def forward(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """Return class logits per level, finest first, the coarser ones only in training, from the sums of shares of all levels."""
        *skips, x = sums
        bias = self._coarsest().bias
        assert bias is not None
        x = x + bias.to(x.dtype)[:, None, None, None]
        outputs = []
        for level, (up, block, head) in enumerate(zip(self.ups, self.blocks, self.heads, strict=True)):
            x = up(x) if level else x
            assert isinstance(block, nn.Sequential)
            first, second = block
            assert isinstance(first, ConvNormAct)
            convolution, norm, act = first
            assert isinstance(convolution, nn.Conv3d)
            own = convolution.weight[:, : x.shape[1]]
            x = second(act(norm(F.conv3d(x, own, convolution.bias, padding=1) + skips[-1 - level])))
            if self.training or level == len(self.ups) - 1:
                outputs.append(head(x))
        return outputs[::-1]

    def _coarsest(self) -> nn.ConvTranspose3d:
        """Return the layer that sees the coarsest features."""
        layer = self.ups[0]
        assert isinstance(layer, nn.ConvTranspose3d)
        return layer

    def _skips(self, level: int) -> Tensor:
        """Return the kernels that see the concatenated features of a level."""
        width = self.widths[level]
        weight = self.blocks[len(self.blocks) - 1 - level].get_parameter("0.0.weight")
        return weight[:, width:]
