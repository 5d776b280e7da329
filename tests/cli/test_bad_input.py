"""Each mistake: one clear line that names the file, exit code 2, nothing written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


def _copy_with(source: Path, target: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Path:
    image = nib.load(source)  # type: ignore[attr-defined]
    array, affine = change(np.asarray(image.dataobj).astype(np.float32), np.array(image.affine))  # type: ignore[attr-defined]
    nib.save(nib.Nifti1Image(array, affine), target)  # type: ignore[attr-defined]
    return target


def _with_nan(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    array[20, 20, 20] = np.nan
    return array, affine


def _moved(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 3] += 7
    return array, affine


CHANGED = {
    "4-D": (lambda a, m: (np.stack([a, a], -1), m), "4"),
    "another shape": (lambda a, m: (a[:, :, :-3], m), "shape"),
    "another affine": (_moved, "mm"),
    "NaN": (_with_nan, "NaN"),
    "all zero": (lambda a, m: (a * 0, m), "zero"),
}


@pytest.fixture
def refused(run, weights: Path, tmp_path: Path):
    """Run segment, and check that it refuses in one line and leaves nothing."""

    def call(*words: object, out: Path | None = None) -> str:
        out = out or tmp_path / "out"
        done = run("segment", *words, "--weights", weights, "--out", out)
        assert done.code == 2, done.out + done.err
        lines = [line for line in done.err.splitlines() if line]
        assert len(lines) == 1 and lines[0].startswith("error: "), done.err
        assert not out.is_dir() or not any(out.iterdir())
        return lines[0]

    return call


@pytest.mark.parametrize("name", CHANGED)
def test_an_image_that_cannot_be_used(refused, images: dict[str, Path], tmp_path: Path, name: str) -> None:
    change, word = CHANGED[name]
    bad = _copy_with(images["t1c"], tmp_path / "bad_t1c.nii.gz", change)
    line = refused("--flair", images["flair"], "--t1c", bad)
    assert "bad_t1c.nii.gz" in line and word in line


@pytest.mark.parametrize("kind", ["missing", "truncated", "not gzip", "empty", "folder"])
def test_a_file_that_cannot_be_read(refused, images: dict[str, Path], tmp_path: Path, kind: str) -> None:
    bad = tmp_path / "bad_t2.nii.gz"
    if kind == "truncated":
        bad.write_bytes(images["t2"].read_bytes()[:5000])
    elif kind == "not gzip":
        bad.write_bytes(gzip.decompress(images["t2"].read_bytes()))
    elif kind == "empty":
        bad.write_bytes(b"")
    elif kind == "folder":
        bad.mkdir()
    assert "bad_t2.nii.gz" in refused("--t2", bad)


def test_a_modality_given_twice_is_noticed(refused, images: dict[str, Path]) -> None:
    line = refused("--flair", images["flair"], "--flair", images["t2"])
    assert "FLAIR" in line and "2 times" in line
    assert "2 times" in refused("--flair", images["flair"], "--image", f"FLAIR={images['t2']}")


def test_one_file_for_two_modalities_is_noticed(refused, images: dict[str, Path]) -> None:
    assert "both T1 and T1c" in refused("--t1", images["t1"], "--t1c", images["t1"])


def test_no_modality_at_all(refused) -> None:
    assert "--flair" in refused()


def test_an_unknown_modality(refused, images: dict[str, Path]) -> None:
    assert "'PET' is unknown" in refused("--image", f"PET={images['t1']}")


def test_an_output_that_cannot_be_written(run, weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    blocked = tmp_path / "a_file"
    blocked.write_text("kept")
    done = run("segment", "--t1", images["t1"], "--weights", weights, "--out", blocked / "out")
    assert done.code == 2 and "a_file" in done.err and len(done.err.splitlines()) == 1
    assert blocked.read_text() == "kept"


@pytest.mark.parametrize("words", [("--precision", "half"), ("--device", "abacus"), ("--labels", "brats1999"), ("--labels", "wt")])
def test_options_that_mean_nothing(refused, images: dict[str, Path], words: tuple[str, str]) -> None:
    assert words[1] in refused("--t1", images["t1"], *words)


def test_weights_that_are_a_pickle(run, images: dict[str, Path], tmp_path: Path) -> None:
    pickled = tmp_path / "weights.pt"
    pickled.write_bytes(b"PK\x03\x04" + bytes(200))
    done = run("segment", "--t1", images["t1"], "--weights", pickled, "--out", tmp_path / "out")
    assert done.code == 2 and "never loaded" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, images: dict[str, Path], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "locked" in refused("--t1", images["t1"], out=locked / "out")
