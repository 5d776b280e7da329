"""Prepared cases in memory, on the grid that a model works on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anymri.domain.case import Case
from anymri.domain.task import Task
from anymri.errors import CaseError
from anymri.volumes.store import read_case, read_image, read_labels

CENTRES_PER_RING = 2000
Intensity = Literal["z_score", "min_max"]


@dataclass(frozen=True, eq=False)
class Patient:
    """One case on a grid of ``stride`` voxels of the prepared one.

    Attributes:
        name: Of the case.
        image: Intensities (M, D, H, W), float16; zero where a modality is absent.
        present: Which modalities are at hand, (M,) bool.
        shares: Share of each voxel in each region times stride³, (R, D, H, W) uint8.
        known: Which regions the reference tells, (R,) bool.
        centres: For each known region without the next known one inside it, voxels (n, 3) for centres of patches; no empty ones.
    """

    name: str
    image: NDArray[np.float16]
    present: NDArray[np.bool_]
    shares: NDArray[np.uint8]
    known: NDArray[np.bool_]
    centres: tuple[NDArray[np.int64], ...]


def pooled(array: NDArray[Any], stride: int) -> NDArray[Any]:
    """Return sums over cubes of ``stride`` voxels of the last three axes, in the array's type; beyond the far border are zeros."""
    if stride == 1:
        return array
    *lead, d, h, w = array.shape
    pads = [(0, 0)] * len(lead) + [(0, -n % stride) for n in (d, h, w)]
    padded = np.pad(array, pads) if any(p[1] for p in pads) else array
    for axis in (-3, -2, -1):  # Sums of slices take a seventh of the time of np.add.reduceat.
        first, *others = (padded[(..., slice(start, None, stride), *[slice(None)] * (-1 - axis))] for start in range(stride))
        padded = first.copy()
        for other in others:
            padded += other
    return padded


def scaled(image_MDHW: NDArray[Any], intensity: Intensity) -> NDArray[Any]:
    """Return stored images as a network is to see them, zero outside the foreground.

    Stored voxels are z-scores, and of the foreground none is exactly 0. ``min_max`` maps the darkest of it to 0 and the brightest
    to 1, whatever linear change came before: what lay beyond ten standard deviations was clipped, nothing else is lost.
    """
    if intensity == "z_score":
        return image_MDHW
    out = np.zeros_like(image_MDHW)
    for channel, stored in zip(out, image_MDHW, strict=True):
        foreground = stored != 0
        values = stored[foreground]
        if values.size and (extent := values.max() - values.min()) > 0:
            channel[foreground] = (values - values.min()) / extent
    return out


def check_names(case: Case, folder: Path, task: Task) -> None:
    """Check that the modalities and regions of a stored case are those of a task.

    Raises:
        CaseError: If one is unknown, or modalities are in another order.
    """
    ordered = [n for n in task.modalities.names if n in case.modalities]
    if not ordered or list(case.modalities) != ordered:
        found, known = ", ".join(case.modalities) or "none", ", ".join(task.modalities.names)
        raise CaseError(f"{folder}: has the modalities {found}; expected some of {known}, in that order; prepare it again")
    if not set(case.known_regions) <= set(task.region_names):
        found, known = ", ".join(case.known_regions), ", ".join(task.region_names)
        raise CaseError(f"{folder}: has the regions {found}; expected some of {known}; prepare it again")


def full_image(path: Path, task: Task) -> np.ndarray:
    """Return a stored image with a row for every modality of the task, (M, D, H, W); rows not at hand are zero."""
    case = read_case(path)
    check_names(case, path, task)
    names, stored = case.modalities, read_image(path)
    image = np.zeros((len(task.modalities), *stored.shape[1:]), np.float32)
    image[[task.modalities.index(n) for n in names]] = stored
    return image


def load_patient(folder: Path, task: Task, stride: int, *, intensity: Intensity = "z_score") -> Patient:
    """Read one prepared case.

    Args:
        folder: Of the case.
        task: What it is to be read for.
        stride: Edge of the model's voxels, in voxels of the prepared grid.
        intensity: How its images are scaled.

    Raises:
        CaseError: If it is made for another task or has no reference.
    """
    case = read_case(folder)
    if case.task != task.name:
        raise CaseError(f"{folder}: prepared for task {case.task}, expected {task.name}; prepare it again with --task {task.name}")
    if not case.known_regions:
        raise CaseError(f"{folder}: has no reference segmentation; a case to train on needs one")
    image = (pooled(scaled(full_image(folder, task), intensity), stride) / stride**3).astype(np.float16)
    bits = read_labels(folder)
    shares = np.stack([pooled((bits >> r & 1).astype(np.uint8), stride) for r in range(len(task.regions))])
    known = np.array([r in case.known_regions for r in task.region_names])
    return Patient(
        case.name,
        image,
        np.array([m.name in case.modalities for m in task.modalities]),
        shares,
        known,
        _centres(shares[known], stride, case.name),
    )


def load_patients(
    folders: Sequence[Path], task: Task, stride: int, *, intensity: Intensity = "z_score", threads: int = 2
) -> list[Patient]:
    """Read many prepared cases, in the order given."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda folder: load_patient(folder, task, stride, intensity=intensity), folders))


def _centres(shares: NDArray[np.uint8], stride: int, name: str) -> tuple[NDArray[np.int64], ...]:
    """Return, for each known region, at most CENTRES_PER_RING voxels mostly in it and not mostly in the next one inside."""
    inside = shares * 2 >= stride**3
    rings = []
    for r, region in enumerate(inside):
        ring = region & ~inside[r + 1] if r + 1 < len(inside) else region
        voxels = np.argwhere(ring)
        if len(voxels) > CENTRES_PER_RING:
            chosen = np.random.default_rng(sum(name.encode())).choice(len(voxels), CENTRES_PER_RING, replace=False)
            voxels = voxels[np.sort(chosen)]
        if len(voxels):
            rings.append(voxels)
    return tuple(rings)
