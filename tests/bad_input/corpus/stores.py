"""Prepared arrays that are cut, flipped, exchanged, or of another shape or type than the record beside them says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import blosc2
import numpy as np

from anymri.domain.task import GLIOMA
from anymri.volumes.store import read_image, read_labels, read_truth

from ...material import write_made_case
from ..entry import Entry, Harmless, Kit, Refused, Unread

KIND = "prepared array"
_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "image.b2nd": read_image,
    "labels.b2nd": read_labels,
    "truth.b2nd": lambda case: read_truth(case).array,
}
_ARRAYS = tuple(_READERS)
# Bytes of an array's header: lengths, shape and type; versions, sums that nobody reads, and numbers in wider fields than they need.
_NEEDED = (12, 16, 20, 25, 30, 35, 40, 45, 50, 58, 61, 70, 80, 91, 95)
_VOXELS = (-400, -300, -200)  # In the compressed voxels or what follows them.
_UNUSED = (0, 4, 8, 15, 24, 27, 38, 47, 52, 56, 64, 68, 72, 76, 85, 88)


def entries() -> Iterator[Entry]:
    """Yield the entries; labels are what training reads, images and truth what evaluation reads."""
    for file in _ARRAYS:
        command = _training if file == "labels.b2nd" else _evaluating
        for name, spoil in _spoilers().items():
            yield Refused(
                KIND,
                f"{file}: {name}",
                partial(_spoilt, file, spoil, command),
                file.replace(".", "[.]"),
                batch=True,
                leaves=(".scores.csv.parts",),
            )
    yield from _flips()


def _flips() -> Iterator[Entry]:
    """Yield single bytes: the checksum finds each of them; without one a byte of the header is either needed or does not matter."""
    for file in _ARRAYS:
        for place in (*sorted((*_NEEDED, *_UNUSED)), *_VOXELS):
            read = partial(_read_flipped, file, place)
            yield Unread(KIND, f"{file}: byte {place} exchanged", read, file.replace(".", "[.]"))
        for place in _UNUSED:
            yield Harmless(KIND, f"{file}: byte {place} exchanged, no checksum", partial(_read_flipped, file, place, summed=False))


def _read_flipped(file: str, place: int, folder: Path, *, summed: bool = True) -> None:
    case = folder / "case_a"
    write_made_case(case, GLIOMA, 0)
    before = _READERS[file](case)
    _exchanged(place, case / file)
    if not summed:  # As earlier versions left it.
        record = case / "case.json"
        record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "crc32"}))
    assert np.array_equal(_READERS[file](case), before)


def _evaluating(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "evaluate", kit.weights, "--data", folder / "prepared", "--out", folder / "scores.csv"


def _training(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "train", "--from", kit.run, "--data", folder / "prepared", "--out", folder / "out"


def _spoilt(file: str, spoil: Callable[[Path], object], command: Callable[[Path, Kit], tuple[object, ...]], folder: Path, kit: Kit):
    shutil.copytree(kit.prepared, folder / "prepared")
    path = folder / "prepared" / "cases" / "case_a" / file
    spoil(path)
    return command(folder, kit)


def _spoilers() -> dict[str, Callable[[Path], object]]:
    found: dict[str, Callable[[Path], object]] = {
        "missing": lambda p: p.unlink(),
        "a folder": lambda p: (p.unlink(), p.mkdir()),
        "a link to itself": lambda p: (p.unlink(), p.symlink_to(p)),
        "text": lambda p: p.write_text("no array"),
        "zeros": lambda p: p.write_bytes(bytes(1000)),
        "another array": lambda p: shutil.copyfile(p.with_name("image.b2nd" if p.name != "image.b2nd" else "truth.b2nd"), p),
        "another shape": partial(_stored, lambda a: a[..., :-1]),
        "an axis less": partial(_stored, lambda a: a[0]),
        "an axis more": partial(_stored, lambda a: a[None]),
        "float64": partial(_stored, lambda a: a.astype("f8")),
        "texts": partial(_stored, lambda a: a.astype("S4")),
        "of no voxels": partial(_stored, lambda a: a[..., :0]),
    }
    for tenth in range(0, 10, 3):
        found[f"cut to {tenth} tenths"] = partial(_cut, tenth)
    return found


def _stored(change: Callable[[np.ndarray], np.ndarray], path: Path) -> None:
    array = np.ascontiguousarray(change(np.asarray(blosc2.open(str(path), mode="r")[:])))
    path.unlink()
    blosc2.asarray(array, urlpath=str(path), mode="w")


def _cut(tenth: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * tenth // 10])


def _exchanged(place: int, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
