"""One encoder shared by all modalities, one specific to each (after ShaSpec), and the decoder of their features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymri.nn.blocks import LEAK, Encoder, InstanceNorm, ResidualBlock

# [m][level]: one (B, C, D, H, W) per modality and level, finest first. Apart, so that a gradient touches only what was used.
Pyramids = list[list[Tensor]]


class ModalityEncoders(nn.Module):
    """The shared encoder and the M specific ones. Runs on present images only and never reads an absent one.

    Args:
        modalities: M.
        widths: Channels per level, finest first.
        depths: Convolutions per level.
        every_level: Return specific features of every level, or of the last one alone.
    """

    def __init__(self, modalities: int, widths: Sequence[int], depths: Sequence[int], *, every_level: bool) -> None:
        super().__init__()
        self.every_level = every_level
        self.shared = Encoder(1, widths, depths)
        self.specific = nn.ModuleList(Encoder(1, widths, depths) for _ in range(modalities))

    def forward(self, image_BMDHW: Tensor, present_BM: Tensor) -> tuple[Pyramids, Pyramids]:
        """Return shared and specific features; zero in the rows where a modality is absent."""
        shared: Pyramids = []
        specific: Pyramids = []
        for m, encoder in enumerate(self.specific):
            rows = present_BM[:, m]
            image = image_BMDHW[rows, m].unsqueeze(1)
            for encode, pyramids, kept in ((self.shared, shared, 0), (encoder, specific, 0 if self.every_level else -1)):
                pyramids.append([placed(level, rows) for level in encode(image)[kept:]] if len(image) else [])
        return filled(shared), filled(specific)

    def of_nothing(self, size: Sequence[int], like: Tensor) -> list[Tensor]:
        """Return the shared encoder's features of a zero volume, (1, C, D, H, W) per level: constants of the weights."""
        return self.shared(like.new_zeros((1, 1, *size)))


def filled(pyramids: Pyramids) -> Pyramids:
    """Return the pyramids with zeros in place of those that no sample of the batch has."""
    like = next(p for p in pyramids if p)
    return [p or [torch.zeros_like(f) for f in like] for p in pyramids]


def placed(flat_PCDHW: Tensor, rows_B: Tensor) -> Tensor:
    """Return (B, C, D, H, W) with the P given rows where ``rows`` is true and zeros elsewhere."""
    if len(flat_PCDHW) == len(rows_B):
        return flat_PCDHW
    return flat_PCDHW.new_zeros((len(rows_B), *flat_PCDHW.shape[1:])).index_put((rows_B.nonzero()[:, 0],), flat_PCDHW)


def chosen(feature_BCDHW: Tensor, rows: Sequence[bool], otherwise: Tensor | None) -> Tensor | None:
    """Return the feature in the rows that are kept and ``otherwise`` (None: zero) in the rest.

    Rows that are not kept are never looked at. Whole batches of one kind, the usual ones, cost no copy.
    """
    if all(rows):
        return feature_BCDHW
    if not any(rows):
        return None if otherwise is None else otherwise.expand_as(feature_BCDHW)
    kept = torch.tensor(rows, device=feature_BCDHW.device)[:, None, None, None, None]
    return torch.where(kept, feature_BCDHW, feature_BCDHW.new_zeros(()) if otherwise is None else otherwise)


class ModalityReduction(nn.Module):
    """The share of each modality in a 1×1×1 convolution over the concatenation of all.

    The convolution is linear, so the reduction of a subset is a sum.

    Args:
        modalities: M.
        channels_in: Channels of one modality.
        channels_out: Channels after the reduction.
    """

    def __init__(self, modalities: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.shares = nn.ModuleList(nn.Conv3d(channels_in, channels_out, 1, bias=False) for _ in range(modalities))
        # As one convolution over M·C channels would be initialised.
        for share in self.shares:
            for weight in share.parameters():
                weight.data.div_(modalities**0.5)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return each modality's share, (B, channels_out, D, H, W); the reduction of a subset is the sum over what is kept."""
        return [share(f) for share, f in zip(self.shares, features, strict=True)]


class SumDecoder(nn.Module):
    """Upsampling by transposed convolutions; skips are added; one residual block per level.

    Args:
        channels_in: Channels at the bottleneck.
        widths: Channels per level above the bottleneck, finest first.
        classes: K.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        ups, norms, blocks = [], [], []
        for width in reversed(widths):
            ups.append(nn.ConvTranspose3d(channels_in, width, 2, stride=2, bias=False))
            norms.append(nn.Sequential(InstanceNorm(width), nn.LeakyReLU(LEAK, inplace=True)))
            blocks.append(ResidualBlock(width))
            channels_in = width
        self.ups, self.norms, self.blocks = nn.ModuleList(ups), nn.ModuleList(norms), nn.ModuleList(blocks)
        self.head = nn.Conv3d(channels_in, classes, 1, bias=True)

    def forward(self, bottleneck: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return class logits at the size of the finest skip; skips are given finest first, reduced but not yet normalised."""
        x = bottleneck
        for up, norm, block, skip in zip(self.ups, self.norms, self.blocks, reversed(skips), strict=True):
            x = block(up(x) + norm(skip))
        return self.head(x)
