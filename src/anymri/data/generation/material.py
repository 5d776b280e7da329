"""Label maps that synthetic patients are made from: anatomies and tumours, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.patients import Patient, pooled
from anymri.domain.appearance import OUTSIDE, TISSUES, Appearance, appearance_of
from anymri.domain.task import Task
from anymri.errors import InputFileError, LabelSchemeError, UsageError
from anymri.volumes.nifti import read_labels
from anymri.volumes.volume import Array, bounding_box, reoriented, resampled, respaced_grid

ANATOMIES, TUMOURS = "anatomies", "tumours"
_PATTERN = "*.nii.gz"
_SOURCES = tuple(stem + ending for stem in ("SOURCES", "README") for ending in ("", ".md", ".txt"))
_LONGEST = 4000  # Of what they say, in characters: it goes into every weights file.
_CLOSING_MM = 10.0  # Sulci narrower than twice this belong to the brain, as in images whose skull was stripped.
_LEAST_VOXELS = 1000  # Of a brain, and tenfold of what counts as a tumour.
_PLACES = 4000
_VESSELS = 0.08  # Share of the sulci.
_SITE_MM = 8.0  # Nearer to the surface no tumour has its centre.


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A healthy brain on the task's grid.

    Attributes:
        name: Of its file.
        codes: 0 outside, else one more than the index of the tissue in ``TISSUES``; (D, H, W) uint8, with an empty border.
        depth_mm: How deep in the brain, at every second voxel, uint8.
        sites: Voxels that tumours may be centred on, (n, 3).
        places: Voxels of the brain, (n, 3).
        shares: Share of the brain that each tissue takes, (T,).
        voxels: Of the brain.
    """

    name: str
    codes: NDArray[np.uint8]
    depth_mm: NDArray[np.uint8]
    sites: NDArray[np.int64]
    places: NDArray[np.int64]
    shares: NDArray[np.float64]
    voxels: int


@dataclass(frozen=True, eq=False)
class Tumour:
    """A tumour on the model's grid.

    Attributes:
        name: Where it comes from.
        shares: Share of each voxel in each region times stride³, (R, D, H, W) uint8, with an empty border.
        volumes: Of the regions, in voxels, (R,).
    """

    name: str
    shares: NDArray[np.uint8]
    volumes: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Material:
    """What a folder holds.

    Attributes:
        anatomies: Healthy brains.
        tumours: Tumours.
        hashes: Name of a file in the folder → SHA-256 of what is taken from it, whether it is used or not.
        left_out: Name of a file of a tumour that is not used → name of the case whose tumour it is.
        source: Where it comes from, as a file of the folder says; empty if there is none.
    """

    anatomies: tuple[Anatomy, ...] = ()
    tumours: tuple[Tumour, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    source: str = ""


def load_material(folder: Path, task: Task, stride: int, *, threads: int = 2) -> Material:
    """Read the anatomies and tumours of a folder.

    Args:
        folder: With ``anatomies/*.nii.gz`` (numbers of FreeSurfer and SynthSeg) and ``tumours/*.nii.gz`` (by the scheme that the
            task's appearance names), and a file SOURCES or README if there is one.
        task: What they are to be read for.
        stride: Edge of the model's voxels, in voxels of the task's grid.
        threads: How many files are read at once.

    Raises:
        UsageError: If no synthetic patients can be made for the task.
        InputFileError: If a folder is missing or empty, or a file cannot be read or shows no brain or tumour.
        LabelSchemeError: If a file holds a label that is not known.
    """
    appearance = appearance_of(task)
    if appearance is None:
        raise UsageError(f"task {task.name} has no synthetic patients: they are made of brains; set generation.synthetic to 0")
    maps, drawn, source = _files(folder / ANATOMIES), _files(folder / TUMOURS), _source(folder)
    with ThreadPoolExecutor(threads) as pool:
        anatomies = tuple(pool.map(lambda path: read_anatomy(path, task), maps))
        tumours = tuple(pool.map(lambda path: read_tumour(path, task, appearance, stride), drawn))
    hashes = {f"{ANATOMIES}/{p.name}": _hash_of(a.codes) for p, a in zip(maps, anatomies, strict=True)}
    hashes |= {f"{TUMOURS}/{p.name}": _hash_of(t.shares) for p, t in zip(drawn, tumours, strict=True)}
    return Material(anatomies, tumours, hashes, source=source)


def _source(folder: Path) -> str:
    """Return what a folder says of where it comes from."""
    path = next((folder / name for name in _SOURCES if (folder / name).is_file()), None)
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror}); expected text on where the material comes from") from None
    text = "".join(c for c in text if c.isprintable() or c == "\n").strip()
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputFileError(f"{folder}: is no folder; material to train on needs {ANATOMIES}/{_PATTERN} and {TUMOURS}/{_PATTERN}")
    files = sorted(p for p in folder.glob(_PATTERN) if not p.name.startswith("."))
    if not files:
        raise InputFileError(f"{folder}: holds no file {_PATTERN}; put label maps there, or choose another --material")
    return files


def _hash_of(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read(path: Path, task: Task) -> Array:
    """Return a label map on the task's grid and in its orientation."""
    volume = reoriented(read_labels(path), task.orientation)
    return resampled(volume, respaced_grid(volume.grid, task.spacing_mm), order=0).array


def read_anatomy(path: Path, task: Task) -> Anatomy:
    """Read a map of a whole head, and take the skull away.

    Raises:
        InputFileError: If it cannot be read or shows no brain.
        LabelSchemeError: If a label is not known.
    """
    labels = _read(path, task)
    table = np.zeros(max(int(labels.max()), 0) + 1, np.uint8)
    known = set(OUTSIDE)
    for code, tissue in enumerate(TISSUES, 1):
        known |= set(tissue.labels)
        table[[n for n in tissue.labels if n < len(table)]] = code
    unknown = sorted({int(v) for v in np.unique(labels)} - known)
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (" …" if len(unknown) > 5 else "")
        raise LabelSchemeError(f"{path}: holds the label {shown}; expected numbers of FreeSurfer and SynthSeg; take the file out")
    codes = table[labels]
    codes = np.pad(codes[bounding_box(codes)], 1)
    codes[~_brain(codes, task)] = 0
    codes = np.pad(codes[bounding_box(codes)], 1)
    codes = _with_vessels(codes)
    counts = np.bincount(codes.ravel(), minlength=len(TISSUES) + 1)[1:]
    spacing = tuple(2 * s for s in task.spacing_mm)
    depth = np.asarray(ndimage.distance_transform_edt(codes[::2, ::2, ::2] > 0, sampling=spacing))
    sites = np.argwhere(np.isin(codes, [code for code, tissue in enumerate(TISSUES, 1) if tissue.site]))
    sites = sites[depth[tuple((sites // 2).T)] >= _SITE_MM]
    if counts.sum() < _LEAST_VOXELS or not len(sites):
        raise InputFileError(f"{path}: shows no brain ({counts.sum()} voxels of it); expected a map of a whole head; take it out")
    return Anatomy(
        path.name,
        codes,
        np.minimum(depth, 255).astype(np.uint8),
        _some(sites),
        _some(np.argwhere(codes)),
        counts / counts.sum(),
        int(counts.sum()),
    )


def _brain(codes: Array, task: Task) -> Array:
    """Return the brain with its sulci, without the fluid around it."""
    solid = (codes > 0) & (codes < len(TISSUES))  # The last is what lies in the sulci, and around the brain.
    half = np.pad(solid[::2, ::2, ::2], 6)
    spacing = [2 * s for s in task.spacing_mm]
    grown = np.asarray(ndimage.distance_transform_edt(~half, sampling=spacing)) <= _CLOSING_MM
    closed = (np.asarray(ndimage.distance_transform_edt(grown, sampling=spacing)) > _CLOSING_MM)[6:-6, 6:-6, 6:-6]
    for axis in range(3):
        closed = np.repeat(closed, 2, axis)
    d, h, w = codes.shape
    return solid | (closed[:d, :h, :w] & (codes > 0))


def _with_vessels(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the tissues with sheets of vessels in a share of the sulci, which no map tells and contrast agent makes bright."""
    sulcus = codes == len(TISSUES)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(codes.shape, np.float32), 3.0)
    vessel = next(code for code, tissue in enumerate(TISSUES, 1) if 62 in tissue.labels)
    near = np.quantile(np.abs(noise[sulcus]), _VESSELS) if sulcus.any() else 0.0
    return np.where(sulcus & (np.abs(noise) <= near), np.uint8(vessel), codes)


def _some(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return evenly chosen ones, at most _PLACES."""
    return voxels[:: max(1, len(voxels) // _PLACES)][:_PLACES]


def read_tumour(path: Path, task: Task, appearance: Appearance, stride: int) -> Tumour:
    """Read a map of a tumour.

    Raises:
        InputFileError: If it cannot be read or shows no tumour.
        LabelSchemeError: If a label is not known.
    """
    labels, scheme = _read(path, task), appearance.scheme
    unknown = sorted({int(v) for v in np.unique(labels)} - set(scheme.values))
    if unknown:
        raise LabelSchemeError(
            f"{path}: holds the label {', '.join(map(str, unknown[:5]))}; scheme {scheme.name} knows "
            f"{', '.join(map(str, scheme.values))}; write it by that scheme, or take it out"
        )
    if (labels > 0).sum() < _LEAST_VOXELS // 10:
        raise InputFileError(f"{path}: shows no tumour ({(labels > 0).sum()} voxels of it); take the file out")
    labels = labels[bounding_box(labels > 0)]
    inside = [np.isin(labels, [v for v, names in scheme.regions.items() if r in names]) for r in task.region_names]
    return _bordered(path.name, np.stack([pooled(region.astype(np.uint8), stride) for region in inside]), stride)


def tumours_of(patients: Sequence[Patient], stride: int) -> tuple[Tumour, ...]:
    """Return the tumours of the patients whose reference is complete and shows one."""
    found = []
    for patient in patients:
        if patient.known.all() and patient.centres:
            box = bounding_box(patient.shares[0] > 0)
            found.append(_bordered(patient.name, patient.shares[(slice(None), *box)], stride))
    return tuple(found)


def _bordered(name: str, shares: NDArray[np.uint8], stride: int) -> Tumour:
    padded = np.pad(shares, [(0, 0), (1, 1), (1, 1), (1, 1)])
    return Tumour(name, padded, shares.sum(axis=(1, 2, 3), dtype=np.float64) / stride**3)
