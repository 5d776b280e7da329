"""Patches drawn from patients: the draw is apart from its effect, and depends on nothing but a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anymri.data.batch import Batch
from anymri.data.patients import Patient

Size = tuple[int, int, int]


@dataclass(frozen=True)
class PatchDraw:
    """Which patch of which patient: its corner may lie outside, where the patch is filled with zeros."""

    patient: int
    corner: Size


def draw_patches(
    patients: Sequence[Patient], size: Size, count: int, *, tumour_share: float, weights: Sequence[float], seed: Sequence[int]
) -> list[PatchDraw]:
    """Draw patches.

    Args:
        patients: To draw from.
        size: Of a patch, in voxels.
        count: How many.
        tumour_share: Probability that a patch is centred on a tumour voxel, every ring of nested regions equally often.
        weights: How often each patient is drawn, relative to the others.
        seed: The same numbers give the same patches.
    """
    rng = np.random.default_rng(list(seed))
    share = np.asarray(weights, float) / sum(weights)
    draws = []
    for index in rng.choice(len(patients), count, p=share):
        patient = patients[index]
        extent = np.array(patient.image.shape[1:])
        if patient.centres and rng.random() < tumour_share:
            ring = patient.centres[rng.integers(len(patient.centres))]
            centre = ring[rng.integers(len(ring))] + rng.integers(-np.array(size) // 4, np.array(size) // 4 + 1)
        else:
            centre = rng.integers(0, extent)
        slack = extent - np.array(size)
        corner = np.where(slack >= 0, np.clip(centre - np.array(size) // 2, 0, np.maximum(slack, 0)), slack // 2)
        draws.append(PatchDraw(int(index), (int(corner[0]), int(corner[1]), int(corner[2]))))
    return draws


def make_batch(patients: Sequence[Patient], draws: Sequence[PatchDraw], size: Size, stride: int) -> Batch:
    """Return the patches of some draws as float32 tensors on the CPU."""
    chosen = [patients[d.patient] for d in draws]
    shares = _cut_all([p.shares for p in chosen], draws, size)
    return Batch(
        _cut_all([p.image for p in chosen], draws, size),
        torch.from_numpy(np.stack([p.present for p in chosen])),
        shares.div_(stride**3),
        torch.from_numpy(np.stack([p.known for p in chosen])),
        tuple(p.name for p in chosen),
        torch.tensor([d.corner for d in draws]),
    )


def _cut_all(arrays: Sequence[np.ndarray], draws: Sequence[PatchDraw], size: Size) -> torch.Tensor:
    """Return the boxes of some draws as one float32 tensor; torch widens numbers several times as fast as numpy."""
    out = torch.empty((len(draws), len(arrays[0]), *size))
    for box, array, draw in zip(out, arrays, draws, strict=True):
        box.copy_(torch.from_numpy(cut(array, draw.corner, size)))
    return out


def cut(array: np.ndarray, corner: Size, size: Size) -> np.ndarray:
    """Return a box of the last three axes, zero where it leaves the array."""
    ends = zip(corner, size, array.shape[-3:], strict=True)
    inside = tuple(slice(min(max(c, 0), n), max(min(c + s, n), 0)) for c, s, n in ends)
    part = array[(..., *inside)]
    if part.shape[-3:] == size:
        return part
    out = np.zeros((*array.shape[:-3], *size), array.dtype)
    if part.size:
        target = tuple(slice(i.start - c, i.stop - c) for i, c in zip(inside, corner, strict=True))
        out[(..., *target)] = part
    return out
