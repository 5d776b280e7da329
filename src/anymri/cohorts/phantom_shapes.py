"""The geometry phantoms are made of: points, distances to simple bodies, and smooth random fields.

Points are arrays (3, N): millimetres left, posterior, superior of the centre of the anatomy. Distances are negative inside a body.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Points = np.ndarray
Field = np.ndarray
Number = float | int
Vector = tuple[Number, Number, Number]

_LATTICE = 48
_SAMPLES_PER_WAVE = 6.0


def vector(values: Iterable[Number]) -> Vector:
    """Return three numbers as a vector."""
    x, y, z = (float(v) for v in values)
    return x, y, z


def generator(seed: int, *tags: str) -> np.random.Generator:
    """Return the random stream of one part of a phantom, so that no part changes when another draws more numbers."""
    return np.random.default_rng([seed, *(zlib.crc32(tag.encode()) for tag in tags)])


@dataclass(frozen=True, eq=False)
class Frame:
    """The voxel grid a phantom is drawn on, with the millimetres of its anatomy.

    Attributes:
        shape: Voxels along left, posterior and superior.
        spacing_mm: Voxel edges in millimetres of the anatomy, which is smaller than life where the grid is too small for it.
        origin_mm: Where voxel (0, 0, 0) lies.
    """

    shape: tuple[int, int, int]
    spacing_mm: Vector
    origin_mm: Vector

    @property
    def voxel_mm(self) -> float:
        """Edge of a cube as large as a voxel."""
        return float(np.prod(self.spacing_mm) ** (1 / 3))

    def points(self) -> Points:
        """Return the centres of all voxels, (3, N), N in C order."""
        axes = [o + d * np.arange(n) for n, d, o in zip(self.shape, self.spacing_mm, self.origin_mm, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).astype(np.float32)

    def cropped(self, low: Vector, high: Vector) -> tuple[Frame, tuple[slice, slice, slice]]:
        """Return the part of the grid between two corners in millimetres, and where it lies in the whole."""
        box = []
        for n, d, o, a, b in zip(self.shape, self.spacing_mm, self.origin_mm, low, high, strict=True):
            first = min(max(int(np.floor((a - o) / d)), 0), n - 1)
            box.append(slice(first, min(max(int(np.ceil((b - o) / d)) + 1, first + 1), n)))
        i, j, k = box
        origin = vector(o + d * s.start for o, d, s in zip(self.origin_mm, self.spacing_mm, box, strict=True))
        return Frame((i.stop - i.start, j.stop - j.start, k.stop - k.start), self.spacing_mm, origin), (i, j, k)


def fitted_frame(shape: tuple[int, int, int], spacing_mm: Vector, extent_mm: Vector, centre_mm: Vector) -> Frame:
    """Return the frame of a grid, its anatomy as near to ``centre_mm`` from the middle as leaves it inside.

    Args:
        shape: Voxels of the grid.
        spacing_mm: Edges of its voxels.
        extent_mm: What the anatomy needs; on a smaller grid it is shrunk.
        centre_mm: Where the centre of the anatomy lies from the middle of a grid that is large enough.
    """
    size = [n * d for n, d in zip(shape, spacing_mm, strict=True)]
    scale = min(1.0, *(s / e for s, e in zip(size, extent_mm, strict=True)))
    spacing = vector(d / scale for d in spacing_mm)
    origin = []
    for n, d, extent, centre in zip(shape, spacing, extent_mm, centre_mm, strict=True):
        room = max(0.0, (n * d - extent) / 2)
        origin.append(-d * (n - 1) / 2 - min(max(centre, -room), room))
    return Frame(shape, spacing, vector(origin))


def on_coarser_frame(frame: Frame, step_mm: Number, field: Callable[[Points], Field]) -> Field:
    """Return a smooth field at all voxels, (N,), from its values every ``step_mm`` or so and straight lines between."""
    factor = [max(1, round(step_mm / d)) for d in frame.spacing_mm]
    a, b, c = ((n - 1) // f + 2 for n, f in zip(frame.shape, factor, strict=True))
    coarse = Frame((a, b, c), vector(d * f for d, f in zip(frame.spacing_mm, factor, strict=True)), frame.origin_mm)
    values = field(coarse.points()).reshape(coarse.shape)
    for axis, (n, f) in enumerate(zip(frame.shape, factor, strict=True)):
        low, rest = np.divmod(np.arange(n), f)
        share = (rest / f).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        values = np.take(values, low, axis) * (1 - share) + np.take(values, low + 1, axis) * share
    return values.ravel()


@dataclass(frozen=True, eq=False)
class Noise:
    """A periodic random field of mean 0 and standard deviation 1 whose waves have about one length."""

    lattice: np.ndarray
    steepness: np.ndarray
    spacing_mm: float

    def at(self, points: Points, *, order: int = 1) -> Field:
        """Return the field at points, (N,)."""
        return self._sample(self.lattice, points, order)

    def distance_to_zero(self, points: Points) -> Field:
        """Return the signed distance (mm, first order) from points to the surface where the field is zero."""
        return self._sample(self.lattice, points, 3) / self._sample(self.steepness, points, 1)

    def _sample(self, values: np.ndarray, points: Points, order: int) -> Field:
        index = points / np.float32(self.spacing_mm)
        return ndimage.map_coordinates(values, index, order=order, mode="grid-wrap", output=np.float32)


def band_noise(rng: np.random.Generator, wavelength_mm: Number, *, octaves: Number = 0.5) -> Noise:
    """Return a random field with waves around one length; ``octaves`` is half the width of the band."""
    axes = np.meshgrid(*[np.fft.fftfreq(_LATTICE)] * 2, np.fft.rfftfreq(_LATTICE), indexing="ij")
    frequency = np.sqrt(np.sum([a * a for a in axes], axis=0)) * _SAMPLES_PER_WAVE
    with np.errstate(divide="ignore"):
        gain = np.exp(-0.5 * (np.log2(frequency) / octaves) ** 2)
    spectrum = np.fft.rfftn(rng.standard_normal((_LATTICE,) * 3)) * gain
    lattice = np.fft.irfftn(spectrum, (_LATTICE,) * 3, axes=(0, 1, 2))
    lattice = (lattice / lattice.std()).astype(np.float32)
    spacing = wavelength_mm / _SAMPLES_PER_WAVE
    slopes = [(np.roll(lattice, -1, a) - np.roll(lattice, 1, a)) / np.float32(2 * spacing) for a in range(3)]
    square = np.sum([s * s for s in slopes], axis=0)
    # The floor keeps the distance finite where the field is flat.
    return Noise(lattice, np.sqrt(square + 0.03 * square.mean()), spacing)


def smooth_noise(rng: np.random.Generator, wavelength_mm: Number, points: Points) -> Field:
    """Return a random field with waves of one length and two octaves of finer ones, standard deviation about 1, at points."""
    total = band_noise(rng, wavelength_mm).at(points)
    for octave in (1, 2):
        total += np.float32(0.4**octave) * band_noise(rng, wavelength_mm / 2**octave).at(points)
    return total / np.float32(1.09)


def ellipsoid(points: Points, centre: Vector, radii: Vector, *, power: Number = 2.0) -> Field:
    """Return the distance to an ellipsoid measured along the ray from its centre; a power above 2 makes it boxier."""
    offset = points - np.asarray(centre, np.float32)[:, None]
    scaled = np.abs(offset / np.asarray(radii, np.float32)[:, None])
    k = (scaled**power).sum(0) ** (1 / power) if power != 2.0 else np.sqrt((scaled * scaled).sum(0))
    length = np.sqrt((offset * offset).sum(0))
    return (length * (1 - 1 / np.maximum(k, 1e-3))).astype(np.float32)


def tube(points: Points, nodes: Sequence[tuple[Number, Number, Number, Number]]) -> Field:
    """Return the distance to a bent tube whose nodes are (left, posterior, superior, radius) in mm."""
    nearest = np.full(points.shape[1], np.inf, np.float32)
    for start, stop in zip(nodes, nodes[1:], strict=False):
        a, b = np.asarray(start, np.float32), np.asarray(stop, np.float32)
        axis = b[:3] - a[:3]
        offset = points - a[:3, None]
        t = np.clip(axis @ offset / (axis @ axis), 0, 1)
        gap = offset - axis[:, None] * t
        np.minimum(nearest, np.sqrt((gap * gap).sum(0)) - (a[3] + t * (b[3] - a[3])), out=nearest)
    return nearest


def smooth_union(distances: Sequence[Field], blend_mm: Number) -> Field:
    """Return the distance to the union of bodies, their joints rounded over about ``blend_mm``."""
    total = np.sum([np.exp(np.minimum(-d / blend_mm, 60.0)) for d in distances], axis=0)
    return (-blend_mm * np.log(np.maximum(total, 1e-30))).astype(np.float32)


def coverage(distance: Field, voxel_mm: Number) -> Field:
    """Return how much of a voxel lies inside a body at this distance, 0 to 1."""
    return np.clip(0.5 - distance / np.float32(voxel_mm), 0, 1)


def sheet_coverage(distance: Field, half_width: Field | Number, voxel_mm: Number) -> Field:
    """Return how much of a voxel a sheet fills that may be thinner than it; ``distance`` is to the middle of the sheet."""
    distance = np.abs(distance)
    return coverage(distance - half_width, voxel_mm) - coverage(distance + half_width, voxel_mm)


def rotated(points: Points, centre: Vector, degrees: Vector) -> Points:
    """Return points turned about a centre by angles about the three axes."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i], step[i, j], step[j, i], step[j, j] = c, -s, s, c
        turn = step @ turn
    middle = np.asarray(centre, np.float32)[:, None]
    return (turn.astype(np.float32) @ (points - middle)) + middle
