"""NIfTI-1 and -2 files, read with suspicion: a fault is one clear line, and no memory is taken on the word of a header alone."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from anymri.errors import GridMismatchError, ImageContentError, InputFileError, OutputError
from anymri.volumes.volume import Affine, Array, Grid, Volume
from anymri.volumes.writing import replacing

MAX_VOXELS = 2**28  # 645³: larger than any MRI, small enough for one machine.
_MAX_OFFSET = 2**26  # Extensions before the voxels (DICOM headers carried along) stay far below this.
_TRAILING = 4096  # Bytes of padding, all zero, that a writer may leave behind the voxels.
_CHUNK = 2**24
_DEFLATE_LIMIT = 1032  # Deflate cannot shrink further than this, so a header that claims more is lying.
_SPACING_MM = (0.02, 50.0)
_FAR_MM = 1e5
_SHEAR = 1e-2  # Largest cosine between two axes of a grid that still counts as a right angle (0.6 degrees).
_MAGNITUDE = (1e-30, 1e30)  # What float32 holds with room to calculate.
_UNITS = {1: "metres", 3: "micrometres"}


def read_nifti(path: Path | str, *, channel: int | None = None) -> Volume:
    """Return an image.

    Args:
        path: A .nii or .nii.gz file.
        channel: Which channel of a 4-D file.

    Returns:
        Finite voxels, float32, not all the same.

    Raises:
        InputFileError: If the file is missing, unreadable, truncated or not NIfTI.
        ImageContentError: If its voxels cannot be used.
        GridMismatchError: If its spacing or affine makes no sense.
    """
    path = Path(path)
    raw, grid, slope, inter = _load(path, channel)
    _check_finite(path, raw)
    if raw.min() == raw.max():  # Before more memory is taken for it.
        raise _constant(path, float(raw[0, 0, 0]) * slope + inter)
    with np.errstate(over="ignore", invalid="ignore"):
        array = raw.astype(np.float32)
        if (slope, inter) != (1.0, 0.0):
            array *= np.float32(slope)
            array += np.float32(inter)
    check_intensities(path, array)
    return Volume(array, grid)


def check_intensities(path: Path, array: Array) -> None:
    """Check that voxels, float32, are not all the same and of a magnitude that can be calculated with.

    Raises:
        ImageContentError: If they are not.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ImageContentError(f"{path}: holds values beyond the range of float32; expected intensities; export the image again")
    if low == high:
        raise _constant(path, low)
    if not _MAGNITUDE[0] <= max(-low, high) <= _MAGNITUDE[1]:
        raise ImageContentError(f"{path}: its voxels reach from {low:g} to {high:g}; expected intensities; export the image again")


def read_labels(path: Path | str, *, channel: int | None = None) -> Volume:
    """Return a label map: int32; it may be empty.

    Raises:
        InputFileError: If the file is missing, unreadable, truncated or not NIfTI.
        ImageContentError: If a value is not a whole number.
        GridMismatchError: If its spacing or affine makes no sense.
    """
    path = Path(path)
    raw, grid, slope, inter = _load(path, channel)
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw if (slope, inter) == (1.0, 0.0) else raw.astype(np.float64) * slope + inter
    _check_finite(path, values)
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        # Some tools scale label maps on writing, which leaves a rounding error far below any honest probability.
        off = np.abs(values - rounded) > 1e-3
        if off.any():
            raise ImageContentError(
                f"{path}: holds {float(values[off][0]):g} among {int(off.sum())} values that are no whole numbers; "
                "expected labels; check that it is not an image or a probability map"
            )
        values = rounded
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise ImageContentError(f"{path}: holds {values.max():g}; expected labels within 32 bits")
    return Volume(values.astype(np.int32), grid)


def write_nifti(path: Path | str, volume: Volume) -> None:
    """Write a volume as .nii or .nii.gz under a temporary name, then rename it. The same voxels make the same bytes.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OutputError(f"{path}: images are written as .nii or .nii.gz; choose such a name")
    array = volume.array.view(np.uint8) if volume.array.dtype == bool else volume.array
    image = nibabel.Nifti1Image(np.asfortranarray(array), volume.grid.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.grid.affine, code=1)
    image.set_qform(volume.grid.affine, code=1)
    content = image.to_bytes()
    with replacing(path) as temporary, temporary.open("wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0) as packed:
                packed.write(content)
        else:
            file.write(content)


def _load(path: Path, channel: int | None) -> tuple[Array, Grid, float, float]:
    """Return the voxels of one channel as stored, their grid, and the slope and intercept to scale them by."""
    size = checked_size(path, "a .nii or .nii.gz file", content="a NIfTI image")
    try:
        with _opened(path) as file:
            header = _read_header(path, file)
            shape, channels = _checked_shape(path, header)
            grid = Grid(shape, _checked_affine(path, header, shape))
            dtype = _checked_type(path, header)
            slope, inter = _checked_scale(path, header)
            chosen = _checked_channel(path, channel, channels)
            raw = _read_voxels(path, file, header, size=size, channels=channels, chosen=chosen)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    array = np.frombuffer(raw, dtype=dtype).reshape(shape, order="F")
    return array, grid, slope, inter


def checked_size(path: Path, kind: str, *, content: str = "an image") -> int:
    """Return the size of a file in bytes.

    Args:
        path: The file.
        kind: What is expected there, for the message.
        content: What is expected in it.

    Raises:
        InputFileError: If it is missing, empty, or no regular file.
    """
    try:
        if path.is_dir():
            raise InputFileError(f"{path}: is a folder; expected {kind}; give the file itself")
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputFileError(f"{path}: not found; expected {kind}; check the path") from None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions") from error
    if not path.is_file():
        raise InputFileError(f"{path}: is not a regular file; expected {kind}")
    if size == 0:
        raise InputFileError(f"{path}: is empty (0 bytes); expected {content}; copy or download it again")
    return size


def _unreadable(path: Path, error: Exception) -> InputFileError:
    if isinstance(error, EOFError):
        return InputFileError(f"{path}: is truncated; its compressed data ends too early; copy or download it again")
    if isinstance(error, (zlib.error, gzip.BadGzipFile)):
        return InputFileError(f"{path}: its compressed data is damaged ({error}); copy or download it again")
    detail = getattr(error, "strerror", None) or error
    return InputFileError(f"{path}: cannot be read ({detail}); check the file and its permissions")


def _opened(path: Path) -> io.BufferedIOBase:
    file = path.open("rb")
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if packed:  # By content, not by name: both kinds of misnamed file occur, and this one is harmless.
        file.close()
        return gzip.open(path, "rb")
    if path.name.lower().endswith(".gz"):
        start = file.read(4)
        file.close()
        hint = "it looks like an uncompressed NIfTI: rename it to .nii" if start in _SIZES else "copy or download it again"
        raise InputFileError(f"{path}: is not gzip data although its name ends in .gz; {hint}")
    return file


_SIZES = {n.to_bytes(4, order) for n in (348, 540) for order in ("little", "big")}  # type: ignore[arg-type]


def _read_header(path: Path, file: io.BufferedIOBase) -> Any:
    start = file.read(4)
    if start not in _SIZES:
        raise InputFileError(f"{path}: is not NIfTI (it starts with {start.hex() or 'nothing'}); expected a .nii or .nii.gz file")
    order = "little" if start[0] else "big"
    length = int.from_bytes(start, order)  # type: ignore[arg-type]
    content = start + file.read(length - 4)
    if len(content) < length:
        raise InputFileError(f"{path}: is truncated inside its header ({len(content)} of {length} bytes); copy it again")
    kind = nibabel.Nifti1Header if length == 348 else nibabel.Nifti2Header
    header = kind.from_fileobj(io.BytesIO(content), endianness="<" if order == "little" else ">", check=False)
    magic, expected = bytes(header["magic"].item()).rstrip(b"\0"), b"n+1" if length == 348 else b"n+2"
    if magic in (b"ni1", b"ni2"):
        raise InputFileError(f"{path}: is half of a .hdr and .img pair; expected a single .nii file; convert it first")
    if magic != expected:
        raise InputFileError(f"{path}: is not NIfTI (its magic is {magic!r}, expected {expected!r}); convert it to .nii.gz first")
    if length == 540 and header["eol_check"].tolist() not in ([13, 10, 26, 10], [0, 0, 0, 0]):
        raise InputFileError(f"{path}: was changed as if it were text, which damages it; copy it again, as binary data")
    return header


def _checked_shape(path: Path, header: Any) -> tuple[tuple[int, int, int], int]:
    """Return the spatial shape and the number of channels, before any memory is taken for them."""
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7:
        raise InputFileError(f"{path}: its header declares {dims[0]} dimensions; expected 3; the file is damaged")
    sizes = dims[1 : dims[0] + 1]
    shown = "x".join(str(n) for n in sizes)
    if any(n < 1 for n in sizes):
        raise InputFileError(f"{path}: its header declares the size {shown}; expected three positive sizes; the file is damaged")
    count = 1
    for n in sizes:
        count *= n
    if count > MAX_VOXELS:
        raise InputFileError(f"{path}: its header declares {shown} = {count} voxels; at most {MAX_VOXELS} are read; it is wrong")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    # NIfTI keeps the fourth axis for time; vectors such as RGB triples lie along the fifth.
    sizes = [*sizes[:3], *(n for n in sizes[3:] if n != 1)]
    if len(sizes) < 3 or min(sizes[:3]) < 2:
        raise ImageContentError(f"{path}: is a single slice or line ({shown}); expected at least two voxels along each axis")
    if len(sizes) > 4:
        raise ImageContentError(f"{path}: has {dims[0]} dimensions ({shown}); expected a 3-D image")
    return (sizes[0], sizes[1], sizes[2]), sizes[3] if len(sizes) == 4 else 1


def _checked_channel(path: Path, channel: int | None, channels: int) -> int:
    if channel is None and channels > 1:
        raise ImageContentError(f"{path}: is 4-D with {channels} volumes; expected one 3-D image; split the file first")
    if channel is not None and not 0 <= channel < channels:
        raise ImageContentError(f"{path}: has no volume {channel}; it holds {channels}, counted from 0")
    return channel or 0


def _checked_type(path: Path, header: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(header.get_data_dtype()).newbyteorder(header.endianness)
    except (HeaderDataError, KeyError, TypeError) as error:
        raise InputFileError(f"{path}: its data type code {int(header['datatype'])} is unknown; the file is damaged") from error
    if not dtype.itemsize:  # nibabel's placeholder for the codes 0 and 1
        raise InputFileError(f"{path}: its data type code {int(header['datatype'])} is unknown; the file is damaged")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = {"V": "RGB colours", "c": "complex numbers"}.get(dtype.kind, str(dtype))
        raise ImageContentError(f"{path}: holds {name}; expected one real number a voxel; export the image again as grey values")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        bits = int(header["bitpix"])
        raise InputFileError(f"{path}: its header declares {bits} bits a voxel but the type {dtype.name}; the file is damaged")
    return dtype


def _checked_scale(path: Path, header: Any) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0  # The standard's way to say "not scaled"; the intercept then means nothing.
    if not np.isfinite(slope) or not np.isfinite(inter):
        raise InputFileError(f"{path}: its header scales voxels by {slope:g} and {inter:g}; expected finite numbers; it is damaged")
    return slope, inter


def _checked_affine(path: Path, header: Any, shape: tuple[int, int, int]) -> Affine:
    pixdim = [float(v) for v in header["pixdim"][1:4]]
    if not all(np.isfinite(v) and v > 0 for v in pixdim):
        raise GridMismatchError(f"{path}: its spacing is {_numbers(pixdim)} mm; expected positive numbers; correct the header")
    units = int(header["xyzt_units"]) & 7
    if units in _UNITS:
        raise GridMismatchError(f"{path}: its header gives lengths in {_UNITS[units]}; expected millimetres; convert it first")
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise GridMismatchError(f"{path}: its header gives no orientation (sform and qform codes are 0); expected one; set it")
    if float(header["pixdim"][0]) == 0:
        header["pixdim"][0] = 1.0  # The standard reads 0 as 1 here.
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError, TypeError) as error:
        raise GridMismatchError(f"{path}: its orientation cannot be read ({error}); correct the header") from error
    linear = affine[:3, :3]
    if not np.isfinite(affine).all():
        raise GridMismatchError(f"{path}: its affine holds NaN or infinite numbers; correct the header")
    if np.abs(affine).max() > _FAR_MM:
        raise GridMismatchError(f"{path}: its affine reaches {np.abs(affine).max():g} mm; expected a patient; correct the header")
    spacing = np.linalg.norm(linear, axis=0)
    if (spacing == 0).any() or abs(np.linalg.det(linear / np.where(spacing == 0, 1, spacing))) < 1e-3:
        raise GridMismatchError(f"{path}: its affine is singular (an axis has no direction of its own); correct the header")
    if spacing.min() < _SPACING_MM[0] or spacing.max() > _SPACING_MM[1]:
        low, high = _SPACING_MM
        raise GridMismatchError(f"{path}: its spacing is {_numbers(spacing)} mm; expected {low:g} to {high:g}; check the units")
    if not np.allclose(spacing, pixdim, rtol=0.02):
        raise GridMismatchError(
            f"{path}: its affine says {_numbers(spacing)} mm a voxel but its spacing says {_numbers(pixdim)} mm; correct the header"
        )
    axes = linear / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR:
        raise GridMismatchError(f"{path}: its affine is sheared (axes not at right angles); resample it to a regular grid first")
    return affine


def _numbers(values: Any) -> str:
    return " x ".join(f"{float(v):g}" for v in values)


def _read_voxels(path: Path, file: io.BufferedIOBase, header: Any, *, size: int, channels: int, chosen: int) -> Any:
    """Return the bytes of the chosen channel. No more is decompressed than the header accounts for, give or take some padding."""
    start = float(header["vox_offset"])
    header_bytes = int(header["sizeof_hdr"])
    # Behind the header lie four bytes that tell of extensions.
    if not (np.isfinite(start) and header_bytes + 4 <= start <= _MAX_OFFSET and start == int(start)):
        raise InputFileError(f"{path}: its header says that voxels begin at byte {start:g}; the file is damaged")
    itemsize = int(header["bitpix"]) // 8
    dims = [int(n) for n in header["dim"]]
    count = 1
    for n in dims[1 : dims[0] + 1]:
        count *= n
    expected = int(start) + count * itemsize
    packed = isinstance(file, gzip.GzipFile)
    if expected > size * (_DEFLATE_LIMIT if packed else 1) + 1024:
        raise InputFileError(f"{path}: is truncated; its header accounts for {expected} bytes, which it cannot hold; copy it again")
    length = count // channels * itemsize
    _skip(path, file, int(start) - header_bytes + chosen * length, expected)
    raw = np.empty(length, dtype=np.uint8)
    view, done = memoryview(raw), 0  # type: ignore[arg-type]
    while done < length:
        got = file.readinto(view[done : done + _CHUNK])
        if not got:
            raise InputFileError(f"{path}: is truncated; its voxels end {length - done} bytes early; copy or download it again")
        done += got
    # Reading to the end lets gzip compare its checksum, and shows whether the header told the whole truth.
    _skip(path, file, (channels - 1 - chosen) * length, expected)
    # As much as a slice more is no padding: then a size in the header is too small, and rows would be read askew.
    padding = min(_TRAILING, itemsize * count // max(dims[1 : dims[0] + 1]) - 1)
    rest = file.read(padding + 1)
    if len(rest) > padding or any(rest):
        raise InputFileError(f"{path}: holds more data than its header accounts for ({expected} bytes); the header is wrong")
    return raw


def _skip(path: Path, file: io.BufferedIOBase, count: int, expected: int) -> None:
    while count > 0:
        got = len(file.read(min(count, _CHUNK)))
        if not got:
            raise InputFileError(f"{path}: is truncated; expected {expected} bytes after decompression; copy or download it again")
        count -= got


def _constant(path: Path, value: float) -> ImageContentError:
    what = "all voxels are zero" if value == 0 else f"all voxels are {value:g}"
    return ImageContentError(f"{path}: {what}; expected an image; check that the right file was given")


def _check_finite(path: Path, array: Array) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    count = int(bad.sum())
    if count:
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        raise ImageContentError(
            f"{path}: {count} voxels are NaN or infinite, the first at {where}; expected finite numbers; export the image again"
        )
