"""Tell an image that still has its skull from one that was stripped.

Two signs, either of which is enough:

* **No background.** A stripped image is zero around the brain; a raw one holds noise there. A brain is round, so the corners of any
  field of view around it are zero, also of one that covers only part of the brain.
* **A dark ring.** Cortical bone gives no signal in any sequence. Walking inwards, a head is bright (scalp), nearly black (bone)
  and bright again (brain); a stripped brain starts bright and never falls as deep, except into a sulcus here and there. So rays
  are sent in from left, right, front, back and above, and the deepest dip near the surface is compared with the brightness on
  either side.

What is compared are ratios within the image, so scale, bias and sequence do not matter, and a partial field of view leaves fewer
rays but the same ratios.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.errors import ImageContentError
from anymri.volumes.volume import Array, Volume, bounding_box, reoriented

# Median dip of whole stripped images: at least 0.55 in several hundred; of heads: at most 0.3, in thick slices 0.33.
_DIP = 0.4
_CORNER_ZEROS = 0.2  # Share of exact zeros below which the corners are noise; rounding leaves some zeros in noise too.
_NEGATIVE = 0.05  # Share of negative voxels that a magnitude image never has.
_SURFACE = 0.3  # Of the typical brightness: where a ray meets the head or brain.
_REACH_MM = 25.0  # How far below the surface bone is looked for: thick scalp, sinus and skull together.
_BEHIND_MM = 12.0  # How far behind the dip brightness must return.
_SMOOTH_MM = 2.0  # Narrower dips are sulci and noise.
_COARSE_MM = 2.5  # Bone is 5 to 8 mm thick; coarser axes cannot show it.
_HEAD_MM = 80.0  # Anything smaller is no human head or brain.
_RAYS = 30  # Fewer in a direction say nothing.
_STRIDE_MM = 2.0


def check_stripped(volume: Volume, foreground: Array, *, file: str) -> None:
    """Refuse an image that still has its skull, or whose background is not zero.

    Args:
        volume: The image.
        foreground: Where it is not zero, bool, shape (D, H, W).
        file: What to call the image in an error.

    Raises:
        ImageContentError: Saying by which sign.
    """
    advice = "expected a skull-stripped image; strip the skull first, with HD-BET or SynthStrip say"
    corners = _corners(volume.array)
    zeros = 1.0 - float(_corners(foreground).mean())
    if zeros < _CORNER_ZEROS and np.ptp(corners) == 0:
        raise ImageContentError(f"{file}: its background is {corners[0]:g}; expected 0 around a skull-stripped brain; set it to 0")
    if zeros < _CORNER_ZEROS:
        raise ImageContentError(f"{file}: still has its skull (only {zeros:.0%} of the background is zero); {advice}")
    if (volume.array[foreground] < 0).mean() > _NEGATIVE:
        return  # Already normalised: ratios of brightness mean nothing.
    dip = median_dip(volume)
    if dip is not None and dip < _DIP:
        raise ImageContentError(f"{file}: still has its skull (a ring of bone, {dip:.0%} as bright as what is around it); {advice}")


def _corners(array: Array) -> Array:
    """Return the voxels of the eight corner blocks, each a sixteenth of every edge long."""
    ends = [(slice(0, max(1, n // 16)), slice(n - max(1, n // 16), n)) for n in array.shape]
    return np.concatenate([array[d, h, w].ravel() for d in ends[0] for h in ends[1] for w in ends[2]])


def median_dip(volume: Volume) -> float | None:
    """Return how dark it gets near the surface, as a share of the brightness on both sides: about 0 for bone, 0.6 to 0.9 for brain.

    The median over rays of each direction, then over directions; None if the image is too small or too coarse to tell.
    """
    upright = reoriented(volume, "LPS")
    spacing = np.array(upright.grid.spacing_mm)
    typical = _typical(upright.array)
    if typical <= 0:
        return None
    box = bounding_box(upright.array > _SURFACE * typical)
    if sum((s.stop - s.start) * mm >= _HEAD_MM for s, mm in zip(box, spacing, strict=True)) < 2:
        return None
    found: list[float] = []
    for axis in np.flatnonzero(spacing <= _COARSE_MM):
        lines = _central_lines(upright.array, box, int(axis), spacing)
        # Below there is the neck, through which no ray meets bone: axis 2 runs upwards, so only its reverse comes from above.
        for inward in (lines[::-1],) if axis == 2 else (lines, lines[::-1]):
            dips = _dips(inward, float(spacing[axis]), typical)
            if dips.size >= _RAYS:
                found.append(float(np.median(dips)))
    return float(np.median(found)) if found else None


def _typical(array: Array) -> float:
    """Return the median brightness of tissue: of voxels above a third of the upper quartile, so that noise does not count."""
    step = max(1, round((array.size / 400_000) ** (1 / 3)))
    sample = array[::step, ::step, ::step]
    positive = sample[sample > 0]
    if not positive.size:
        return 0.0
    return float(np.median(positive[positive > np.percentile(positive, 75) / 3]))


def _central_lines(array: Array, box: tuple[slice, slice, slice], axis: int, spacing: Array) -> Array:
    """Return the voxels along an axis through the middle half of the other two, shape (length, lines)."""
    take: list[slice] = []
    for i, s in enumerate(box):
        quarter = (s.stop - s.start) // 4
        stride = max(1, round(_STRIDE_MM / float(spacing[i])))
        take.append(slice(None) if i == axis else slice(s.start + quarter, s.stop - quarter, stride))
    lines = np.moveaxis(array[tuple(take)], axis, 0)
    return lines.reshape(lines.shape[0], -1).astype(np.float32)


def _dips(lines: Array, spacing_mm: float, typical: float) -> Array:
    """Return for each ray that meets a surface inside the field of view the deepest relative dip behind it."""
    smooth = ndimage.uniform_filter1d(lines, max(1, round(_SMOOTH_MM / spacing_mm)), axis=0, mode="constant")
    bright = smooth > _SURFACE * typical
    first = bright.argmax(axis=0)
    # A ray that starts bright was cut off by the field of view and has not passed the surface.
    useful = bright.any(axis=0) & (first > 1)
    reach, behind = round(_REACH_MM / spacing_mm), round(_BEHIND_MM / spacing_mm)
    where = first[useful] + np.arange(reach + behind)[:, None]
    rays = np.take_along_axis(smooth[:, useful], np.minimum(where, len(lines) - 1), axis=0)
    before = np.maximum.accumulate(rays, axis=0)
    after = ndimage.maximum_filter1d(rays, behind, axis=0, origin=-((behind - 1) // 2))
    level = np.clip(np.minimum(before, after), 1e-6, typical)
    return (rays / level)[:reach].min(axis=0) if rays.size else np.zeros(0)
