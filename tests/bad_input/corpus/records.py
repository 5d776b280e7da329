"""JSON with surprises: every record that a command reads back, changed in ways that a hand, a disk or a program changes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..entry import Entry, Kit, Refused
from ..images import nifti, put

KIND = "record"
_LEAVES = (".scores.csv.parts",)  # What an evaluation has finished is kept for the next.
Content = bytes | Callable[[dict[str, Any]], Any]

# What no JSON of ours is, whatever the file.
_BYTES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "cut": b'{"name": "a", "task',
    "null": b"null",
    "a list": b"[]",
    "a number": b"17",
    "a text": b'"a"',
    "no key at all": b"{}",
    "no JSON": b"<xml/>",
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "a hundred thousand brackets": b"[" * 100_000,
    "a hundred thousand braces": b'{"a":' * 100_000,
    "two documents": b"{}{}",
    "a comma too many": b'{"name": "a",}',
    "a number of five thousand digits": b'{"name": ' + b"9" * 5000 + b"}",
    "a megabyte of one text": b'{"name": "' + b"x" * 1_000_000 + b'"}',
    "zeros": bytes(500),
    "a lone surrogate": b'{"name": "\\ud800"}',
}


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for file, run in _READERS.items():
        for name, content in {**_BYTES, **_changes(file)}.items():
            yield Refused(KIND, f"{file}: {name}", partial(_spoilt, file, content, run), _named(file), batch=True, leaves=_LEAVES)


def _named(file: str) -> str:
    also = {"case.json": "|cases/case_a: ", "manifest.json": "|a[.]safetensors"}
    return file.replace(".", "[.]") + also.get(file, "")


def _spoilt(
    file: str, content: Content, run: Callable[[Path, Kit], tuple[object, ...]], folder: Path, kit: Kit
) -> tuple[object, ...]:
    words = run(folder, kit)
    path = next(p for p in sorted(folder.rglob(file)))
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    return words


def _evaluating(folder: Path, kit: Kit) -> tuple[object, ...]:
    shutil.copytree(kit.prepared, folder / "prepared")
    return "evaluate", kit.weights, "--data", folder / "prepared", "--out", folder / "scores.csv"


def _training_again(folder: Path, kit: Kit) -> tuple[object, ...]:
    shutil.copytree(kit.run, folder / "run")
    return "train", "--from", folder / "run", "--data", kit.prepared, "--out", folder / "out"


def _listing_weights(folder: Path, kit: Kit) -> tuple[object, ...]:
    imported = folder.parent / "imported"
    imported.mkdir()
    (folder / "manifest.json").write_text('{"weights": []}')
    (imported / "manifest.json").symlink_to(folder / "manifest.json")
    return "weights", "list"


def _preparing(folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "a_flair.nii.gz", nifti())
    (folder / "splits.json").write_text('{"folds": [["a"]], "train_only": []}')
    return "prepare", folder, folder / "out", "--workers", 1


_READERS: dict[str, Callable[[Path, Kit], tuple[object, ...]]] = {
    "case.json": _evaluating,
    "cohort.json": _evaluating,
    "splits.json": _preparing,
    "run.json": _training_again,
    "manifest.json": _listing_weights,
}


def _changes(file: str) -> dict[str, Content]:
    """Return changes of single keys of a sound record."""
    fields = {
        "case.json": ("name", "task", "modalities", "known_regions", "grid", "native", "sources", "intensity", "steps", "version"),
        "cohort.json": ("name", "task", "cases", "left_out", "licence", "citation"),
        "splits.json": ("folds", "train_only"),
        "run.json": ("run",),
        "manifest.json": ("weights",),
    }[file]
    optional = {"train_only"}
    found: dict[str, Content] = {}
    for field in fields:
        if field not in optional:
            found[f"without {field}"] = partial(_without, field)
        for label, value in {"null": None, "a number": 7, "a nested list": [[[]]], "a list of numbers": [1, 2]}.items():
            found[f"{field} is {label}"] = partial(_with, field, value)
    return found | _PARTICULAR[file]


def _without(field: str, record: dict[str, Any]) -> Any:
    return {k: v for k, v in record.items() if k != field}


def _with(field: str, value: object, record: dict[str, Any]) -> Any:
    return record | {field: value}


def _grid(key: str, value: object, record: dict[str, Any]) -> Any:
    return record | {"grid": record["grid"] | {key: value}}


def _run(key: str, value: object, record: dict[str, Any]) -> Any:
    return record | {"run": record["run"] | {key: value}}


_NAN, _EYE = float("nan"), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
_KNOWN = {"name": "a", "file": "a.safetensors", "sha256": "0" * 64, "task": "glioma"}
_PARTICULAR: dict[str, dict[str, Content]] = {
    "case.json": {
        "another task": partial(_with, "task", "prostate"),
        "a task of nobody": partial(_with, "task", "knee"),
        "a modality of nobody": partial(_with, "modalities", ["FLAIR", "PET"]),
        "a modality twice": partial(_with, "modalities", ["FLAIR", "FLAIR", "T1", "T1c"]),
        "no modality": partial(_with, "modalities", []),
        "modalities in another order": partial(_with, "modalities", ["T1", "FLAIR", "T1c", "T2"]),
        "fewer modalities than the image": partial(_with, "modalities", ["FLAIR"]),
        "a region of nobody": partial(_with, "known_regions", ["XX"]),
        "no region": partial(_with, "known_regions", []),
        "a shape of two": partial(_grid, "shape", [10, 10]),
        "a shape of zeros": partial(_grid, "shape", [0, 0, 0]),
        "a negative shape": partial(_grid, "shape", [-16, 18, 14]),
        "a shape that the image has not": partial(_grid, "shape", [16, 18, 15]),
        "a shape of texts": partial(_grid, "shape", ["a", "b", "c"]),
        "a shape beyond any": partial(_grid, "shape", [10**30, 10**30, 10**30]),
        "an infinite shape": partial(_grid, "shape", [float("inf"), 1, 1]),
        "an affine of three rows": partial(_grid, "affine", _EYE[:3]),
        "an affine with NaN": partial(_grid, "affine", [[_NAN] * 4] * 4),
        "an affine of zeros": partial(_grid, "affine", [[0] * 4] * 4),
        "an affine of texts": partial(_grid, "affine", [["x"] * 4] * 4),
        "an affine of huge numbers": partial(_grid, "affine", [[10**400] * 4] * 4),
    },
    "cohort.json": {
        "a case that is not there": partial(_with, "left_out", [["a"]]),
        "left_out of triples": partial(_with, "left_out", [["a", "b", "c"]]),
        "cases that are no texts": partial(_with, "cases", 3.5),
    },
    "splits.json": {
        "a case twice": partial(_with, "folds", [["a"], ["a"]]),
        "a case in a fold and train_only": partial(_with, "train_only", ["a"]),
        "a case that is not there": partial(_with, "folds", [["a", "b"]]),
        "folds of texts": partial(_with, "folds", ["a"]),
        "a name that is no text": partial(_with, "folds", [["a", 1]]),
        "a name with a line break": partial(_with, "folds", [["a\nerror: all is well"]]),
        "a name of a megabyte": partial(_with, "folds", [["x" * 1_000_000]]),
        "a hundred thousand names": partial(_with, "folds", [[f"n{i}" for i in range(100_000)]]),
    },
    "run.json": {
        "a method of nobody": partial(_run, "method", "magic"),
        "a task of nobody": partial(_run, "task", "knee"),
        "a field of nobody": partial(_run, "surprise", 1),
        "a patch of texts": partial(_run, "patch", ["a", "b", "c"]),
        "a negative batch": partial(_run, "batch", -1),
        "a batch of NaN": partial(_run, "batch", _NAN),
        "an infinite learning rate": partial(_run, "learning_rate", float("inf")),
        "a learning rate of NaN": partial(_run, "learning_rate", _NAN),
        "a window of nothing": partial(_run, "window", {"stride": 0}),
        "settings that are a list": partial(_run, "config", []),
        "settings of another method": partial(_run, "config", {"surprise": 1}),
        "both budgets": partial(_run, "minutes", 1),
        "no budget": partial(_run, "steps", None),
    },
    "manifest.json": {
        "a line that is a text": partial(_with, "weights", ["a"]),
        "a line without a file": partial(_with, "weights", [{"name": "a"}]),
        "a file that is a number": partial(_with, "weights", [_KNOWN | {"file": 3}]),
        "a name that is a number": partial(_with, "weights", [_KNOWN | {"name": 3}]),
        "a hash that is a number": partial(_with, "weights", [_KNOWN | {"sha256": 3}]),
        "a file that is not there": partial(_with, "weights", [_KNOWN]),
    },
}
