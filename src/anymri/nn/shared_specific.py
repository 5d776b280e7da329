"""One encoder shared by all modalities, one specific to each (after ShaSpec), and the decoder of their features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymri.nn.blocks import LEAK, Encoder, InstanceNorm, ResidualBlock, standard_kernels
from anymri.nn.resnet import STEM_STRIDE, ResNetEncoder, skip_channels

# [m][level]: one (P, C, D, H, W) per modality and level, finest first, of the P samples that have the modality; nothing if P is 0.
# Apart, so that a gradient touches only what was used.
Pyramids = list[list[Tensor]]

_SHASPEC_LEVELS = 5


@dataclass(frozen=True)
class Backbone:
    """A kind of encoder, and what the layers around it must know.

    Attributes:
        encoder: Makes one for an image of one channel: an image → features per level, finest first.
        skips: Channels of the features above the bottleneck, finest first.
        bottleneck: Channels at the bottleneck.
        decoder: Channels of the decoder at the levels of ``skips``.
        multiples: What sizes along D, H, W must be multiples of.
        finest: By what the finest features are coarser than the image along D, H, W.
        standardised: Whether kernels are standardised and the last layer has no bias, as in ShaSpec.
    """

    encoder: Callable[[], nn.Module]
    skips: tuple[int, ...]
    bottleneck: int
    decoder: tuple[int, ...]
    multiples: tuple[int, int, int]
    finest: tuple[int, int, int] = (1, 1, 1)
    standardised: bool = False


def unet_backbone(widths: Sequence[int], depths: Sequence[int]) -> Backbone:
    """Return the encoder of a 3D U-Net: channels and convolutions per level, finest first."""
    *finer, last = widths
    multiple = 2 ** len(finer)
    return Backbone(lambda: Encoder(1, widths, depths), tuple(finer), last, tuple(finer), (multiple,) * 3)


def shaspec_backbone(planes: Sequence[int], depths: Sequence[int]) -> Backbone:
    """Return ShaSpec's encoder: planes of stem and four stages, finest first, and the bottlenecks of each stage.

    The bottleneck has as many channels as the last stage but one has planes. Published: 64, 64, 128, 256, 320 and 3, 4, 6, 3.
    """
    decoder = (planes[0] // 2, *planes[1:-1])
    multiple = 2 ** len(depths)
    return Backbone(
        lambda: ResNetEncoder(1, planes, depths, planes[-2]),
        skip_channels(planes),
        planes[-2],
        decoder,
        (multiple, 2 * multiple, 2 * multiple),
        STEM_STRIDE,
        True,
    )


class ModalityEncoders(nn.Module):
    """The shared encoder and the M specific ones. Runs on present images only and never reads an absent one.

    Args:
        modalities: M.
        backbone: Their kind.
        every_level: Return specific features of every level, or of the last one alone.
    """

    def __init__(self, modalities: int, backbone: Backbone, *, every_level: bool) -> None:
        super().__init__()
        self.every_level = every_level
        self.shared = backbone.encoder()
        self.specific = nn.ModuleList(backbone.encoder() for _ in range(modalities))

    def forward(self, image_BMDHW: Tensor, present_BM: Tensor) -> tuple[Pyramids, Pyramids]:
        """Return shared and specific features of the samples that have the modality; nothing where none has."""
        shared: Pyramids = []
        specific: Pyramids = []
        for m, encoder in enumerate(self.specific):
            image = image_BMDHW[present_BM[:, m], m].unsqueeze(1)
            shared.append(self.shared(image) if len(image) else [])
            specific.append(encoder(image)[0 if self.every_level else -1 :] if len(image) else [])
        return shared, specific

    def of_nothing(self, size: Sequence[int], like: Tensor) -> list[Tensor]:
        """Return the shared encoder's features of a zero volume, (1, C, D, H, W) per level: constants of the weights."""
        return self.shared(like.new_zeros((1, 1, *size)))


def spread(features: Sequence[Tensor | None], present_BM: Tensor) -> tuple[Tensor, ...]:
    """Return one (B, C, D, H, W) per modality: what there is in the rows that have it and zeros elsewhere.

    Zeros of a modality that no sample has take no memory.
    """
    like = next(f for f in features if f is not None)
    whole = (len(present_BM), *like.shape[1:])
    return tuple(
        like.new_zeros(()).expand(whole) if f is None else placed(f, rows)
        for f, rows in zip(features, present_BM.unbind(1), strict=True)
    )


def one_by_one(present_BM: Tensor) -> Iterator[Tensor]:
    """Yield, for each modality that a sample has, (B, M) with that column of ``present`` and nothing else."""
    for m, rows in enumerate(present_BM.unbind(1)):
        if rows.any():
            only = torch.zeros_like(present_BM)
            only[:, m] = rows
            yield only


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
        standardised: Standardise the kernels of the one convolution that the shares are parts of.
    """

    def __init__(self, modalities: int, channels_in: int, channels_out: int, *, standardised: bool = False) -> None:
        super().__init__()
        self.standardised = standardised
        self.shares = nn.ModuleList(nn.Conv3d(channels_in, channels_out, 1, bias=False) for _ in range(modalities))
        # As one convolution over M·C channels would be initialised.
        for share in self.shares:
            for weight in share.parameters():
                if not weight.is_meta:  # Arithmetic on shapes alone makes torch import sympy: half a second for nothing.
                    weight.data.div_(modalities**0.5)

    def forward(self, features: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return each modality's share, (B, channels_out, D, H, W); the reduction of a subset is the sum over what is kept.

        Of a modality that is not given nothing is computed.
        """
        if not self.standardised:
            return [None if f is None else share(f) for share, f in zip(self.shares, features, strict=True)]
        kernels = standard_kernels(torch.cat([w for share in self.shares for w in share.parameters()], 1)).chunk(
            len(self.shares), 1
        )
        return [None if f is None else F.conv3d(f, kernel) for kernel, f in zip(kernels, features, strict=True)]


class SumDecoder(nn.Module):
    """Upsampling by transposed convolutions; skips are added; one residual block per level.

    Args:
        channels_in: Channels at the bottleneck.
        widths: Channels per level above the bottleneck, finest first.
        classes: K.
        finest: By what the finest skip is coarser than the output along D, H, W; trilinear interpolation makes up for it.
        standardised: Standardise the kernels of the residual blocks, and leave the last layer's bias out.
    """

    def __init__(
        self,
        channels_in: int,
        widths: Sequence[int],
        classes: int,
        *,
        finest: tuple[int, int, int] = (1, 1, 1),
        standardised: bool = False,
    ) -> None:
        super().__init__()
        self.finest = finest
        ups, norms, blocks = [], [], []
        for width in reversed(widths):
            ups.append(nn.ConvTranspose3d(channels_in, width, 2, stride=2, bias=False))
            norms.append(nn.Sequential(InstanceNorm(width), nn.LeakyReLU(LEAK, inplace=True)))
            blocks.append(ResidualBlock(width, standardised=standardised))
            channels_in = width
        self.ups, self.norms, self.blocks = nn.ModuleList(ups), nn.ModuleList(norms), nn.ModuleList(blocks)
        self.head: nn.Module = nn.Conv3d(channels_in, classes, 1, bias=not standardised)

    def forward(self, bottleneck: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return class logits (B, K, D, H, W); skips are given finest first, reduced but not yet normalised."""
        x = bottleneck
        for up, norm, block, skip in zip(self.ups, self.norms, self.blocks, reversed(skips), strict=True):
            upsampled, normed = up(x), norm(skip)
            # A first level may hand on what it was given; of what is made here, no convolution needs its own result.
            x = block(upsampled + normed if x is bottleneck else upsampled.add_(normed))
            del upsampled, normed
        logits = self.head(x)
        if max(self.finest) == 1:
            return logits
        return F.interpolate(logits, scale_factor=tuple(map(float, self.finest)), mode="trilinear", align_corners=False)


def backbone_of(encoder: str, widths: Sequence[int], depths: Sequence[int]) -> Backbone:
    """Return the encoders of a 3D U-Net ("unet") or ShaSpec's ("shaspec").

    Args:
        encoder: Which of them.
        widths: Channels per level, finest first; of ShaSpec's the planes of its stem and of its four stages.
        depths: Convolutions per level; bottlenecks per stage behind a stem of one convolution.

    Raises:
        ValueError: If the numbers make no such encoder.
    """
    if len(depths) != len(widths):
        raise ValueError(f"depths {depths} must be as many as widths {widths}")
    if encoder == "unet":
        return unet_backbone(widths, depths)
    if len(widths) != _SHASPEC_LEVELS or depths[0] != 1 or widths[0] % 2:
        raise ValueError(
            f"encoder 'shaspec' has a stem of one convolution with an even width and {_SHASPEC_LEVELS - 1} stages; "
            f"found widths {widths} and depths {depths}"
        )
    return shaspec_backbone(widths, depths[1:])


def added(parts: Sequence[Tensor | None]) -> Tensor:
    """Return the sum of what is there, added in the order given. Of a single part it is that part, not a copy."""
    first, *rest = [p for p in parts if p is not None]
    if not rest:
        return first
    total = first + rest[0]
    for part in rest[1:]:
        total += part
    return total
