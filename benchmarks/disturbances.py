"""What hospitals do to images, done on purpose: thick slices, moved patients, coils, noise, cut fields of view, misregistration.

An effect is a function of a volume and of what was drawn; a draw is a function of a random generator; ``DISTURBANCES`` joins them.
Images are skull-stripped, 0 in the background, and what is averaged or interpolated is the foreground alone, as where the skull is
stripped afterwards. Superior is the axis of the grid that points there most nearly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from anymri.preparation.intensity import foreground_of
from anymri.preparation.spatial import resampled_inside
from anymri.volumes.volume import Affine, Array, Box, Grid, Volume, bounding_box, corners, cropped, cropped_grid, orientation_of

Images = Mapping[str, Volume]
End = Literal["top", "bottom"]
_DEGREE = 3
_MARGIN = 4  # Voxels of background around a patient that was moved.
_AXES = ("IS", "LR", "PA")  # Across axial, sagittal and coronal slices.


@dataclass(frozen=True, eq=False)
class Disturbed:
    """Images after a disturbance.

    Attributes:
        images: Modality name → image.
        back: Where a point of these images, in mm, lay before the patient was moved, shape (4, 4).
        heights: The part of the field of view that is left, in voxels from below; None if all of it.
    """

    images: dict[str, Volume]
    back: Affine = field(default_factory=lambda: np.eye(4))
    heights: slice | None = None


@dataclass(frozen=True)
class Disturbance:
    """Something that may happen to the images of a patient.

    Attributes:
        name: For files.
        title: For tables.
        apply: Images and a random generator → what becomes of them.
        single: It happens to one image; the others stay as they are.
        least: Fewest modalities that a subset needs for it to mean something.
    """

    name: str
    title: str
    apply: Callable[[Images, np.random.Generator], Disturbed]
    single: bool = False
    least: int = 1


def axis_along(grid: Grid, ends: str) -> int:
    """Return the axis of a grid that runs between two ends of the body, "IS" say, in either direction."""
    return next(i for i, code in enumerate(orientation_of(grid)) if code in ends)


def thicker(volume: Volume, axis: int, count: int) -> Volume:
    """Return the volume with every ``count`` slices along an axis averaged into one; the last may be of fewer.

    A voxel is the mean of the foreground in it, and 0 where that fills less than half of it.
    """
    if count == 1:
        return volume
    length = -(-volume.grid.shape[axis] // count)
    foreground = foreground_of(volume.array)

    def summed(array: Array) -> Array:
        widths = [(0, length * count - n if i == axis else 0) for i, n in enumerate(array.shape)]
        padded = np.moveaxis(np.pad(array, widths), axis, 0)
        return np.moveaxis(padded.reshape(length, count, *padded.shape[1:]).sum(axis=1, dtype=np.float32), 0, axis)

    total, share = summed(np.where(foreground, volume.array, 0)), summed(foreground)
    array = np.divide(total, share, out=np.zeros_like(total), where=2 * share >= count)
    affine = volume.grid.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (count - 1) / 2
    affine[:3, axis] *= count
    d, h, w = array.shape
    return Volume(array, Grid((d, h, w), affine))


def rotation(axis: Array, degrees: float, centre_mm: Array) -> Affine:
    """Return the rotation about an axis through a point, (4, 4). Source: Rodrigues, 1840."""
    x, y, z = axis / np.linalg.norm(axis)
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    found = np.eye(4)
    found[:3, :3] += np.sin(angle) * across + (1 - np.cos(angle)) * across @ across
    found[:3, 3] = centre_mm - found[:3, :3] @ centre_mm
    return found


def translation(offset_mm: Array) -> Affine:
    """Return the shift by some millimetres, (4, 4)."""
    found = np.eye(4)
    found[:3, 3] = offset_mm
    return found


def inverse(motion: Affine) -> Affine:
    """Return the motion back, (4, 4)."""
    return np.linalg.inv(motion).astype(np.float64)


def declared_elsewhere(volume: Volume, motion: Affine) -> Volume:
    """Return the same voxels with an affine that says that they lie where a motion takes them."""
    return Volume(volume.array, Grid(volume.grid.shape, motion @ volume.grid.affine))


def moved(volume: Volume, motion: Affine, grid: Grid) -> Volume:
    """Return what a scanner with this grid sees of a patient who was moved: interpolated linearly, or copied if voxels coincide."""
    return Volume(resampled_inside(declared_elsewhere(volume, motion), foreground_of(volume.array), grid)[0], grid)


def covering(images: Images, motion: Affine) -> Grid:
    """Return the lattice of the first image over as much space as the moved patient takes."""
    first = next(iter(images.values())).grid
    found: list[Array] = []
    for volume in images.values():
        own = cropped_grid(volume.grid, bounding_box(foreground_of(volume.array)))
        found.append(np.linalg.inv(first.affine) @ motion @ own.affine @ corners(own.shape))
    places = np.concatenate(found, axis=1)[:3]
    low, high = np.floor(places.min(axis=1)) - _MARGIN, np.ceil(places.max(axis=1)) + _MARGIN + 1
    d, h, w = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return cropped_grid(first, (d, h, w))


def centre_mm(images: Images) -> Array:
    """Return the middle of the box around the first image's foreground."""
    volume = next(iter(images.values()))
    middle = [(s.start + s.stop - 1) / 2 for s in bounding_box(foreground_of(volume.array))]
    return (volume.grid.affine @ [*middle, 1.0])[:3]


def uneven(volume: Volume, coefficients: Array, strength: float) -> Volume:
    """Return the volume under a smooth field, the exponential of a polynomial over the box of its foreground.

    Args:
        volume: The image.
        coefficients: Of the powers of the three axes, each from -1 to 1 over the box; shape (P, P, P).
        strength: The field departs from 1 by at most this: up to 1 + strength, or down to its inverse.
    """
    box = bounding_box(foreground_of(volume.array))
    part = volume.array[box]
    powers = [np.linspace(-1, 1, n)[None] ** np.arange(len(coefficients))[:, None] for n in part.shape]
    exponent = np.einsum("ijk,id,jh,kw->dhw", coefficients, *powers, optimize=True)
    most = np.abs(exponent[foreground_of(part)]).max(initial=0.0)
    array = volume.array.astype(np.float32)
    if most > 0:
        array[box] *= np.exp(exponent * (np.log1p(strength) / most)).astype(np.float32)
    return Volume(array, volume.grid)


def draw_coefficients(rng: np.random.Generator) -> Array:
    """Return random coefficients of all terms up to degree 3 but the constant one."""
    degree = np.add.outer(np.add.outer(np.arange(_DEGREE + 1), np.arange(_DEGREE + 1)), np.arange(_DEGREE + 1))
    return np.where((degree > 0) & (degree <= _DEGREE), rng.standard_normal(degree.shape), 0.0)


def noisy(volume: Volume, grain: Array, strength: float) -> Volume:
    """Return the volume with Rician noise in its foreground: the magnitude of the signal with noise in both channels.

    Args:
        volume: The magnitude image.
        grain: Standard normal numbers, shape (2, voxels of the foreground).
        strength: Standard deviation in either channel as a share of the foreground's mean.
    """
    foreground = foreground_of(volume.array)
    array = volume.array.astype(np.float32)
    signal = array[foreground]
    sigma = np.float32(strength * float(signal.mean(dtype=np.float64)))
    array[foreground] = np.hypot(signal + sigma * grain[0], sigma * grain[1]) if strength else signal
    return Volume(array, volume.grid)


def draw_direction(rng: np.random.Generator) -> Array:
    """Return a random direction in space, uniform, of length 1."""
    found = rng.standard_normal(3)
    return found / np.linalg.norm(found)


def heights_left(images: Images, missing: End, share: float = 1 / 3) -> slice:
    """Return the heights that are left, in voxels from below, where a share of the patient's height is missing from an end."""
    ends: list[tuple[int, int, int]] = []
    for volume in images.values():
        axis = axis_along(volume.grid, "IS")
        box, n = bounding_box(foreground_of(volume.array))[axis], volume.grid.shape[axis]
        up = orientation_of(volume.grid)[axis] == "S"
        ends.append((box.start, box.stop, n) if up else (n - box.stop, n - box.start, n))
    low, high, n = min(e[0] for e in ends), max(e[1] for e in ends), ends[0][2]
    gone = round(share * (high - low))
    return slice(0, high - gone) if missing == "top" else slice(low + gone, n)


def slab(grid: Grid, heights: slice) -> Box:
    """Return the box of a grid between two heights, in voxels from below."""
    axis = axis_along(grid, "IS")
    n = grid.shape[axis]
    along = heights if orientation_of(grid)[axis] == "S" else slice(n - heights.stop, n - heights.start)
    d, h, w = (along if i == axis else slice(0, m) for i, m in enumerate(grid.shape))
    return d, h, w


def zero_outside(volume: Volume, box: Box) -> Volume:
    """Return the volume with nothing outside a box, on the same grid."""
    array = np.zeros_like(volume.array)
    array[box] = volume.array[box]
    return Volume(array, volume.grid)


def undisturbed(images: Images, rng: np.random.Generator) -> Disturbed:
    """Return the images as they are."""
    return Disturbed(dict(images))


def _thick(images: Images, rng: np.random.Generator, *, mm: float, mixed: bool) -> Disturbed:
    """Axial slices of this thickness, or each modality across another plane and brought back to its grid, as registration does."""
    found: dict[str, Volume] = {}
    for i, (name, volume) in enumerate(images.items()):
        axis = axis_along(volume.grid, _AXES[i % 3 if mixed else 0])
        thick = thicker(volume, axis, max(1, round(mm / volume.grid.spacing_mm[axis])))
        found[name] = moved(thick, np.eye(4), volume.grid) if mixed else thick
    return Disturbed(found)


def _motion(images: Images, rng: np.random.Generator, degrees: float, mm: float) -> Affine:
    turn = rotation(draw_direction(rng), degrees, centre_mm(images))
    return translation(mm * draw_direction(rng)) @ turn


def _patient_moved(images: Images, rng: np.random.Generator, *, degrees: float = 0.0, mm: float = 0.0) -> Disturbed:
    motion = _motion(images, rng, degrees, mm)
    grid = covering(images, motion)
    return Disturbed({n: moved(v, motion, grid) for n, v in images.items()}, inverse(motion))


def _header_moved(images: Images, rng: np.random.Generator, *, degrees: float, mm: float) -> Disturbed:
    motion = _motion(images, rng, degrees, mm)
    return Disturbed({n: declared_elsewhere(v, motion) for n, v in images.items()}, inverse(motion))


def _biased(images: Images, rng: np.random.Generator, *, strength: float) -> Disturbed:
    return Disturbed({n: uneven(v, draw_coefficients(rng), strength) for n, v in images.items()})


def _grainy(images: Images, rng: np.random.Generator, *, strength: float) -> Disturbed:
    found: dict[str, Volume] = {}
    for name, volume in images.items():
        voxels = int(np.count_nonzero(foreground_of(volume.array)))
        found[name] = noisy(volume, rng.standard_normal((2, voxels), dtype=np.float32), strength)
    return Disturbed(found)


def _cut(images: Images, rng: np.random.Generator, *, missing: End) -> Disturbed:
    heights = heights_left(images, missing)
    return Disturbed({n: cropped(v, slab(v.grid, heights)) for n, v in images.items()}, heights=heights)


def _blank(images: Images, rng: np.random.Generator, *, missing: End) -> Disturbed:
    heights = heights_left(images, missing)
    return Disturbed({n: zero_outside(v, slab(v.grid, heights)) for n, v in images.items()})


def _misregistered(images: Images, rng: np.random.Generator, *, mm: float) -> Disturbed:
    return Disturbed({n: moved(v, translation(mm * draw_direction(rng)), v.grid) for n, v in images.items()})


UNDISTURBED = Disturbance("undisturbed", "undisturbed", undisturbed)
DISTURBANCES = (
    UNDISTURBED,
    *(Disturbance(f"slices_{mm}mm", f"axial slices of {mm} mm", partial(_thick, mm=mm, mixed=False)) for mm in (2, 3, 5)),
    *(Disturbance(f"slices_{mm}mm_mixed", f"… of {mm} mm, planes mixed", partial(_thick, mm=mm, mixed=True)) for mm in (2, 3, 5)),
    *(Disturbance(f"rotated_{d}deg", f"rotated by {d}°", partial(_patient_moved, degrees=d)) for d in (10, 20)),
    *(Disturbance(f"shifted_{mm}mm", f"shifted by {mm} mm", partial(_patient_moved, mm=mm)) for mm in (10, 30)),
    *(
        Disturbance(f"header_{d}deg_{mm}mm", f"{d}° and {mm} mm, in the header alone", partial(_header_moved, degrees=d, mm=mm))
        for d, mm in ((10, 10), (20, 30))
    ),
    *(Disturbance(f"bias_{p}", f"bias field of up to {p} %", partial(_biased, strength=p / 100)) for p in (20, 50)),
    *(Disturbance(f"noise_{p}", f"Rician noise of {p} %", partial(_grainy, strength=p / 100)) for p in (5, 15)),
    *(Disturbance(f"no_{end}", f"{end} third missing in all", partial(_cut, missing=end)) for end in ("top", "bottom")),
    *(
        Disturbance(f"no_{end}_in_one", f"{end} third missing in one", partial(_blank, missing=end), single=True)
        for end in ("top", "bottom")
    ),
    *(
        Disturbance(f"misregistered_{mm}mm", f"one misregistered by {mm} mm", partial(_misregistered, mm=mm), single=True, least=2)
        for mm in (2, 4)
    ),
)
