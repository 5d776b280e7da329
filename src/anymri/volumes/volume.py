"""Arrays on voxel grids: reorient, resample, crop. Affines map voxel indices to RAS+ millimetres."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage

from anymri.domain.case import Lattice, Shape
from anymri.errors import GridMismatchError

Array = NDArray[Any]
Affine = NDArray[np.float64]
Box = tuple[slice, slice, slice]
Spacing = tuple[float, float, float]

# Headers hold float32 and quaternions: one grid written by two tools differs by some hundredths of a millimetre at its corners.
SAME_GRID_MM = 0.1
# Below this share of a voxel at every corner, two lattices are one and copying is more faithful than interpolating.
_EXACT_VOXELS = 0.01


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid.

    Attributes:
        shape: Voxels along D, H, W.
        affine: Voxel indices → RAS+ mm, float64, shape (4, 4).
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) != 3:
            raise ValueError(f"a grid has three axes and a 4 by 4 affine, not {self.shape} and {affine.shape}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @classmethod
    def from_lattice(cls, lattice: Lattice) -> Grid:
        """Return the grid that case.json describes."""
        return cls(lattice.shape, np.array(lattice.affine, dtype=np.float64))

    def lattice(self) -> Lattice:
        """Return the same in plain numbers."""
        return Lattice(self.shape, tuple(tuple(float(v) for v in row) for row in self.affine))  # type: ignore[arg-type]

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel edge lengths along D, H, W."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def diagonal_mm(self) -> float:
        """Distance between the outer corners of the field of view: √Σ(voxels × spacing)²."""
        return float(np.linalg.norm(np.array(self.shape) * np.array(self.spacing_mm)))


@dataclass(frozen=True, eq=False)
class Volume:
    """An image.

    Attributes:
        array: Voxels, shape (D, H, W).
        grid: Where they lie.
    """

    array: Array
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise GridMismatchError(f"array of shape {tuple(self.array.shape)} does not fit a grid of shape {self.grid.shape}")


def corners(shape: Shape) -> Affine:
    """Return the indices of the eight corner voxels in homogeneous coordinates, shape (4, 8)."""
    return np.array([(*c, 1.0) for c in itertools.product(*((0.0, n - 1.0) for n in shape))]).T


def grid_distance_mm(a: Grid, b: Grid) -> float:
    """Return how far apart the same voxel of two grids lies at most, in mm; inf if the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    apart = (a.affine - b.affine) @ corners(a.shape)
    return float(np.linalg.norm(apart[:3], axis=0).max())


def same_grid(a: Grid, b: Grid, *, tolerance_mm: float = SAME_GRID_MM) -> bool:
    """Return whether two grids have one shape and no voxel of theirs is further apart than the tolerance."""
    return grid_distance_mm(a, b) <= tolerance_mm


def orientation_of(grid: Grid) -> str:
    """Return the axis codes nearest to the grid's axes, such as "LPS"."""
    return "".join(str(c) for c in orientations.aff2axcodes(grid.affine))


def _turn(grid: Grid, codes: str) -> Array:
    start = orientations.io_orientation(grid.affine)
    return orientations.ornt_transform(start, orientations.axcodes2ornt(tuple(codes)))


def reoriented_grid(grid: Grid, codes: str) -> Grid:
    """Return the grid with its axes permuted and flipped to point along these codes as nearly as they can."""
    turn = _turn(grid, codes)
    shape = [0, 0, 0]
    for axis, (to, _) in enumerate(turn):
        shape[int(to)] = grid.shape[axis]
    return Grid((shape[0], shape[1], shape[2]), grid.affine @ orientations.inv_ornt_aff(turn, grid.shape))


def reoriented(volume: Volume, codes: str) -> Volume:
    """Return the volume with its axes permuted and flipped to point along these codes; the voxels are a view."""
    array = orientations.apply_orientation(volume.array, _turn(volume.grid, codes))
    return Volume(array, reoriented_grid(volume.grid, codes))


def respaced_grid(grid: Grid, spacing_mm: Spacing) -> Grid:
    """Return a grid of this spacing over the same field of view, with the same axes and centre.

    A grid that has the spacing already, to a thousandth, is returned as it is, so that nothing is interpolated without need.
    """
    old, new = np.array(grid.spacing_mm), np.array(spacing_mm, dtype=np.float64)
    if np.allclose(old, new, rtol=1e-3, atol=0.0):
        return grid
    size = np.maximum(1, np.floor(np.array(grid.shape) * old / new + 0.5)).astype(int)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] / old * new
    centre = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((size - 1) / 2)
    return Grid((int(size[0]), int(size[1]), int(size[2])), affine)


def cropped_grid(grid: Grid, box: Box) -> Grid:
    """Return the part of a grid inside a box."""
    start = np.array([s.start for s in box], dtype=np.float64)
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    d, h, w = (s.stop - s.start for s in box)
    return Grid((d, h, w), affine)


def cropped(volume: Volume, box: Box) -> Volume:
    """Return the part of a volume inside a box; the voxels are a view."""
    return Volume(volume.array[box], cropped_grid(volume.grid, box))


def bounding_box(mask: Array, margin: int = 0) -> Box:
    """Return the smallest box around the voxels that are set, widened by a margin inside the array; everything if none is set."""
    # Planes first: they lie together in memory and are left at the first voxel that is set; what is empty is not read again.
    planes = np.any(mask, axis=(1, 2))
    if not planes.any():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])
    first, last = np.flatnonzero(planes)[[0, -1]]
    face = np.any(mask[first : last + 1], axis=0)
    lines = (planes, np.any(face, axis=1), np.any(face, axis=0))
    ends = [np.flatnonzero(line)[[0, -1]] for line in lines]
    d, h, w = (slice(max(int(a) - margin, 0), min(int(b) + 1 + margin, n)) for (a, b), n in zip(ends, mask.shape, strict=True))
    return d, h, w


def _index_map(source: Grid, target: Grid) -> Affine:
    """Return the matrix that takes voxel indices of the target to voxel indices of the source."""
    return np.linalg.inv(source.affine) @ target.affine


def _signed_permutation(index_map: Affine, shape: Shape) -> Affine | None:
    """Return the map rounded to permutation, flips and an integer offset, or None if that moves any corner noticeably."""
    rounded = np.rint(index_map)
    linear = np.abs(rounded[:3, :3])
    if not ((linear.sum(axis=0) == 1).all() and (linear.sum(axis=1) == 1).all()):
        return None
    apart = np.abs((index_map - rounded) @ corners(shape))[:3].max()
    return rounded if apart <= _EXACT_VOXELS else None


def exact_copy(source: Grid, target: Grid) -> bool:
    """Return whether the target's voxels lie on the source's, so that resampling only copies."""
    return _signed_permutation(_index_map(source, target), target.shape) is not None


def _copied(array: Array, index_map: Affine, shape: Shape, fill: float) -> Array:
    # Source axis i runs along target axis axes[i], in steps of +1 or -1.
    axes = [int(np.flatnonzero(index_map[i, :3])[0]) for i in range(3)]
    out = np.full(shape, fill, dtype=array.dtype)
    take: list[slice] = []
    put: list[slice] = [slice(None)] * 3
    for i, axis in enumerate(axes):
        step, offset = int(index_map[i, axis]), int(index_map[i, 3])
        where = offset + step * np.arange(shape[axis])
        inside = np.flatnonzero((where >= 0) & (where < array.shape[i]))
        if not inside.size:
            return out
        first, last = int(where[inside[0]]), int(where[inside[-1]])
        low, high = min(first, last), max(first, last)
        take.append(slice(low, high + 1) if step > 0 else slice(high, low - 1 if low else None, -1))
        put[axis] = slice(int(inside[0]), int(inside[-1]) + 1)
    moved = array[tuple(take)]
    out[tuple(put)] = np.transpose(moved, np.argsort(axes))
    return out


def resampled(volume: Volume, grid: Grid, *, order: Literal[0, 1, 3], fill: float = 0.0) -> Volume:
    """Return the volume on another grid.

    Where the lattices coincide up to permutation, flips and whole voxels, this is an exact copy. Otherwise it interpolates: nearest
    neighbour (0), linear (1) or cubic spline (3), after smoothing along axes that become coarser, so that detail does not alias.

    Args:
        volume: What to resample.
        grid: Where to.
        order: Order of the interpolation.
        fill: Value outside the volume; its outermost voxels reach one voxel further.

    Returns:
        Array of the volume's type with order 0 or an exact copy, else float32.
    """
    index_map = _index_map(volume.grid, grid)
    exact = _signed_permutation(index_map, grid.shape)
    if exact is not None:
        return Volume(_copied(volume.array, exact, grid.shape, fill), grid)
    array = volume.array if order == 0 else _smoothed(volume.array.astype(np.float32, copy=False), index_map)
    # Voxels have an extent: beyond the centre of the outermost one the image goes on as it ends there, not as the fill.
    index_map[:3, 3] += 1.0
    out = ndimage.affine_transform(
        np.pad(array.view(np.uint8) if array.dtype == bool else array, 1, mode="edge"),
        index_map,
        output_shape=grid.shape,
        order=order,
        mode="constant",
        cval=fill,
        prefilter=order > 1,
    )
    return Volume(out.astype(volume.array.dtype, copy=False) if order == 0 else out, grid)


def _smoothed(array: Array, index_map: Affine) -> Array:
    # Steps of the target measured in source voxels; a coarser grid needs the finer detail gone first.
    step = np.linalg.norm(index_map[:3, :3], axis=1)
    sigma = np.maximum(0.0, (step - 1.0) / 2.0)
    return ndimage.gaussian_filter(array, sigma) if (sigma > 0.1).any() else array
