"""Names and places: control characters, other scripts, bytes that are no text, lengths, duplicates, loops of links."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from anymri.volumes.nifti import read_nifti

from ..entry import Entry, Harmless, Kit, Refused
from ..images import brain, nifti, put

KIND = "name"
# What a file may be called; the second is how the line must show it.
_NAMES = {
    "a space": ("two words", "two words"),
    "spaces at both ends": (" a ", " a "),
    "other scripts": ("Пациент 患者 مريض", "Пациент 患者 مريض"),
    "a face": ("🧠", "🧠"),
    "composed": (unicodedata.normalize("NFC", "Müller"), "M.?ller"),
    "decomposed": (unicodedata.normalize("NFD", "Müller"), "Mu.?ller"),
    "a line break": ("a\nerror: all is well", r"a\\nerror: all is well"),
    "a carriage return": ("a\rok", r"a\\rok"),
    "a tab": ("a\tb", r"a\\tb"),
    "a bell": ("a\x07b", r"a\\x07b"),
    "an escape sequence": ("a\x1b[2J\x1b[31mb", r"a\\x1b\[2J"),
    "a reversal of writing": ("a\u202egz.iin", r"a\\u202egz"),
    "a blank of no width": ("a\u200bb", r"a\\u200bb"),
    "bytes that are no text": (os.fsdecode(b"a\xff\xfeb"), r"a\\udcff\\udcfeb"),
    "braces and percents": ("{0}%s%(x)d{", r"\{0\}%s%\(x\)d\{"),
    "markup": ("[bold]a<b>&amp;", r"\[bold\]a<b>&amp;"),
    "a dash in front": ("-rf", "-rf"),
    "a quotation mark": ("a'b\"c", "a'b\"c"),
    "two hundred letters": ("n" * 200, "n{200}"),
}
_BAD_CASES = ("..hidden", ".x", "a:b", "a\\b")


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for label, (name, shown) in _NAMES.items():
        yield Refused(KIND, f"{label}: a file", partial(_as_file, name), f"{shown}.*[.]nii")
        yield Refused(KIND, f"{label}: a case", partial(_as_case, name), f"{shown}|n{{30}} … n{{30}}", batch=True)
        yield Refused(KIND, f"{label}: weights", partial(_as_weights, name), shown)
        yield Harmless(KIND, f"{label}: a sound file", partial(_sound, name))
    yield Refused(KIND, "a file of 300 letters", lambda f, k: ("segment", "--t1", f / ("n" * 300)), "nnn.*(?:too long|nothing)")
    yield Refused(KIND, "a place of 5000 letters", lambda f, k: ("segment", "--t1", f / "/".join(["n" * 100] * 50)), "nnn.*nnn")
    yield Refused(
        KIND, "a zero byte in --set", lambda f, k: ("train", "ccsd", "--data", f, "--out", f / "out", "--init", "a\0b"), "a.x00b"
    )
    for name in _BAD_CASES:
        yield Refused(KIND, f"a case called {name}", partial(_as_case, name, sound=True), "case name|holds no|fits no", batch=True)
    yield from _duplicates()


def _as_file(name: str, folder: Path, kit: Kit) -> tuple[object, ...]:
    return "segment", "--t1", put(folder / f"{name}.nii", nifti()[:1000])


def _as_case(name: str, folder: Path, kit: Kit, *, sound: bool = False) -> tuple[object, ...]:
    put(folder / f"{name}_flair.nii.gz", nifti() if sound else nifti()[:1000])
    return "prepare", folder, folder / "out", "--workers", 1


def _as_weights(name: str, folder: Path, kit: Kit) -> tuple[object, ...]:
    (folder / f"{name}.safetensors").write_bytes(b"nothing")
    return "weights", "import", "--", folder / f"{name}.safetensors"


def _sound(name: str, folder: Path) -> None:
    for ending in (".nii", ".nii.gz"):
        assert np.array_equal(read_nifti(put(folder / f"{name}{ending}", nifti())).array, brain())


def _duplicates() -> Iterator[Entry]:
    yield Refused(KIND, "two cases of one name", _twice("one", "two"), "fits no|holds no|is also in", batch=True)
    yield Refused(KIND, "two files of one modality", _two_files, "fits no|holds no|there twice", batch=True)
    yield Refused(KIND, "a folder that links to itself", _looping, "fits no|holds no", batch=True)
    yield Refused(KIND, "a study given twice", lambda f, k: ("segment", k.study, k.study), "more than once|twice", batch=True)
    yield Refused(KIND, "labels alone", _labels_alone, "fits no|holds no", batch=True)
    yield Refused(KIND, "an empty folder", lambda f, k: ("prepare", f, f / "out"), "fits no|holds no")
    yield Refused(
        KIND,
        "a folder that is not there",
        lambda f, k: ("prepare", f / "none", f / "out"),
        "none.*(?:not a folder|not found|neither)",
    )
    yield Refused(KIND, "a file in a folder's place", _file_as_folder, "bad")
    yield Refused(KIND, "a result in a file's place", _result_in_file, "taken.*cannot be written")
    yield Refused(KIND, "a result below a file", _result_below_file, "taken.*cannot be written")


def _twice(*places: str):
    def words(folder: Path, kit: Kit) -> tuple[object, ...]:
        for place in places:
            (folder / place).mkdir()
            put(folder / place / "same_flair.nii.gz", nifti())
        return "prepare", folder, folder / "out", "--workers", 1

    return words


def _two_files(folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "a_flair.nii.gz", nifti())
    put(folder / "a_flair.nii", nifti())
    return "prepare", folder, folder / "out", "--workers", 1


def _looping(folder: Path, kit: Kit) -> tuple[object, ...]:
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    return "prepare", folder, folder / "out", "--workers", 1


def _labels_alone(folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "a_seg.nii.gz", nifti())
    return "prepare", folder, folder / "out", "--workers", 1


def _file_as_folder(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "prepare", put(folder / "bad.nii", nifti()), folder / "out"


def _result_in_file(folder: Path, kit: Kit) -> tuple[object, ...]:
    (folder / "taken").write_text("kept")
    return "segment", "--t1", kit.image("t1"), "--out", folder / "taken"


def _result_below_file(folder: Path, kit: Kit) -> tuple[object, ...]:
    return (*_result_in_file(folder, kit)[:-1], folder / "taken" / "out")
