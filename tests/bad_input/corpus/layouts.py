"""Descriptions of cohorts that lie: tables, dataset.json; and images of other formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..entry import Entry, Kit, Refused
from ..images import brain, nifti, put

KIND = "layout"
_HEAD = b"case,flair,t1,labels,scheme,fold\n"
_TABLES: dict[str, bytes] = {
    "empty": b"",
    "a header alone": _HEAD,
    "no header": b"a,a.nii.gz\n",
    "a column twice": b"case,flair,flair\np1,a.nii.gz,a.nii.gz\n",
    "no column of a modality": b"case,labels\np1,a.nii.gz\n",
    "no column of names": b"flair,t1\na.nii.gz,\n",
    "a file that is not there": _HEAD + b"p1,none.nii.gz,,,,\n",
    "a case twice": _HEAD + b"p1,a.nii.gz,,,,\np1,a.nii.gz,,,,\n",
    "a case without a name": _HEAD + b",a.nii.gz,,,,\n",
    "a case called ..": _HEAD + b"..,a.nii.gz,,,,\n",
    "a case called ../x": _HEAD + b"../x,a.nii.gz,,,,\n",
    "too many cells": _HEAD + b"p1,a.nii.gz,,,,,,,\n",
    "a quotation that never ends": _HEAD + b'"p1,a.nii.gz,,,,\n',
    "not UTF-8": _HEAD + b"p\xff,a.nii.gz,,,,\n",
    "UTF-16": "case,flair\np1,a.nii.gz\n".encode("utf-16"),
    "zeros": bytes(1000),
    "a zero byte in a path": _HEAD + b"p1,a\0.nii.gz,,,,\n",
    "a scheme of nobody": _HEAD + b"p1,a.nii.gz,,a.nii.gz,magic,\n",
    "labels without a scheme": _HEAD + b"p1,a.nii.gz,,a.nii.gz,,\n",
    "a fold that is no number": _HEAD + b"p1,a.nii.gz,,a.nii.gz,brats2021,x\n",
    "a fold of minus one": _HEAD + b"p1,a.nii.gz,,a.nii.gz,brats2021,-1\n",
    "a fold beyond any": _HEAD + b"p1,a.nii.gz,,a.nii.gz,brats2021,999999999999\n",
    "a channel beyond the file": _HEAD + b"p1,a.nii.gz[3],,,,\n",
    "a channel beyond any": _HEAD + b"p1,a.nii.gz[99999999999999999999],,,,\n",
    "a cell of a megabyte": _HEAD + b"x" * 1_000_000 + b",a.nii.gz,,,,\n",
    "a name with a line break": _HEAD + b'"a\nerror: well",none.nii.gz,,,,\n',
}
_LINES = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
_GOOD = {"modality": {"0": "FLAIR"}, "labels": {"0": "background", "1": "edema"}, "training": [_LINES], "test": []}
_DESCRIPTIONS: dict[str, object] = {
    "empty": b"",
    "cut": b'{"modality": {"0"',
    "a list": [],
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"modality": "\xff"}',
    "no key": {},
    "without modalities": {k: v for k, v in _GOOD.items() if k != "modality"},
    "modalities of nobody": _GOOD | {"modality": {"0": "knee"}},
    "modalities that are a list": _GOOD | {"modality": ["FLAIR"]},
    "modalities that are a number": _GOOD | {"modality": 3},
    "channels that are no numbers": _GOOD | {"modality": {"a": "FLAIR"}},
    "a modality twice": _GOOD | {"modality": {"0": "FLAIR", "1": "FLAIR"}},
    "labels of nobody": _GOOD | {"labels": {"0": "background", "1": "knee"}},
    "labels that are a number": _GOOD | {"labels": 3},
    "training that is a text": _GOOD | {"training": "all"},
    "training of numbers": _GOOD | {"training": [1, 2]},
    "training of nothing": _GOOD | {"training": []},
    "training that leads out": _GOOD | {"training": [{"image": "../../etc/passwd", "label": "x"}]},
    "training of files that are not there": _GOOD
    | {"training": [{"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"}]},
}


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for name, content in _TABLES.items():
        yield Refused(KIND, f"table: {name}", partial(_table, content), "", batch=True)
    for name, description in _DESCRIPTIONS.items():
        yield Refused(KIND, f"dataset.json: {name}", partial(_described, description), "", batch=True)
    for name, (file, content) in _formats().items():
        yield Refused(KIND, f"format: {name}", partial(_format, file, content), file.replace(".", "[.]"))


def _table(content: bytes, folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "a.nii.gz", nifti())
    (folder / "cohort.csv").write_bytes(content)
    return "prepare", folder / "cohort.csv", folder / "out", "--workers", 1


def _described(description: object, folder: Path, kit: Kit) -> tuple[object, ...]:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
        put(folder / name / "a.nii.gz", nifti())
    content = description if isinstance(description, bytes) else json.dumps(description).encode()
    (folder / "dataset.json").write_bytes(content)
    return "prepare", folder, folder / "out", "--layout", "msd", "--workers", 1


def _format(file: str, content: bytes, folder: Path, kit: Kit) -> tuple[object, ...]:
    (folder / file).write_bytes(content)
    return "segment", "--t1", folder / file


def _meta(**changes: str) -> bytes:
    shape = "24 24 20"
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "4 4 4",
        "DimSize": shape,
        "ElementType": "MET_SHORT",
    } | changes
    lines = [f"{key} = {value}" for key, value in fields.items() if value]
    return "\n".join([*lines, "ElementDataFile = LOCAL", ""]).encode() + np.asarray(brain()).tobytes(order="F")


def _formats() -> dict[str, tuple[str, bytes]]:
    spoilt = {
        "without a size": {"DimSize": ""},
        "a size of zeros": {"DimSize": "0 0 0"},
        "a negative size": {"DimSize": "-24 24 20"},
        "a size of 10^9 voxels": {"DimSize": "1000 1000 1000"},
        "a size beyond any": {"DimSize": "9" * 50 + " 1 1"},
        "a slice more": {"DimSize": "24 24 21"},
        "a slice less": {"DimSize": "24 24 19"},
        "one slice": {"DimSize": "24 24 1"},
        "two axes": {"NDims": "2"},
        "no spacing": {"ElementSpacing": ""},
        "a spacing of zero": {"ElementSpacing": "0 4 4"},
        "a negative spacing": {"ElementSpacing": "-4 4 4"},
        "a spacing of NaN": {"ElementSpacing": "nan 4 4"},
        "a spacing in metres": {"ElementSpacing": "0.004 0.004 0.004"},
        "a sheared orientation": {"TransformMatrix": "1 0.5 0 0 1 0 0 0 1"},
        "a singular orientation": {"TransformMatrix": "1 0 0 1 0 0 0 0 1"},
        "no orientation": {"TransformMatrix": ""},
        "an infinite origin": {"Offset": "inf 0 0"},
        "an unknown type": {"ElementType": "MET_KNEE"},
        "a type of eight bytes": {"ElementType": "MET_DOUBLE"},
        "colours": {"ElementNumberOfChannels": "3"},
        "compressed by its word": {"CompressedData": "True"},
    }
    found = {f"MetaImage, {name}": ("bad_t1.mha", _meta(**changes)) for name, changes in spoilt.items()}
    for length in (0, 5, 100, 400, 5000):
        found[f"MetaImage cut to {length} bytes"] = ("bad_t1.mha", _meta()[:length])
    others = {
        "mhd": _meta(),
        "hdr": nifti()[:348],
        "img": nifti()[352:],
        "nrrd": b"NRRD0004\n",
        "mgz": b"\0\0\0\1",
        "tif": b"II*\0",
    }
    return found | {f"a file .{ending}": (f"bad_t1.{ending}", content) for ending, content in others.items()}
