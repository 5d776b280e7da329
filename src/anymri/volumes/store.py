"""A prepared case on disk: a folder of chunked, compressed arrays and ``case.json``; and the cohort around it.

PREPARED/cohort.json            what was prepared from what, with licence and citation
PREPARED/splits.json            {"folds": [[names], …], "train_only": [names]}
PREPARED/cases/NAME/case.json   grids, modalities at hand, hashes, steps, checksums of the arrays
                    image.b2nd  int16, (M at hand, D, H, W): z-scores in steps of 1/64
                    labels.b2nd uint8, (D, H, W): bit r set ⇔ the voxel belongs to region r of the task
                    truth.b2nd  the same on the patient's own grid
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymri.domain.case import Case, Lattice, Split
from anymri.errors import CaseError, OutputError
from anymri.volumes.nifti import MAX_VOXELS
from anymri.volumes.volume import Array, Box, Grid, Volume
from anymri.volumes.writing import replacing, write_text

STEP = 1.0 / 64.0  # What an intensity is rounded to by the preparation, so that int16 holds it without loss.
_CASES, _IMAGE, _LABELS, _TRUTH = "cases", "image.b2nd", "labels.b2nd", "truth.b2nd"
_SUMS = "crc32"  # Of the files beside case.json.
_MAX_JSON = 2**26  # Bytes; a hundred thousand cases take a tenth of it.


@dataclass(frozen=True)
class CohortRecord:
    """What cohort.json says of a folder of prepared cases.

    Attributes:
        name: For tables.
        task: Name of the task the cases were prepared for.
        scheme: Label scheme of the references; None if there are none or several.
        cases: Names of the cases, in order.
        left_out: What was found and not used: (path or case, reason).
        licence: Terms under which the images may be used, if known.
        citation: What to cite, if known.
    """

    name: str
    task: str
    cases: tuple[str, ...]
    scheme: str | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    citation: str = ""


def case_folder(prepared: Path, name: str) -> Path:
    """Return where a case of a prepared cohort lies.

    Raises:
        CaseError: If the name cannot be that of a folder.
    """
    if not name or name.startswith(".") or any(c in name for c in "/\\:\0"):
        raise CaseError(f"case name '{name}' cannot be a folder's; rename it without a leading dot, slash, backslash or colon")
    return prepared / _CASES / name


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, and see that it can be written to.

    Raises:
        OutputError: If it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose a folder that is writable") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name, then rename it.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def parsed_json(path: Path) -> dict[str, Any]:
    """Return what a file of JSON holds, an object; a mark of UTF-8 before it does not matter.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no JSON, not an object, names a key twice, or is larger or deeper than any record.
    """
    if path.stat().st_size > _MAX_JSON:
        raise ValueError(f"{path.stat().st_size} bytes, more than any record has")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("nested deeper than any record") from None
    if not isinstance(content, dict):
        raise ValueError(f"{type(content).__name__} instead of an object")
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(n for n in names if names.count(n) > 1)}' twice")
    return content


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        return parsed_json(path)
    except FileNotFoundError:
        raise CaseError(f"{path}: not found; expected {what}; run 'anymri prepare' first") from None
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror or error}); expected {what}; prepare it again") from error
    except ValueError as error:
        raise CaseError(f"{path}: cannot be read ({error}); expected {what}; prepare it again") from error


def _checked(content: dict[str, Any], key: str, kind: type[Any]) -> Any:
    if not isinstance(content[key], kind):
        raise ValueError(f"{key} is {type(content[key]).__name__}, not {kind.__name__}")
    return content[key]


def _texts(content: dict[str, Any], key: str) -> tuple[str, ...]:
    found = _checked(content, key, list)
    if not all(isinstance(n, str) for n in found) or len(set(found)) < len(found):
        raise ValueError(f"{key} is not a list of different names")
    return tuple(found)


def _optional(content: dict[str, Any], key: str) -> str | None:
    return None if content[key] is None else _checked(content, key, str)


def _store(path: Path, array: Array, chunk: tuple[int, ...], block: tuple[int, ...]) -> None:
    import blosc2

    shape = array.shape
    chunks = tuple(min(c, n) for c, n in zip(chunk, shape, strict=True))
    blocks = tuple(min(b, c) for b, c in zip(block, chunks, strict=True))
    settings = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1)
    whole: Any = np.ascontiguousarray(array)
    try:
        blosc2.asarray(whole, urlpath=str(path), mode="w", chunks=chunks, blocks=blocks, cparams=settings)
    except RuntimeError as error:  # blosc2's word for a disk that is full.
        raise OSError(str(error)) from error


def write_case(folder: Path, case: Case, image_MDHW: Array, labels_DHW: Array | None, truth: Array | None) -> None:
    """Write a prepared case: the folder appears whole or not at all. A folder of that name is replaced.

    Args:
        folder: Where to.
        case: What case.json shall say.
        image_MDHW: Intensities of the modalities at hand, multiples of 1/64, float32.
        labels_DHW: Region bits on the prepared grid, if there is a reference.
        truth: Region bits on the patient's own grid, if there is a reference.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        _store(temporary / _IMAGE, np.rint(image_MDHW / STEP).astype(np.int16), (1, 64, 64, 64), (1, 32, 32, 32))
        if labels_DHW is not None:
            _store(temporary / _LABELS, labels_DHW.astype(np.uint8), (64, 64, 64), (32, 32, 32))
        if truth is not None:
            _store(temporary / _TRUTH, truth.astype(np.uint8), (64, 64, 64), (32, 32, 32))
        sums = {file.name: _crc32(file) for file in sorted(temporary.iterdir())}
        text = json.dumps({**dataclasses.asdict(case), _SUMS: sums}, indent=2, ensure_ascii=False)
        (temporary / "case.json").write_text(text + "\n", encoding="utf-8")


def _crc32(path: Path) -> str:
    """Return the checksum of a file, 8 hexadecimal digits: any byte that changed changes it."""
    return f"{zlib.crc32(path.read_bytes()):08x}"


def read_case(folder: Path) -> Case:
    """Return what case.json says.

    Raises:
        CaseError: If it is missing or damaged.
    """
    return _read_case(folder)[0]


def _read_case(folder: Path) -> tuple[Case, dict[str, str]]:
    """Return what case.json says, and file → checksum; cases of earlier versions have none."""
    path = folder / "case.json"
    content = _read_json(path, "a prepared case")
    try:
        case = Case(
            name=_checked(content, "name", str),
            task=_checked(content, "task", str),
            modalities=_texts(content, "modalities"),
            known_regions=_texts(content, "known_regions"),
            grid=_lattice(content["grid"]),
            native=_lattice(content["native"]),
            scheme=_optional(content, "scheme"),
            sources=_tables(content, "sources", lambda s: {"file", "channel", "sha256"} <= s.keys(), str | int | None),
            intensity=_tables(content, "intensity", lambda s: all(map(math.isfinite, s.values())), int | float),
            steps=_steps(content),
            version=_checked(content, "version", str),
        )
        sums = _checked({_SUMS: {}, **content}, _SUMS, dict)
        if not all(isinstance(value, str) for value in sums.values()):
            raise ValueError(f"{_SUMS} that are no texts")
        return case, sums
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CaseError(f"{path}: damaged ({type(error).__name__}: {error}); delete the folder and prepare it again") from error


def _lattice(content: Any) -> Lattice:
    shape = tuple(content["shape"])
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or math.prod(shape) > MAX_VOXELS:
        raise ValueError("a shape that is not three positive sizes")
    rows = tuple(tuple(float(v) for v in row) for row in content["affine"])
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        raise ValueError("an affine that is not 4 by 4")
    if not np.isfinite(rows).all() or not abs(np.linalg.det(np.array(rows)[:3, :3])) > 0:
        raise ValueError("an affine that is not finite or has no inverse")
    return Lattice((shape[0], shape[1], shape[2]), rows)  # type: ignore[arg-type]


def _steps(content: dict[str, Any]) -> tuple[dict[str, object], ...]:
    steps = _checked(content, "steps", list)
    if not all(isinstance(step, dict) for step in steps):
        raise ValueError("steps that are no objects")
    return tuple(steps)


def _tables(content: dict[str, Any], key: str, fits: Callable[[dict[str, Any]], bool], kind: Any) -> dict[str, dict[str, Any]]:
    tables = _checked(content, key, dict)
    if not all(isinstance(t, dict) and all(isinstance(v, kind) for v in t.values()) and fits(t) for t in tables.values()):
        raise ValueError(f"{key} that are not what a preparation writes")
    return tables


def _read(folder: Path, name: str, where: tuple[slice, ...]) -> Array:
    """Return a part of an array, if it is what case.json says of it.

    The checksum is compared where the whole is read; crops of it are drawn many times a second.
    """
    import blosc2

    path, (case, sums) = folder / name, _read_case(folder)
    if not path.is_file():
        raise CaseError(f"{path}: not found; the prepared case has none, or is incomplete: delete the folder and prepare it again")
    kind, shape = {
        _IMAGE: (np.dtype(np.int16), (len(case.modalities), *case.grid.shape)),
        _LABELS: (np.dtype(np.uint8), case.grid.shape),
        _TRUTH: (np.dtype(np.uint8), case.native.shape),
    }[name]
    try:
        stored: Any = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
        found = _shown(stored.dtype, stored.shape) if isinstance(stored, blosc2.NDArray) else type(stored).__name__
        expected = _shown(kind, shape)
        whole = all(part == slice(None) for part in where)
        if found == expected and whole and name in sums and (summed := _crc32(path)) != sums[name]:
            found, expected = f"bytes of checksum {summed}", sums[name]
        if found == expected:  # Before memory is taken for it.
            return np.asarray(stored[where])
    except Exception as error:  # noqa: BLE001  (whatever a damaged file makes the library raise)
        raise CaseError(f"{path}: damaged ({error}); delete the case's folder and prepare it again") from error
    raise CaseError(f"{path}: holds {found}, its case.json says {expected}; delete the case's folder and prepare it again")


def _shown(kind: Any, shape: tuple[int, ...]) -> str:
    return f"{kind} {'x'.join(map(str, shape))}"


def read_image(folder: Path, box: Box | None = None) -> Array:
    """Return the stored intensities, or a box of them: float32, shape (M at hand, d, h, w).

    Raises:
        CaseError: If they are missing or damaged.
    """
    where = (slice(None), *(box or (slice(None),) * 3))
    return _read(folder, _IMAGE, where).astype(np.float32) * np.float32(STEP)


def read_labels(folder: Path, box: Box | None = None) -> Array:
    """Return the region bits on the prepared grid, or a box of them: uint8, shape (d, h, w).

    Raises:
        CaseError: If the case has no reference or it is damaged.
    """
    return _read(folder, _LABELS, box or (slice(None),) * 3)


def has_labels(folder: Path) -> bool:
    """Return whether a prepared case has a reference."""
    return (folder / _LABELS).is_file()


def read_truth(folder: Path) -> Volume:
    """Return the region bits on the patient's own grid, uint8.

    Raises:
        CaseError: If the case has no reference or it is damaged.
    """
    return Volume(_read(folder, _TRUTH, (slice(None),) * 3), Grid.from_lattice(read_case(folder).native))


def list_cases(prepared: Path) -> tuple[Path, ...]:
    """Return the folders of all complete cases, sorted by name.

    Raises:
        CaseError: If there is none.
    """
    root = prepared / _CASES
    folders = sorted(p.parent for p in root.glob("*/case.json") if not p.parent.name.startswith(".")) if root.is_dir() else []
    if not folders:
        raise CaseError(f"{prepared}: holds no prepared case; expected {_CASES}/NAME/case.json; run 'anymri prepare' first")
    return tuple(folders)


def write_cohort(prepared: Path, record: CohortRecord, split: Split) -> None:
    """Write cohort.json and splits.json.

    Raises:
        OutputError: If they cannot be written.
    """
    write_split(prepared / "splits.json", split)
    write_json(prepared / "cohort.json", dataclasses.asdict(record))


def read_cohort(prepared: Path) -> tuple[CohortRecord, Split]:
    """Return what cohort.json and splits.json say.

    Raises:
        CaseError: If one is missing or damaged.
    """
    path = prepared / "cohort.json"
    content = _read_json(path, "a prepared cohort")
    try:
        record = CohortRecord(
            name=_checked(content, "name", str),
            task=_checked(content, "task", str),
            cases=_texts(content, "cases"),
            scheme=_optional(content, "scheme"),
            left_out=tuple((str(p), str(reason)) for p, reason in _checked(content, "left_out", list)),
            licence=_checked(content, "licence", str),
            citation=_checked(content, "citation", str),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CaseError(f"{path}: damaged ({type(error).__name__}: {error}); run 'anymri prepare' again") from error
    return record, read_split(prepared / "splits.json")


def write_split(path: Path, split: Split) -> None:
    """Write the folds of a cohort.

    Raises:
        OutputError: If they cannot be written.
    """
    write_json(path, {"folds": [list(names) for names in split.folds], "train_only": list(split.train_only)})


def read_split(path: Path) -> Split:
    """Return the folds that a splits.json describes.

    Raises:
        CaseError: If it is missing, damaged, or a case is in it twice.
    """
    expected = 'folds as {"folds": [["case", …], …], "train_only": ["case", …]}'
    content = _read_json(path, expected)
    folds, alone = content.get("folds"), content.get("train_only", [])
    lists: list[Any] = [*folds, alone] if isinstance(folds, list) else [None]
    if not all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in lists):
        raise CaseError(f"{path}: does not describe folds; expected {expected}")
    names: list[str] = [n for part in lists for n in part]
    twice = sorted(n for n, count in Counter(names).items() if count > 1)
    if twice:
        shown = ", ".join(n[:80] for n in twice[:3])
        raise CaseError(f"{path}: {shown} stands in it more than once; every case belongs to one fold")
    return Split(tuple(tuple(part) for part in lists[:-1]), tuple(lists[-1]))
