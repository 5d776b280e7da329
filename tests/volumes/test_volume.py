"""Grids and resampling against what their affines say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from anymri.errors import GridMismatchError
from anymri.volumes.volume import (
    Grid,
    Volume,
    bounding_box,
    cropped,
    cropped_grid,
    exact_copy,
    grid_distance_mm,
    orientation_of,
    reoriented,
    reoriented_grid,
    resampled,
    respaced_grid,
    same_grid,
)

ORIENTATIONS = ["".join(c) for order in itertools.permutations(("LR", "PA", "SI")) for c in itertools.product(*order)]


def oblique(degrees: float = 12.0) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * [0.9, 1.1, 2.5]
    affine[:3, 3] = [-40.0, 17.5, 3.0]
    return affine


@pytest.fixture
def volume() -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.normal(size=(7, 9, 5)).astype(np.float32), Grid((7, 9, 5), oblique()))


def positions(grid: Grid) -> np.ndarray:
    """Return the position of every voxel in mm, shape (D, H, W, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def test_a_grid_measures_itself() -> None:
    grid = Grid((240, 240, 155), np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert grid.diagonal_mm == pytest.approx(373.13, abs=0.005)
    assert grid.voxel_ml == pytest.approx(0.001)
    assert Grid((4, 5, 6), oblique()).spacing_mm == pytest.approx((0.9, 1.1, 2.5))


def test_a_grid_cannot_be_changed() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2.0


def test_lattices_keep_every_bit() -> None:
    grid = Grid((4, 5, 6), oblique(7.123456789))
    again = Grid.from_lattice(grid.lattice())
    assert again.shape == grid.shape
    assert np.array_equal(again.affine, grid.affine)


def test_a_volume_fits_its_grid() -> None:
    with pytest.raises(GridMismatchError, match=r"\(2, 3, 4\) does not fit a grid of shape \(4, 3, 2\)"):
        Volume(np.zeros((2, 3, 4)), Grid((4, 3, 2), np.eye(4)))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_reorienting_moves_no_voxel(volume: Volume, codes: str) -> None:
    turned = reoriented(volume, codes)
    assert orientation_of(turned.grid) == codes
    assert np.allclose(reoriented_grid(volume.grid, codes).affine, turned.grid.affine)
    here = {tuple(np.round(p, 4)): v for p, v in zip(positions(volume.grid).reshape(-1, 3), volume.array.ravel(), strict=True)}
    there = {tuple(np.round(p, 4)): v for p, v in zip(positions(turned.grid).reshape(-1, 3), turned.array.ravel(), strict=True)}
    assert here == there


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_going_back_after_reorienting_and_cropping_is_exact(volume: Volume, codes: str) -> None:
    part = cropped(reoriented(volume, codes), (slice(1, 4), slice(0, 4), slice(2, 5)))
    assert exact_copy(part.grid, volume.grid)
    back = resampled(part, volume.grid, order=1, fill=-9.0)
    inside = back.array != -9.0
    assert inside.sum() == part.array.size
    assert np.array_equal(back.array[inside], volume.array[inside])


def test_an_exact_copy_keeps_type_and_reaches_outside(volume: Volume) -> None:
    labels = Volume((volume.array > 0).astype(np.uint8), volume.grid)
    box = (slice(2, 6), slice(1, 9), slice(0, 5))
    part = resampled(labels, cropped_grid(volume.grid, box), order=0)
    assert part.array.dtype == np.uint8
    assert np.array_equal(part.array, labels.array[box])
    beyond = Grid((3, 3, 3), cropped_grid(volume.grid, (slice(40, 43), slice(0, 3), slice(0, 3))).affine)
    assert not resampled(labels, beyond, order=0).array.any()


@pytest.mark.parametrize("order", [1, 3])
def test_interpolation_keeps_a_linear_ramp(order: int) -> None:
    grid = Grid((12, 12, 12), np.diag([1.0, 1.0, 2.0, 1.0]))
    slope = np.array([2.0, -1.0, 0.5])
    ramp = Volume((positions(grid) @ slope).astype(np.float32), grid)
    target = respaced_grid(grid, (0.7, 0.7, 0.7))
    found = resampled(ramp, target, order=order).array  # type: ignore[arg-type]
    inner = (slice(4, -4), slice(4, -4), slice(8, -8))
    assert np.allclose(found[inner], (positions(target) @ slope)[inner], atol=0.05)


def test_the_rim_goes_on_to_the_edge_of_its_voxels() -> None:
    thick = Volume(np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.diag([1.0, 1.0, 5.0, 1.0])))
    fine = resampled(thick, respaced_grid(thick.grid, (1.0, 1.0, 1.0)), order=1)
    assert fine.array.shape == (4, 4, 20)
    assert np.allclose(fine.array, 1.0)


def test_coarser_grids_average_rather_than_skip() -> None:
    stripes = np.zeros((32, 8, 8), np.float32)
    stripes[::2] = 1.0
    volume = Volume(stripes, Grid((32, 8, 8), np.eye(4)))
    coarse = resampled(volume, respaced_grid(volume.grid, (4.0, 1.0, 1.0)), order=1)
    assert np.abs(coarse.array[1:-1] - 0.5).max() < 0.1


def test_booleans_come_back_as_booleans() -> None:
    mask = Volume(np.ones((4, 4, 4), bool), Grid((4, 4, 4), np.eye(4)))
    assert resampled(mask, respaced_grid(mask.grid, (0.5, 0.5, 0.5)), order=0).array.dtype == bool


def test_respacing_keeps_the_centre() -> None:
    grid = Grid((10, 11, 12), oblique())
    target = respaced_grid(grid, (1.0, 1.0, 1.0))
    assert target.spacing_mm == pytest.approx((1.0, 1.0, 1.0))
    assert positions(target).mean((0, 1, 2)) == pytest.approx(positions(grid).mean((0, 1, 2)))
    assert target.shape == (9, 12, 30)


def test_a_spacing_that_is_there_already_changes_nothing() -> None:
    grid = Grid((4, 4, 4), np.diag([-1.0002, 1.0, 0.9999, 1.0]))
    assert respaced_grid(grid, (1.0, 1.0, 1.0)) is grid


def test_same_grid_measures_the_farthest_corner() -> None:
    grid = Grid((100, 100, 100), np.eye(4))
    scaled = Grid(grid.shape, np.diag([1.002, 1.0, 1.0, 1.0]))
    assert grid_distance_mm(grid, scaled) == pytest.approx(0.198)
    assert not same_grid(grid, scaled)
    assert same_grid(grid, scaled, tolerance_mm=0.2)
    assert grid_distance_mm(grid, Grid((100, 100, 99), np.eye(4))) == float("inf")


def test_bounding_box_with_margin_stays_inside() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[1:3, 4:6, 8] = True
    assert bounding_box(mask) == (slice(1, 3), slice(4, 6), slice(8, 9))
    assert bounding_box(mask, 2) == (slice(0, 5), slice(2, 8), slice(6, 10))
    assert bounding_box(np.zeros((2, 3, 4), bool)) == (slice(0, 2), slice(0, 3), slice(0, 4))
