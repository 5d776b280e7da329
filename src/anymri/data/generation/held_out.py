"""Tumours of the material that are those of held-out cases: what a model is judged by must not be what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.generation.material import Tumour
from anymri.data.patients import check_names, pooled
from anymri.domain.task import Task
from anymri.volumes.store import read_case, read_labels
from anymri.volumes.volume import bounding_box

SAME_DICE = 0.9  # Above it two tumours are one: editions of a reference differ by less, patients by far more.


@dataclass(frozen=True, eq=False)
class Reference:
    """The tumour of one case.

    Attributes:
        name: Of the case.
        region: Index of the outermost region that its reference tells.
        inside: That region on the task's grid, cropped to it, (D, H, W) bool.
    """

    name: str
    region: int
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Shape:
    """A region with its sum and its centre, in voxels of the model."""

    shares: NDArray[np.uint8]
    total: int
    centre: NDArray[np.float64]


def read_reference(folder: Path, task: Task) -> Reference | None:
    """Return the tumour of a prepared case; None if its reference tells or shows none.

    Raises:
        CaseError: If the case cannot be read or is made for another task.
    """
    case = read_case(folder)
    check_names(case, folder, task)
    known = [r for r, name in enumerate(task.region_names) if name in case.known_regions]
    if not known:
        return None
    inside = (read_labels(folder) >> known[0] & 1).astype(bool)
    return Reference(case.name, known[0], inside[bounding_box(inside)]) if inside.any() else None


def recognised(tumours: Sequence[Tumour], references: Sequence[Reference], stride: int) -> dict[str, str]:
    """Return name of a tumour → name of the case whose tumour it is, mirrored along any axes or not.

    Args:
        tumours: On the model's grid.
        references: On the task's grid.
        stride: Edge of the model's voxels, in voxels of the task's grid.
    """
    found: dict[str, str] = {}
    shapes = {r: [_shape(t.shares[r]) for t in tumours] for r in sorted({reference.region for reference in references})}
    for reference in references:
        voxels = float(reference.inside.sum())
        # Of volumes further apart no Dice is that high.
        able = [
            (tumour.name, shape)
            for tumour, shape in zip(tumours, shapes[reference.region], strict=True)
            if tumour.name not in found and 2 * min(shape.total, voxels) > SAME_DICE * (shape.total + voxels)
        ]
        views = list(_views(reference.inside, stride)) if able else []
        found |= {name: reference.name for name, shape in able if any(_dice(shape, view) > SAME_DICE for view in views)}
    return found


def _views(inside: NDArray[np.bool_], stride: int) -> Iterator[_Shape]:
    """Yield a region on the model's grid in every mirroring, with that grid where it is and half a voxel further along each axis.

    A voxel more or less at the border of a tumour moves the grid that it is averaged on.
    """
    halves = (0, stride // 2) if stride > 1 else (0,)
    for axes, begins in product(product((1, -1), repeat=3), product(halves, repeat=3)):
        mirrored = inside[tuple(slice(None, None, step) for step in axes)]
        yield _shape(pooled(np.pad(mirrored, [(b, 0) for b in begins]).astype(np.uint8), stride))


def _shape(shares: NDArray[np.uint8]) -> _Shape:
    lines = [shares.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) for axis in range(3)]
    total = int(lines[0].sum())
    return _Shape(shares, total, np.array([np.arange(len(line)) @ line for line in lines]) / max(total, 1))


def _dice(one: _Shape, other: _Shape) -> float:
    """Return the Dice of two regions, one centre on the other, to whole voxels."""
    shift = np.rint(one.centre - other.centre).astype(int)
    ends = np.minimum(shift + other.shares.shape, one.shares.shape)
    here = tuple(slice(max(s, 0), e) for s, e in zip(shift, ends, strict=True))
    there = tuple(slice(max(-s, 0), e - s) for s, e in zip(shift, ends, strict=True))
    return 2 * int(np.minimum(one.shares[here], other.shares[there]).sum(dtype=np.int64)) / (one.total + other.total)
