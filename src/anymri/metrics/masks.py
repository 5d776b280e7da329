"""One mask against one reference: overlap, surface distances, volumes.

A surface is the set of voxels of a mask that touch the outside through a face (erosion with 6-connectivity; outside the grid is
outside the mask). Distances run between voxel centres, in mm. Whatever a reference alone determines is computed once by
``prepare_reference`` and shared by all predictions that ``compare`` holds against it.

Values are honest here: distances are 0.0 between two empty masks and inf if exactly one is empty; a ratio without a denominator is
NaN. What such a value scores is the protocol's choice: metrics/protocol.py.
"""

# scipy comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from anymri.errors import GridMismatchError
from anymri.volumes.volume import Box, Spacing, bounding_box

Mask = NDArray[np.bool_] | NDArray[np.uint8]
_Bools = NDArray[np.bool_]
_Indices = NDArray[np.int64]
Distances = NDArray[np.float64]

# A distance of exactly the tolerance counts as within it, whatever the last bits of spacing times voxels are.
_ROUNDING_MM = 1e-6
# Nearest neighbours by a tree cost about 4 µs a point, a distance map of a whole BraTS grid about 2 s once: only a prediction that
# is noise all over the grid has so large a surface that the map pays.
_TREE_POINTS = 200_000


@dataclass(frozen=True, eq=False)
class _Body:
    """A mask cropped to what is set, the box it was cut from, and its surface voxels as indices of the grid, shape (S, 3)."""

    crop: _Bools
    box: Box
    surface: _Indices

    @cached_property
    def voxels(self) -> int:
        return int(np.count_nonzero(self.crop))


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference mask with all that can be known before a prediction is seen.

    Attributes:
        shape: Voxels of the scored grid along D, H, W.
        spacing_mm: Voxel edge lengths along D, H, W.
        body: The mask and its surface.
    """

    shape: tuple[int, int, int]
    spacing_mm: Spacing
    body: _Body

    @property
    def diagonal_mm(self) -> float:
        """Distance between the outer corners of the scored grid, in mm."""
        return math.hypot(*(n * s for n, s in zip(self.shape, self.spacing_mm, strict=True)))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return math.prod(self.spacing_mm) / 1000.0

    @cached_property
    def tree(self) -> KDTree:
        """The surface voxels in mm as a search tree."""
        return _tree(self.body.surface, self.spacing_mm)

    @cached_property
    def distance_map_mm(self) -> NDArray[np.float64]:
        """Distance of every voxel of the grid to the surface, in mm, shape (D, H, W)."""
        elsewhere = np.ones(self.shape, dtype=np.uint8)
        elsewhere[tuple(self.body.surface.T)] = 0
        return np.asarray(ndimage.distance_transform_edt(elsewhere, sampling=self.spacing_mm), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A prediction held against a reference.

    Attributes:
        voxel_ml: Volume of a voxel in millilitres.
        diagonal_mm: Distance between the outer corners of the grid.
        predicted: Voxels of the prediction.
        referred: Voxels of the reference.
        common: Voxels of both.
        to_reference_mm: For each surface voxel of the prediction its distance to the reference's surface; empty if either mask is.
        to_prediction_mm: The other way round.
    """

    voxel_ml: float
    diagonal_mm: float
    predicted: int
    referred: int
    common: int
    to_reference_mm: Distances
    to_prediction_mm: Distances

    @property
    def both_empty(self) -> bool:
        """Neither mask has a voxel."""
        return self.predicted == 0 == self.referred

    @property
    def prediction_empty(self) -> bool:
        """The prediction alone has no voxel: what there is was missed."""
        return self.predicted == 0 < self.referred

    @property
    def reference_empty(self) -> bool:
        """The reference alone has no voxel: what was predicted is invented."""
        return self.referred == 0 < self.predicted

    @property
    def dice(self) -> float:
        """Twice the common voxels over the sum of both; NaN if both are empty."""
        return _ratio(2 * self.common, self.predicted + self.referred)

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was found; NaN if the reference is empty."""
        return _ratio(self.common, self.referred)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right; NaN if the prediction is empty."""
        return _ratio(self.common, self.predicted)

    @property
    def volume_ml(self) -> float:
        """Volume of the prediction."""
        return self.predicted * self.voxel_ml

    @property
    def reference_volume_ml(self) -> float:
        """Volume of the reference."""
        return self.referred * self.voxel_ml

    @property
    def hausdorff_95_mm(self) -> float:
        """95th percentile of both directions' distances pooled; see the function of this name."""
        return self._between_empties(lambda: _percentile_95(np.concatenate((self.to_reference_mm, self.to_prediction_mm))))

    @property
    def directed_hausdorff_95_mm(self) -> float:
        """Larger of the two directed 95th percentiles; see the function of this name."""
        return self._between_empties(lambda: max(_percentile_95(self.to_reference_mm), _percentile_95(self.to_prediction_mm)))

    def surface_dice(self, tolerance_mm: float) -> float:
        """Return the share of surface voxels, of both masks, that lie within the tolerance of the other surface.

        Returns:
            0 to 1; 0.0 if exactly one mask is empty, NaN if both are.
        """
        within = tolerance_mm + _ROUNDING_MM
        near = sum(int(np.count_nonzero(d <= within)) for d in (self.to_reference_mm, self.to_prediction_mm))
        if self.prediction_empty or self.reference_empty:
            return 0.0
        return _ratio(near, self.to_reference_mm.size + self.to_prediction_mm.size)

    def _between_empties(self, distance_mm: Callable[[], float]) -> float:
        if self.both_empty:
            return 0.0
        if self.prediction_empty or self.reference_empty:
            return math.inf
        return distance_mm()


def prepare_reference(truth: Mask, spacing_mm: Spacing) -> Reference:
    """Return a reference that any number of predictions can be compared with.

    Args:
        truth: Booleans, or uint8 of 0 and 1, shape (D, H, W).
        spacing_mm: Voxel edge lengths along D, H, W.

    Raises:
        ValueError: If the mask is not binary or not three-dimensional, or a spacing is not positive.
    """
    if len(spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):
        raise ValueError(f"spacing must be three positive lengths in mm, not {spacing_mm}")
    body = _body(truth)
    d, h, w = truth.shape
    return Reference((d, h, w), (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])), body)


def compare(prediction: Mask, reference: Reference) -> Comparison:
    """Hold a prediction against a reference.

    Args:
        prediction: Booleans, or uint8 of 0 and 1, on the reference's grid. It may lie anywhere on it.
        reference: What it should have been.

    Raises:
        GridMismatchError: If the shapes differ.
        ValueError: If the prediction is not binary.
    """
    if tuple(prediction.shape) != reference.shape:
        raise GridMismatchError(
            f"prediction of shape {tuple(prediction.shape)} does not fit a reference of {reference.shape}; bring both to one grid"
        )
    predicted, referred = _body(prediction), reference.body
    there = back = np.empty(0)
    if predicted.voxels and referred.voxels:
        there = _to_reference_mm(predicted.surface, reference)
        tree = _tree(predicted.surface, reference.spacing_mm)
        back = np.asarray(tree.query(_millimetres(referred.surface, reference.spacing_mm))[0], dtype=np.float64)
    return Comparison(
        voxel_ml=reference.voxel_ml,
        diagonal_mm=reference.diagonal_mm,
        predicted=predicted.voxels,
        referred=referred.voxels,
        common=_common(predicted, referred),
        to_reference_mm=there,
        to_prediction_mm=back,
    )


def dice(mask: Mask, target: Mask) -> float:
    """Return twice the common voxels over the sum of both; NaN if both masks are empty.

    Raises:
        GridMismatchError: If the shapes differ.

    Source: Dice, 1945.
    """
    return _counted(mask, target).dice


def sensitivity(mask: Mask, target: Mask) -> float:
    """Return the share of the target that the mask covers; NaN if the target is empty.

    Raises:
        GridMismatchError: If the shapes differ.
    """
    return _counted(mask, target).sensitivity


def precision(mask: Mask, target: Mask) -> float:
    """Return the share of the mask that lies in the target; NaN if the mask is empty.

    Raises:
        GridMismatchError: If the shapes differ.
    """
    return _counted(mask, target).precision


def volume_ml(mask: Mask, spacing_mm: Spacing) -> float:
    """Return the volume of a mask in millilitres."""
    return int(np.count_nonzero(_binary(mask))) * math.prod(spacing_mm) / 1000.0


def hausdorff_95_mm(mask: Mask, target: Mask, spacing_mm: Spacing) -> float:
    """Return the 95th percentile of the pooled distances between the two surfaces.

    Args:
        mask: Predicted region, shape (D, H, W).
        target: Reference region on the same grid.
        spacing_mm: Voxel edge lengths along D, H, W.

    Returns:
        Millimetres; 0.0 if both are empty, inf if exactly one is.

    Raises:
        GridMismatchError: If the shapes differ.

    Source: Huttenlocher et al., 1993; pooled as in medpy. MONAI takes the larger of the two directed percentiles:
    ``directed_hausdorff_95_mm``. What an infinite value scores is the protocol's choice: metrics/protocol.py.
    """
    return compare(mask, prepare_reference(target, spacing_mm)).hausdorff_95_mm


def directed_hausdorff_95_mm(mask: Mask, target: Mask, spacing_mm: Spacing) -> float:
    """Return the larger of the two 95th percentiles of the distances from one surface to the other.

    Args:
        mask: Predicted region, shape (D, H, W).
        target: Reference region on the same grid.
        spacing_mm: Voxel edge lengths along D, H, W.

    Returns:
        Millimetres; 0.0 if both are empty, inf if exactly one is.

    Raises:
        GridMismatchError: If the shapes differ.

    Source: as MONAI's compute_hausdorff_distance with percentile 95.
    """
    return compare(mask, prepare_reference(target, spacing_mm)).directed_hausdorff_95_mm


def surface_dice(mask: Mask, target: Mask, spacing_mm: Spacing, *, tolerance_mm: float) -> float:
    """Return the share of surface voxels, of both masks, that lie within a tolerance of the other surface.

    Args:
        mask: Predicted region, shape (D, H, W).
        target: Reference region on the same grid.
        spacing_mm: Voxel edge lengths along D, H, W.
        tolerance_mm: A distance of exactly this counts as within.

    Returns:
        0 to 1; 0.0 if exactly one mask is empty, NaN if both are.

    Raises:
        GridMismatchError: If the shapes differ.

    Source: Nikolov et al., 2021. Counted over surface voxels, as MONAI does by default; the authors' own program (surface-distance)
    weighs surface elements between voxels by their area: its values are one to five hundredths higher where masks nearly agree.
    """
    return compare(mask, prepare_reference(target, spacing_mm)).surface_dice(tolerance_mm)


def _binary(mask: Mask) -> Mask:
    # A bit field of regions taken for a mask would score as something plausible, so anything but 0 and 1 is refused.
    if mask.ndim != 3 or mask.dtype.name not in ("bool", "uint8") or (mask.dtype == np.uint8 and mask.size and mask.max() > 1):
        raise ValueError(f"a mask is bool, or uint8 of 0 and 1, with three axes; found {mask.dtype} of shape {mask.shape}")
    return mask


def _body(mask: Mask) -> _Body:
    box = bounding_box(_binary(mask))
    crop = np.ascontiguousarray(mask[box]).view(np.bool_)
    start = np.array([s.start for s in box], dtype=np.int64)
    return _Body(crop, box, _surface(crop) + start)


def _surface(crop: _Bools) -> _Indices:
    """Return the indices of the voxels that touch the outside through a face, shape (S, 3)."""
    if not crop.any():
        return np.empty((0, 3), dtype=np.int64)
    padded = np.pad(crop, 1)
    inside = crop.copy()
    for axis in range(3):
        for neighbour in (slice(0, -2), slice(2, None)):
            window = [slice(1, -1)] * 3
            window[axis] = neighbour
            inside &= padded[tuple(window)]
    flat = np.flatnonzero(crop & ~inside)
    return np.stack(np.unravel_index(flat, crop.shape), axis=1).astype(np.int64, copy=False)


def _common(a: _Body, b: _Body) -> int:
    low = [max(s.start, t.start) for s, t in zip(a.box, b.box, strict=True)]
    high = [min(s.stop, t.stop) for s, t in zip(a.box, b.box, strict=True)]
    if any(start >= stop for start, stop in zip(low, high, strict=True)):
        return 0
    part_a, part_b = (
        body.crop[tuple(slice(x - s.start, y - s.start) for x, y, s in zip(low, high, body.box, strict=True))] for body in (a, b)
    )
    return int(np.count_nonzero(part_a & part_b))


def _counted(mask: Mask, target: Mask) -> Comparison:
    """Compare voxels alone: no distances are computed."""
    if mask.shape != target.shape:
        raise GridMismatchError(f"mask of shape {mask.shape} does not fit a target of shape {target.shape}; bring both to one grid")
    a, b = _binary(mask).view(np.bool_), _binary(target).view(np.bool_)
    counts = (int(np.count_nonzero(m)) for m in (a, b, a & b))
    return Comparison(math.nan, math.nan, *counts, to_reference_mm=np.empty(0), to_prediction_mm=np.empty(0))


def _millimetres(surface: _Indices, spacing_mm: Spacing) -> Distances:
    return surface * np.array(spacing_mm, dtype=np.float64)


def _tree(surface: _Indices, spacing_mm: Spacing) -> KDTree:
    # On a lattice, splitting boxes in the middle is faster to build than at medians, and three times faster to search on noise.
    return KDTree(_millimetres(surface, spacing_mm), leafsize=32, compact_nodes=False, balanced_tree=False)


def _to_reference_mm(surface: _Indices, reference: Reference) -> Distances:
    if len(surface) > _TREE_POINTS:
        return reference.distance_map_mm[tuple(surface.T)]
    return np.asarray(reference.tree.query(_millimetres(surface, reference.spacing_mm))[0], dtype=np.float64)


def _percentile_95(distances_mm: Distances) -> float:
    return float(np.percentile(distances_mm, 95))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
