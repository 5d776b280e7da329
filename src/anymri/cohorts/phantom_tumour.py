"""The tumour of a brain phantom: necrosis, an enhancing rim with gaps, oedema that creeps along white matter, and its push.

Volumes follow what is met before treatment: core 8 to 50 ml, whole tumour 25 to 130 ml. Oedema spreads as the steady state of
diffusion with loss, several times easier through white matter than through grey (Swanson et al., Cell Prolif 2000), not through
fluid. The push on the rest dies away over some centimetres and at the skull.

Simplified: one tumour, no haemorrhage, no cysts, no resection, no mechanics; the rim is as thick as a random field says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from anymri.cohorts.phantom_brain import BLOOD, DURA, EDEMA, ENHANCING, FLUID, GREY, NECROSIS, TUMOUR, WHITE, paint
from anymri.cohorts.phantom_shapes import (
    Field,
    Frame,
    Points,
    Vector,
    band_noise,
    coverage,
    generator,
    rotated,
    smooth_noise,
    vector,
)

# Levels of the reference, each inside the one before.
WHOLE, CORE, ACTIVE = 1, 2, 3

# Where gliomas sit: the white matter of the lobes and the insula (distance from the middle, posterior, superior, mm).
_SITES = ((30, -38, 22), (33, -18, 26), (31, 0, 36), (31, 28, 30), (43, 4, -17), (28, 50, 10), (36, -2, 8), (40, 24, 0))
_REACH_MM = 7.0
_FAR_MM = 60.0


@dataclass(frozen=True, eq=False)
class Tumour:
    """What makes one tumour differ from another.

    Attributes:
        seed: Of its random fields.
        centre: Where it began, mm.
        stretch: Relative half-axes.
        turn_degrees: How these are turned.
        core_ml: Necrosis and vital tumour.
        edema_ml: What surrounds them.
        necrotic: Share of the core that is dead.
        gaps: Share of what is left that does not enhance.
        ragged: How far the surface strays from an ellipsoid, relative to its radius.
        push_mm: How far tissue at its surface was moved.
    """

    seed: int
    centre: Vector
    stretch: Vector
    turn_degrees: Vector
    core_ml: float
    edema_ml: float
    necrotic: float
    gaps: float
    ragged: float
    push_mm: float

    @property
    def radius_mm(self) -> float:
        """Radius of a ball as large as the core."""
        return float((3 * 1000 * self.core_ml / (4 * np.pi)) ** (1 / 3))


def draw_tumour(seed: int) -> Tumour:
    """Return the tumour of a seed."""
    rng = generator(seed, "tumour")
    side = rng.choice((-1.0, 1.0))
    site = np.asarray(_SITES[rng.integers(len(_SITES))]) + np.clip(rng.normal(0, 3.5, 3), -7, 7)
    stretch = np.clip(rng.lognormal(0, 0.16, 3), 0.75, 1.35)
    stretch /= stretch.prod() ** (1 / 3)
    core = float(np.clip(rng.lognormal(np.log(25), 0.5), 8, 50))
    return Tumour(
        seed=seed,
        centre=(float(side * site[0]), float(site[1]), float(site[2])),
        stretch=vector(stretch),
        turn_degrees=vector(rng.uniform(0, 180, 3)),
        core_ml=core,
        edema_ml=float(np.clip(rng.lognormal(np.log(42), 0.5), 17, 80)),
        necrotic=float(rng.uniform(0.12, 0.5)),
        gaps=float(rng.uniform(0.02, 0.15)),
        ragged=float(rng.uniform(0.1, 0.22)),
        push_mm=float(rng.uniform(0.15, 0.35) * (core / 4.2) ** (1 / 3) * 5),
    )


def pushed(tumour: Tumour, points: Points, hull: Field) -> Points:
    """Return where the tissue that now lies at ``points`` came from: nearer to the tumour; at the skull nothing moves."""
    spoke = points - np.asarray(tumour.centre, np.float32)[:, None]
    distance = np.maximum(np.sqrt((spoke * spoke).sum(0)), np.float32(1e-3))
    beyond = np.maximum(distance - tumour.radius_mm, 0)
    push = tumour.push_mm * np.minimum(distance / tumour.radius_mm, 1) * np.exp(-beyond / 22)
    fixed = np.clip(-hull / 14, 0, 1)
    return points - spoke / distance * (push * fixed * fixed * (3 - 2 * fixed)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Site:
    """The brain that a tumour grows in, voxel by voxel.

    Attributes:
        frame: The grid that the brain is drawn on.
        inside: Its voxels inside the brain, flat; the fields below are of these.
        fractions: Tissue → share of each voxel.
        hull: Distance to the surface of the brain, mm, negative.
        cerebellum: Distance to the cerebellum, mm.
    """

    frame: Frame
    inside: np.ndarray
    fractions: dict[str, Field]
    hull: Field
    cerebellum: Field

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.frame.spacing_mm)) / 1000

    @property
    def open(self) -> Field:
        """Share of each voxel that no tumour enters: fluid, vessels, meninges."""
        return self.fractions[FLUID] + self.fractions[DURA] + self.fractions[BLOOD]


def grow_tumour(tumour: Tumour, site: Site) -> np.ndarray:
    """Put a tumour into a brain: the fractions of the site change in place.

    Returns:
        Level of each voxel inside: 0, WHOLE, CORE or ACTIVE, uint8.
    """
    points = site.frame.points()[:, site.inside]
    rho, core = _core(tumour, site, points)
    distance = _edema_distance(tumour, site, points, core)
    closed = core | (site.open > 0.4)
    limit = _lowest(distance[~closed], round(tumour.edema_ml / site.voxel_ml))
    water = coverage(distance - limit, 3.0) * (0.72 + 0.28 * np.exp(-np.maximum(distance, 0) / 12))
    water *= coverage(site.open - 0.6, 0.6) * (1 - 0.4 * site.fractions[GREY])
    paint(site.fractions, EDEMA, water.astype(np.float32))
    levels = np.zeros(core.size, np.uint8)
    levels[~closed & (distance <= limit)] = WHOLE
    levels[core] = CORE
    levels[_paint_core(tumour, site, points, rho, core)] = ACTIVE
    return levels


def _lowest(score: Field, count: int) -> float:
    """Return the value that ``count`` voxels lie at or below."""
    count = min(max(count, 1), score.size)
    return float(np.partition(score, count - 1)[count - 1])


def _core(tumour: Tumour, site: Site, points: Points) -> tuple[Field, np.ndarray]:
    """Return the relative distance from the centre (1 at the surface of the core) and which voxels are core."""
    turned = rotated(points, tumour.centre, tumour.turn_degrees) - np.asarray(tumour.centre, np.float32)[:, None]
    score = np.sqrt(((turned / (tumour.radius_mm * np.asarray(tumour.stretch, np.float32)[:, None])) ** 2).sum(0))
    near = score < 2.5
    noise = smooth_noise(generator(tumour.seed, "surface"), 1.5 * tumour.radius_mm, points[:, near])
    score[near] += np.float32(tumour.ragged) * noise
    # It respects the pia, the falx, the tentorium and the lining of ventricles.
    side = np.float32(np.sign(tumour.centre[0]))
    score += np.clip((site.hull + 6) / 4, 0, 3) + np.clip((5 - side * points[0]) / 4, 0, 3)
    score += np.clip(3 - site.cerebellum, 0, 3) + np.float32(0.5) * site.fractions[FLUID]
    threshold = _lowest(score, round(tumour.core_ml / site.voxel_ml))
    return score / np.float32(threshold), score <= threshold


def _edema_distance(tumour: Tumour, site: Site, points: Points, core: np.ndarray) -> Field:
    """Return how far oedema had to creep from the core to each voxel: mm of white matter, or an equal effort."""
    near, box = site.frame.cropped(*(vector(c + s * _FAR_MM for c in tumour.centre) for s in (-1, 1)))
    rng = generator(tumour.seed, "edema")
    # Bundles of fibres guide it: easy along some ways, hard along others.
    guide = np.exp(np.float32(0.9) * band_noise(rng, 28.0).at(points)) * (site.cerebellum > 0)
    grids = []
    for values in ((site.fractions[WHITE] + np.float32(0.1) * site.fractions[GREY]) * guide, core):
        whole = np.zeros(site.inside.size, np.float32)
        whole[site.inside] = values
        grids.append(whole.reshape(site.frame.shape)[box])
    factor = tuple(max(1, min(round(2.0 / d), n)) for d, n in zip(near.spacing_mm, near.shape, strict=True))
    ease, source = (_blocks(g, factor) for g in grids)
    step = [d * f for d, f in zip(near.spacing_mm, factor, strict=True)]
    density = _steady_state(np.maximum(ease, source), source > 0.5 * source.max(), step)
    effort = (-_REACH_MM * np.log(np.maximum(density, 1e-30))).astype(np.float32)
    index = [(p - o - (s - d) / 2) / s for p, o, d, s in zip(points, near.origin_mm, near.spacing_mm, step, strict=True)]
    distance = ndimage.map_coordinates(effort, index, order=1, mode="nearest")
    rough = distance < 12 * _REACH_MM
    distance[rough] += np.float32(2) * smooth_noise(rng, 14.0, points[:, rough])
    return distance + 9 * site.fractions[GREY] + 4 * np.clip(site.hull + 2.5, 0, 3) + 20 * np.clip(2 - site.cerebellum, 0, 3)


def _blocks(array: np.ndarray, factor: tuple[int, ...]) -> np.ndarray:
    """Return the means of blocks of voxels; what does not fill a block is cut off."""
    shape = [n // f for n, f in zip(array.shape, factor, strict=True)]
    cut = array[tuple(slice(0, n * f) for n, f in zip(shape, factor, strict=True))]
    return cut.reshape([k for n, f in zip(shape, factor, strict=True) for k in (n, f)]).mean((1, 3, 5))


def _steady_state(ease: np.ndarray, source: np.ndarray, step: list[float]) -> np.ndarray:
    """Return the density that diffuses from a source and is lost on the way: e-fold over ``_REACH_MM`` of white matter."""
    density = source.astype(np.float32)
    links, total = [], np.full(ease.shape, 1 / _REACH_MM**2, np.float32)
    for axis, d in enumerate(step):
        low, high = ([slice(None)] * 3 for _ in range(2))
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        weight = np.sqrt(ease[tuple(low)] * ease[tuple(high)]) / np.float32(d * d)
        total[tuple(low)] += weight
        total[tuple(high)] += weight
        links.append((tuple(low), tuple(high), weight))
    for _ in range(int(0.8 * _FAR_MM / min(step))):
        flow = np.zeros_like(density)
        for low, high, weight in links:
            flow[low] += weight * density[high]
            flow[high] += weight * density[low]
        density = flow / total
        density[source] = 1
    return density


def _paint_core(tumour: Tumour, site: Site, points: Points, rho: Field, core: np.ndarray) -> np.ndarray:
    """Paint dead and vital tumour; return the voxels that enhance."""
    where = np.flatnonzero(rho < 1.5)
    near, inner, radius = points[:, where], core[where], np.float32(tumour.radius_mm)
    rng = generator(tumour.seed, "necrosis")
    shell = rho[where] + np.float32(0.16) * smooth_noise(rng, tumour.radius_mm, near)
    dead_limit = _lowest(shell[inner], round(tumour.necrotic * inner.sum()))
    patches = band_noise(rng, 30.0).at(near) - np.float32(0.4) * rho[where]
    vital = inner & (shell > dead_limit)
    gap_limit = _lowest(patches[vital], round(tumour.gaps * vital.sum())) if vital.any() else 0.0
    body = coverage((rho[where] - 1) * radius, 2.0)
    dead = coverage((shell - dead_limit) * radius, 2.0)
    leak = coverage((gap_limit - patches) * 8, 2.0) * (1 - dead)
    leak *= np.clip(0.8 + 0.25 * smooth_noise(rng, 9.0, near), 0.4, 1.0)
    for tissue, cover in ((TUMOUR, body), (NECROSIS, body * dead), (ENHANCING, body * leak)):
        whole = np.zeros(core.size, np.float32)
        whole[where] = cover
        paint(site.fractions, tissue, whole)
    active = np.zeros(core.size, bool)
    active[where] = vital & (patches > gap_limit)
    return active
