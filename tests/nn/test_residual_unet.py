"""The residual U-Net, and what may be done to its maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymri.nn.residual_unet import PreActivationBlock, ResidualUNet, unchanged


def unet(**given: int) -> ResidualUNet:
    torch.manual_seed(0)
    return ResidualUNet(given.get("channels", 2), (8, 16, 24), (1, 1, 2), classes=3, dropout=0.0)


def test_it_has_as_many_parameters_as_published() -> None:
    network = ResidualUNet(4, (16, 32, 64, 128), (1, 2, 2, 4), classes=4, dropout=0.2)
    assert sum(p.numel() for p in network.parameters()) == 4_778_212
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert all(m.bias is not None and m.padding_mode == "zeros" for m in convolutions)


def test_a_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block, x = PreActivationBlock(8), torch.randn(2, 8, 4, 4, 4)
    first, second = block.convs
    expected = x + second(F.relu(F.group_norm(first(F.relu(F.group_norm(x, 8))), 8)))
    torch.testing.assert_close(block(x), expected)
    nn.init.zeros_(second.weight)
    nn.init.zeros_(second.bias)
    assert torch.equal(block(x), x)


def test_maps_have_the_sizes_of_their_levels() -> None:
    network, x = unet(), torch.randn(2, 2, 8, 12, 16)
    encoded = network.encoder(x, unchanged)
    assert [tuple(s.shape) for s in encoded.skips] == [(2, 8, 8, 12, 16), (2, 16, 4, 6, 8)]
    assert [tuple(m.shape) for m in encoded.entered] == [(2, 16, 4, 6, 8), (2, 24, 2, 3, 4)]
    assert tuple(encoded.content.shape) == tuple(encoded.inner.shape) == (2, 24, 2, 3, 4)
    style, fused = network.bottleneck(encoded.entered, encoded.content, None)
    assert style.shape == fused.shape == encoded.content.shape
    decoded = network.decoder(fused, encoded.skips, unchanged)
    assert tuple(decoded.first.shape) == (2, 16, 2, 3, 4)
    assert tuple(decoded.last.shape) == (2, 8, 8, 12, 16)
    assert tuple(decoded.logits.shape) == (2, 3, 8, 12, 16)


def test_changes_happen_where_adapters_sit() -> None:
    network, x = unet(), torch.randn(1, 2, 8, 8, 8)
    places: list[tuple[str, int, tuple[int, ...]]] = []

    def noted(where: str):
        def change(place: int, x: Tensor) -> Tensor:
            places.append((where, place, tuple(x.shape[1:3])))
            return 2 * x

        return change

    encoded = network.encoder(x, noted("entry"))
    for before, after in zip(encoded.entered, encoded.changed, strict=True):
        torch.testing.assert_close(after, 2 * before)
    network.decoder(encoded.content, encoded.skips, noted("up"))
    # After the block at the coarser level; at the finest before the skip is added.
    assert places == [("entry", 1, (16, 4)), ("entry", 2, (24, 2)), ("up", 0, (16, 4)), ("up", 1, (8, 8))]


def test_the_finest_change_comes_before_the_skip() -> None:
    network, x = unet(), torch.randn(1, 2, 8, 8, 8)
    encoded = network.encoder(x, unchanged)
    nothing = network.decoder(encoded.content, encoded.skips, lambda step, x: x if step == 0 else 0 * x)
    torch.testing.assert_close(nothing.last, encoded.skips[0])
    coarse = network.decoder(encoded.content, encoded.skips, lambda step, x: 0 * x if step == 0 else x)
    bias = network.decoder.reductions[1].bias
    assert isinstance(bias, Tensor)
    torch.testing.assert_close(coarse.last, encoded.skips[0] + bias[:, None, None, None])


def test_style_is_fused_with_the_content() -> None:
    network, x = unet(), torch.randn(1, 2, 8, 8, 8)
    encoded = network.encoder(x, unchanged)
    style, fused = network.bottleneck(encoded.entered, encoded.content, None)
    above, level = encoded.entered
    torch.testing.assert_close(style, network.bottleneck.style(torch.cat((F.max_pool3d(above, 2), level, encoded.content), 1)))
    torch.testing.assert_close(fused, network.bottleneck.fuse(torch.cat((style, encoded.content), 1)))
