"""Every field of a NIfTI header, in both versions and byte orders, each with several values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from anymri.volumes.nifti import read_nifti

from ..entry import Entry, Harmless, Kit, Refused, Unread
from ..images import AFFINE, USUAL, VARIANTS, Change, Variant, brain, by_quaternion, nifti, put, setting, together

KIND = "header"
_INF, _NAN = float("inf"), float("nan")
_BOTH = (1, 2)
_FLOATS = {"NaN": _NAN, "infinite": _INF}


@dataclass(frozen=True)
class _Value:
    """A field with a value, and what must come of it: a pattern, or nothing where the field does not matter.

    Attributes:
        pair: Whether only the other image of the patient shows that it is wrong.
    """

    field: str
    label: str
    change: Change
    says: str = ""
    versions: tuple[int, ...] = _BOTH
    pair: bool = False

    @property
    def name(self) -> str:
        return f"{self.field}: {self.label}"


def entries() -> Iterator[Entry]:
    """Yield the entries: those of the usual variant through the command, those of the others through the reader."""
    values = [*_beginnings(), *_dimensions(), *_types(), *_places(), *_scales(), *_spacings(), *_orientations(), *_ignored()]
    for variant in VARIANTS:
        for value in values:
            if variant.version in value.versions:
                yield from _of(value, variant)


def _of(value: _Value, variant: Variant) -> Iterator[Entry]:
    name = f"{variant}: {value.name}"
    if not value.says:
        yield Harmless(KIND, name, partial(_same, value.change, variant))
    elif variant == USUAL:
        yield Refused(KIND, name, partial(_words, value.change, variant), rf"bad_t1ce\.nii\.gz.*{value.says}")
    elif not value.pair:
        yield Unread(KIND, name, partial(_read, value.change, variant), value.says)


def _words(change: Change, variant: Variant, folder: Path, kit: Kit) -> tuple[object, ...]:
    bad = put(folder / "bad_t1ce.nii.gz", nifti(brain(1), change, variant=variant))
    return "segment", "--flair", kit.image("flair"), "--t1c", bad


def _read(change: Change, variant: Variant, folder: Path) -> object:
    return read_nifti(put(folder / "bad.nii", nifti(change=change, variant=variant)))


def _same(change: Change, variant: Variant, folder: Path) -> None:
    volume = read_nifti(put(folder / "odd.nii.gz", nifti(change=change, variant=variant)))
    assert np.array_equal(volume.array, brain())
    assert np.array_equal(volume.grid.affine, AFFINE)


def _beginnings() -> Iterator[_Value]:
    for size in (0, 347, 349, -1, 2**31 - 1):
        yield _Value("sizeof_hdr", str(size), setting("sizeof_hdr", size), "is not NIfTI")
    yield _Value("sizeof_hdr", "of version 2", setting("sizeof_hdr", 540), "is not NIfTI", (1,))
    yield _Value("sizeof_hdr", "of version 1", setting("sizeof_hdr", 348), "is not NIfTI|dimensions", (2,))
    yield _Value("sizeof_hdr", "of the other byte order", setting("sizeof_hdr", 1543569408), "dimensions|size", (1,))
    yield _Value("sizeof_hdr", "of the other byte order", setting("sizeof_hdr", 469893120), "dimensions|size", (2,))
    yield _Value("magic", "a pair of files", setting("magic", b"ni1"), "half of a .hdr and .img pair", (1,))
    yield _Value("magic", "a pair of files", setting("magic", b"ni2"), "half of a .hdr and .img pair", (2,))
    for magic in (b"", b"n+3", b"N+1", b"xyz!", b"n+1!", b"\xff\xfe\xfd\xfc"):
        yield _Value("magic", repr(magic), setting("magic", magic), "is not NIfTI")
    yield _Value("magic", "of version 2", setting("magic", b"n+2"), "is not NIfTI", (1,))
    yield _Value("magic", "of version 1", setting("magic", b"n+1"), "is not NIfTI", (2,))
    yield _Value("eol_check", "line ends changed", setting("eol_check", [10, 26, 10, 0]), "changed as if it were text", (2,))
    yield _Value("eol_check", "zero", setting("eol_check", [0, 0, 0, 0]), "", (2,))


def _dimensions() -> Iterator[_Value]:
    for count in (0, -1, 8, 32767):
        yield _Value("dim[0]", str(count), setting("dim", count, 0), f"declares {count} dimensions")
    for count in (1, 2):
        yield _Value("dim[0]", str(count), setting("dim", count, 0), "single slice or line")
    for count in (4, 5, 6, 7):
        yield _Value("dim[0]", f"{count}, the rest 1", setting("dim", count, 0))
    for axis, size in ((1, 24), (2, 24), (3, 20)):
        field = f"dim[{axis}]"
        for label, wrong in (("zero", 0), ("negative", -size), ("the least", -(2**15))):
            yield _Value(field, label, setting("dim", wrong, axis), "three positive sizes")
        yield _Value(field, "one slice", setting("dim", 1, axis), "single slice or line")
        yield _Value(field, "one less", setting("dim", size - 1, axis), "more data than its header accounts for")
        yield _Value(field, "half", setting("dim", size // 2, axis), "more data than its header accounts for")
        yield _Value(field, "one more", setting("dim", size + 1, axis), "is truncated")
        yield _Value(field, "the most of 16 bits", setting("dim", 2**15 - 1, axis), "is truncated")
        yield _Value(field, "the most of 64 bits", setting("dim", 2**63 - 1, axis), "at most 268435456 are read", (2,))
    for axis in range(4, 8):
        deep = together(setting("dim", axis, 0), setting("dim", 2, axis))
        yield _Value(f"dim[{axis}]", "2, and no data for it", deep, "is 4-D with 2 volumes")
        yield _Value(f"dim[{axis}]", "zero", together(setting("dim", axis, 0), setting("dim", 0, axis)), "three positive sizes")
        yield _Value(f"dim[{axis}]", "unused", setting("dim", 77, axis))
    yield _Value("dim", "10^9 voxels", setting("dim", [3, 1000, 1000, 1000, 1, 1, 1, 1]), "1000000000 voxels; at most")
    yield _Value("dim", "all 32767", setting("dim", [7, *[32767] * 7]), "voxels; at most")
    yield _Value("dim", "just below the limit", setting("dim", [3, 640, 640, 640, 1, 1, 1, 1]), "is truncated")
    yield _Value("dim", "two axes that vary", setting("dim", [5, 24, 24, 20, 2, 3, 1, 1]), "has 5 dimensions")


def _types() -> Iterator[_Value]:
    for code in (0, 1, 77, -1, 32767):
        yield _Value("datatype", f"code {code}", setting("datatype", code), f"code {code} is unknown|is unknown")
    for code, name in {2: "uint8", 8: "int32", 16: "float32", 64: "float64", 256: "int8", 1024: "int64", 1280: "uint64"}.items():
        yield _Value("datatype", name, setting("datatype", code), f"16 bits a voxel but the type {name}")
    yield _Value("datatype", "uint16 of the same bits", setting("datatype", 512))
    for code, bits, word in (
        (128, 24, "RGB colours"),
        (2304, 32, "RGB colours"),
        (32, 64, "complex"),
        (1792, 128, "complex"),
        (1536, 128, "float128|is unknown"),
    ):
        both = together(setting("datatype", code), setting("bitpix", bits))
        yield _Value("datatype", f"code {code} with its {bits} bits", both, word)
    for bits in (0, 1, 8, 15, 32, 64, -16, 32767):
        yield _Value("bitpix", str(bits), setting("bitpix", bits), f"declares {bits} bits a voxel")


def _places() -> Iterator[_Value]:
    for label, value in {"zero": 0, "inside the header": 100, "negative": -352, "beyond any": 2**30}.items():
        yield _Value("vox_offset", label, setting("vox_offset", value), "voxels begin at byte")
    for label, value in {**_FLOATS, "a fraction": 352.5, "1e30": 1e30}.items():
        yield _Value("vox_offset", label, setting("vox_offset", value), "voxels begin at byte", (1,))
    for version, end in ((1, 348), (2, 540)):
        yield _Value("vox_offset", "at the header's end", setting("vox_offset", end), "voxels begin at byte", (version,))
        yield _Value("vox_offset", "a little late", setting("vox_offset", end + 6), "is truncated", (version,))
        yield _Value("vox_offset", "late", setting("vox_offset", end + 1000), "is truncated", (version,))


def _scales() -> Iterator[_Value]:
    yield _Value("scl_slope", "infinite", setting("scl_slope", _INF), "scales voxels by inf")
    yield _Value("scl_slope", "zero means unscaled", setting("scl_slope", 0))
    yield _Value("scl_slope", "NaN means unscaled", setting("scl_slope", _NAN))
    yield _Value("scl_slope", "huge", setting("scl_slope", 3e38), "beyond the range of float32")
    yield _Value("scl_slope", "tiny", setting("scl_slope", 1e-42), "voxels reach from 0 to")
    for label, value in _FLOATS.items():
        both = together(setting("scl_slope", 1), setting("scl_inter", value))
        yield _Value("scl_inter", label, both, "scales voxels by 1 and")
        yield _Value("scl_inter", f"{label}, unscaled", together(setting("scl_slope", 0), setting("scl_inter", value)))
    drowned = together(setting("scl_slope", 1), setting("scl_inter", 1e30))
    yield _Value("scl_inter", "drowns the voxels", drowned, "all voxels are 1e")


def _spacings() -> Iterator[_Value]:
    for value in (0.0, -1.0, 5.0, _NAN):
        yield _Value("pixdim[0]", f"{value}, by affine", setting("pixdim", value, 0))
    yield _Value("pixdim[0]", "0 means 1, by quaternion", together(by_quaternion, setting("pixdim", 0, 0)))
    yield _Value("pixdim[0]", "-1, by quaternion", together(by_quaternion, setting("pixdim", -1, 0)), "voxels lie", pair=True)
    for label, value in {"5": 5.0, "NaN": _NAN, "infinite": _INF}.items():
        change = together(by_quaternion, setting("pixdim", value, 0))
        yield _Value("pixdim[0]", f"{label}, by quaternion", change, "orientation cannot be read")
    for axis in (1, 2, 3):
        field = f"pixdim[{axis}]"
        for label, value in {"zero": 0.0, "negative": -4.0, **_FLOATS}.items():
            yield _Value(field, label, setting("pixdim", value, axis), "spacing is .* expected positive numbers")
        for label, value in {"in metres": 0.004, "huge": 1e30, "another": 5.0, "tiny": 1e-30}.items():
            yield _Value(field, label, setting("pixdim", value, axis), "its affine says 4 x 4 x 4 mm a voxel but its spacing says")
        change = together(by_quaternion, setting("pixdim", 400.0, axis))
        yield _Value(field, "400 mm, by quaternion", change, "expected 0.02 to 50; check the units")
        other = together(by_quaternion, setting("pixdim", 5.0, axis))
        yield _Value(field, "not the other image's, by quaternion", other, "its spacing is", pair=True)
    for axis in range(4, 8):
        for label, value in {"zero": 0.0, "negative": -1.0, **_FLOATS}.items():
            yield _Value(f"pixdim[{axis}]", label, setting("pixdim", value, axis))
    for code, word in ((1, "metres"), (3, "micrometres"), (9, "metres"), (11, "micrometres")):
        yield _Value("xyzt_units", str(code), setting("xyzt_units", code), f"gives lengths in {word}")
    for code in (0, 2, 10, 18, 48):
        yield _Value("xyzt_units", str(code), setting("xyzt_units", code))


def _orientations() -> Iterator[_Value]:
    yield _Value("sform_code", "0", setting("sform_code", 0), "no orientation")
    for code in (-1, 2, 4, 99):
        yield _Value("sform_code", str(code), setting("sform_code", code))
    for code in (-1, 1, 5, 99):
        yield _Value("qform_code", f"{code} beside an sform", setting("qform_code", code))
    yield _Value("qform_code", "1, quaternion of nothing", together(by_quaternion, setting("quatern_d", 0)), "apart", pair=True)
    for letter in "bcd":
        field = f"quatern_{letter}"
        for label, value in {**_FLOATS, "too long": 2.0, "huge": 1e38}.items():
            change = together(by_quaternion, setting(field, value))
            yield _Value(field, label, change, "orientation cannot be read|NaN or infinite")
        yield _Value(field, "beside an sform", setting(field, _NAN))
    for letter, row in (("x", 0), ("y", 1), ("z", 2)):
        field = f"qoffset_{letter}"
        for label, value in {**_FLOATS, "far away": 1e7}.items():
            change = together(by_quaternion, setting(field, value))
            yield _Value(field, label, change, "NaN or infinite|expected a patient")
        moved = together(by_quaternion, setting(field, 7.0))
        yield _Value(field, "not the other image's", moved, "voxels lie up to", pair=True)
        yield _Value(field, "beside an sform", setting(field, _NAN))
        for column in range(4):
            name = f"srow_{letter}[{column}]"
            for label, value in {**_FLOATS, "1e30": 1e30}.items():
                yield _Value(name, label, setting(f"srow_{letter}", value, column), "NaN or infinite|expected a patient")
        yield _Value(f"srow_{letter}[3]", "not the other image's", setting(f"srow_{letter}", 0.5, 3), "voxels lie", pair=True)
        yield _Value(f"srow_{letter}", "zero", setting(f"srow_{letter}", [0, 0, 0, 0]), "singular")
        yield _Value(f"srow_{letter}", "metres", setting(f"srow_{letter}", AFFINE[row] / 1000), "singular|spacing|sheared")


def _ignored() -> Iterator[_Value]:
    """Yield what does not touch voxels or grid: whatever stands there, the image is the same."""
    for field in ("intent_p1", "intent_p2", "intent_p3", "cal_max", "cal_min", "slice_duration", "toffset"):
        for label, value in {**_FLOATS, "negative": -1e30}.items():
            yield _Value(field, label, setting(field, value))
    for field, values in {
        "extents": (-1, 16384),
        "session_error": (-1, 32767),
        "regular": (b"\xff", b"r"),
        "dim_info": (255, 57),
        "intent_code": (-1, 1002, 2001, 32767),
        "slice_start": (-1, 32767),
        "slice_end": (-1, 32767),
        "slice_code": (6, 127),
        "glmax": (-(2**31), 2**31 - 1),
        "glmin": (-(2**31), 2**31 - 1),
        "descrip": (b"\xff" * 80, b"%s%n\n\x1b[31m"),
        "aux_file": (b"\xff" * 24, b"../../x"),
        "intent_name": (b"\xff" * 16, b"\n"),
        "data_type": (b"\xff" * 10, b"\n"),
        "db_name": (b"\xff" * 18, b"/"),
        "unused_str": (b"\xff" * 15, b"\n"),
    }.items():
        only_one = field in ("extents", "session_error", "regular", "glmax", "glmin", "data_type", "db_name")
        versions = (1,) if only_one else (2,) if field == "unused_str" else _BOTH
        for value in values:
            yield _Value(field, repr(value)[:20], setting(field, value), "", versions)
