"""Kernels chosen for a processor compute what torch's own do, for every method, and nothing else is touched."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.nn.processor import channels_last, keep_memory, moments, pointwise, suited_to

from ..material import ALL_METHODS, tiny

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ALL_METHODS)
def test_every_method_says_the_same_of_every_subset(name: str) -> None:
    method = tiny(name, GLIOMA).eval()
    image, present, origin = noise(1, 4, 16, 16, 16), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64)
    with torch.inference_mode():
        plain = method.encode(image, present, origin)
        with suited_to(CPU):
            features = method.encode(image, present, origin)
        for subset in subsets(GLIOMA.modalities):
            keep = torch.tensor([subset.mask])
            expected = method.decode(plain, keep)
            with suited_to(CPU):
                found = method.decode(features, keep)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "dilation"),
    [
        *((c, 3, s, 1, 1) for c, s in itertools.product((1, 5), (1, 2))),
        (5, 1, 1, 0, 1),
        (1, 1, 1, 0, 1),
        (5, 1, 2, 0, 1),
        (5, 1, 1, 1, 1),
        (3, 3, 1, 2, 2),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_convolutions_are_torchs(
    channels: int, kernel: int, stride: int, padding: int, dilation: int, bias: bool, last: bool
) -> None:
    x, weight = noise(2, channels, 8, 6, 7), noise(4, channels, kernel, kernel, kernel, seed=1)
    x = x.contiguous(memory_format=torch.channels_last_3d) if last else x
    shift = noise(4, seed=2) if bias else None
    expected = F.conv3d(x, weight, shift, stride, padding, dilation)
    with torch.no_grad(), suited_to(CPU):
        found = F.conv3d(x, weight, shift, stride, padding, dilation)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_what_it_is_not_made_for_is_left_to_torch() -> None:
    x, weight = noise(1, 4, 8, 8, 8), noise(4, 1, 3, 3, 3, seed=1)
    with torch.no_grad(), suited_to(CPU):
        torch.testing.assert_close(F.conv3d(x, weight, padding="same", groups=4), F.conv3d(x, weight, padding=1, groups=4))
        assert F.conv3d(x.double(), weight.double(), groups=4).dtype == torch.float64
        assert F.conv3d(x[0], weight, groups=4).shape == (4, 6, 6, 6)
        with torch.autocast("cpu", torch.bfloat16):
            assert F.conv3d(x, weight, groups=4).dtype == torch.bfloat16
    learnt = weight.clone().requires_grad_()
    with suited_to(CPU):
        F.conv3d(x, learnt, groups=4).sum().backward()
    assert learnt.grad is not None


def test_a_processor_alone_is_touched() -> None:
    with suited_to(torch.device("meta")):
        assert F.conv3d(noise(1, 4, 4, 4, 4), noise(2, 4, 1, 1, 1)).is_contiguous()


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_last_keeps_the_voxels(channels: int) -> None:
    x = noise(2, channels, 3, 4, 5)
    found = channels_last(x)
    assert torch.equal(found, x) and found.stride(1) == 1
    assert channels_last(found).data_ptr() == found.data_ptr()


def test_a_pointwise_convolution_is_a_matrix_product() -> None:
    x, weight, bias = noise(2, 3, 4, 5, 6), noise(7, 3, 1, 1, 1, seed=1), noise(7, seed=2)
    torch.testing.assert_close(pointwise(x, weight, bias), F.conv3d(x, weight, bias), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("edge", "offset", "within"), [(5, 0.0, 1e-5), (40, 3.0, 1e-5), (40, 300.0, 1e-4)])
def test_instance_norm_is_exact_however_many_voxels(edge: int, offset: float, within: float) -> None:
    x, weight, bias = noise(1, 3, edge, edge, edge) + offset, noise(3, seed=1), noise(3, seed=2)
    with torch.no_grad(), suited_to(CPU):
        found = F.batch_norm(x, None, None, weight, bias, training=True)
    exact = F.batch_norm(x.double(), None, None, weight.double(), bias.double(), training=True)
    torch.testing.assert_close(found.double(), exact, atol=within, rtol=0)


def test_moments_of_what_hardly_varies_are_taken_around_the_mean() -> None:
    x = channels_last(1e4 + noise(1, 2, 18, 18, 18))
    mean, variance = moments(x)
    torch.testing.assert_close(mean.double(), x.double().mean((0, 2, 3, 4)), atol=0, rtol=1e-6)
    torch.testing.assert_close(variance.double(), x.double().var((0, 2, 3, 4), correction=0), atol=0, rtol=1e-4)
    assert moments(channels_last(torch.full((1, 2, 4, 4, 4), 3.0)))[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("most", "asked"),
    [
        (2**30, [(-3, 2**30), (-1, 2**31 - 1)]),
        (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]),
        (0, [(-3, 2**30), (-3, 2**25)]),
    ],
)
def test_memory_is_kept_as_far_as_the_c_library_lets(
    most: int, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold for one thing without the other would be worse than what the library does by itself."""
    found: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        found.append((parameter, value))
        return int(parameter == -1 or value <= most)

    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr("ctypes.CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    keep_memory()
    assert found == asked
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    keep_memory()
    assert found == asked
