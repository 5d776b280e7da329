"""Label maps made by code: a head of shells with a brain in it, and a tumour of shells."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anymri.volumes.nifti import write_nifti
from anymri.volumes.volume import Array, Grid, Volume

SKULL, SULCUS, CORTEX, WHITE, VENTRICLE = 507, 24, 3, 41, 4
EDEMA, CORE, ENHANCING = 1, 2, 3


def radius(extent: int) -> Array:
    """Return how far voxels lie from the middle of a cube."""
    axis = np.arange(extent) - (extent - 1) / 2
    return np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)


def head(extent: int = 56) -> Array:
    """Return a map of a head: a ventricle of 5 mm, white matter to 16, cortex to 20, fluid to 22, skull to 25."""
    r = radius(extent)
    out = np.zeros((extent,) * 3, np.int16)
    for limit, label in ((25, SKULL), (22, SULCUS), (20, CORTEX), (16, WHITE), (5, VENTRICLE)):
        out[r < limit] = label
    return out


def tumour(extent: int = 40) -> Array:
    """Return a map of a tumour: core of 4 mm, enhancing to 6, edema to 10."""
    r = radius(extent)
    return np.select([r < 4, r < 6, r < 10], [CORE, ENHANCING, EDEMA], 0).astype(np.int16)


def write_map(path: Path, labels: Array) -> None:
    """Write a map with axes along left, posterior, superior, 1 mm."""
    write_nifti(path, Volume(labels, Grid(labels.shape, np.diag([-1.0, -1.0, 1.0, 1.0]))))


def write_material(folder: Path) -> Path:
    """Write one anatomy and two tumours; return the folder."""
    write_map(folder / "anatomies" / "head.nii.gz", head())
    write_map(folder / "tumours" / "a.nii.gz", tumour())
    write_map(folder / "tumours" / "b.nii.gz", tumour(extent=30))
    return folder
