"""Places: fields between their nodes are torch's, sampling is scipy's, matrices are rotations with scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from anymri.data.generation.geometry import at_nearest, between, coarse_size, drawn_matrix, placed, random_field, spread

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [(8, 12, 9), (64, 5, 16)])
def test_a_field_between_its_nodes(size: tuple[int, int, int]) -> None:
    coarse = coarse_size(size, 4)
    assert min(coarse) >= 2
    field = random_field(2, coarse, 3, CPU)
    expected = F.interpolate(field[None], size=size, mode="trilinear", align_corners=True)[0]
    torch.testing.assert_close(spread(field, size), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(field, random_field(2, coarse, 3, CPU)) and not torch.equal(field, random_field(2, coarse, 4, CPU))


def test_sampling_is_scipys() -> None:
    rng = np.random.default_rng(0)
    matrix, origin = drawn_matrix(rng, 40.0, 0.2), np.array([5.0, 4.2, 6.1])
    volume = np.pad(rng.integers(0, 200, (9, 8, 11)), 1).astype(np.uint8)
    place = placed((7, 6, 8), matrix, origin, torch.zeros((3, 7, 6, 8)))
    offset = origin - matrix @ (np.array([6, 5, 7]) / 2)
    for found, order in (
        (at_nearest(torch.from_numpy(volume), place, np.zeros(3)), 0),
        (between(torch.from_numpy(volume)[None].float(), place)[0], 1),
    ):
        expected = ndimage.affine_transform(volume.astype(float), matrix, offset=offset, output_shape=(7, 6, 8), order=order)
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-2)


def test_matrices_are_rotations_with_scaling() -> None:
    for seed in range(20):
        matrix = drawn_matrix(np.random.default_rng(seed), 180.0, 0.3)
        scale = np.cbrt(np.linalg.det(matrix))
        np.testing.assert_allclose(matrix @ matrix.T, scale**2 * np.eye(3), atol=1e-12)
        assert 1 / 1.3 <= scale <= 1.3
    assert np.array_equal(drawn_matrix(np.random.default_rng(0), 0.0, 0.0), np.eye(3))
