"""A residual 3D U-Net after Myronenko: pre-activation blocks, group norm, skips that are added.

Something may be done to its maps on the way (adapters): whoever runs it says what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8

Change = Callable[[int, Tensor], Tensor]  # (place, map) → map of the same shape


def unchanged(place: int, x: Tensor) -> Tensor:
    """Return the map as it is."""
    return x


def dropped(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Return the map with a share of its numbers at zero and the others enlarged; the map itself without a generator.

    Numbers are drawn row by row whatever the memory layout of the map, on the generator's device.
    """
    if generator is None or rate == 0:
        return x
    kept = torch.rand(x.shape, generator=generator, device=x.device) >= rate
    return torch.where(kept, x / (1 - rate), 0.0)


class PreActivationBlock(nn.Module):
    """Twice group norm, ReLU, 3×3×3 convolution; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return x + y


@dataclass(frozen=True)
class Encoded:
    """What the encoder says.

    Attributes:
        skips: The map of every level but the last, finest first.
        entered: The first map of the last two levels, as the strided convolution leaves it.
        changed: The same, after what is done to it.
        inner: The last level before its last block.
        content: The last level.
    """

    skips: tuple[Tensor, ...]
    entered: tuple[Tensor, Tensor]
    changed: tuple[Tensor, Tensor]
    inner: Tensor
    content: Tensor


class ResidualEncoder(nn.Module):
    """A 3×3×3 convolution per level, with stride 2 from the second on, then blocks.

    Args:
        channels_in: Channels of the input.
        widths: Channels per level, finest first; three levels at least.
        depths: Blocks per level.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        sources = (channels_in, *widths[:-1])
        self.entries = nn.ModuleList(
            nn.Conv3d(source, width, 3, stride=2 if level else 1, padding=1)
            for level, (source, width) in enumerate(zip(sources, widths, strict=True))
        )
        self.levels = nn.ModuleList(
            nn.ModuleList(PreActivationBlock(width) for _ in range(depth)) for width, depth in zip(widths, depths, strict=True)
        )

    def forward(self, x: Tensor, change: Change) -> Encoded:
        """Return the maps of all levels; ``change`` is applied to the first map of each level but the topmost."""
        skips: list[Tensor] = []
        entered: list[Tensor] = []
        changed: list[Tensor] = []
        inner = x
        for level, entry in enumerate(self.entries):
            x = entry(x)
            entered.append(x)
            x = change(level, x) if level else x
            changed.append(x)
            for block in self.levels[level].children():
                inner = x
                x = block(x)
            skips.append(x)
        return Encoded(tuple(skips[:-1]), (entered[-2], entered[-1]), (changed[-2], changed[-1]), inner, x)


class Bottleneck(nn.Module):
    """Two 1×1×1 convolutions: the style of three maps, and its fusion with the content.

    Args:
        widths: Channels of the last two levels.
        dropout: Share of the result that is dropped in training.
    """

    def __init__(self, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        above, width = widths
        self.dropout = dropout
        self.style = nn.Conv3d(above + 2 * width, width, 1)
        self.fuse = nn.Conv3d(2 * width, width, 1)

    def forward(self, maps: tuple[Tensor, Tensor], content: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return style and fused map, both on the grid of the content; of ``maps`` the first is twice as fine."""
        style = self.style(torch.cat((F.max_pool3d(maps[0], 2), maps[1], content), 1))
        return style, dropped(self.fuse(torch.cat((style, content), 1)), self.dropout, generator)


@dataclass(frozen=True)
class Decoded:
    """What the decoder says: its first convolution's map, the map before its last block, and logits_BKDHW."""

    first: Tensor
    last: Tensor
    logits: Tensor


class ResidualDecoder(nn.Module):
    """Per level a 1×1×1 convolution to the width above, nearest upsampling, the skip added, one block; then a 1×1×1 head.

    Args:
        widths: Channels per level, finest first.
        classes: K.
    """

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.reductions = nn.ModuleList(
            nn.Conv3d(coarse, fine, 1) for fine, coarse in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True)
        )
        self.blocks = nn.ModuleList(PreActivationBlock(width) for width in reversed(widths[:-1]))
        self.head = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x: Tensor, skips: Sequence[Tensor], change: Change) -> Decoded:
        """Return the decoder's maps; skips come finest first.

        ``change`` is applied after the block of every level but the finest, where it is applied before the skip is added.
        """
        first = last = x
        finest = len(self.blocks) - 1
        for step, (reduce, block, skip) in enumerate(zip(self.reductions, self.blocks, reversed(skips), strict=True)):
            x = reduce(x)
            first = x if step == 0 else first
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            last = (change(step, x) if step == finest else x) + skip
            x = block(last)
            x = x if step == finest else change(step, x)
        return Decoded(first, last, self.head(x))


class ResidualUNet(nn.Module):
    """Encoder, bottleneck and decoder.

    Args:
        channels_in: Channels of the input.
        widths: Channels per level, finest first; three levels at least, each a multiple of eight.
        depths: Blocks per level; two at least at the last.
        classes: K.
        dropout: Share of the fused bottleneck that is dropped in training.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], depths: Sequence[int], *, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = ResidualEncoder(channels_in, widths, depths)
        self.bottleneck = Bottleneck(widths[-2:], dropout)
        self.decoder = ResidualDecoder(widths, classes)
