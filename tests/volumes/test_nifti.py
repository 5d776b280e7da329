"""Faults of files, one by one and at random: each is one clear line."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anymri.errors import AnymriError, GridMismatchError, ImageContentError, InputFileError, OutputError
from anymri.volumes.nifti import read_labels, read_nifti, write_nifti
from anymri.volumes.volume import Grid, Volume

SHAPE = (6, 7, 8)
Header = Callable[[nibabel.Nifti1Header], None]


def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)


def image_bytes(array: np.ndarray | None = None, change: Header | None = None, *, two: bool = False) -> bytearray:
    """Return an uncompressed NIfTI file whose header was changed after it was made."""
    array = voxels() if array is None else array
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    image = kind(array, np.diag([-1.0, -1.0, 1.0, 1.0]), dtype=array.dtype)
    content = bytearray(image.to_bytes())
    if change is not None:
        header = type(image.header)(bytes(content[: image.header.sizeof_hdr]), check=False)
        change(header)
        content[: image.header.sizeof_hdr] = header.binaryblock
    return content


def put(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(gzip.compress(bytes(content), 1) if path.name.endswith(".gz") else content)
    return path


def setting(field: str, value: object, *where: int) -> Header:
    def change(header: nibabel.Nifti1Header) -> None:
        if where:
            header[field][where[0]] = value
        else:
            header[field] = value

    return change


def sform(rows: list[list[float]]) -> Header:
    def change(header: nibabel.Nifti1Header) -> None:
        for name, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
            header[name] = row

    return change


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "with space ü.nii.gz"])
def test_reading_gives_what_nibabel_gives(tmp_path: Path, name: str, two: bool) -> None:
    path = put(tmp_path / name, image_bytes(two=two))
    volume = read_nifti(path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, voxels())
    assert np.array_equal(volume.grid.affine, np.diag([-1.0, -1.0, 1.0, 1.0]))


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f8", "<i8"])
def test_every_real_type_and_byte_order(tmp_path: Path, dtype: str) -> None:
    array = (voxels() % 100).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    image = nibabel.Nifti1Image(array, np.eye(4), header, dtype=array.dtype)
    path = put(tmp_path / "a.nii.gz", image.to_bytes())
    assert np.array_equal(read_nifti(path).array, array.astype(np.float32))


def test_slope_and_intercept(tmp_path: Path) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header["scl_slope"], header["scl_inter"] = 0.5, -3.0

    path = put(tmp_path / "a.nii", image_bytes(change=change))
    assert np.allclose(read_nifti(path).array, voxels() * 0.5 - 3)


def test_channels_and_trailing_axes(tmp_path: Path) -> None:
    four = np.stack([voxels(), voxels() * 2], -1)
    path = put(tmp_path / "four.nii.gz", image_bytes(four))
    assert np.array_equal(read_nifti(path, channel=1).array, voxels() * 2)
    assert np.array_equal(read_nifti(path, channel=0).array, voxels())
    with pytest.raises(ImageContentError, match="4-D with 2 volumes"):
        read_nifti(path)
    with pytest.raises(ImageContentError, match="no volume 2"):
        read_nifti(path, channel=2)
    single = put(tmp_path / "single.nii", image_bytes(voxels()[..., None, None]))
    assert read_nifti(single).array.shape == SHAPE


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(bytes(image_bytes())))
    assert read_nifti(path).array.shape == SHAPE


def float_image(value: float) -> np.ndarray:
    array = voxels().astype(np.float32)
    array[1, 2, 3] = value
    return array


FAULTY_HEADERS: dict[str, tuple[Header, type[AnymriError], str]] = {
    "magic": (setting("magic", b"xyz\0"), InputFileError, "is not NIfTI"),
    "pair": (setting("magic", b"ni1\0"), InputFileError, "half of a .hdr and .img pair"),
    "no dimensions": (setting("dim", 0, 0), InputFileError, "0 dimensions"),
    "many dimensions": (setting("dim", 9, 0), InputFileError, "9 dimensions"),
    "negative size": (setting("dim", -6, 1), InputFileError, "three positive sizes"),
    "absurd size": (setting("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), InputFileError, "voxels; at most 268435456"),
    "more than the file": (setting("dim", 900, 3), InputFileError, "truncated"),
    "a little more": (setting("dim", 9, 3), InputFileError, "truncated"),
    "two axes": (setting("dim", [2, 6, 56, 1, 1, 1, 1, 1]), ImageContentError, "single slice"),
    "one slice": (setting("dim", [3, 42, 8, 1, 1, 1, 1, 1]), ImageContentError, "single slice"),
    "unknown type": (setting("datatype", 77), InputFileError, "type code 77"),
    "wrong bits": (setting("bitpix", 8), InputFileError, "8 bits a voxel"),
    "colours": (setting("datatype", 128), ImageContentError, "RGB colours"),
    "complex": (setting("datatype", 32), ImageContentError, "complex numbers"),
    "voxels inside the header": (setting("vox_offset", 100), InputFileError, "begin at byte 100"),
    "voxels nowhere": (setting("vox_offset", np.nan), InputFileError, "begin at byte nan"),
    "infinite slope": (setting("scl_slope", np.inf), InputFileError, "scales voxels by inf"),
    "zero spacing": (setting("pixdim", 0, 2), GridMismatchError, "spacing is 1 x 0 x 1 mm"),
    "negative spacing": (setting("pixdim", -1, 1), GridMismatchError, "spacing is -1 x 1 x 1 mm"),
    "NaN spacing": (setting("pixdim", np.nan, 3), GridMismatchError, "spacing is 1 x 1 x nan mm"),
    "two spacings": (setting("pixdim", 2, 3), GridMismatchError, "its affine says 1 x 1 x 1 mm a voxel but"),
    "metres": (setting("xyzt_units", 1), GridMismatchError, "lengths in metres"),
    "micrometres": (setting("xyzt_units", 3), GridMismatchError, "lengths in micrometres"),
    "no orientation": (setting("sform_code", 0), GridMismatchError, "no orientation"),
    "NaN affine": (setting("srow_y", np.nan, 3), GridMismatchError, "NaN or infinite"),
    "singular": (sform([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]), GridMismatchError, "singular"),
    "zero axis": (sform([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]), GridMismatchError, "singular"),
    "sheared": (sform([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]), GridMismatchError, "sheared"),
    "far away": (setting("srow_x", 1e7, 3), GridMismatchError, "expected a patient"),
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("fault", FAULTY_HEADERS)
def test_a_faulty_header_is_one_clear_line(tmp_path: Path, fault: str, name: str) -> None:
    change, kind, message = FAULTY_HEADERS[fault]
    path = put(tmp_path / name, image_bytes(change=change))
    with pytest.raises(kind, match=message) as caught:
        read_nifti(path)
    assert_one_line(caught.value, path)


def assert_one_line(error: BaseException, path: Path) -> None:
    assert str(error).startswith(f"{path}: ")
    assert "\n" not in str(error)
    assert len(str(error)) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (float_image(np.nan), r"1 voxels are NaN or infinite, the first at \(1, 2, 3\)"),
        (float_image(np.inf), "NaN or infinite"),
        (np.zeros(SHAPE, np.int16), "all voxels are zero"),
        (np.full(SHAPE, 7, np.uint8), "all voxels are 7"),
        (voxels() * 1e300, "beyond the range of float32"),
    ],
)
def test_voxels_that_cannot_be_used(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = put(tmp_path / "a.nii.gz", image_bytes(array))
    with pytest.raises(ImageContentError, match=message) as caught:
        read_nifti(path)
    assert_one_line(caught.value, path)


def broken(kind: str, path: Path) -> Path:
    content = gzip.compress(bytes(image_bytes()), 1)
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 0x10
    contents = {
        "empty": b"",
        "cut in half": content[: len(content) // 2],
        "without its checksum": content[:-8],
        "one byte": b"\x1f",
        "bit flipped": bytes(flipped),
        "not gzip": b"this is text and no image, however it is called",
        "plain under the name of gzip": bytes(image_bytes()),
        "gzip of text": gzip.compress(b"this is text and no image"),
        "gzip of nothing": gzip.compress(b""),
        "header alone": gzip.compress(bytes(image_bytes()[:348])),
        "half a header": gzip.compress(bytes(image_bytes()[:200])),
        "voxels cut off": gzip.compress(bytes(image_bytes()[:-5])),
        "more than it says": gzip.compress(bytes(image_bytes()) + bytes(5000)),
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", r"is empty \(0 bytes\)"),
        ("cut in half", "truncated"),
        ("without its checksum", "truncated"),
        ("one byte", "is not gzip data"),
        ("bit flipped", "is damaged|truncated"),
        ("not gzip", "is not gzip data"),
        ("plain under the name of gzip", "rename it to .nii"),
        ("gzip of text", "is not NIfTI"),
        ("gzip of nothing", "it starts with nothing"),
        ("header alone", "truncated"),
        ("half a header", r"inside its header \(200 of 348 bytes\)"),
        ("voxels cut off", "voxels end 5 bytes early"),
        ("more than it says", "more data than its header accounts for"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, kind: str, message: str) -> None:
    path = broken(kind, tmp_path / "a.nii.gz")
    with pytest.raises(InputFileError, match=message) as caught:
        read_nifti(path)
    assert_one_line(caught.value, path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="not found"):
        read_nifti(tmp_path / "none.nii.gz")
    with pytest.raises(InputFileError, match="is a folder"):
        read_nifti(tmp_path)
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    with pytest.raises(InputFileError, match="cannot be read"):
        read_nifti(tmp_path / "loop.nii")
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(InputFileError, match="not a regular file"):
        read_nifti(tmp_path / "pipe.nii")


def test_memory_is_not_taken_on_the_word_of_a_header(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(image_bytes()) + bytes(200_000_000), 9)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(bomb)
    claims = put(tmp_path / "claims.nii.gz", image_bytes(change=setting("dim", [3, 640, 640, 640, 1, 1, 1, 1])))
    tracemalloc.start()
    try:
        for faulty in (path, claims):
            with pytest.raises(InputFileError):
                read_nifti(faulty)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_random_headers_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    plain = image_bytes()
    refused = 0
    fields = [*range(40, 124), *range(252, 348)]
    for number in range(400):
        content = bytearray(plain)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.choice(fields))] = int(rng.integers(0, 256))
        path = put(tmp_path / f"{number}.nii", content)
        try:
            volume = read_nifti(path)
        except AnymriError as error:
            assert_one_line(error, path)
            refused += 1
        else:
            assert np.isfinite(volume.array).all()
            assert np.isfinite(volume.grid.affine).all()
    assert 100 < refused < 400


def test_random_flips_of_gzip_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    packed = gzip.compress(bytes(image_bytes()), 6, mtime=0)
    for number in range(100):
        content = bytearray(packed)
        content[int(rng.integers(10, len(packed)))] ^= 1 << int(rng.integers(0, 8))
        path = tmp_path / f"{number}.nii.gz"
        path.write_bytes(content)
        with pytest.raises(InputFileError) as caught:
            read_nifti(path)
        assert_one_line(caught.value, path)


def test_labels(tmp_path: Path) -> None:
    array = (voxels() % 5).astype(np.float32)
    labels = read_labels(put(tmp_path / "a.nii.gz", image_bytes(array)))
    assert labels.array.dtype == np.int32
    assert np.array_equal(labels.array, array)
    empty = read_labels(put(tmp_path / "empty.nii.gz", image_bytes(np.zeros(SHAPE, np.uint8))))
    assert not empty.array.any()
    with pytest.raises(ImageContentError, match="no whole numbers"):
        read_labels(put(tmp_path / "b.nii.gz", image_bytes(array * 0.3)))
    with pytest.raises(ImageContentError, match="NaN"):
        read_labels(put(tmp_path / "c.nii.gz", image_bytes(float_image(np.nan))))
    with pytest.raises(ImageContentError, match="32 bits"):
        read_labels(put(tmp_path / "d.nii.gz", image_bytes(float_image(1e12))))


def test_writing_and_reading_keeps_voxels_and_grid(tmp_path: Path) -> None:
    affine = np.array([[0.0, -0.9, 0, 10], [0.8, 0, 0, -20], [0, 0, 5.5, 3], [0, 0, 0, 1]])
    volume = Volume(voxels().astype(np.uint8) % 4, Grid(SHAPE, affine))
    for name in ("a.nii", "sub/a.nii.gz"):
        write_nifti(tmp_path / name, volume)
        again = read_labels(tmp_path / name)
        assert np.array_equal(again.array, volume.array)
        assert np.allclose(again.grid.affine, affine, atol=1e-6)
    first = (tmp_path / "sub/a.nii.gz").read_bytes()
    write_nifti(tmp_path / "sub/a.nii.gz", volume)
    assert (tmp_path / "sub/a.nii.gz").read_bytes() == first
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.nii", "a.nii.gz"]
    write_nifti(tmp_path / "bool.nii.gz", Volume(volume.array > 1, volume.grid))
    assert read_labels(tmp_path / "bool.nii.gz").array.max() == 1


def test_what_cannot_be_written(tmp_path: Path) -> None:
    volume = Volume(voxels(), Grid(SHAPE, np.eye(4)))
    with pytest.raises(OutputError, match="written as .nii or .nii.gz"):
        write_nifti(tmp_path / "a.png", volume)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_nifti(tmp_path / "file" / "a.nii.gz", volume)
    (tmp_path / "taken.nii").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_nifti(tmp_path / "taken.nii", volume)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.nii"]
