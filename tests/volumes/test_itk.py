"""MetaImage and NRRD: the same voxels in the same place as NIfTI, and faults of every kind in one line."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from anymri.errors import GridMismatchError, ImageContentError, InputFileError
from anymri.volumes.images import ending_of, read_image, read_label_map, unreadable
from anymri.volumes.itk import read_itk, read_itk_labels
from anymri.volumes.volume import orientation_of

SHAPE = (9, 7, 5)
KINDS = [(".mha", False), (".mha", True), (".nrrd", False), (".nrrd", True)]
# Axes turned by 30 degrees about S, in another order and one of them mirrored.
TURN = np.array([[0.0, np.cos(0.5), np.sin(0.5)], [0.0, -np.sin(0.5), np.cos(0.5)], [-1.0, 0.0, 0.0]])


def voxels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(-50, 1000, shape).astype(np.int16)


def itk_image(array: np.ndarray, *, vector: bool = False) -> Any:
    """Return an ITK image of an array (D, H, W), or of vectors (D, H, W, C)."""
    moved = np.ascontiguousarray(array.transpose(2, 1, 0, *range(3, array.ndim)))
    image = sitk.GetImageFromArray(moved, isVector=vector)
    image.SetSpacing((1.5, 0.9, 3.0))
    image.SetOrigin((-20.0, 35.5, 7.25))
    image.SetDirection(TURN.ravel().tolist())
    return image


def put(path: Path, array: np.ndarray, *, packed: bool = False, vector: bool = False) -> Path:
    sitk.WriteImage(itk_image(array, vector=vector), str(path), packed)
    return path


@pytest.mark.parametrize(("ending", "packed"), KINDS)
def test_the_same_image_as_nifti_lies_in_the_same_place(tmp_path: Path, ending: str, packed: bool) -> None:
    array = voxels()
    by_itk = put(tmp_path / "twin.nii.gz", array)
    volume = read_itk(put(tmp_path / f"a{ending}", array, packed=packed))
    assert volume.array.dtype == np.float32 and np.array_equal(volume.array, array)
    nifti: Any = nib.load(by_itk)  # type: ignore[attr-defined]
    assert np.array_equal(np.asarray(nifti.dataobj), volume.array)
    np.testing.assert_allclose(volume.grid.affine, nifti.affine, atol=1e-5)
    twin = read_image(by_itk)
    assert np.array_equal(twin.array, volume.array)
    np.testing.assert_allclose(twin.grid.affine, volume.grid.affine, atol=1e-5)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_twin_written_by_nibabel_is_read_by_hand(tmp_path: Path, ending: str) -> None:
    """No ITK in the reference: x and y of ITK point left and back, those of NIfTI right and front."""
    array = voxels()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.block(
        [[TURN * [1.5, 0.9, 3.0], np.array([[-20.0], [35.5], [7.25]])], [np.zeros((1, 3)), 1.0]]
    )
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "twin.nii")  # type: ignore[attr-defined]
    volume, twin = read_image(put(tmp_path / f"a{ending}", array)), read_image(tmp_path / "twin.nii")
    assert np.array_equal(volume.array, twin.array)
    np.testing.assert_allclose(volume.grid.affine, twin.grid.affine, atol=1e-5)
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-12)


@pytest.mark.parametrize(("space", "signs"), [("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1)), ("LPS", (-1, -1, 1))])
def test_the_spaces_of_nrrd(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    (tmp_path / "a.nrrd").write_bytes(nrrd(space=space))
    volume = read_itk(tmp_path / "a.nrrd")
    np.testing.assert_allclose(volume.grid.affine, np.diag([*signs, 1.0]) @ np.diag([2.0, 1.0, 1.0, 1.0]))
    assert orientation_of(volume.grid)[2] == "S"


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_every_type(tmp_path: Path, ending: str, dtype: type) -> None:
    array = np.abs(voxels()).clip(0, 250).astype(dtype)
    assert np.array_equal(read_itk(put(tmp_path / f"a{ending}", array)).array, array.astype(np.float32))
    labels = read_itk_labels(tmp_path / f"a{ending}")
    assert labels.array.dtype == np.int32 and np.array_equal(labels.array, array)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_channels_of_vectors(tmp_path: Path, ending: str) -> None:
    array = voxels((*SHAPE, 3))
    path = put(tmp_path / f"a{ending}", array, vector=True)
    for channel in range(3):
        assert np.array_equal(read_itk(path, channel=channel).array, array[..., channel])
    with pytest.raises(ImageContentError, match="holds 3 volumes; expected one 3-D image"):
        read_itk(path)
    with pytest.raises(ImageContentError, match="has no volume 3; it holds 3, counted from 0"):
        read_itk(path, channel=3)
    assert read_itk(put(tmp_path / f"b{ending}", array[..., 0]), channel=0).array.shape == SHAPE


def test_channels_of_a_fourth_dimension(tmp_path: Path) -> None:
    array = voxels((*SHAPE, 2))
    image = sitk.JoinSeries([itk_image(array[..., c]) for c in range(2)])
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    volume = read_itk(tmp_path / "a.mha", channel=1)
    assert np.array_equal(volume.array, array[..., 1])
    np.testing.assert_allclose(volume.grid.affine, read_itk(put(tmp_path / "b.mha", array[..., 0])).grid.affine)
    with pytest.raises(ImageContentError, match="holds 2 volumes"):
        read_itk(tmp_path / "a.mha")


# Headers written by hand, as the formats' own descriptions have them.


def nrrd(data: bytes | None = None, **fields: str) -> bytes:
    lines = {
        **{"type": "short", "dimension": "3", "space": "LPS", "sizes": "4 3 2", "space directions": "(2,0,0) (0,1,0) (0,0,1)"},
        **{"kinds": "domain domain domain", "endian": "little", "encoding": "raw", "space origin": "(0,0,0)"},
    } | {k.replace("_", " "): v for k, v in fields.items()}
    text = "NRRD0004\n# made by hand\n" + "".join(f"{k}: {v}\n" for k, v in lines.items() if v) + "\n"
    return text.encode() + (np.arange(24, dtype="<i2").tobytes() if data is None else data)


def meta(data: bytes | None = None, **fields: str) -> bytes:
    lines = {
        **{"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False"},
        **{"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "2 1 1", "DimSize": "4 3 2"},
        **{"ElementType": "MET_SHORT"},
    } | fields
    data_file = lines.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{k} = {v}\n" for k, v in lines.items() if v) + f"ElementDataFile = {data_file}\n"
    return text.encode() + (np.arange(24, dtype="<i2").tobytes() if data is None else data)


@pytest.mark.parametrize(("name", "content"), [("a.nrrd", nrrd()), ("a.mha", meta())])
def test_files_written_by_hand(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    volume = read_itk(tmp_path / name)
    assert np.array_equal(volume.array, np.arange(24).reshape(4, 3, 2, order="F"))
    np.testing.assert_allclose(volume.grid.affine, np.diag([-2.0, -1.0, 1.0, 1.0]))


def test_a_list_of_volumes_as_viewers_write_it(tmp_path: Path) -> None:
    """NRRD with the channel as its first axis, which has no direction in space."""
    fields = {
        "dimension": "4",
        "sizes": "2 4 3 2",
        "space_directions": "none (2,0,0) (0,1,0) (0,0,1)",
        "kinds": "list domain domain domain",
    }
    (tmp_path / "a.seq.nrrd").write_bytes(nrrd(np.arange(48, dtype="<i2").tobytes(), **fields))
    assert np.array_equal(read_itk(tmp_path / "a.seq.nrrd", channel=1).array.ravel(order="F"), np.arange(1, 48, 2))


HUGE = "90000 90000 90000"
FAULTS: dict[str, tuple[str, bytes, type[Exception], str]] = {
    "garbage": ("a.mha", b"\x00\x01" * 200, InputFileError, "is neither MetaImage nor NRRD"),
    "empty": ("a.nrrd", b"", InputFileError, r"is empty \(0 bytes\)"),
    "cut in the header": ("a.nrrd", nrrd()[:40], InputFileError, "is truncated inside its header"),
    "cut in the header of mha": ("a.mha", meta()[:60], InputFileError, "is truncated inside its header"),
    "cut in the voxels": ("a.nrrd", nrrd()[:-5], InputFileError, "is truncated; its voxels end 5 bytes early"),
    "cut in the voxels of mha": ("a.mha", meta()[:-5], InputFileError, "is truncated; its voxels end 5 bytes early"),
    "too long": ("a.mha", meta() + bytes(5000), InputFileError, "holds 5000 bytes more than its header accounts for"),
    "huge": ("a.nrrd", nrrd(sizes=HUGE), InputFileError, "voxels; at most .* are read; it is wrong"),
    "huge mha": ("a.mha", meta(DimSize=HUGE), InputFileError, "voxels; at most .* are read; it is wrong"),
    "negative": ("a.mha", meta(DimSize="4 -3 2"), InputFileError, "declares the size 4x-3x2; expected positive"),
    "no sizes": ("a.nrrd", nrrd(sizes=""), InputFileError, "gives '' as sizes; expected whole numbers"),
    "no numbers": ("a.mha", meta(DimSize="four 3 2"), InputFileError, "gives 'four 3 2' as DimSize"),
    "flat": ("a.mha", meta(DimSize="4 3 1"), ImageContentError, "is a single slice or line"),
    "2-D": (
        "a.mha",
        meta(NDims="2", DimSize="4 6", TransformMatrix="1 0 0 1", Offset="0 0", ElementSpacing="1 1"),
        ImageContentError,
        "has 2 dimensions",
    ),
    "another number of sizes": ("a.mha", meta(NDims="4"), InputFileError, "gives 3 sizes for NDims = 4"),
    "words": ("a.mha", meta(Offset="0 zero 0"), InputFileError, "gives '0 zero 0' as Offset; expected 3 numbers"),
    "a flag that is none": ("a.mha", meta(CompressedData="perhaps"), InputFileError, "expected True or False"),
    "no order of bytes": ("a.mha", meta(BinaryDataByteOrderMSB=""), InputFileError, "order of bytes|expected True or False"),
    "a line that is no field": ("a.mha", meta(Comment="x\nwhat is this"), InputFileError, "holds the line 'what is this'"),
    "no origin": ("a.nrrd", nrrd(space_origin=""), GridMismatchError, "an origin and a direction for every axis"),
    "more voxels": ("a.nrrd", nrrd(np.arange(30, dtype="<i2").tobytes()), InputFileError, "bytes more than"),
    "detached": ("a.mha", meta(ElementDataFile="a.raw"), InputFileError, r"another file \(a\.raw\).*single \.mha"),
    "detached nrrd": ("a.nrrd", nrrd(data_file="a.raw"), InputFileError, r"another file \(a\.raw\).*single \.nrrd"),
    "text": ("a.mha", meta(BinaryData="False"), InputFileError, "voxels as text"),
    "hex": ("a.nrrd", nrrd(encoding="hex"), InputFileError, "written as hex; raw and gzip"),
    "no orientation": ("a.mha", meta(TransformMatrix=""), GridMismatchError, "gives no orientation"),
    "no spacing": ("a.mha", meta(ElementSpacing=""), GridMismatchError, "gives no spacing"),
    "no space": ("a.nrrd", nrrd(space=""), GridMismatchError, r"no orientation that is understood \(space: none\)"),
    "another space": ("a.nrrd", nrrd(space="scanner-xyz"), GridMismatchError, "space: scanner-xyz"),
    "too few directions": ("a.nrrd", nrrd(space_directions="(2,0,0) (0,1,0)"), GridMismatchError, "a direction for every axis"),
    "sheared": ("a.mha", meta(TransformMatrix="1 0 0 0.5 1 0 0 0 1"), GridMismatchError, "at right angles"),
    "spacing": ("a.mha", meta(ElementSpacing="2000 1 1"), GridMismatchError, "its spacing is 2000 x 1 x 1 mm"),
    "far": ("a.mha", meta(Offset="1e9 0 0"), GridMismatchError, "mm away"),
    "unknown type": ("a.mha", meta(ElementType="MET_OTHER"), ImageContentError, "type 'MET_OTHER'"),
    "blocks": ("a.nrrd", nrrd(type="block"), ImageContentError, "type 'block'"),
    "constant": ("a.nrrd", nrrd(bytes(48)), ImageContentError, "all voxels are zero"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_one_line(tmp_path: Path, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    name, content, kind, message = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=message) as caught:
        read_itk(tmp_path / name)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / name))
    assert capfd.readouterr() == ("", "")  # ITK itself writes on standard error.


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_damage_in_compressed_data_is_noticed(tmp_path: Path, ending: str, capfd: pytest.CaptureFixture[str]) -> None:
    """ITK alone reads over it, or writes on standard error."""
    whole = put(tmp_path / f"a{ending}", voxels((20, 20, 20)), packed=True).read_bytes()
    for cut in (50, 2000):
        (tmp_path / f"cut{ending}").write_bytes(whole[:-cut])
        with pytest.raises(InputFileError, match="is truncated"):
            read_itk(tmp_path / f"cut{ending}")
    changed = bytearray(whole)
    changed[-3000:-2900] = bytes(100)
    (tmp_path / f"changed{ending}").write_bytes(changed)
    with pytest.raises(InputFileError, match=r"compressed data is damaged|is truncated|more data"):
        read_itk(tmp_path / f"changed{ending}")
    assert capfd.readouterr() == ("", "")


def test_a_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    import zlib

    packed = zlib.compress(bytes(10**7))
    (tmp_path / "a.mha").write_bytes(meta(packed, CompressedData="True", CompressedDataSize=str(len(packed))))
    with pytest.raises(InputFileError, match="holds more data than its header accounts for"):
        read_itk(tmp_path / "a.mha")


@pytest.mark.parametrize(("name", "content"), [("a.nrrd", nrrd()), ("a.mha", meta())])
def test_no_byte_of_a_header_makes_a_crash(tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    end = content.index(b"\n\n") if name.endswith("nrrd") else content.index(b"LOCAL")
    for _ in range(100):
        changed = bytearray(content)
        for place in rng.integers(0, end, 2):
            changed[place] = int(rng.choice(np.frombuffer(b"0159-. =\n:(,)aZ\xff\x00", np.uint8)))
        (tmp_path / name).write_bytes(changed)
        try:
            assert np.isfinite(read_itk(tmp_path / name).array).all()
        except InputFileError as error:
            assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="not found"):
        read_itk(tmp_path / "none.mha")
    with pytest.raises(InputFileError, match="is a folder"):
        read_itk(tmp_path)


def test_labels(tmp_path: Path) -> None:
    empty = np.zeros(SHAPE, np.uint8)
    assert not read_itk_labels(put(tmp_path / "empty.nrrd", empty)).array.any()
    with pytest.raises(ImageContentError, match="are no whole numbers; expected labels"):
        read_itk_labels(put(tmp_path / "p.mha", voxels().astype(np.float32) * 0.3))
    with pytest.raises(ImageContentError, match="NaN or infinite"):
        read_itk_labels(put(tmp_path / "n.mha", np.where(empty, 0, np.nan).astype(np.float32)))
    with pytest.raises(ImageContentError, match="within 32 bits"):
        read_itk_labels(put(tmp_path / "b.mha", voxels().astype(np.int64) + 2**40))


def test_without_simpleitk_there_is_one_line_that_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.mha", voxels())
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name == "SimpleITK":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputFileError, match=re.escape("pip install 'anymri[clinical]'")):
        read_image(path)


# Which reader reads what


def test_the_ending_of_a_name_tells_the_format(tmp_path: Path) -> None:
    assert [ending_of(n) for n in ("a.nii.gz", "A.NII", "a.b.mha", "a.nrrd", "a.seg.nrrd", ".nii.gz", "a.dcm")] == [
        *(".nii.gz", ".NII", ".mha", ".nrrd", ".nrrd", None, None)
    ]
    array = voxels()
    for name in ("a.MHA", "a.nrrd", "a.nii", "a.nii.gz"):
        put(tmp_path / "w.mha", array) if name.lower().endswith("mha") else put(tmp_path / name, array)
        path = (tmp_path / "w.mha").rename(tmp_path / name) if name == "a.MHA" else tmp_path / name
        assert np.array_equal(read_image(path).array, array)
        assert np.array_equal(read_label_map(path).array, array)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.hdr", "a.img"])
def test_formats_of_two_files_are_refused_with_advice(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 400)
    with pytest.raises(InputFileError, match=r"keep header and voxels apart; save it as a single \.(mha|nrrd|nii\.gz)"):
        read_image(tmp_path / name)
    assert unreadable(name) is not None and unreadable("a.mha") is None
