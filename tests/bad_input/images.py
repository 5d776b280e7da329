"""NIfTI files as bytes: a small brain in either version of the format and either byte order, and ways to spoil its header."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SHAPE = (24, 24, 20)
AFFINE = np.array([[-4.0, 0, 0, 46], [0, -4, 0, 46], [0, 0, 4, -38], [0, 0, 0, 1]])

Header = Any  # nibabel's headers are looked up by field
Change = Callable[[Header], None]


@dataclass(frozen=True)
class Variant:
    """A version of NIfTI in a byte order."""

    version: int
    order: str

    @property
    def header(self) -> type[Any]:
        """nibabel's class of its header."""
        return nibabel.Nifti1Header if self.version == 1 else nibabel.Nifti2Header

    @property
    def size(self) -> int:
        """Bytes of its header."""
        return 348 if self.version == 1 else 540

    def __str__(self) -> str:
        return f"nifti{self.version}-{'little' if self.order == '<' else 'big'}"


USUAL = Variant(1, "<")
VARIANTS = tuple(Variant(version, order) for version in (1, 2) for order in "<>")


@cache
def brain(seed: int = 0) -> np.ndarray:
    """Return a noisy ball with nothing around it, int16."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    inside = np.linalg.norm((places - (np.array(SHAPE) - 1) / 2) * 4, axis=-1) < 36
    array = np.where(inside, np.random.default_rng(seed).integers(300, 900, SHAPE), 0).astype(np.int16)
    array.setflags(write=False)
    return array


def nifti(
    array: np.ndarray | None = None, change: Change | None = None, *, affine: np.ndarray = AFFINE, variant: Variant = USUAL
) -> bytes:
    """Return an uncompressed file with an orientation by sform alone; its header is changed last."""
    array = brain() if array is None else array
    kind = nibabel.Nifti1Image if variant.version == 1 else nibabel.Nifti2Image
    stored = array.astype(array.dtype.newbyteorder(variant.order)) if array.dtype.fields is None else array
    image = kind(stored, affine if _regular(affine) else AFFINE, variant.header(endianness=variant.order), dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=0)
    changes = [] if _regular(affine) else [partial(_irregular, affine)]  # nibabel wants to make a quaternion of it
    changes += [change] if change else []
    return changed(image.to_bytes(), together(*changes), variant) if changes else image.to_bytes()


def _irregular(affine: np.ndarray, header: Header) -> None:
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)


def _regular(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) > 1e-9


def changed(content: bytes, change: Change, variant: Variant = USUAL) -> bytes:
    """Return a file whose header was changed, whatever that does to its sense."""
    header = variant.header(content[: variant.size], endianness=variant.order, check=False)
    change(header)
    return header.binaryblock + content[variant.size :]


def setting(field: str, value: object, *where: int) -> Change:
    """Return a change of one field, or of one place of it."""

    def change(header: Header) -> None:
        if where:
            header[field][where[0]] = value
        else:
            header[field] = value

    return change


def together(*changes: Change) -> Change:
    """Return several changes as one."""

    def change(header: Header) -> None:
        for one in changes:
            one(header)

    return change


def by_quaternion(header: Header) -> None:
    """Let the orientation come from the quaternion instead of the affine."""
    header["sform_code"], header["qform_code"] = 0, 1


def packed(content: bytes) -> bytes:
    """Return gzip data that is the same every time."""
    return gzip.compress(content, 1, mtime=0)


def put(path: Path, content: bytes) -> Path:
    """Write a file, compressed if its name says so."""
    path.write_bytes(packed(content) if path.name.endswith(".gz") else content)
    return path
