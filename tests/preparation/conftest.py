"""Small studies made by code: an ellipsoid for a brain, nested ellipsoids for a tumour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anymri.domain.case import Source, Study
from anymri.domain.task import GLIOMA
from anymri.volumes.nifti import write_nifti
from anymri.volumes.volume import Grid, Volume

SHAPE = (30, 34, 26)
AFFINE = np.array([[-1.0, 0, 0, 12.5], [0, -1.0, 0, 30.25], [0, 0, 1.0, -7.0], [0, 0, 0, 1]])


def distance(shape: tuple[int, int, int], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Return 1 on the surface of an ellipsoid, less inside."""
    axes = [((np.arange(n) - c) / r) ** 2 for n, c, r in zip(shape, centre, radii, strict=True)]
    return np.sqrt(axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :])


def brain(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    centre = tuple((n - 1) / 2 for n in shape)
    inside = distance(shape, centre, tuple(n * 0.36 for n in shape)) < 1
    values = np.random.default_rng(seed).normal(300, 60, shape).clip(20, 900)
    return np.where(inside, np.rint(values), 0).astype(np.float32)


def tumour(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    for value, radius in ((2, 7.0), (4, 5.0), (1, 3.0)):
        labels[distance(shape, (14, 16, 12), (radius,) * 3) < 1] = value
    return labels


@pytest.fixture
def grid() -> Grid:
    return Grid(SHAPE, AFFINE)


@pytest.fixture
def images(grid: Grid) -> dict[str, Volume]:
    return {name: Volume(brain(seed), grid) for seed, name in enumerate(GLIOMA.modalities.names)}


@pytest.fixture
def labels(grid: Grid) -> Volume:
    return Volume(tumour(), grid)


Writer = Callable[..., Study]


@pytest.fixture
def write_study(tmp_path: Path) -> Writer:
    """Return a function that writes images and labels and returns them as a study."""

    def write(name: str, images: dict[str, Volume], labels: Volume | None = None, scheme: str = "brats2021") -> Study:
        sources = {}
        for modality, volume in images.items():
            path = tmp_path / "raw" / name / f"{modality}.nii.gz"
            write_nifti(path, Volume(volume.array.astype(np.float32), volume.grid))
            sources[modality] = Source(path)
        if labels is None:
            return Study(name, sources)
        path = tmp_path / "raw" / name / "labels.nii.gz"
        write_nifti(path, Volume(labels.array.astype(np.uint8), labels.grid))
        return Study(name, sources, Source(path), scheme)

    return write
