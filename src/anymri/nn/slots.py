"""What ShaSpec has around its encoders: the feature that a classifier reads, and a decoder with one slot per modality.

A slot holds a modality's own feature or, if it is not kept, one that others lend.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anymri.nn.resnet import ResNetEncoder
from anymri.nn.shared_specific import Backbone, SumDecoder


def with_summary(encoder: nn.Module, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return an encoder's features per level, finest first, and the spatial mean (B, C) of the last one before any pyramid."""
    if isinstance(encoder, ResNetEncoder):
        *finer, last = encoder.trunk(image)
        levels = [*finer, encoder.pyramid(last)]
    else:
        levels = encoder(image)
        last = levels[-1]
    return levels, last.float().mean((2, 3, 4))


class SlotDecoder(nn.Module):
    """A ``SumDecoder`` of one slot per modality, concatenated, whose first transposed convolution is taken apart.

    The convolution is linear and has no bias: that of the slots together is the sum of each one's share, and the share of a mean is
    the mean of shares. So what a feature adds in a slot is computed once for all subsets.

    Args:
        slots: As many as there are modalities.
        backbone: What made the features.
        outputs: Channels of the result.
    """

    def __init__(self, slots: int, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        plain = backbone.standardised
        self.rest = SumDecoder(backbone.bottleneck, backbone.decoder, outputs, finest=backbone.finest, standardised=plain)
        self.rest.ups[0] = nn.Identity()  # It is given what the slots have been upsampled to.
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(backbone.bottleneck, backbone.decoder[-1], 2, stride=2, bias=False) for _ in range(slots)
        )

    def share(self, slot: int, feature: Tensor) -> Tensor:
        """Return what a feature (B, C, D', H', W') adds in a slot, on a grid twice as fine."""
        return self.ups[slot](feature)

    def forward(self, summed: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return (B, outputs, D, H, W) from the sum of all shares and the skips, finest first, reduced but not yet normalised."""
        return self.rest(summed, skips)
