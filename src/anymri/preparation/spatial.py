"""One grid for all images of a study: check, reorient, resample."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anymri.errors import GridMismatchError
from anymri.volumes.volume import (
    SAME_GRID_MM,
    Array,
    Grid,
    Volume,
    exact_copy,
    grid_distance_mm,
    orientation_of,
    reoriented_grid,
    resampled,
)

MAX_EXTENT_MM = 1000.0


def check_grids(grids: Mapping[str, Grid], orientation: str) -> None:
    """Check that all grids are one, up to the order and direction of their axes.

    Args:
        grids: What to call an image in an error → its grid; the first is what the others are held against.
        orientation: Axis codes to compare them in.

    Raises:
        GridMismatchError: Naming the file that differs, and how.
    """
    named = iter(grids.items())
    first_name, first = next(named)
    reference = reoriented_grid(first, orientation)
    for name, grid in named:
        turned = reoriented_grid(grid, orientation)
        advice = "register and resample the images of a study to one grid first"
        if turned.shape != reference.shape:
            found, wanted = ("x".join(map(str, g.shape)) for g in (turned, reference))
            raise GridMismatchError(f"{name}: its shape is {found} but {first_name} has {wanted} ({orientation} axes); {advice}")
        if not np.allclose(turned.spacing_mm, reference.spacing_mm, rtol=1e-2):
            found, wanted = (" x ".join(f"{s:g}" for s in g.spacing_mm) for g in (turned, reference))
            raise GridMismatchError(f"{name}: its spacing is {found} mm but {first_name} has {wanted} mm; {advice}")
        apart = grid_distance_mm(turned, reference)
        if apart > SAME_GRID_MM:
            turn = orientation_of(grid), orientation_of(first)
            codes = "" if turn[0] == turn[1] else f" ({turn[0]} against {turn[1]})"
            raise GridMismatchError(
                f"{name}: its affine differs from that of {first_name}{codes}: voxels lie up to {apart:.3g} mm apart "
                f"(at most {SAME_GRID_MM:g} allowed); {advice}"
            )


def check_extent(grid: Grid, *, file: str) -> None:
    """Check that a field of view is one of a patient, before arrays of its size are made.

    Raises:
        GridMismatchError: If it is longer than a metre.
    """
    extent = [n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)]
    if max(extent) > MAX_EXTENT_MM:
        shown = " x ".join(f"{e:.0f}" for e in extent)
        raise GridMismatchError(f"{file}: its field of view is {shown} mm; expected at most {MAX_EXTENT_MM:g}; check its spacing")


def resampled_inside(volume: Volume, foreground: Array, grid: Grid) -> tuple[Array, Array]:
    """Return an image and its foreground on another grid, linearly, without letting the background bleed into the rim.

    Each voxel is the mean of the foreground voxels around it, weighted as linear interpolation does; it is foreground itself where
    they weigh at least a half.
    """
    if exact_copy(volume.grid, grid):
        image = resampled(volume, grid, order=1).array
        return image, resampled(Volume(foreground, volume.grid), grid, order=0).array
    weight = resampled(Volume(foreground.astype(np.float32), volume.grid), grid, order=1).array
    total = resampled(Volume(np.where(foreground, volume.array, np.float32(0)), volume.grid), grid, order=1).array
    inside = weight >= 0.5
    image = np.zeros(grid.shape, dtype=np.float32)
    np.divide(total, weight, out=image, where=inside)
    return image, inside


def resampled_bits(volume: Volume, grid: Grid, regions: int) -> Volume:
    """Return region bits on another grid: each region where it fills at least half of a voxel, so nested ones stay nested."""
    if exact_copy(volume.grid, grid):
        return resampled(volume, grid, order=0)
    out = np.zeros(grid.shape, dtype=np.uint8)
    for r in range(regions):
        share = resampled(Volume(((volume.array >> r) & 1).astype(np.float32), volume.grid), grid, order=1).array
        out |= (share >= 0.5).astype(np.uint8) << r
    return Volume(out, grid)
