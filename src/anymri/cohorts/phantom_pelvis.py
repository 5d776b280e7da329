"""A male pelvis around the prostate, for tasks whose images are not skull-stripped: every voxel counts.

Gland with peripheral and transition zone, one cancer in it, bladder above, rectum behind, muscles, femoral heads, pubic bone, fat,
and air around the body. Sizes are those of the adult; simplified to ellipsoids with rough edges.
"""

from __future__ import annotations

import numpy as np

from anymri.cohorts.phantom_brain import FLUID, paint
from anymri.cohorts.phantom_physics import AIR, BONE, CANCER, FAT, GLAND, MUSCLE, TRANSITION
from anymri.cohorts.phantom_shapes import Field, Points, band_noise, coverage, ellipsoid, generator, smooth_noise, vector

EXTENT_MM = (84.0, 84.0, 64.0)
CENTRE_MM = (0.0, 0.0, 0.0)
ORGAN, CANCEROUS = 1, 2


def pelvis_tissues(seed: int, points: Points, voxel_mm: float) -> tuple[dict[str, Field], np.ndarray]:
    """Return how much of every tissue each voxel holds, and its level: 0, ORGAN or CANCEROUS, (N,)."""
    rng = generator(seed, "pelvis")
    rough = np.float32(0.9) * band_noise(rng, 14.0).at(points)
    fractions = {t: np.zeros(points.shape[1], np.float32) for t in (AIR, FAT, MUSCLE, BONE, FLUID, GLAND, TRANSITION, CANCER)}
    fractions[AIR] += 1
    half = points.copy()
    np.abs(half[0], out=half[0])
    for tissue, distance in _surroundings(half, rng):
        paint(fractions, tissue, coverage(distance + rough, max(voxel_mm, 1.5)))
    size = rng.normal(1.0, 0.06, 3)
    gland = ellipsoid(points, (0, 0, 0), vector(np.array((25, 18, 21)) * size), power=2.2) + rough
    transition = ellipsoid(points, (0, -5, 4), vector(np.array((16, 10, 14)) * size)) + rough
    cancer = _cancer(seed, points, gland)
    paint(fractions, GLAND, coverage(gland, voxel_mm))
    paint(fractions, TRANSITION, coverage(np.maximum(transition, gland + 1), voxel_mm))
    paint(fractions, CANCER, np.float32(0.9) * coverage(cancer, max(voxel_mm, 2.0)))
    levels = np.zeros(points.shape[1], np.uint8)
    levels[gland <= 0] = ORGAN
    levels[cancer <= 0] = CANCEROUS
    return fractions, levels


def _surroundings(half: Points, rng: np.random.Generator) -> list[tuple[str, Field]]:
    """Return what lies around the gland, outermost first; left and right are alike."""
    fat = float(rng.uniform(12, 28))
    fill = float(rng.uniform(0.8, 1.3))
    body = ellipsoid(half, (0, 5, 0), (175, 115, 400), power=2.5)
    return [
        (FAT, body),
        (MUSCLE, body + fat),
        (FAT, ellipsoid(half, (0, 2, 5), (58, 48, 70))),
        (BONE, ellipsoid(half, (88, 0, 10), (27, 27, 27))),
        (BONE, ellipsoid(half, (18, -42, -6), (24, 9, 16))),
        (MUSCLE, ellipsoid(half, (44, 4, -2), (9, 40, 45))),
        (FLUID, ellipsoid(half, (0, -6, 24 + 26 * fill), (36 * fill, 28 * fill, 26 * fill))),
        (MUSCLE, ellipsoid(half, (0, 34, 0), (15, 13, 90))),
        (AIR, ellipsoid(half, (0, 34, 0), (9, 7, 90))),
    ]


def _cancer(seed: int, points: Points, gland: Field) -> Field:
    """Return the distance to the cancer: an irregular lump of 0.7 to 4 ml in the peripheral zone, kept inside the gland."""
    rng = generator(seed, "cancer")
    radius = float(rng.uniform(5.5, 9.5))
    centre = (float(rng.choice((-1, 1)) * rng.uniform(8, 15)), float(rng.uniform(5, 9)), float(rng.uniform(-8, 6)))
    lump = ellipsoid(points, centre, vector(radius * rng.uniform(0.8, 1.25, 3)))
    near = lump < 12
    lump[near] += np.float32(0.18 * radius) * smooth_noise(rng, 1.6 * radius, points[:, near])
    return np.maximum(lump, gland + 0.5)
