"""Weights that are pickles, lie of themselves, belong to something else, or were changed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from ..entry import Entry, Kit, Refused
from ..images import brain, nifti, put

KIND = "weights"
CALLED = Path(tempfile.gettempdir()) / "anymri-a-pickle-was-opened"


class Bait:
    """Something whose unpickling would leave a file behind."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (CALLED,)


def entries() -> Iterator[Entry]:
    """Yield the entries: most through ``segment``, some through ``weights import``."""
    for name, (make, says) in {**_other_programs(), **_broken_containers(), **_lying_headers(), **_odd_tensors()}.items():
        yield Refused(KIND, name, partial(_segmenting, make), f"bad_weights[.]\\w+.*(?:{says})")
        yield Refused(KIND, f"{name}, imported", partial(_importing, make), f"bad_weights[.]\\w+.*(?:{says})")
    yield Refused(KIND, "of another task", _another_task, "FLAIR.*unknown|modality")
    yield Refused(KIND, "of another task, evaluated", _another_task_evaluated, "prepared for task glioma", batch=True)
    yield Refused(KIND, "of another hash than the manifest says", _another_hash, "SHA-256 is")
    yield Refused(KIND, "another file under a name that is taken", _taken_name, "are called 'untrained' already")
    yield Refused(
        KIND, "a name of nobody", lambda f, k: ("segment", "--t1", k.image("t1"), "--weights", "magic"), "'magic' are neither"
    )
    yield Refused(KIND, "a line break in the name given", lambda f, k: ("weights", "where", "a\nb"), r"'a\\nb' are neither")
    yield Refused(
        KIND, "a folder without weights", lambda f, k: ("segment", "--t1", k.image("t1"), "--weights", f), "neither a file"
    )
    yield Refused(KIND, "a start of another task", _another_start, "weights of dropout_unet for prostate")


def _segmenting(make: Callable[[Kit], tuple[str, bytes]], folder: Path, kit: Kit) -> tuple[object, ...]:
    name, content = make(kit)
    (folder / name).write_bytes(content)
    return "segment", "--t1", kit.image("t1"), "--weights", folder / name


def _importing(make: Callable[[Kit], tuple[str, bytes]], folder: Path, kit: Kit) -> tuple[object, ...]:
    return "weights", "import", _segmenting(make, folder, kit)[-1]


_Made = dict[str, tuple[Callable[[Kit], tuple[str, bytes]], str]]


def _other_programs() -> _Made:
    pickled, zipped = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(3)}, zipped)
    torch.save({"a": torch.zeros(3)}, pickled, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(archive := io.BytesIO(), "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bait()))
    foreign = save({"a": torch.zeros(3)}, metadata={"format": "pt"})
    contents = {
        "a pickle": ("pkl", pickle.dumps(Bait()), "never loaded"),
        "a pickle under our ending": ("safetensors", pickle.dumps(Bait()), "never loaded"),
        "a file of torch": ("pt", zipped.getvalue(), "never loaded"),
        "an old file of torch": ("pth", pickled.getvalue(), "never loaded"),
        "a zip with a pickle": ("ckpt", archive.getvalue(), "never loaded"),
        "an array of numpy": ("npy", b"\x93NUMPY\x01\x00" + bytes(100), "never loaded|not a safetensors"),
        "text": ("safetensors", b"no weights at all", "not a safetensors"),
        "a web page": ("safetensors", b"<!DOCTYPE html><html></html>", "not a safetensors"),
        "safetensors of another program": ("safetensors", foreign, "has no anymri header"),
        "safetensors without metadata": ("safetensors", save({"a": torch.zeros(3)}), "has no anymri header"),
        "an image": ("nii", nifti(), "not a safetensors"),
    }
    return {n: (lambda kit, e=e, c=c: (f"bad_weights.{e}", c), says) for n, (e, c, says) in contents.items()}


def _parts(kit: Kit) -> tuple[dict[str, Any], bytes]:
    """Return the header of good weights and the bytes behind it."""
    content = kit.weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header: object, rest: bytes, *, length: int | None = None) -> tuple[str, bytes]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return "bad_weights.safetensors", struct.pack("<Q", len(text) if length is None else length) + text + rest


def _broken_containers() -> _Made:
    def cut(count: int, kit: Kit) -> tuple[str, bytes]:
        return "bad_weights.safetensors", kit.weights.read_bytes()[:count]

    def lying(length: int, kit: Kit) -> tuple[str, bytes]:
        return _joined(*_parts(kit), length=length)

    def raw(text: bytes, kit: Kit) -> tuple[str, bytes]:
        return _joined(text, _parts(kit)[1])

    def first(change: dict[str, object], kit: Kit) -> tuple[str, bytes]:
        header, rest = _parts(kit)
        name = next(k for k in header if k != "__metadata__")
        header[name] |= change
        return _joined(header, rest)

    says = "not a safetensors|not a readable safetensors|readable safetensors"
    found: _Made = {f"cut to {n} bytes": (partial(cut, n), says) for n in (0, 1, 7, 8, 9, 100, 1000, 5000)}
    found |= {f"header of {n} bytes by its own word": (partial(lying, n), says) for n in (0, 1, 5, 2**31, 2**62, 2**64 - 1)}
    texts = {
        "brackets": b"[" * 10_000,
        "braces": b'{"a":' * 10_000,
        "a list": b"[]",
        "not UTF-8": b'{"\xff": 1}',
        "a tensor that is a number": b'{"a": 1}',
        "a key twice": b"{" + b",".join([b'"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}'] * 2) + b"}",
    }
    found |= {f"header: {name}": (partial(raw, text), "safetensors|anymri header") for name, text in texts.items()}
    for name, change in {
        "a shape beyond any": {"shape": [10**18, 10**18]},
        "a huge shape": {"shape": [100_000, 100_000]},
        "a negative shape": {"shape": [-1]},
        "offsets the wrong way": {"data_offsets": [8, 0]},
        "offsets beyond the file": {"data_offsets": [0, 10**12]},
        "an unknown type": {"dtype": "F7"},
        "another type": {"dtype": "F64"},
    }.items():
        found[f"first tensor: {name}"] = (partial(first, change), says)
    return found


def _lying_headers() -> _Made:
    def change(key: str, value: object, kit: Kit) -> tuple[str, bytes]:
        header, rest = _parts(kit)
        ours = json.loads(header["__metadata__"]["anymri"])
        ours = {k: v for k, v in ours.items() if k != key} if value is ... else ours | {key: value}
        header["__metadata__"]["anymri"] = json.dumps(ours)
        return _joined(header, rest)

    def text(content: str, kit: Kit) -> tuple[str, bytes]:
        header, rest = _parts(kit)
        header["__metadata__"]["anymri"] = content
        return _joined(header, rest)

    fit = "does not fit"
    values: dict[str, tuple[str, object, str]] = {
        "another format": ("format", "anymri-weights/9", "expected anymri-weights/1"),
        "a method of nobody": ("method", "magic", fit),
        "another method": ("method", "ccsd", f"{fit}|has shape"),
        "a task of nobody": ("task", "knee", fit),
        "another task": ("task", "prostate", "has shape"),
        "settings of nobody": ("config", {"surprise": 1}, fit),
        "settings of a larger network": ("config", {}, "has shape"),
        "settings that are a list": ("config", [], fit),
        "a name that leads elsewhere": ("name", "../../x", fit),
        "a name with a line break": ("name", "a\nerror: all is well", fit),
        "an empty name": ("name", "", fit),
        "a window of nothing": ("window", {"stride": 2, "size": [0, 0, 0]}, fit),
        "a negative window": ("window", {"stride": 2, "size": [-8, 8, 8]}, fit),
        "a window that the network cannot halve": ("window", {"stride": 2, "size": [7, 7, 7]}, fit),
        "a stride of a hundred": ("window", {"stride": 100, "size": [48, 48, 48]}, fit),
        "an overlap of one": ("window", {"stride": 2, "size": [48, 48, 48], "overlap": 1.0}, fit),
        "a field of nobody": ("surprise", 1, fit),
        "a training that is a text": ("training", "long", fit),
        "no window": ("window", ..., fit),
        "no method": ("method", ..., fit),
    }
    found: _Made = {n: (partial(change, key, value), says) for n, (key, value, says) in values.items()}
    texts = {
        "empty": "",
        "cut": '{"format',
        "a list": "[]",
        "deep": "[" * 50_000,
        "a name of a megabyte": '{"name": "' + "x" * 10**6 + '"}',
    }
    return found | {f"anymri header: {n}": (partial(text, t), fit) for n, t in texts.items()}


def _odd_tensors() -> _Made:
    def change(alter: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], kit: Kit) -> tuple[str, bytes]:
        with safe_open(kit.weights, framework="pt") as file:
            metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        return "bad_weights.safetensors", save(alter(tensors), metadata=metadata)

    def first(alter: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        return lambda tensors: tensors | {(name := next(iter(tensors))): alter(tensors[name]).contiguous()}

    alterations = {
        "no tensor": (lambda t: {}, "has shape None"),
        "a tensor missing": (lambda t: dict(list(t.items())[1:]), "has shape None"),
        "a tensor too many": (lambda t: t | {"zzz": torch.zeros(3)}, "'zzz' has shape .3,., expected None"),
        "a tensor of a line break": (lambda t: t | {"a\nb": torch.zeros(3)}, "has shape .3,., expected None"),
        "a tensor of another shape": (first(lambda v: v[None]), "has shape"),
        "a tensor of no values": (first(lambda v: v[:0]), "has shape"),
        "a NaN": (first(lambda v: torch.full_like(v, float("nan"))), "not finite"),
        "an infinite value": (first(lambda v: torch.full_like(v, float("inf"))), "not finite"),
        "whole numbers": (first(lambda v: v.to(torch.int64)), "type|int64"),
        "truth values": (first(lambda v: v > 0), "type|bool"),
    }
    return {f"tensors: {n}": (partial(change, alter), says) for n, (alter, says) in alterations.items()}


def _another_task(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "segment", "--flair", kit.image("flair"), "--weights", kit.prostate


def _another_task_evaluated(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "evaluate", kit.prostate, "--data", kit.prepared, "--out", folder / "scores.csv"


def _another_start(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "train", "--from", kit.run, "--data", kit.prepared, "--init", kit.prostate, "--out", folder / "out"


def _imported(folder: Path, kit: Kit, sha256: str) -> None:
    place = folder.parent / "imported"
    place.mkdir()
    (place / "untrained.safetensors").write_bytes(kit.weights.read_bytes())
    line = {"name": "untrained", "file": "untrained.safetensors", "sha256": sha256, "task": "glioma"}
    (place / "manifest.json").write_text(json.dumps({"weights": [line]}))


def _another_hash(folder: Path, kit: Kit) -> tuple[object, ...]:
    _imported(folder, kit, "0" * 64)
    return "segment", "--t1", put(folder / "a.nii.gz", nifti(brain())), "--weights", "untrained"


def _taken_name(folder: Path, kit: Kit) -> tuple[object, ...]:
    _imported(folder, kit, hashlib.sha256(kit.weights.read_bytes()).hexdigest())
    header, rest = _parts(kit)
    name, content = _joined(header, rest[:-2] + b"\0\0")
    (folder / name).write_bytes(content)
    return "weights", "import", folder / name
