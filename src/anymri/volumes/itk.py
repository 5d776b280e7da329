"""MetaImage (.mha) and NRRD (.nrrd) files, read by SimpleITK once their header, size and compressed data have been checked.

ITK takes a header's word, reads over damage in compressed data without a sign, and writes of truncated files on standard error by
itself. So the header is read here first: nothing reaches ITK that is not whole.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from anymri.errors import GridMismatchError, ImageContentError, InputFileError
from anymri.volumes.nifti import MAX_VOXELS, check_intensities, checked_size
from anymri.volumes.volume import Affine, Array, Grid, Volume

ENDINGS = (".mha", ".nrrd")
_HEADER = 2**20  # Bytes; the longest headers (DICOM fields carried along) stay far below.
_CHUNK = 2**22
_TRAILING = 4096
_SPACING_MM = (0.02, 50.0)
_FAR_MM = 1e5
_SHEAR = 1e-2
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_META_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
_SPACES = {
    *("right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps"),
}


@dataclass(frozen=True)
class _Header:
    """What must be known before ITK may read: reader, sizes in the order of the file, which are space, where the data is."""

    reader: str
    sizes: tuple[int, ...]
    spatial: tuple[int, ...]
    dtype: np.dtype[Any]
    packed: bool
    start: int
    length: int | None = None  # Bytes of the data as stored, if the header says.

    @property
    def shape(self) -> tuple[int, int, int]:
        d, h, w = (self.sizes[i] for i in self.spatial)
        return d, h, w

    @property
    def channels(self) -> int:
        return math.prod(self.sizes) // math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


def read_itk(path: Path | str, *, channel: int | None = None) -> Volume:
    """Return an image.

    Args:
        path: A .mha or .nrrd file with its voxels inside.
        channel: Which channel of a file with several.

    Returns:
        Finite voxels, float32, not all the same.

    Raises:
        InputFileError: If the file is missing, unreadable, truncated or of another kind, or SimpleITK is not installed.
        ImageContentError: If its voxels cannot be used.
        GridMismatchError: If its spacing or orientation makes no sense.
    """
    path = Path(path)
    raw, grid = _load(path, channel)
    _check_finite(path, raw)
    with np.errstate(over="ignore"):
        array = raw.astype(np.float32)
    check_intensities(path, array)
    return Volume(array, grid)


def read_itk_labels(path: Path | str, *, channel: int | None = None) -> Volume:
    """Return a label map: int32; it may be empty.

    Raises:
        InputFileError: If the file is missing, unreadable, truncated or of another kind, or SimpleITK is not installed.
        ImageContentError: If a value is not a whole number.
        GridMismatchError: If its spacing or orientation makes no sense.
    """
    path = Path(path)
    raw, grid = _load(path, channel)
    _check_finite(path, raw)
    rounded = np.rint(raw) if raw.dtype.kind == "f" else raw
    if (off := raw != rounded).any():
        raise ImageContentError(
            f"{path}: holds {float(raw[off][0]):g} among {int(off.sum())} values that are no whole numbers; "
            "expected labels; check that it is not an image or a probability map"
        )
    if rounded.min() < -(2**31) or rounded.max() >= 2**31:
        raise ImageContentError(f"{path}: holds {rounded.max():g}; expected labels within 32 bits")
    return Volume(rounded.astype(np.int32), grid)


def _check_finite(path: Path, array: Array) -> None:
    if array.dtype.kind == "f" and (count := int((~np.isfinite(array)).sum())):
        raise ImageContentError(f"{path}: {count} voxels are NaN or infinite; expected finite numbers; export the image again")


def _load(path: Path, channel: int | None) -> tuple[Array, Grid]:
    """Return the voxels of one channel and their grid."""
    size = checked_size(path, "a .mha or .nrrd file")
    try:
        with path.open("rb") as file:
            header = _checked_header(path, file)
            chosen = _checked_channel(path, channel, header.channels)
            _check_data(path, file, header, size)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error
    sitk = _simple_itk(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(header.reader)  # By content: ITK would go by the ending, and by its case.
    reader.SetFileName(os.fspath(path))
    try:
        reader.ReadImageInformation()
        grid = Grid(header.shape, _checked_affine(path, reader))
        image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputFileError(f"{path}: SimpleITK cannot read it ({reason}); copy it again, or save it as .nii.gz") from error
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array[..., chosen]
    elif image.GetDimension() == 4:
        array = array[chosen]
    array = np.ascontiguousarray(array.T)
    if array.shape != header.shape:
        raise InputFileError(f"{path}: SimpleITK reads {array.shape} voxels, its header says {header.shape}; save it as .nii.gz")
    return array, grid


def _simple_itk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise InputFileError(
            f"{path}: reading {path.suffix} files needs SimpleITK; run: pip install 'anymri[clinical]', or convert it to .nii.gz"
        ) from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _checked_header(path: Path, file: BufferedReader) -> _Header:
    start = file.read(_HEADER)
    if start.startswith(b"NRRD000"):
        header = _nrrd_header(path, start)
    elif re.match(rb"\s*(ObjectType|NDims|Comment)\s*=", start):
        header = _meta_header(path, start)
    else:
        shown = start[:4].hex()
        raise InputFileError(f"{path}: is neither MetaImage nor NRRD (it starts with {shown}); check that the right file was given")
    shown = "x".join(map(str, header.sizes))
    if len(header.spatial) != 3 or len(header.sizes) > 4:
        raise ImageContentError(f"{path}: has {len(header.spatial)} dimensions ({shown}); expected a 3-D image")
    if min(header.sizes) < 1:
        raise InputFileError(f"{path}: its header declares the size {shown}; expected positive sizes; the file is damaged")
    if (count := math.prod(header.sizes)) > MAX_VOXELS:
        raise InputFileError(f"{path}: its header declares {shown} = {count} voxels; at most {MAX_VOXELS} are read; it is wrong")
    if min(header.shape) < 2:
        raise ImageContentError(f"{path}: is a single slice or line ({shown}); expected at least two voxels along each axis")
    return header


def _fields(path: Path, text: bytes, end: Callable[[str], bool], separator: str) -> tuple[dict[str, str], int]:
    """Return the fields of a text header and where its voxels begin."""
    fields: dict[str, str] = {}
    position = 0
    while True:
        stop = text.find(b"\n", position)
        if stop < 0:
            raise InputFileError(f"{path}: is truncated inside its header, or has none; copy or download it again")
        line = text[position:stop].decode("utf-8", "replace").strip()
        position = stop + 1
        key, found, value = line.partition(separator)
        if found and not line.startswith("#"):
            fields[key.strip()] = value.strip()
        if end(line):
            return fields, position
        if not found and not line.startswith(("#", "NRRD")):
            raise InputFileError(f"{path}: its header holds the line '{line[:40]}'; the file is damaged; copy or download it again")


def _meta_header(path: Path, text: bytes) -> _Header:
    fields, start = _fields(path, text, lambda line: line.split("=")[0].strip() == "ElementDataFile" and "=" in line, "=")
    if fields["ElementDataFile"] != "LOCAL":
        raise _detached(path, fields["ElementDataFile"], ".mha")
    sizes = _whole_numbers(path, fields, "DimSize")
    if fields.get("NDims") != str(len(sizes)) or list(fields).index("NDims") > list(fields).index("DimSize"):
        raise InputFileError(f"{path}: its header gives {len(sizes)} sizes for NDims = {fields.get('NDims')}; the file is damaged")
    for key, count in (("TransformMatrix", len(sizes) ** 2), ("Offset", len(sizes)), ("ElementSpacing", len(sizes))):
        words = fields.get(key, "").split()
        if words and (len(words) != count or not all(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", w, re.IGNORECASE) for w in words)):
            raise InputFileError(f"{path}: its header gives '{fields[key]}' as {key}; expected {count} numbers; it is damaged")
    if len(sizes) == 4 and sizes[3] == 1:
        sizes = sizes[:3]
    spatial = tuple(range(min(len(sizes), 3)))
    channels = _whole_numbers(path, fields, "ElementNumberOfChannels")[0] if "ElementNumberOfChannels" in fields else 1
    if channels != 1:
        sizes, spatial = (channels, *sizes), tuple(i + 1 for i in spatial)
    if not _flag(path, fields, "BinaryData"):
        raise InputFileError(f"{path}: holds its voxels as text; expected binary data; save it again as binary")
    if not any(fields.get(key) for key in ("TransformMatrix", "Rotation", "Orientation")):
        raise GridMismatchError(f"{path}: its header gives no orientation (TransformMatrix); expected one; export the image again")
    if not any(fields.get(key) for key in ("ElementSpacing", "ElementSize")):
        raise GridMismatchError(f"{path}: its header gives no spacing (ElementSpacing); expected one; export the image again")
    if not [_flag(path, fields, key) for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if key in fields]:
        raise InputFileError(f"{path}: its header gives no order of bytes (BinaryDataByteOrderMSB); expected one; save it again")
    packed = _flag(path, fields, "CompressedData")
    length = _whole_numbers(path, fields, "CompressedDataSize")[0] if packed and "CompressedDataSize" in fields else None
    dtype = _checked_type(path, fields.get("ElementType", "").removesuffix("_ARRAY"), _META_TYPES)
    return _Header("MetaImageIO", sizes, spatial, dtype, packed, start, length)


def _nrrd_header(path: Path, text: bytes) -> _Header:
    fields, start = _fields(path, text, lambda line: not line, ":")
    fields = {key.lower(): value for key, value in fields.items()}
    if detached := fields.get("data file") or fields.get("datafile"):
        raise _detached(path, detached, ".nrrd")
    sizes = _whole_numbers(path, fields, "sizes")
    directions = fields.get("space directions", "").replace("none", "(none)")
    axes = re.findall(r"\(([^)]*)\)", directions)
    if fields.get("space", "").lower() not in _SPACES or len(axes) != len(sizes) or not fields.get("space origin"):
        raise GridMismatchError(
            f"{path}: its header gives no orientation that is understood (space: {fields.get('space') or 'none'}); "
            "expected LPS, RAS or LAS with an origin and a direction for every axis; export the image again"
        )
    spatial = tuple(i for i, axis in enumerate(axes) if axis != "none")
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in ("raw", "gzip", "gz") or "byte skip" in fields or "line skip" in fields:
        raise InputFileError(f"{path}: its voxels are written as {encoding}; raw and gzip without skips are read; save it again")
    dtype = _checked_type(path, fields.get("type", "").lower(), _NRRD_TYPES)
    return _Header("NrrdImageIO", sizes, spatial, dtype, encoding != "raw", start)


def _detached(path: Path, data: str, ending: str) -> InputFileError:
    return InputFileError(f"{path}: keeps its voxels in another file ({data}); expected them inside; save it as a single {ending}")


def _flag(path: Path, fields: dict[str, str], key: str) -> bool:
    text = fields.get(key, "False")
    if text.lower() not in ("true", "false", "1", "0"):
        raise InputFileError(f"{path}: its header gives '{text}' as {key}; expected True or False; the file is damaged")
    return text.lower() in ("true", "1")


def _whole_numbers(path: Path, fields: dict[str, str], key: str) -> tuple[int, ...]:
    text = fields.get(key, "")
    if not re.fullmatch(r"-?\d{1,18}( +-?\d{1,18}){0,15}", text):
        raise InputFileError(f"{path}: its header gives '{text}' as {key}; expected whole numbers; the file is damaged")
    return tuple(int(n) for n in text.split())


def _checked_type(path: Path, name: str, known: dict[str, str]) -> np.dtype[Any]:
    if name not in known:
        raise ImageContentError(f"{path}: holds values of the type '{name}'; expected one real number a voxel; export it again")
    return np.dtype(known[name])


def _checked_channel(path: Path, channel: int | None, channels: int) -> int:
    if channel is None and channels > 1:
        raise ImageContentError(f"{path}: holds {channels} volumes; expected one 3-D image; split the file first")
    if channel is not None and not 0 <= channel < channels:
        raise ImageContentError(f"{path}: has no volume {channel}; it holds {channels}, counted from 0")
    return channel or 0


def _check_data(path: Path, file: BufferedReader, header: _Header, size: int) -> None:
    """Make sure that the voxels are all there and, if compressed, undamaged."""
    stored = size - header.start
    expected = header.length if header.packed else header.bytes
    if expected is not None and expected > stored:
        raise InputFileError(f"{path}: is truncated; its voxels end {expected - stored} bytes early; copy or download it again")
    # As much as a slice more is no padding: then a size in the header is too small, and rows would be read askew.
    padding = _TRAILING if header.packed else min(_TRAILING, header.bytes // max(header.shape) - 1)
    if expected is not None and stored > expected + padding:
        raise InputFileError(f"{path}: holds {stored - expected} bytes more than its header accounts for; the header is wrong")
    if not header.packed:
        file.seek(header.start + header.bytes)
        if file.read().strip(b"\0\r\n"):
            raise InputFileError(f"{path}: holds more voxels than its header accounts for; the header is wrong")
        return
    file.seek(header.start)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # Of zlib (MetaImage) or gzip (NRRD), as the data says.
    done = 0
    try:
        while not unpacker.eof and done <= header.bytes and (chunk := unpacker.unconsumed_tail or file.read(_CHUNK)):
            done += len(unpacker.decompress(chunk, _CHUNK))
    except zlib.error as error:
        raise InputFileError(f"{path}: its compressed data is damaged ({error}); copy or download it again") from error
    if done > header.bytes:
        raise InputFileError(f"{path}: holds more data than its header accounts for ({header.bytes} bytes); the header is wrong")
    if done < header.bytes or not unpacker.eof:
        raise InputFileError(f"{path}: is truncated; {done} of {header.bytes} bytes of voxels are there; copy or download it again")


def _checked_affine(path: Path, reader: Any) -> Affine:
    """Return the affine, voxel indices → RAS+ mm; ITK keeps it for LPS+."""
    dims = reader.GetDimension()
    spacing = np.array(reader.GetSpacing())[:3]
    axes = np.array(reader.GetDirection()).reshape(dims, dims)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, np.array(reader.GetOrigin())[:3]
    shown = " x ".join(f"{v:g}" for v in spacing)
    if not np.isfinite(affine).all():
        raise GridMismatchError(f"{path}: its grid holds NaN or infinite numbers; correct the header")
    if spacing.min() < _SPACING_MM[0] or spacing.max() > _SPACING_MM[1]:
        low, high = _SPACING_MM
        raise GridMismatchError(f"{path}: its spacing is {shown} mm; expected {low:g} to {high:g}; check the units")
    if np.abs(affine).max() > _FAR_MM:
        raise GridMismatchError(f"{path}: its origin lies {np.abs(affine).max():g} mm away; expected a patient; correct the header")
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR:
        raise GridMismatchError(f"{path}: its axes are not unit vectors at right angles; resample it to a regular grid first")
    return _LPS_TO_RAS @ affine
