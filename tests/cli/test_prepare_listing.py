"""What `anymri prepare` says before it begins: layout, modalities, references, folds, notes, and all that is left out."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two whole patients, one with two images and no labels, and rows with faults. Nothing is read, so the files are empty."""
    for name in ("f", "t1", "t1c", "t2", "seg"):
        (tmp_path / f"{name}.nii.gz").touch()
    whole = "f.nii.gz,t1.nii.gz,t1c.nii.gz,t2.nii.gz,seg.nii.gz,brats2021"
    lines = ["case,flair,t1,t1c,t2,labels,scheme,fold,site", f"p0,{whole},0,x", f"p1,{whole},1,x", "q,f.nii.gz,,,t2.nii.gz,,,,x"]
    (tmp_path / "cases.csv").write_text("\n".join([*lines, "lost,gone.nii.gz,,,,,,,x"]))
    return tmp_path / "cases.csv"


def test_the_listing(run, table: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")  # The listing comes before any work, so it can be looked at without any.
    done = run("prepare", table, tmp_path / "out")
    assert done.code == 2 and "cannot be written" in done.err
    unused = "is no modality of task glioma, and none of case, labels, scheme, fold; it is not used"
    assert done.out.splitlines() == [
        f"3 cases found in {table}, layout table",
        "  images: 2 with FLAIR+T1+T1c+T2",
        "  images: 1 with FLAIR+T2",
        "  references: 2 of scheme brats2021, which tells WT, TC, ET",
        "  references: 1 have none",
        "  folds that came with the data: 1+1 cases, and 0 only to train on",
        f"left out: {table}: row 1: column 9 'site' {unused}",
        f"left out: {table}: row 5: FLAIR: {table.parent / 'gone.nii.gz'} is not there",
    ]


def test_schemes_that_tell_some_regions_and_none(run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a_flair", "a_wt"):
        (tmp_path / f"a/{name}.nii.gz").touch()
    (tmp_path / "out").write_text("in the way")
    done = run("prepare", tmp_path, tmp_path / "out")
    assert "  references: 1 of scheme wt, which tells WT; TC, ET unknown there" in done.out.splitlines()
    (tmp_path / "cases.csv").write_text("case,flair,labels\na,a/a_flair.nii.gz,a/a_wt.nii.gz\n")
    done = run("prepare", tmp_path, tmp_path / "out2")
    assert (
        done.code == 2
        and "nothing declares its label scheme; name it with --scheme" in done.err
        and len(done.err.splitlines()) == 1
    )
    assert "  references: 1 whose label scheme nothing declares" in done.out
    assert any(line.startswith("note: ") and "could be read as brats, too" in line for line in done.out.splitlines())
    assert not (tmp_path / "out2").exists()


def test_every_layout_is_listed_with_its_purpose(run) -> None:
    out = run("list", "cohorts").out
    assert [line.split()[0] for line in out.splitlines()] == ["brats", "msd", "nnunet", "bids", "table", "phantom"]
