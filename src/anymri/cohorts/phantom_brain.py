"""The healthy brain of a phantom: where each tissue lies, drawn by formulas in millimetres, different for every seed.

Two hemispheres with folded cortex, temporal lobes, insula, deep nuclei, ventricles with choroid plexus, cerebellum with folia,
brainstem, cisterns, falx, venous sinus and vessels. Positions and sizes follow atlases of the adult brain (Talairach and Tournoux
1988; cortex 2.5 mm thick, Fischl and Dale 2000). Folds are not those of a person: sulci lie where a random field on the shell of a
lobe is zero, which gives sheets about 12 mm apart that stand upright on the surface.

Simplified: no cranial nerves, no named gyri, no hippocampal layers, no fibre directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.cohorts.phantom_shapes import (
    Field,
    Noise,
    Points,
    band_noise,
    coverage,
    ellipsoid,
    generator,
    rotated,
    sheet_coverage,
    smooth_union,
    tube,
    vector,
)

WHITE, GREY, FLUID, CHOROID, BLOOD, DURA = "white matter", "grey matter", "fluid", "choroid plexus", "venous blood", "dura"
LESION_TISSUES = EDEMA, NECROSIS, TUMOUR, ENHANCING = "edema", "necrosis", "tumour", "enhancing tumour"
BRAIN_TISSUES = (WHITE, GREY, FLUID, CHOROID, BLOOD, DURA, *LESION_TISSUES)

EXTENT_MM = (150.0, 186.0, 148.0)
CENTRE_MM = (0.0, 11.0, -4.0)  # where images of skull-stripped atlases put the brain in their field of view
_CORTEX_MM = 2.5


@dataclass(frozen=True, eq=False)
class Brain:
    """What makes one brain differ from another.

    Attributes:
        size: Scale along the three axes.
        tilt_degrees: How the head lay in the scanner, after registration.
        ventricles: Scale of the ventricles.
        atrophy_mm: Half the width by which sulci are opened.
        warp: Three fields that bend everything.
        folds: Zero at the sulci.
        fold_depth: Varies how deep they go.
        texture: Makes edges rough.
        vessels: Where two of them are zero, a vessel runs.
    """

    size: tuple[float, float, float]
    tilt_degrees: tuple[float, float, float]
    ventricles: float
    atrophy_mm: float
    warp: tuple[Noise, Noise, Noise]
    folds: Noise
    fold_depth: Noise
    texture: Noise
    vessels: tuple[Noise, Noise]


def draw_brain(seed: int) -> Brain:
    """Return the brain of a seed."""
    rng = generator(seed, "brain")
    common = rng.normal(1.0, 0.015)
    return Brain(
        size=vector(np.clip(common * rng.normal(1.0, 0.012, 3), 0.95, 1.05)),
        tilt_degrees=vector(rng.normal(0, (2.0, 1.2, 1.2))),
        ventricles=float(np.clip(rng.lognormal(0.0, 0.2), 0.75, 1.35)),
        atrophy_mm=float(rng.uniform(0.0, 0.3)),
        warp=(band_noise(rng, 75.0), band_noise(rng, 75.0), band_noise(rng, 75.0)),
        folds=band_noise(rng, 23.0, octaves=0.35),
        fold_depth=band_noise(rng, 40.0),
        texture=band_noise(rng, 7.0, octaves=0.8),
        vessels=(band_noise(rng, 18.0), band_noise(rng, 18.0)),
    )


def bent(brain: Brain, points: Points) -> Points:
    """Return points of the patient as points of the symmetric brain that the formulas describe."""
    straight = rotated(points, (0.0, 0.0, 0.0), brain.tilt_degrees) / np.asarray(brain.size, np.float32)[:, None]
    return straight + np.float32(2.0) * np.stack([w.at(points) for w in brain.warp])


def _folded(points: Points) -> Points:
    """Return the points with left and right laid upon each other: only the distance from the middle is kept."""
    half = points.copy()
    np.abs(half[0], out=half[0])
    return half


def _cerebrum(half: Points) -> Field:
    """Distance to the cerebral hemispheres without the temporal lobes: an egg, flat below and narrow in front."""
    x, y, z = half
    narrow = 1 - 0.13 * np.clip(-(y - 5) / 80, 0, 1) ** 1.5 - 0.06 * np.clip((y - 30) / 55, 0, 1)
    below = z < 6
    shaped = np.stack([x / narrow, y, np.where(below, (z - 6) * np.float32(60 / 25), z - 6)]).astype(np.float32)
    return ellipsoid(shaped, (0, 0, 0), (66, 84, 60), power=2.35) * np.where(below, np.float32(0.6), np.float32(1.0))


def _temporal(half: Points) -> Field:
    turned = rotated(half, (44, -3, -21), (-10, 0, 9))
    return ellipsoid(turned, (44, -2, -21), (20, 43, 17), power=2.2)


def _cerebellum(half: Points) -> Field:
    lobe = ellipsoid(half, (23, 42, -42), (29, 27, 23), power=2.2)
    vermis = ellipsoid(half, (0, 38, -36), (14, 20, 24))
    return smooth_union([lobe, vermis], 2.0)


def _brainstem(half: Points) -> Field:
    pons = ellipsoid(half, (0, 4, -34), (17, 12, 16))
    peduncle = tube(half, [(10, -2, -6, 7), (7, 2, -26, 9)])
    stalk = tube(half, [(0, 11, -6, 9), (0, 10, -24, 9), (0, 12, -45, 9), (0, 19, -74, 7)])
    return smooth_union([pons, peduncle, stalk], 2.0)


def hull_distance(brain: Brain, points: Points) -> Field:
    """Return the distance to the surface that a skull-stripping tool leaves: the brain with what lies between its parts."""
    half = _folded(bent(brain, points))
    parts = [_cerebrum(half), _temporal(half), _cerebellum(half), _brainstem(half)]
    return smooth_union(parts, 2.5) + np.float32(0.7) * brain.texture.at(points)


def cerebellum_distance(brain: Brain, points: Points) -> Field:
    """Return the distance to the cerebellum, which the tentorium keeps apart from the rest."""
    return _cerebellum(_folded(bent(brain, points)))


def brain_tissues(brain: Brain, points: Points, hull: Field, voxel_mm: float) -> tuple[dict[str, Field], Field]:
    """Return how much of every tissue each voxel holds, and which voxels a skull-stripping tool would have left out.

    Args:
        brain: The person.
        points: Places inside the hull, already pushed aside by a tumour where there is one, (3, N).
        hull: Distance of the voxels (not pushed) to the hull, negative, (N,).
        voxel_mm: Edge of a voxel.

    Returns:
        Tissue → fraction, (N,), which sum to 1; and a flag for voxels of open sulci at the very surface, (N,).
    """
    straight = bent(brain, points)
    half = _folded(straight)
    lobes = _Lobes.at(brain, straight, half, hull)
    # White matter is not the same everywhere: fewer fibres here, more there.
    mixed = np.clip(0.08 + 0.05 * brain.fold_depth.at(straight * np.float32(1.6)), 0, 0.2)
    layers = [(WHITE, np.ones(points.shape[1], np.float32)), (GREY, mixed)]
    sulci = _paint_cortex(brain, straight, lobes, layers, voxel_mm)
    _paint_nuclei(half, layers, voxel_mm)
    _paint_hindbrain(brain, straight, lobes, layers, voxel_mm)
    outside = smooth_union([lobes.cerebrum, lobes.temporal, lobes.cerebellum, lobes.brainstem], 0.8)
    rim = np.maximum(outside, hull + np.float32(0.5))
    layers.append((FLUID, coverage(-rim, voxel_mm)))
    _paint_ventricles(brain, half, layers, voxel_mm)
    _paint_vessels(brain, straight, lobes, np.maximum(sulci, coverage(-rim, voxel_mm)), layers, voxel_mm)
    fractions = {tissue: np.zeros(points.shape[1], np.float32) for tissue in BRAIN_TISSUES}
    for tissue, cover in layers:
        paint(fractions, tissue, cover)
    return fractions, (sulci > 0.6) & (hull > -1.2)


def paint(fractions: dict[str, Field], tissue: str, cover: Field) -> None:
    """Lay a tissue over what is there, in place; ``cover`` is the share of each voxel that it takes."""
    for other in fractions.values():
        if other.any():
            other *= 1 - cover
    fractions[tissue] += cover


@dataclass(frozen=True, eq=False)
class _Lobes:
    """Distances that several layers need."""

    hull: Field
    cerebrum: Field
    temporal: Field
    cerebellum: Field
    brainstem: Field
    midline: Field  # from the fissure between the hemispheres, outside the corpus callosum
    cisterns: Field  # fluid around the brainstem and above the pituitary gland
    depth: Field  # below the surface of the cerebrum, its inner side included

    @staticmethod
    def at(brain: Brain, straight: Points, half: Points, hull: Field) -> _Lobes:
        cerebrum, temporal = _cerebrum(half), _temporal(half)
        # The fissure ends at the corpus callosum; its sheet waves a little from side to side.
        y, z = half[1], half[2]
        callosum = (np.sqrt(((y - 3) / 41) ** 2 + ((z - 6) / 23) ** 2) - 1) * np.float32(26)
        middle = np.abs(straight[0] + np.float32(0.6) * brain.fold_depth.at(straight * np.array([[0], [1], [1]], np.float32)))
        midline = np.hypot(middle, np.maximum(-callosum, 0))
        # Deep parts belong together, though no lobe holds them all.
        core = ellipsoid(half, (0, 3, 4), (38, 38, 18))
        surface = np.minimum(np.minimum(cerebrum, temporal), core)
        depth = np.minimum(np.minimum(-surface, midline - np.float32(0.8)), -hull - np.float32(0.5))
        brainstem = _brainstem(half)
        wide = 1 + np.float32(1.2) * np.clip(brain.fold_depth.at(straight), -1, 2)
        ambient = np.maximum(np.abs(brainstem - np.float32(0.6) - wide) - wide, z + 7)
        cisterns = np.minimum(ambient, ellipsoid(half, (0, -13, -17), (13, 9, 7)))
        return _Lobes(hull, cerebrum, temporal, _cerebellum(half), brainstem, midline, cisterns, depth)


def _shell(brain: Brain, straight: Points, lobes: _Lobes) -> tuple[Points, Field]:
    """Return each point moved outward to the shell of its lobe, and how far in it was (1 at the shell, 0 at the axis)."""
    x, y, z = straight
    temporal = lobes.temporal < lobes.cerebrum
    side = np.where(x < 0, np.float32(-1), np.float32(1))
    axis = np.stack(
        [
            side * np.where(temporal, np.float32(43), np.float32(27)),
            np.where(temporal, np.clip(y, -22, 25), np.clip(y, -46, 46)),
            np.where(temporal, np.float32(-20), np.float32(8)),
        ]
    )
    spoke = straight - axis
    radii = np.where(temporal, np.array([[20], [20], [17]], np.float32), np.array([[38], [38], [54]], np.float32))
    k = np.maximum(np.sqrt(((spoke / radii) ** 2).sum(0)), np.float32(0.15))
    # Sulci bend on their way in.
    bend = np.float32(4) * np.maximum(1 - k, 0) * np.stack([w.at(straight * np.float32(2.2)) for w in brain.warp])
    return axis + spoke / k + bend, k


def _paint_cortex(brain: Brain, straight: Points, lobes: _Lobes, layers: list[tuple[str, Field]], voxel_mm: float) -> Field:
    """Add the cortex and the fluid in sulci and fissures; return how much of each voxel a sulcus fills."""
    half = _folded(straight)
    shell, k = _shell(brain, straight, lobes)
    depth = lobes.depth
    reach = np.clip(13 + 5 * brain.fold_depth.at(shell), 3, 22)
    fold = np.hypot(brain.folds.distance_to_zero(shell) * np.minimum(k, 1), np.maximum(depth - reach, 0))
    width = np.float32(0.05 + brain.atrophy_mm) + np.float32(0.6) * np.exp(-np.maximum(depth, 0) / 4)
    # Sylvian fissure and insula: a sheet that runs inward and ends in an upright one.
    x, y, z = half
    level = z - (-5 + 0.2 * y + 0.3 * (x - 37)) - 3 * brain.fold_depth.at(straight)
    cleft = np.sqrt(level**2 + np.maximum(37 - x, 0) ** 2 + np.maximum(np.abs(y - 1) - 32, 0) ** 2)
    wall = x - 37 + 0.006 * (y + 3) ** 2 - 2 * brain.fold_depth.at(shell)
    insula = np.sqrt(wall**2 + np.maximum(np.abs(level - 3) - 11, 0) ** 2 + np.maximum(np.abs(y + 2) - 18, 0) ** 2)
    cleft = np.minimum(cleft, insula)
    # There is no cortex where the hemispheres grow together around the thalamus.
    away = coverage(3 - ellipsoid(half, (0, 5, 7), (32, 36, 20)), 4.0)
    into = np.minimum.reduce([fold - width, depth, cleft - 1.2, lobes.cisterns, lobes.midline - 0.8])
    into += np.float32(0.25) * brain.texture.at(straight)
    layers.append((GREY, coverage(into - _CORTEX_MM, voxel_mm) * away))
    sulci = sheet_coverage(fold, width, voxel_mm) * away
    for sheet, half_width in ((cleft, 0.7 + brain.atrophy_mm), (lobes.midline, 0.7 + brain.atrophy_mm)):
        np.maximum(sulci, sheet_coverage(sheet, half_width, voxel_mm), out=sulci)
    np.maximum(sulci, coverage(lobes.cisterns, voxel_mm), out=sulci)
    sulci *= coverage(-lobes.cerebellum, voxel_mm) * coverage(-lobes.brainstem, voxel_mm)
    layers.append((FLUID, sulci))
    return sulci


def _paint_nuclei(half: Points, layers: list[tuple[str, Field]], voxel_mm: float) -> None:
    """Add thalamus, caudate, putamen, pallidum, hippocampus and amygdala. Iron and fibres make some paler: less than 1."""
    bodies = (
        (0.75, ellipsoid(rotated(half, (11, 11, 7), (0, 0, -25)), (11, 11, 7), (8, 14, 9))),
        (1.0, tube(half, [(11, -22, 7, 6), (14, -10, 17, 4), (17, 8, 21, 3), (21, 20, 18, 2)])),
        (1.0, ellipsoid(rotated(half, (26, -4, 4), (0, 0, -14)), (26, -4, 4), (5.5, 16, 10))),
        (0.5, ellipsoid(rotated(half, (19, -2, 2), (0, 0, -25)), (19, -2, 2), (4, 10, 6))),
        (1.0, tube(half, [(25, -16, -20, 7), (27, -4, -18, 5), (27, 12, -12, 4), (22, 24, -3, 3)])),
    )
    for density, distance in bodies:
        layers.append((GREY, np.float32(density) * coverage(distance, max(voxel_mm, 1.5))))


def _paint_hindbrain(brain: Brain, straight: Points, lobes: _Lobes, layers: list[tuple[str, Field]], voxel_mm: float) -> None:
    """Add brainstem and cerebellum: a white tree inside thin leaves of grey with fluid between."""
    layers.append((WHITE, coverage(lobes.brainstem, voxel_mm)))
    layers.append((GREY, np.float32(0.3) * coverage(lobes.brainstem + 2, voxel_mm)))
    inside = coverage(lobes.cerebellum, voxel_mm) * coverage(-lobes.brainstem, voxel_mm)
    _, y, z = straight
    depth = -lobes.cerebellum
    angle = np.arctan2(z + 38, y - 20)
    leaf = np.sin(34 * angle + 1.6 * brain.folds.at(straight * np.float32(1.6)))
    layers.append((GREY, inside))
    branch = np.maximum(coverage(0.75 - leaf - 0.06 * depth, 0.8) * coverage(4 - depth, 2.0), 0)
    tree = np.maximum(coverage(11 - depth + 2 * brain.texture.at(straight), 3.0), np.float32(0.55) * branch)
    layers.append((WHITE, inside * tree))
    gap = np.float32(0.4) * coverage(leaf + 0.7, 0.5) * coverage(depth - 9, 3.0)
    layers.append((FLUID, inside * gap))


def _ventricle_distance(brain: Brain, half: Points) -> Field:
    """Distance to the lateral ventricles, with frontal, occipital and temporal horns."""
    v = brain.ventricles
    body = [(7, -33, 7, 2.5), (7, -22, 14, 4), (8, -5, 20, 4), (13, 14, 20, 4.5), (23, 31, 11, 6), (23, 50, 5, 2)]
    horn = [(23, 31, 11, 6), (32, 18, -7, 2.5), (31, -6, -15, 2)]
    lateral = np.minimum(*(tube(half, [(x, y, z, r * v) for x, y, z, r in nodes]) for nodes in (body, horn)))
    septum = np.float32(0.8) - half[0]
    return np.maximum(lateral, septum)


def _paint_ventricles(brain: Brain, half: Points, layers: list[tuple[str, Field]], voxel_mm: float) -> None:
    v = brain.ventricles
    lateral = _ventricle_distance(brain, half)
    third = np.maximum(ellipsoid(half, (0, 5, 0), (1.8 * v + 0.6, 15, 11)), -lateral)
    fourth = ellipsoid(half, (0, 24, -37), (7 * v, 5 * v, 9))
    aqueduct = tube(half, [(0, 14, -8, 1.0), (0, 20, -30, 1.2)])
    layers.append((FLUID, coverage(np.minimum.reduce([lateral, third, fourth, aqueduct]), voxel_mm)))
    plexus = tube(half, [(10, 4, 15, 1.2), (14, 18, 16, 1.5), (23, 29, 8, 3.0), (30, 14, -8, 1.2)])
    layers.append((CHOROID, np.float32(0.8) * coverage(np.maximum(plexus, lateral), voxel_mm)))
    # A thin layer of fluid under the lining of the ventricles, at the horns more, is normal at the age of these patients.
    caps = np.float32(0.3) * np.exp(-np.maximum(lateral, 0) / 2.5) * (lateral > 0) * (np.abs(half[1]) > 24)
    layers.append((EDEMA, caps.astype(np.float32)))


def _paint_vessels(
    brain: Brain, straight: Points, lobes: _Lobes, fluid: Field, layers: list[tuple[str, Field]], voxel_mm: float
) -> None:
    """Add the falx, the venous sinus behind and above it, and vessels that run in the fluid."""
    half = _folded(straight)
    x, y, z = half
    over = np.sqrt((y / 84) ** 2 + (np.maximum(z - 6, 0) / 60) ** 2)
    falx = np.maximum(np.abs(straight[0]) - 0.5, np.maximum((0.72 - over) * 60, -lobes.brainstem))
    falx = np.maximum(falx, np.maximum(-5 - z, -lobes.cerebellum))
    layers.append((DURA, np.float32(0.7) * coverage(falx, voxel_mm)))
    sinus = np.maximum(np.hypot(x, (over - 1.0) * 75) - 2.2, -10 - z)
    straight_sinus = tube(half, [(0, 40, 8, 1.2), (0, 76, -8, 1.6)])
    tentorium = np.maximum(np.abs(lobes.cerebellum - 1.0) - 0.5, np.maximum(-20 - z, 30 - y))
    layers.append((DURA, np.float32(0.5) * coverage(np.maximum(tentorium, -lobes.cerebrum - 2), voxel_mm)))
    layers.append((BLOOD, coverage(np.minimum(sinus, straight_sinus), voxel_mm)))
    first, second = (v.distance_to_zero(straight) for v in brain.vessels)
    runs = np.hypot(first, second) - 0.8
    layers.append((BLOOD, coverage(runs, voxel_mm) * fluid))
    # Skull stripping leaves patches of the meninges.
    patches = np.clip(brain.vessels[0].at(straight) - 0.2, 0, 1)
    layers.append((DURA, coverage(-lobes.hull - np.float32(1.4), voxel_mm) * patches))
