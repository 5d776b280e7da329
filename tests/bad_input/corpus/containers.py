"""Files that are cut, flipped, blown up, of another kind, or no files at all."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from anymri.volumes.nifti import read_nifti

from ..entry import Entry, Harmless, Kit, Refused
from ..images import AFFINE, brain, nifti, packed, setting, together

KIND = "container"
_TEN_BYTES = 10  # The fixed part of a gzip header.


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    yield from _cut()
    yield from _flipped()
    yield from _bombs()
    yield from _other_contents()
    yield from _no_files()
    yield from _odd_but_whole()


@cache
def _plain() -> bytes:
    return nifti(brain(2))


@cache
def _gzip() -> bytes:
    return packed(_plain())


def _refused(name: str, content: Callable[[], bytes], says: str, file: str = "bad_t1ce.nii.gz") -> Refused:
    return Refused(KIND, name, partial(_written, content, file), rf"{file.replace('.', '[.]')}.*(?:{says})")


def _written(content: Callable[[], bytes], file: str, folder: Path, kit: Kit) -> tuple[object, ...]:
    (folder / file).write_bytes(content())
    return "segment", "--flair", kit.image("flair"), "--t1c", folder / file


def _cut() -> Iterator[Entry]:
    whole = len(_gzip())
    for length in (0, 1, 2, 3, 9, 10, 11, 17, 18, 19, 40, 100, 300, *(whole * n // 10 for n in range(1, 10)), whole - 8, whole - 1):
        says = "empty" if not length else "is not gzip data" if length == 1 else "truncated|damaged"
        yield _refused(f"gzip cut to {length} bytes", lambda n=length: _gzip()[:n], says)
    for length in (0, 1, 3, 4, 40, 347, 348, 351, 352, 353, 5000, len(_plain()) - 1):
        says = "empty" if not length else "is not NIfTI" if length < 4 else "truncated"
        yield _refused(f"plain file cut to {length} bytes", lambda n=length: _plain()[:n], says, "bad_t1ce.nii")
        if length > 0:
            cut = partial(lambda n: packed(_plain()[:n]), length)
            yield _refused(f"whole gzip of a file cut to {length} bytes", cut, says)


def _flipped() -> Iterator[Entry]:
    """Yield single flipped bits of gzip data: the first ten bytes one by one, then places all over."""
    for bit in range(16):
        yield _refused(f"gzip, bit {bit} flipped", partial(_with_bit, bit), "is not gzip data")
    for bit in (16, 17, 18, 19):
        yield _refused(f"gzip, bit {bit} flipped", partial(_with_bit, bit), "damaged")
    for bit in (25, 26, 27, 28):  # Further parts of the header, which are not there.
        yield _refused(f"gzip, bit {bit} flipped", partial(_with_bit, bit), "damaged|truncated|is not NIfTI")
    for bit in (24, 29, 30, 31, 32, 40, 50, 63, 64, 70, 72, 79):  # Text or not, reserved, time, level, system.
        yield Harmless(KIND, f"gzip, bit {bit} flipped", partial(_same, partial(_with_bit, bit), "odd.nii.gz"))
    places = np.random.default_rng(5).integers(8 * _TEN_BYTES, 8 * len(_gzip()), 60)
    for bit in sorted(set(places.tolist())):
        flipped = partial(_with_bit, bit)
        if _inflates_alike(flipped()):  # A copy from elsewhere in a run of zeros, say.
            yield Harmless(KIND, f"gzip, bit {bit} flipped", partial(_same, flipped, "odd.nii.gz"))
        else:
            yield _refused(f"gzip, bit {bit} flipped", flipped, "damaged|truncated|is not NIfTI")
    for back in (1, 30, 33, 63):
        bit = 8 * len(_gzip()) - back
        yield _refused(f"gzip, bit {back} from its end flipped", partial(_with_bit, bit), "damaged|truncated")


def _inflates_alike(content: bytes) -> bool:
    try:
        return gzip.decompress(content) == _plain()
    except (OSError, EOFError, zlib.error):
        return False


def _with_bit(bit: int) -> bytes:
    content = bytearray(_gzip())
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def _same(content: Callable[[], bytes], file: str, folder: Path) -> None:
    (folder / file).write_bytes(content())
    volume = read_nifti(folder / file)
    assert np.array_equal(volume.array, brain(2))
    assert np.array_equal(volume.grid.affine, AFFINE)


@cache
def _zeros(millions: int) -> bytes:
    """Return a gzip member of that many million zeros; members may follow each other, so a file of them inflates to any size."""
    return gzip.compress(bytes(millions * 1_000_000), 9, mtime=0)


def _claiming(shape: tuple[int, int, int]) -> bytes:
    """Return gzip data of a header that claims a shape of int8, and of nothing else."""
    change = together(setting("dim", [3, *shape, 1, 1, 1, 1]), setting("datatype", 256), setting("bitpix", 8))
    return packed(nifti(change=change)[:352])


def _bombs() -> Iterator[Entry]:
    more = "more data than its header accounts for"
    yield _refused("bomb: 200 MB of zeros behind the voxels", lambda: packed(_plain()) + _zeros(200), more)
    yield _refused("bomb: 10 GB of zeros behind the voxels", lambda: packed(_plain()) + _zeros(20) * 500, more)
    yield _refused("bomb: 10 GB of zeros and nothing else", lambda: _zeros(20) * 500, "is not NIfTI")
    yield _refused(
        "bomb: 10 GB of zeros behind a header for 2000 x 1000 x 1000",
        lambda: _claiming((2000, 1000, 1000)) + _zeros(20) * 500,
        "at most",
    )
    yield _refused(
        "bomb: 200 MB of zeros behind a header for as many",
        lambda: _claiming((1000, 500, 400)) + _zeros(200),
        "all voxels are zero",
    )
    yield _refused("bomb: a header for 200 MB and 10 GB of zeros", lambda: _claiming((1000, 500, 400)) + _zeros(20) * 500, more)
    yield _refused("bomb: gzip in gzip", lambda: packed(_gzip()), "is not NIfTI")
    yield _refused("bomb: 20000 empty members", lambda: packed(b"") * 20_000, "is not NIfTI")
    late = together(setting("vox_offset", 60_000_000))
    yield _refused(
        "bomb: voxels begin after 60 MB of zeros",
        lambda: packed(nifti(change=late)[:352]) + _zeros(20) * 100,
        "all voxels are zero|more data",
    )
    yield _refused("a header for 268 million voxels in 3 kB", lambda: _claiming((1024, 512, 512)), "truncated")


def _other_contents() -> Iterator[Entry]:
    contents: dict[str, tuple[Callable[[], bytes], str]] = {
        "text": (lambda: b"this is no image\n" * 100, "is not NIfTI|is not gzip"),
        "HTML of a failed download": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "is not NIfTI|is not gzip"),
        "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(200), "is not NIfTI|is not gzip"),
        "DICOM": (lambda: bytes(128) + b"DICM" + bytes(200), "NIfTI|gzip|DICOM"),
        "zip of an image": (_zipped, "is not NIfTI|is not gzip"),
        "zlib without gzip": (lambda: zlib.compress(_plain()), "is not NIfTI|is not gzip"),
        "bytes at random": (lambda: np.random.default_rng(0).bytes(5000), "is not NIfTI|is not gzip"),
        "zeros": (lambda: bytes(5000), "is not NIfTI|is not gzip"),
        "Git's pointer to a large file": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is not"),
        "Analyze 7.5": (lambda: nifti(change=setting("magic", b""))[:348] + bytes(23040), "is not NIfTI|is not gzip"),
    }
    for name, (content, says) in contents.items():
        for file in ("bad_t1ce.nii.gz", "bad_t1ce.nii"):
            yield _refused(f"{name} as {file[8:]}", content, says, file)
        packing = partial(lambda made: packed(made()), content)
        yield _refused(f"{name} in gzip", packing, "is not NIfTI")
    yield _refused("plain NIfTI as .nii.gz", _plain, "rename it to .nii")


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.nii", _plain())
    return buffer.getvalue()


def _made(make: Callable[[Path], object], folder: Path, kit: Kit) -> tuple[object, ...]:
    bad = folder / "bad_t1ce.nii.gz"
    make(bad)
    return "segment", "--flair", kit.image("flair"), "--t1c", bad


def _no_files() -> Iterator[Entry]:
    makers: dict[str, tuple[Callable[[Path], object], str]] = {
        "nothing there": (lambda p: None, "found nothing|not found"),
        "a folder": (lambda p: p.mkdir(), "folder"),
        "a pipe": (os.mkfifo, "regular file"),
        "a link to nothing": (lambda p: p.symlink_to("nowhere"), "found nothing|not found"),
        "a link to itself": (lambda p: p.symlink_to(p), "found nothing|cannot be read|links"),
        "a link to a folder": (lambda p: p.symlink_to(p.parent), "folder"),
        "a link to a device": (lambda p: p.symlink_to("/dev/zero"), "regular file"),
        "two links in a loop": (_loop, "found nothing|cannot be read|links"),
    }
    for name, (make, says) in makers.items():
        yield Refused(KIND, name, partial(_made, make), f"bad_t1ce[.]nii[.]gz.*(?:{says})")
    for name, path in {"below a file": "plain/x.nii", "the null device": "/dev/null", "a long name": "n" * 300 + ".nii"}.items():
        yield Refused(KIND, name, partial(_named, path), "plain|/dev/null|nnnn")


def _loop(path: Path) -> None:
    other = path.with_name("other")
    path.symlink_to(other)
    other.symlink_to(path)


def _named(path: str, folder: Path, kit: Kit) -> tuple[object, ...]:
    (folder / "plain").write_bytes(_plain())
    return "segment", "--t1c", folder / path


def _odd_but_whole() -> Iterator[Entry]:
    half = len(_plain()) // 2
    contents = {
        "gzip in two members": lambda: packed(_plain()[:half]) + packed(_plain()[half:]),
        "gzip with a name in it": _with_name,
        "gzip of level 0": lambda: gzip.compress(_plain(), 0),
        "zeros behind the gzip data": lambda: _gzip() + bytes(100),
        "64 zeros behind the voxels": lambda: packed(_plain() + bytes(64)),
        "an extension before the voxels": partial(_extended, 64, 64),
        "an extension that lies of its size": partial(_extended, 64, 10**9),
    }
    for name, content in contents.items():
        yield Harmless(KIND, name, partial(_same, content, "odd.nii.gz"))
    for file in ("odd.img", "odd", "odd.NII.GZ", "odd.nii.gz.bak"):
        yield Harmless(KIND, f"gzip under the name {file}", partial(_same, _gzip, file))
    yield _refused("bytes behind the gzip data", lambda: _gzip() + b"more", "damaged")
    yield _refused("a byte behind the voxels", lambda: packed(_plain() + b"x"), "more data")


def _with_name() -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile("näme\n.nii", "wb", fileobj=buffer, mtime=0) as file:
        file.write(_plain())
    return buffer.getvalue()


def _extended(room: int, claimed: int) -> bytes:
    header = nifti(brain(2), setting("vox_offset", 352 + room))[:348]
    extension = claimed.to_bytes(4, "little") + (6).to_bytes(4, "little") + b"\xff" * (room - 8)
    return packed(header + b"\1\0\0\0" + extension + _plain()[352:])
