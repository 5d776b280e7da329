"""Affines that no scanner has, lengths in other units, and images that do not lie on one grid."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from anymri.volumes.nifti import read_nifti

from ..entry import Entry, Harmless, Kit, Refused, Unread
from ..images import AFFINE, brain, nifti, put

KIND = "grid"


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for name, (affine, says) in _alone().items():
        yield Refused(KIND, name, partial(_segmented, brain(1), affine, None), f"bad_t1ce[.]nii[.]gz.*(?:{says})")
        yield Unread(KIND, f"{name}, given as labels", partial(_read, affine), says)
    for name, (array, affine, says) in _pairs().items():
        yield Refused(KIND, name, partial(_segmented, array, affine, "flair"), f"bad_t1ce[.]nii[.]gz.*(?:{says})")
        yield Refused(KIND, f"{name}, prepared", partial(_prepared, array, affine), "bad_t1ce[.]nii[.]gz", batch=True)
        yield Refused(KIND, f"{name}, labels", partial(_with_labels, array, affine), "bad_seg[.]nii[.]gz", batch=True)
    for name, affine in _allowed().items():
        yield Harmless(KIND, name, partial(_same, affine))


def _linear(*rows: tuple[float, float, float]) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, :3] = rows
    return affine


def _turned(degrees: float) -> np.ndarray:
    """Return the affine turned about the patient's long axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.block([[np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ AFFINE[:3, :3], AFFINE[:3, 3:]], [AFFINE[3:]]])


def _alone() -> dict[str, tuple[np.ndarray, str]]:
    a, b = 4.0, -4.0
    return {
        "sheared by a tenth": (_linear((b, 0.4, 0), (0, b, 0), (0, 0, a)), "sheared"),
        "sheared by a fiftieth": (_linear((b, 0, 0), (0, b, 0), (0.08, 0, a)), "sheared"),
        "sheared a lot": (_linear((b, 3, 0), (0, b, 2), (0, 0, a)), "sheared|its affine says"),
        "two axes alike": (_linear((b, 0, 0), (0, 0, 0), (0, a, a)), "singular"),
        "three axes alike": (_linear((a, a, a), (a, a, a), (a, a, a)), "singular|its affine says"),
        "nearly two axes alike": (_linear((b, 0, 0), (0, 1e-4, 0), (0, a, a)), "singular|sheared"),
        "no axis at all": (_linear((0, 0, 0), (0, 0, 0), (0, 0, 0)), "spacing|singular"),
        "metres as millimetres": (np.diag([-0.004, -0.004, 0.004, 1.0]), "check the units"),
        "micrometres as millimetres": (np.diag([-4000.0, -4000.0, 4000.0, 1.0]), "check the units"),
        "one axis in metres": (_linear((-0.004, 0, 0), (0, b, 0), (0, 0, a)), "check the units"),
        "a voxel of half a metre": (_linear((b, 0, 0), (0, b, 0), (0, 0, 500)), "check the units"),
        "a kilometre away": (AFFINE + np.array([[0, 0, 0, 1e6]] + [[0, 0, 0, 0]] * 3), "expected a patient"),
        "NaN in a corner": (_linear((b, 0, np.nan), (0, b, 0), (0, 0, a)), "NaN or infinite|spacing"),
        "infinite origin": (AFFINE + np.array([[0, 0, 0, np.inf]] + [[0, 0, 0, 0]] * 3), "NaN or infinite"),
    }


def _pairs() -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
    moved, nudged = AFFINE.copy(), AFFINE.copy()
    moved[0, 3] += 30
    nudged[2, 3] += 0.2
    same = brain(1)
    return {
        "another shape": (same[:, :, :-2], AFFINE, "its shape is 24x24x18 but"),
        "another spacing": (same, AFFINE @ np.diag([1, 1, 0.9, 1]), "its spacing is 4 x 4 x 3.6 mm but"),
        "moved": (same, moved, "voxels lie up to 30 mm apart"),
        "nudged": (same, nudged, "voxels lie up to 0.2 mm apart"),
        "turned by a degree": (same, _turned(1), "apart"),
        "turned by half a degree": (same, _turned(0.5), "apart"),
        "mirrored": (same, AFFINE @ np.diag([-1, 1, 1, 1]), "apart"),
        "upside down": (same, AFFINE @ np.diag([1, -1, -1, 1]), "apart"),
        "other axes": (same, AFFINE[:, [2, 1, 0, 3]], "its shape is"),
    }


def _allowed() -> dict[str, np.ndarray]:
    return {
        "alone, turned by 30 degrees": _turned(30),
        "alone, mirrored": AFFINE @ np.diag([-1, 1, 1, 1]),
        "alone, other axes": AFFINE[:, [2, 0, 1, 3]],
        "sheared by rounding": _linear((-4, 1e-4, 0), (0, -4, 0), (0, 0, 4)),
        "thick slices": _linear((-1, 0, 0), (0, -1, 0), (0, 0, 9)),
    }


def _segmented(array: np.ndarray, affine: np.ndarray, beside: str | None, folder: Path, kit: Kit) -> tuple[object, ...]:
    bad = put(folder / "bad_t1ce.nii.gz", nifti(array, affine=affine))
    return ("segment", "--t1c", bad) if beside is None else ("segment", "--flair", kit.image(beside), "--t1c", bad)


def _prepared(array: np.ndarray, affine: np.ndarray, folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "bad_flair.nii.gz", nifti())
    put(folder / "bad_t1ce.nii.gz", nifti(array, affine=affine))
    return "prepare", folder, folder / "out", "--workers", 1


def _with_labels(array: np.ndarray, affine: np.ndarray, folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "bad_flair.nii.gz", nifti())
    put(folder / "bad_seg.nii.gz", nifti((array > 800).astype("u1"), affine=affine))
    return "prepare", folder, folder / "out", "--workers", 1


def _read(affine: np.ndarray, folder: Path) -> object:
    return read_nifti(put(folder / "bad.nii", nifti(affine=affine)))


def _same(affine: np.ndarray, folder: Path) -> None:
    volume = read_nifti(put(folder / "odd.nii.gz", nifti(affine=affine)))
    assert np.array_equal(volume.array, brain())
    assert np.allclose(volume.grid.affine, affine, atol=1e-5)
