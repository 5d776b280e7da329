"""Images whose file is sound and whose voxels cannot be used, and label maps that are none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from anymri.volumes.nifti import read_labels, read_nifti

from ..entry import Entry, Harmless, Kit, Refused, Unread
from ..images import SHAPE, brain, nifti, put

KIND = "voxels"
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_RGBA = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for name, (array, says) in _images().items():
        yield Refused(KIND, name, partial(_given, array), f"bad_t1ce[.]nii[.]gz.*(?:{says})")
    for name, (array, says) in _labels().items():
        yield Unread(KIND, f"labels: {name}", partial(_read_labels, array), says)
        yield Refused(KIND, f"prepare with labels: {name}", partial(_prepared, array), "bad_seg[.]nii[.]gz", batch=True)
    for dtype in ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
        yield Harmless(KIND, f"type {dtype}", partial(_same, dtype))


def _with(value: float, dtype: str = "f4", count: int = 1) -> np.ndarray:
    array = brain(1).astype(dtype)
    array[12, 12, 10 : 10 + count] = value
    return array


def _images() -> dict[str, tuple[np.ndarray, str]]:
    noise = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
    inside = brain() > 0
    not_finite = "NaN or infinite"
    return {
        "one NaN": (_with(np.nan), f"1 voxels are {not_finite}, the first at .12, 12, 10."),
        "several NaN": (_with(np.nan, "f8", 5), f"5 voxels are {not_finite}"),
        "infinite": (_with(np.inf), not_finite),
        "minus infinite": (_with(-np.inf, "f8"), not_finite),
        "all NaN": (np.full(SHAPE, np.nan, "f4"), not_finite),
        "beyond float32": (_with(1e300, "f8"), "range of float32"),
        "near the end of float32": (_with(3e38), "voxels reach from"),
        "too small": ((brain(1) * 1e-42).astype("f4"), "voxels reach from"),
        "all zero": (np.zeros(SHAPE, "i2"), "all voxels are zero"),
        "all seven": (np.full(SHAPE, 7, "u1"), "all voxels are 7"),
        "all minus one, float": (np.full(SHAPE, -1, "f4"), "all voxels are -1"),
        "one voxel": (np.where(np.indices(SHAPE).sum(0) == 0, 5, 0).astype("i2"), "constant|background"),
        "a mask": (inside.astype("u1"), "mask"),
        "a mask of 255": (inside.astype("u1") * 255, "mask"),
        "a label map": ((inside * (1 + np.indices(SHAPE)[0] // 6)).astype("u1"), "label map"),
        "a label map in float32": ((inside * (1 + np.indices(SHAPE)[1] // 9)).astype("f4"), "label map"),
        "noise everywhere": (noise, "still has its skull"),
        "a background that is not zero": (np.where(inside, brain(1), -1000).astype("i2"), "background is -1000"),
        "a background of noise": (np.where(inside, brain(1), noise // 100).astype("i2"), "still has its skull|background"),
        "colours": (np.zeros(SHAPE, _RGB), "RGB colours"),
        "colours with opacity": (np.zeros(SHAPE, _RGBA), "RGB colours"),
        "complex": (brain(1).astype("c8"), "complex numbers"),
        "complex of 128 bits": (brain(1).astype("c16"), "complex numbers"),
        "4-D": (np.stack([brain(1), brain(2)], -1), "4-D with 2 volumes"),
        "5-D vectors": (np.stack([brain(1)] * 3, -1)[:, :, :, None], "4-D with 3 volumes"),
        "6-D": (np.stack([np.stack([brain(1)] * 2, -1)] * 2, -1), "5 dimensions"),
        "one slice": (brain(1)[:, :, 10:11], "single slice"),
        "one row": (brain(1)[:, 12:13, 10:11], "single slice"),
        "one column": (brain(1)[12:13], "single slice"),
        "two-dimensional": (brain(1)[:, :, 10], "single slice"),
    }


def _labels() -> dict[str, tuple[np.ndarray, str]]:
    return {
        "an image of floats": (brain(1) * np.float32(0.37), "no whole numbers"),
        "probabilities": ((brain(1) / 900).astype("f4"), "no whole numbers"),
        "NaN": (_with(np.nan), "NaN or infinite"),
        "infinite": (_with(np.inf, "f8"), "NaN or infinite"),
        "beyond 32 bits": (_with(1e12, "f8"), "within 32 bits"),
        "negative beyond 32 bits": (_with(-1e12, "f8"), "within 32 bits"),
        "colours": (np.zeros(SHAPE, _RGB), "RGB colours"),
        "4-D": (np.zeros((*SHAPE, 3), "u1"), "4-D with 3 volumes"),
    }


def _given(array: np.ndarray, folder: Path, kit: Kit) -> tuple[object, ...]:
    return "segment", "--flair", kit.image("flair"), "--t1c", put(folder / "bad_t1ce.nii.gz", nifti(array))


def _read_labels(array: np.ndarray, folder: Path) -> object:
    return read_labels(put(folder / "bad_seg.nii.gz", nifti(array)))


def _prepared(array: np.ndarray, folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "bad_flair.nii.gz", nifti())
    put(folder / "bad_seg.nii.gz", nifti(array))
    return "prepare", folder, folder / "out", "--workers", 1


def _same(dtype: str, folder: Path) -> None:
    array = (brain() // 8).astype(dtype)
    assert np.array_equal(read_nifti(put(folder / "odd.nii.gz", nifti(array))).array, array)
