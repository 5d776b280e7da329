"""Losses at several levels against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.losses.deep_supervision import deep_segmentation_loss, level_weights
from anymri.losses.segmentation import segmentation_loss


@pytest.mark.parametrize(
    ("levels", "weights"),
    [
        (1, [1]),
        (2, [2 / 3, 1 / 3]),
        (3, [4 / 7, 2 / 7, 1 / 7]),
        (4, [4 / 7, 2 / 7, 1 / 7, 0]),
        (5, [8 / 15, 4 / 15, 2 / 15, 1 / 15, 0]),
    ],
)
def test_coarser_levels_count_less(levels: int, weights: list[float]) -> None:
    assert level_weights(levels) == pytest.approx(weights)


def test_coarser_levels_are_compared_with_every_second_voxel_and_the_coarsest_of_four_with_none() -> None:
    made = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 4, n, n, n, generator=made) for n in (8, 4, 2, 1)]
    target = torch.rand(2, 3, 8, 8, 8, generator=made)
    known = torch.ones(2, 3, dtype=torch.bool)
    every = [
        segmentation_loss(x, target[..., ::n, ::n, ::n], known, GLIOMA.membership) for x, n in zip(levels, (1, 2, 4), strict=False)
    ]
    expected = (4 * every[0] + 2 * every[1] + every[2]) / 7
    torch.testing.assert_close(deep_segmentation_loss(levels, target, known, GLIOMA.membership), expected)
    levels[-1].fill_(torch.nan)
    assert torch.isfinite(deep_segmentation_loss(levels, target, known, GLIOMA.membership))
