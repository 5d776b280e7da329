"""Synthetic patients made by code: anatomy, tumour, MRI physics, noise; the same for the same seed, for any number of modalities.

Positions come from atlases, volumes and relaxation times from the literature (``phantom_brain``, ``phantom_tumour``,
``phantom_pelvis``, ``phantom_physics``), images from signal equations. Where the literature gives a range, the choice was checked
against how brightness spreads in real scans; no network had a part in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from anymri.cohorts import phantom_brain, phantom_pelvis
from anymri.cohorts.phantom_brain import brain_tissues, cerebellum_distance, draw_brain, hull_distance
from anymri.cohorts.phantom_pelvis import pelvis_tissues
from anymri.cohorts.phantom_physics import Scene, acquire
from anymri.cohorts.phantom_shapes import Vector, fitted_frame, generator, on_coarser_frame
from anymri.cohorts.phantom_tumour import Site, draw_tumour, grow_tumour, pushed
from anymri.domain.case import Cohort, Shape, Source, Study
from anymri.domain.task import Task
from anymri.errors import InputFileError, UsageError
from anymri.volumes.nifti import write_nifti
from anymri.volumes.store import write_json
from anymri.volumes.volume import Grid, Volume

LICENCE = "Apache-2.0; made by code, there is no patient behind it"
LABELS = "seg"
# How the folders of BraTS, whose names these follow, write what the command line calls otherwise.
_ALIASES = {"t1c": "t1ce"}
_ENDINGS = (".nii.gz", ".nii")
_SHAPE, _SPACING_MM = (240, 240, 155), (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """One synthetic patient.

    Attributes:
        name: Tells its seed.
        images: Modality → voxels, float32 whole numbers, (D, H, W) along left, posterior, superior; exactly 0 outside a brain.
        labels: The truth in the values of the task's first label scheme, uint8, (D, H, W).
        affine: Voxel indices → RAS+ mm, (4, 4).
    """

    name: str
    images: dict[str, np.ndarray]
    labels: np.ndarray
    affine: np.ndarray


def make_patient(task: Task, seed: int, *, shape: Shape = _SHAPE, spacing_mm: Vector = _SPACING_MM) -> PhantomPatient:
    """Return the synthetic patient of a seed, for the modalities and regions of a task.

    Args:
        task: A skull-stripped one gets a brain with a glioma, any other a pelvis with a prostate cancer.
        seed: 0 or more. The anatomy does not depend on the modalities.
        shape: Voxels along left, posterior, superior.
        spacing_mm: Their edges. On a grid too small for the anatomy the anatomy is shrunk.

    Raises:
        UsageError: If the seed, the shape or the spacing is out of range.
    """
    if seed < 0 or min(shape) < 8 or min(spacing_mm) <= 0:
        raise UsageError(
            f"a phantom needs a seed from 0, 8 voxels or more a side and spacings above 0; not {seed}, {shape}, {spacing_mm}"
        )
    make = brain_scene if task.foreground == "brain" else pelvis_scene
    scene = make(seed, shape, spacing_mm)
    images = {name: acquire(scene, name, seed) for name in task.modalities.names}
    levels = _with_depth(scene.whole(scene.levels), len(task.regions))
    values = np.array([0, *(_value(task, depth) for depth in range(1, len(task.regions) + 1))], np.uint8)
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[1, 3] = (shape[1] - 1) * spacing_mm[1]
    return PhantomPatient(f"phantom_{seed:04d}", images, values[levels], affine)


def brain_scene(seed: int, shape: Shape, spacing_mm: Vector) -> Scene:
    """Return a skull-stripped brain with a tumour."""
    frame = fitted_frame(shape, spacing_mm, phantom_brain.EXTENT_MM, phantom_brain.CENTRE_MM)
    half = [e / 2 for e in phantom_brain.EXTENT_MM]
    near, box = frame.cropped((-half[0], -half[1], -half[2]), (half[0], half[1], half[2]))
    brain, tumour = draw_brain(seed), draw_tumour(seed)
    hull = on_coarser_frame(near, 2.0, lambda points: hull_distance(brain, points))
    inside = _largest_part(hull < 0, near.shape)
    points = near.points()
    fractions, bare = brain_tissues(brain, pushed(tumour, points[:, inside], hull[inside]), hull[inside], near.voxel_mm)
    inside[np.flatnonzero(inside)[bare]] = False
    fractions = {tissue: share[~bare] for tissue, share in fractions.items()}
    cerebellum = on_coarser_frame(near, 2.0, lambda points: cerebellum_distance(brain, points))
    levels = grow_tumour(tumour, Site(near, inside, fractions, hull[inside], cerebellum[inside]))
    return Scene(frame, box, inside, fractions, phantom_brain.DURA, levels)


def _largest_part(inside: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the flat mask without the crumbs that are not joined to the rest."""
    parts = np.zeros(shape, np.int32)
    count = ndimage.label(inside.reshape(shape), output=parts)
    return (parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])).ravel() if count != 1 else inside


def pelvis_scene(seed: int, shape: Shape, spacing_mm: Vector) -> Scene:
    """Return a prostate with a cancer and what lies around it."""
    frame = fitted_frame(shape, spacing_mm, phantom_pelvis.EXTENT_MM, phantom_pelvis.CENTRE_MM)
    fractions, levels = pelvis_tissues(seed, frame.points(), frame.voxel_mm)
    everything = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    return Scene(frame, everything, np.ones(levels.size, bool), fractions, phantom_pelvis.AIR, levels)


def _with_depth(levels: np.ndarray, depth: int) -> np.ndarray:
    """Return the levels of nested regions, merged or split from within so that there are as many as a task has."""
    levels = np.minimum(levels, depth)
    for level in range(int(levels.max()) + 1, depth + 1):
        innermost = np.flatnonzero(levels == level - 1)
        below = np.asarray(ndimage.distance_transform_edt(levels == level - 1)).ravel()[innermost]
        levels.ravel()[innermost[np.argsort(-below, kind="stable")[: len(innermost) // 2]]] = level
    return levels


def _value(task: Task, depth: int) -> int:
    """Return the voxel value of what belongs to the ``depth`` outermost regions and to no other."""
    names, scheme = set(task.region_names[:depth]), task.scheme()
    for value, regions in scheme.regions.items():
        if set(regions) == names:
            return value
    raise UsageError(f"label scheme {scheme.name} has no value for {' + '.join(sorted(names))}; a phantom of {task.name} needs one")


MARKER = "phantoms.json"  # Tells a folder of synthetic patients from one of real ones.


def write_phantoms(
    out: Path,
    task: Task,
    *,
    seeds: Iterable[int],
    shape: Shape = _SHAPE,
    spacing_mm: Vector = _SPACING_MM,
    missing: bool = False,
) -> Cohort:
    """Write synthetic patients as OUT/NAME/NAME_flair.nii.gz …, NAME_seg.nii.gz and return them as a cohort.

    Args:
        out: Folder.
        task: What the patients are for.
        seeds: One per patient, each different.
        shape: Voxels along left, posterior, superior.
        spacing_mm: Their edges.
        missing: Every second patient lacks modalities, every fourth labels; which ones, its seed tells.

    Raises:
        OutputError: If a file cannot be written.
    """
    studies = []
    for number, seed in enumerate(seeds):
        patient = make_patient(task, seed, shape=shape, spacing_mm=spacing_mm)
        grid = Grid(shape, patient.affine)
        absent = _absent(task, seed) if missing and number % 2 else frozenset()
        folder = out / patient.name
        images = {}
        for modality in task.modalities:
            if modality.name not in absent:
                path = folder / f"{patient.name}_{_ALIASES.get(modality.option, modality.option)}.nii.gz"
                write_nifti(path, Volume(patient.images[modality.name].astype(np.int16), grid))
                images[modality.name] = Source(path)
        labels = None
        if not (missing and number % 4 == 2):
            labels = Source(folder / f"{patient.name}_{LABELS}.nii.gz")
            write_nifti(labels.path, Volume(patient.labels, grid))
        studies.append(Study(patient.name, images, labels, task.scheme().name if labels else None))
    write_json(out / MARKER, {"task": task.name, "patients": [s.name for s in studies]})
    return Cohort(out.resolve().name, tuple(studies), licence=LICENCE)


def _absent(task: Task, seed: int) -> frozenset[str]:
    """Return which modalities a patient lacks: at least one, never all, if there are two or more."""
    rng = generator(seed, "absent")
    names = rng.permutation(task.modalities.names)
    return frozenset(str(n) for n in names[: rng.integers(1, max(2, len(names)))]) if len(names) > 1 else frozenset()


def find_phantom(source: Path, task: Task, *, scheme: str | None = None) -> Cohort:
    """Return the patients in a folder whose files are named as ``write_phantoms`` names them, in any case of letters.

    Files of other names are listed as left out; a patient may lack modalities or labels.

    Args:
        source: Folder; patients may lie at any depth.
        task: What the patients are for.
        scheme: Label scheme of the files, if not the task's first.

    Raises:
        InputFileError: If the folder is missing or holds no such patient.
        LabelSchemeError: If the task has no such scheme.
    """
    written = task.scheme(scheme).name
    if not source.is_dir():
        raise InputFileError(f"{source}: is not a folder; expected one written by write_phantoms")
    endings = {f"_{word}": m.name for m in task.modalities for word in (m.option, _ALIASES.get(m.option, m.option))}
    endings[f"_{LABELS}"] = ""
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    left_out: list[tuple[Path, str]] = []
    for path in sorted(p for p in source.rglob("*") if p.name.lower().endswith(_ENDINGS) and not p.name.startswith(".")):
        stem = path.name[: -len(next(e for e in _ENDINGS if path.name.lower().endswith(e)))]
        ending = next((e for e in endings if stem.lower().endswith(e)), None)
        if ending is None:
            left_out.append((path, f"its name ends in none of {', '.join(endings)}"))
            continue
        patient = found.setdefault((path.parent, stem[: -len(ending)]), {})
        if endings[ending] in patient:
            left_out.append((path, f"{patient[endings[ending]].name} is the same image of the same patient"))
        else:
            patient[endings[ending]] = path
    studies = [_study(name, files, task, written) for (_, name), files in found.items() if files.keys() - {""}]
    if not studies:
        raise InputFileError(f"{source}: holds no phantom for {task.name}; expected files such as NAME{next(iter(endings))}.nii.gz")
    return Cohort(source.resolve().name, tuple(studies), tuple(left_out), LICENCE)


def _study(name: str, files: dict[str, Path], task: Task, scheme: str) -> Study:
    images = {n: Source(files[n]) for n in task.modalities.names if n in files}
    return Study(name, images, Source(files[""]) if "" in files else None, scheme if "" in files else None)
