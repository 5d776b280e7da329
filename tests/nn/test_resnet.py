"""ShaSpec's encoder: sizes as published, and what its parts are by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anymri.nn.blocks import LEAK, InstanceNorm, StandardisedConv, standard_kernels
from anymri.nn.resnet import Bottleneck, DilatedPyramid, ResNetEncoder, skip_channels

PLANES, DEPTHS = (64, 64, 128, 256, 320), (3, 4, 6, 3)


def counted(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_and_shapes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        encoder = ResNetEncoder(1, PLANES, DEPTHS, 256)
        features = encoder(torch.empty(1, 1, 80, 160, 160))
    assert counted(encoder.stem) + counted(encoder.stages) == 29_029_440
    assert counted(encoder.reduced) == 328_192
    # 512 fewer than published: the branch of the mean has no norm.
    assert counted(encoder.pyramid) == 5_770_240 - 512
    assert counted(encoder) == 35_127_872 - 512
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 80, 80, 80),
        (256, 40, 40, 40),
        (512, 20, 20, 20),
        (1024, 10, 10, 10),
        (256, 5, 5, 5),
    ]
    assert skip_channels(PLANES) == tuple(f.shape[1] for f in features[:-1])


def test_kernels_are_standardised_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 4, 1, 1, 1)
    # Mean 3, unbiased variance (4 + 1 + 0 + 9)/3.
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0]) / (14 / 3) ** 0.5
    torch.testing.assert_close(standard_kernels(kernel).flatten(), expected)


@pytest.mark.parametrize(("scale", "shift"), [(7.0, 0.0), (0.1, 3.0)])
def test_neither_scale_nor_mean_of_a_kernel_matters(scale: float, shift: float) -> None:
    torch.manual_seed(0)
    convolution, x = StandardisedConv(3, 4, 3, dilation=2).double(), torch.randn(1, 3, 6, 5, 7, dtype=torch.float64)
    before = convolution(x)
    assert before.shape == (1, 4, 6, 5, 7) and convolution.bias is None
    with torch.no_grad():
        convolution.weight.mul_(scale).add_(shift)
    torch.testing.assert_close(convolution(x), before)


def test_all_convolutions_are_standardised_and_all_norms_have_an_affine() -> None:
    encoder = ResNetEncoder(1, (4, 2, 3, 4, 5), (2, 1, 1, 1), 4)
    assert all(isinstance(m, StandardisedConv) for m in encoder.modules() if isinstance(m, nn.Conv3d))
    names = {name for name, _ in encoder.named_parameters()}
    assert not any("stages" in n and n.endswith("bias") and n.replace("bias", "weight") not in names for n in names)


def test_a_bottleneck_by_hand() -> None:
    torch.manual_seed(0)
    block, x = Bottleneck(3, 2, stride=2), torch.randn(1, 3, 6, 8, 5)
    first, second, last, norm = block.inner
    y = norm(last(second(first(x))))
    assert isinstance(block.shortcut, nn.Sequential)
    torch.testing.assert_close(block(x), F.leaky_relu(y + block.shortcut(x), LEAK))
    assert block(x).shape == (1, 8, 3, 4, 3)
    assert isinstance(Bottleneck(8, 2).shortcut, nn.Identity)
    strides = [m.stride for m in block.inner.modules() if isinstance(m, nn.Conv3d)]
    assert strides == [(1, 1, 1), (2, 2, 2), (1, 1, 1)]  # the 3×3×3 carries it


def test_the_pyramid_sees_as_far_as_its_dilations() -> None:
    torch.manual_seed(0)
    pyramid = DilatedPyramid(2)
    reach = []
    for branch in pyramid.branches:
        assert isinstance(branch, nn.Sequential)
        x = torch.zeros(1, 2, 19, 19, 19, requires_grad=True)
        branch[0](x)[0, 0, 9, 9, 9].backward()
        assert x.grad is not None
        reach.append(int(x.grad[0, 0].nonzero()[:, 0].max()) - 9)
    assert reach == [0, 2, 4, 8]
    x = torch.randn(2, 2, 5, 4, 3)
    assert pyramid(x).shape == x.shape


def test_the_mean_of_the_pyramid_is_lost_in_the_norm_behind_it() -> None:
    """It adds the same to every voxel, and an instance norm takes out what is the same everywhere: published layout, no effect."""
    torch.manual_seed(0)
    pyramid, x = DilatedPyramid(4).double(), torch.randn(1, 4, 5, 4, 3, dtype=torch.float64)
    before = pyramid(x)
    with torch.no_grad():
        pyramid.mean[0].weight.normal_()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(pyramid(x), before)


def test_samples_are_treated_apart() -> None:
    torch.manual_seed(0)
    encoder, x = ResNetEncoder(1, (4, 2, 3, 4, 5), (1, 1, 1, 1), 4), torch.randn(2, 1, 32, 64, 32)
    together, alone = encoder(x), encoder(x[1:])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-4)
    assert isinstance(encoder.stem[1], InstanceNorm)


def test_the_trunk_ends_before_the_pyramid() -> None:
    torch.manual_seed(0)
    encoder, x = ResNetEncoder(1, (4, 2, 3, 4, 5), (1, 1, 1, 1), 4), torch.randn(1, 1, 32, 64, 32)
    trunk, features = encoder.trunk(x), encoder(x)
    assert all(torch.equal(a, b) for a, b in zip(trunk[:-1], features[:-1], strict=True))
    torch.testing.assert_close(encoder.pyramid(trunk[-1]), features[-1])
