"""One image in another's place: the same file or content twice, a label map as image, an image as labels."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..entry import Entry, Kit, Refused
from ..images import brain, nifti, packed, put, setting, together

KIND = "modality"


def entries() -> Iterator[Entry]:
    """Yield the entries. That a FLAIR image was given as T1 cannot be known from it: there is no entry for that."""
    copies: dict[str, Callable[[Path, Path], object]] = {
        "the same file": lambda a, b: None,
        "a link": lambda a, b: b.symlink_to(a),
        "a hard link": lambda a, b: os.link(a, b),
        "a copy": lambda a, b: shutil.copyfile(a, b),
        "a copy of another compression": lambda a, b: b.write_bytes(gzip.compress(gzip.decompress(a.read_bytes()), 9)),
        "a copy of another type": lambda a, b: put(b, nifti(brain(0).astype("f8"))),
        "a copy of another scale": lambda a, b: put(b, nifti(brain(0).astype("f4") * 4)),
        "a copy of another slope": lambda a, b: put(b, nifti(change=together(setting("scl_slope", 2), setting("scl_inter", 0)))),
        "a copy on turned axes": _turned,
    }
    for name, copy in copies.items():
        yield Refused(KIND, f"{name} as FLAIR and T1", partial(_copied, copy, ("--flair", "--t1")), "for both|the same as")
        yield Refused(KIND, f"{name} as T1 and T2", partial(_copied, copy, ("--t2", "--t1")), "for both|the same as")
        if name != "the same file":
            yield Refused(KIND, f"{name}, prepared", partial(_prepared, copy), "shows the same as", batch=True)
    yield Refused(KIND, "labels as an image", _labels_as_image, "good_seg[.]nii[.]gz.*mask")
    yield Refused(KIND, "an image as labels", _image_as_labels, "bad_seg[.]nii[.]gz.*scheme brats2021 knows", batch=True)
    yield Refused(
        KIND, "the images of another task", lambda f, k: ("segment", "--image", f"T2w={k.image('t2')}"), "'T2w' is unknown"
    )
    yield Refused(KIND, "three images and a fourth twice", _fourth_twice, "FLAIR was given 2 times")
    for value, says in {"PET": "expected NAME=FILE", "=x": "''|expected NAME=FILE|unknown", "PET=": "expected NAME=FILE"}.items():
        yield Refused(KIND, f"--image {value}", partial(_given, value), says)
    for values, name in {(1, 2, 9): "a value of nobody", (-1, 0, 1): "a negative value", (0, 255, 1): "255 for one"}.items():
        words = partial(_labelled, np.array(values, "i2"))
        yield Refused(KIND, f"labels with {name}", words, "bad_seg[.]nii[.]gz.*scheme brats2021 knows", batch=True)


def _turned(good: Path, copy: Path) -> None:
    from ..images import AFFINE

    put(copy, nifti(np.ascontiguousarray(brain(0)[:, :, ::-1]), affine=AFFINE @ _flip()))


def _flip() -> np.ndarray:
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = brain().shape[2] - 1
    return flip


def _copied(copy: Callable[[Path, Path], object], options: tuple[str, str], folder: Path, kit: Kit) -> tuple[object, ...]:
    good = put(folder / "one.nii.gz", nifti())
    copy(good, folder / "two.nii.gz")
    other = folder / "two.nii.gz"
    return "segment", options[0], good, options[1], other if other.exists() else good


def _prepared(copy: Callable[[Path, Path], object], folder: Path, kit: Kit) -> tuple[object, ...]:
    copy(put(folder / "bad_flair.nii.gz", nifti()), folder / "bad_t1.nii.gz")
    return "prepare", folder, folder / "out", "--workers", 1


def _labels_as_image(folder: Path, kit: Kit) -> tuple[object, ...]:
    return "segment", "--flair", kit.image("flair"), "--t1", kit.image("seg")


def _image_as_labels(folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "bad_flair.nii.gz", nifti())
    (folder / "bad_seg.nii.gz").write_bytes(packed(nifti(brain(1))))
    return "prepare", folder, folder / "out", "--workers", 1


def _labelled(values: np.ndarray, folder: Path, kit: Kit) -> tuple[object, ...]:
    put(folder / "bad_flair.nii.gz", nifti())
    put(folder / "bad_seg.nii.gz", nifti(values[np.indices(brain().shape)[0] % len(values)]))
    return "prepare", folder, folder / "out", "--workers", 1


def _fourth_twice(folder: Path, kit: Kit) -> tuple[object, ...]:
    images = (kit.image("t1"), kit.image("t2"), kit.image("flair"), kit.image("t1ce"))
    return "segment", "--t1", images[0], "--t2", images[1], "--flair", images[2], "--flair", images[3]


def _given(value: str, folder: Path, kit: Kit) -> tuple[object, ...]:
    return "segment", "--image", value
