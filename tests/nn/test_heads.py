"""Heads that say one thing about a map."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anymri.nn.heads import Discriminator, PresenceHead


def test_presence_is_the_mean_over_voxels() -> None:
    torch.manual_seed(0)
    head, x = PresenceHead(16, 3), torch.randn(2, 16, 4, 5, 6)
    assert sum(p.numel() for p in head.parameters()) == 7_011
    maps = nn.Sequential(*head.children())(x)
    torch.testing.assert_close(head(x), maps.mean((2, 3, 4)))


@pytest.mark.parametrize("extent", [(4, 4, 4), (5, 7, 9), (20, 24, 16), (2, 2, 2)])
def test_a_discriminator_judges_any_grid(extent: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    judge = Discriminator(16)
    x = torch.randn(2, 16, *extent)
    verdict = judge(x)
    assert verdict.shape == (2,)
    torch.testing.assert_close(judge(x[1:]), verdict[1:])


def test_its_widths_follow_from_the_map() -> None:
    judge = Discriminator(128)
    assert [m.out_channels for m in judge.modules() if isinstance(m, nn.Conv3d)] == [64, 128, 256, 1]
    assert [m.negative_slope for m in judge.modules() if isinstance(m, nn.LeakyReLU)] == [0.2] * 3
