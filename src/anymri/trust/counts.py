"""Voxels counted over the logit that the model gave them: all that trust needs to know of a patient, in a few kilobytes.

Sums over voxels of any function of a probability become sums over bins, exact up to the width of a bin. So a calibration can be
fitted, and tried on whom it was not fitted on, without looking at a voxel again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
Floats = NDArray[np.float64]

_LOWEST, _WIDTH, BINS = -30.0, 0.05, 1200  # What lies beyond is counted in the outermost bins. 0 is between two bins.
LOGITS: Floats = np.asarray(_LOWEST + _WIDTH * (np.arange(BINS) + 0.5), np.float64)

# Axis N of counts: what a model said by itself …
EVERYWHERE, INSIDE = range(2)
# … and what it was right in, which only a reference tells.
TRUE, BAND, TRUE_BAND = range(2, 5)
DOMAINS = {"everywhere": (EVERYWHERE, TRUE), "band": (BAND, TRUE_BAND)}  # All voxels, and those of them that are true.


def counted(logits: Array, where: Array) -> NDArray[np.int64]:
    """Return how many of the marked voxels have a logit in each bin, (K,)."""
    bins = ((logits[where] - _LOWEST) * (1 / _WIDTH)).astype(np.int32)
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


def said(logits_RDHW: Array, masks_RDHW: Array, foreground: Array) -> NDArray[np.int64]:
    """Return what a model said of a patient: counts (R, N = 2, K) of all voxels and of those in the region.

    Args:
        logits_RDHW: On the prepared grid.
        masks_RDHW: The regions made of them, each inside the one before.
        foreground: Voxels that any image at hand shows. What the model found outside of it is counted, too.
    """
    domain = foreground | masks_RDHW[0]
    return np.stack([[counted(x, domain), counted(x, m)] for x, m in zip(logits_RDHW, masks_RDHW, strict=True)])


def right(logits_RDHW: Array, truth_RDHW: Array, domains: Sequence[Array]) -> NDArray[np.int64]:
    """Return where a reference says yes: counts (R, N = 3, K) of that, of all voxels of a band, and of that in the band.

    Args:
        logits_RDHW: On the prepared grid.
        truth_RDHW: The reference's regions there.
        domains: Everywhere and the band, (D, H, W) each.
    """
    everywhere, band = domains
    rows = zip(logits_RDHW, truth_RDHW, strict=True)
    return np.stack([[counted(x, everywhere & t), counted(x, band), counted(x, band & t)] for x, t in rows])


def near(mask: Array, spacing_mm: Sequence[float], distance_mm: float) -> Array:
    """Return the voxels of a mask and those within a distance of it; all of the grid if the mask is empty."""
    if not mask.any():
        return np.ones_like(mask, dtype=bool)
    found = np.zeros_like(mask, dtype=bool)
    reach = [int(np.ceil(distance_mm / s)) for s in spacing_mm]
    (cut,) = ndimage.find_objects(mask.astype(np.uint8))
    box = tuple(slice(max(s.start - n, 0), s.stop + n) for s, n in zip(cut, reach, strict=True))
    away_mm = np.asarray(ndimage.distance_transform_edt(~mask[box].astype(bool), sampling=spacing_mm))
    found[box] = away_mm <= distance_mm
    return found
