"""Building blocks against torch's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from anymri.nn.blocks import LEAK, ConvNormAct, Encoder, InstanceNorm, ResidualBlock
from anymri.nn.unet import PlainUNet


def test_instance_norm_is_torchs_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, 6, 2, requires_grad=True)
    norm = InstanceNorm(5)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    ours, theirs = norm(x), F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), x, retain_graph=True)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_instance_norm_keeps_channels_last() -> None:
    x = torch.randn(1, 8, 4, 4, 4).to(memory_format=torch.channels_last_3d)
    assert InstanceNorm(8)(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_instance_norm_treats_samples_apart() -> None:
    x = torch.randn(2, 3, 4, 4, 4)
    assert torch.equal(InstanceNorm(3)(x)[:1], InstanceNorm(3)(x[:1]))


def test_a_block_is_convolution_norm_and_activation() -> None:
    torch.manual_seed(0)
    block, x = ConvNormAct(2, 3, stride=2), torch.randn(2, 2, 6, 8, 4)
    (convolution, norm, _) = block
    assert isinstance(convolution, nn.Conv3d) and convolution.bias is None
    assert block(x).shape == (2, 3, 3, 4, 2)
    torch.testing.assert_close(block(x), F.leaky_relu(norm(convolution(x)), LEAK))


def test_a_residual_block_that_adds_nothing_is_its_activation() -> None:
    block, x = ResidualBlock(4), torch.randn(1, 4, 4, 4, 4)
    norm = block.second[1]
    assert isinstance(norm, InstanceNorm)
    nn.init.zeros_(norm.weight)
    torch.testing.assert_close(block(x), F.leaky_relu(x, LEAK))


def test_an_encoder_halves_from_level_to_level() -> None:
    encoder = Encoder(2, (3, 5, 7), (1, 2, 3))
    shapes = [tuple(f.shape) for f in encoder(torch.randn(2, 2, 8, 12, 16))]
    assert shapes == [(2, 3, 8, 12, 16), (2, 5, 4, 6, 8), (2, 7, 2, 3, 4)]
    assert sum(isinstance(m, nn.Conv3d) for m in encoder.modules()) == 6


def test_a_unet_tells_its_coarser_levels_in_training_alone() -> None:
    network, x = PlainUNet(2, (3, 4, 5, 6), 3), torch.randn(1, 2, 16, 16, 16)
    levels = network(x)
    assert [tuple(y.shape) for y in levels] == [(1, 3, n, n, n) for n in (16, 8, 4)]
    (finest,) = network.eval()(x)
    assert torch.equal(finest, levels[0])
