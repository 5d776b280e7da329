"""Intensities of one modality → z-scores inside its own foreground."""

from __future__ import annotations

import numpy as np

from anymri.errors import ImageContentError
from anymri.volumes.store import STEP
from anymri.volumes.volume import Array

_TAILS = (0.5, 99.5)  # Percentiles: vessels and artefacts lie beyond.
CLIP = 10.0  # Standard deviations; nothing in a brain is that bright.
# Zero marks the background, but interpolation elsewhere leaves dust around it, so that "zero" is relative to the image.
_DUST = 1e-4
_LEVELS = 9  # A foreground with fewer values is drawn, not measured.
_STRIDE = 6


def foreground_of(array: Array) -> Array:
    """Return where a skull-stripped image shows something, bool: voxels that are not zero."""
    level = _DUST * max(float(array.max()), -float(array.min()))
    if float(array.min()) >= 0.0:
        return array > level
    return (array > level) | (array < -level)


def check_measured(array: Array, foreground: Array, *, file: str) -> None:
    """Refuse a label map in an image's place: a scanner measures more than a handful of values.

    Args:
        array: Intensities as they were read, shape (D, H, W).
        foreground: Where they count, bool, the same shape.
        file: What to call the image in an error.

    Raises:
        ImageContentError: Naming the values.
    """
    coarse = (slice(None, None, _STRIDE),) * 3  # So many voxels of an image show more, and few images are looked at whole.
    if len(np.unique(array[coarse][foreground[coarse]])) >= _LEVELS:
        return
    values = array[foreground]
    levels = np.unique(values)
    if 1 < len(levels) < _LEVELS <= values.size:
        shown = ", ".join(f"{v:g}" for v in levels)
        raise ImageContentError(f"{file}: is a label map (where it is not zero it is {shown}); expected an image of intensities")


def normalised(array: Array, foreground: Array, *, file: str = "the image") -> tuple[Array, dict[str, float]]:
    """Return z-scores inside the foreground and 0 outside, with what they were made from.

    Mean and deviation are those of the foreground with its tails pulled in, so that a few extreme voxels do not set the scale.
    Values are clipped to ±10 and rounded to 1/64. A foreground voxel is never exactly 0 (what would be is 1/64), so that background
    can be told from it.

    Args:
        array: Intensities, shape (D, H, W).
        foreground: Where they count, bool, the same shape.
        file: What to call the image in an error.

    Returns:
        Float32 of the same shape, and {"mean", "std", "low", "high", "voxels"}.

    Raises:
        ImageContentError: If the foreground is empty or constant.
    """
    values = array[foreground].astype(np.float32, copy=False)
    if not values.size:
        raise ImageContentError(f"{file}: shows nothing (no voxel differs from zero); check that the right file was given")
    low, high = (float(v) for v in np.percentile(values, _TAILS))
    inner = np.clip(values, low, high)
    mean, std = float(inner.mean(dtype=np.float64)), float(inner.std(dtype=np.float64))
    if not std > 1e-6 * max(abs(mean), float(np.abs(inner).max())):
        raise ImageContentError(f"{file}: is constant ({mean:g}) where it is not zero; expected an image; check that it is no mask")
    steps = np.rint((values - np.float32(mean)) * np.float32(1.0 / (std * STEP)))
    steps = np.clip(steps, -CLIP / STEP, CLIP / STEP)
    steps[steps == 0] = 1.0
    out = np.zeros(array.shape, dtype=np.float32)
    out[foreground] = steps * np.float32(STEP)
    return out, {"mean": mean, "std": std, "low": low, "high": high, "voxels": float(values.size)}


def check_new(image_MDHW: Array, called: tuple[str, ...]) -> None:
    """Refuse the last of these normalised images if one before it is the same: then one file was given for two modalities.

    Args:
        image_MDHW: z-scores of the images so far.
        called: What to call each of them in an error.

    Raises:
        ImageContentError: Naming both.
    """
    for before, name in zip(image_MDHW[:-1], called, strict=False):
        if np.array_equal(before, image_MDHW[-1]):
            raise ImageContentError(
                f"{called[len(image_MDHW) - 1]}: shows the same as {name}; "
                "give each modality its own image, and leave out what is missing"
            )
