"""anymri evaluate --masks: whoever made the masks, the same tables; every mistake one line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.preparation.labels import labels_from_bits
from anymri.volumes.nifti import write_nifti
from anymri.volumes.store import read_truth
from anymri.volumes.volume import Volume

from ..material import write_made_cohort


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a", "b"), ("c",)))
    return tmp_path / "prepared"


@pytest.fixture
def masks(prepared: Path, tmp_path: Path) -> Path:
    """Perfect masks of two of the three cases."""
    (tmp_path / "theirs").mkdir()
    for case in "ac":
        truth = read_truth(prepared / "cases" / case)
        write_nifti(
            tmp_path / "theirs" / f"{case}.nii.gz", Volume(labels_from_bits(truth.array, GLIOMA.scheme(), GLIOMA), truth.grid)
        )
    return tmp_path / "theirs"


def values(path: Path, metric: str = "dice") -> dict[tuple[str, str, str], float]:
    with path.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == metric]
    return {(row["case"], row["subset"], row["region"]): float(row["value"]) for row in rows}


def test_masks_of_anyone(run, prepared: Path, masks: Path, tmp_path: Path) -> None:
    (masks / "z.nii.gz").write_bytes(b"")
    done = run("evaluate", "--masks", masks, "--data", prepared, "--out", tmp_path / "s.csv")
    assert done.code == 0, done.err
    assert done.err.splitlines() == [
        f"left out: {masks}/z.nii.gz: its name is that of none of the 3 cases that are scored",
        f"note: 2 masks of 2 cases in {masks}, read by scheme brats2021 (the task's first; --scheme names another)",
        "note: 1 of 3 cases have no mask and are in no mean: b",
    ]
    assert "theirs on made_up: dice (%), protocol anymri, mean over cases" in done.out and "100.0 [100.0, 100.0]" in done.out
    assert len(values(tmp_path / "s.csv")) == 2 * 3 and set(values(tmp_path / "s.csv").values()) == {1.0}
    assert "1 of 3 cases have no mask and are in no mean: b" in (tmp_path / "s.md").read_text()
    fold = run("evaluate", "--masks", masks, "--data", prepared, "--out", tmp_path / "f.csv", "--fold", 1, "--scheme", "brats2013")
    assert fold.code == 0 and "scheme brats2013\n" in fold.err and {case for case, _, _ in values(tmp_path / "f.csv")} == {"c"}


def test_mistakes_are_one_line(run, prepared: Path, masks: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    for words, word in (
        ((), "give either weights"),
        ((weights, "--masks", masks), "give either weights"),
        ((weights, "--scheme", "brats2021"), "--scheme says how masks are to be read"),
        (("--masks", masks, "--scheme", "brats1999"), "label scheme 'brats1999' is unknown"),
        (("--masks", masks, "--fold", 7), "fold 7 does not exist"),
        (("--masks", tmp_path / "nowhere"), "nowhere: is not a folder"),
        (("--masks", masks, "--protocol", "kind"), "protocol 'kind' is unknown"),
    ):
        done = run("evaluate", *words, "--data", prepared, "--out", out)
        assert done.code == 2, words
        assert word in done.err and len(done.err.splitlines()) == 1, done.err
    write_nifti(masks / "b.nii.gz", Volume(np.zeros((3, 3, 3), np.uint8), read_truth_grid(prepared)))
    done = run("evaluate", "--masks", masks, "--data", prepared, "--out", out)
    assert done.code == 2 and "b.nii.gz: its grid is 3x3x3" in done.err
    assert not out.exists() and not out.with_suffix(".md").exists()


def read_truth_grid(prepared: Path):
    from anymri.volumes.volume import Grid

    return Grid((3, 3, 3), read_truth(prepared / "cases" / "a").grid.affine)


def test_masks_that_segment_wrote_score_as_the_weights_do(run, weights: Path, tmp_path: Path) -> None:
    """With all modalities not a digit differs, neither from the stored cases nor from the raw files.

    With fewer, the crop does: ``evaluate`` hides what the stored case was cropped with, ``segment`` never saw it.
    """
    cohort = write_phantoms(tmp_path / "raw", GLIOMA, seeds=range(2), shape=(40, 44, 36), spacing_mm=(1.5, 1.5, 1.5))
    prepared, full = tmp_path / "prepared", "FLAIR+T1+T1c+T2"
    assert run("prepare", tmp_path / "raw", prepared, "--workers", 1).code == 0
    assert run("evaluate", weights, "--data", prepared, "--out", tmp_path / "weights.csv").code == 0
    for source in (prepared, tmp_path / "raw"):
        out = tmp_path / f"masks_of_{source.name}"
        assert run("segment", "--cohort", source, "--weights", weights, "--out", out / full).code == 0
    for study in cohort.studies:
        flair, out = study.images["FLAIR"].path, tmp_path / "masks_of_raw" / "FLAIR" / study.name
        assert run("segment", "--flair", flair, "--weights", weights, "--out", out).code == 0
    expected = values(tmp_path / "weights.csv")
    for name in ("prepared", "raw"):
        done = run("evaluate", "--masks", tmp_path / f"masks_of_{name}", "--data", prepared, "--out", tmp_path / f"{name}.csv")
        assert done.code == 0, done.err
        found = values(tmp_path / f"{name}.csv")
        assert {k: v for k, v in found.items() if k[1] == full} == {k: v for k, v in expected.items() if k[1] == full}
    alone = {k: v for k, v in found.items() if k[1] == "FLAIR"}
    assert len(alone) == 2 * 3
    apart = [abs(v - expected[k]) for k, v in alone.items()]
    print(f"with FLAIR alone Dice is up to {max(apart):.4f} from that of hidden modalities")
    assert max(apart) < 0.1
