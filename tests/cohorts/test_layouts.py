"""Finding cases without naming the layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from anymri.cohorts import LAYOUTS, find_cohort
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import CaseError, InputFileError, LabelSchemeError, UsageError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    return touch(tmp_path, "a/a-t2f.nii.gz", "a/a-seg.nii.gz", "b/b_flair.nii.gz", "b/b_wt.nii.gz", "c/c_t1.nii.gz")


def test_auto_finds_what_is_there(brats: Path) -> None:
    cohort = find_cohort(brats, GLIOMA)
    assert cohort == LAYOUTS["brats"](brats, GLIOMA) == find_cohort(brats, GLIOMA, layout="brats")
    assert [s.scheme for s in cohort.studies] == ["brats2023", "wt", None]


def test_auto_takes_patients_for_synthetic_only_where_that_is_marked(tmp_path: Path) -> None:
    """Their licence says that there is nobody behind them."""
    touch(tmp_path, "p/p_t2w.nii.gz", "p/p_adc.nii.gz", "p/p_seg.nii.gz")
    with pytest.raises(InputFileError, match=r"no phantoms\.json \(phantom\)"):
        find_cohort(tmp_path, PROSTATE)
    touch(tmp_path, "phantoms.json")
    cohort = find_cohort(tmp_path, PROSTATE)
    assert set(cohort.studies[0].images) == {"T2w", "ADC"} and cohort.layout == "phantom"
    assert cohort.studies[0].scheme == "gland_lesion"


def test_a_scheme_replaces_that_of_whole_references(brats: Path) -> None:
    assert [s.scheme for s in find_cohort(brats, GLIOMA, scheme="msd").studies] == ["msd", "wt", None]
    with pytest.raises(LabelSchemeError, match="'x' is unknown"):
        find_cohort(brats, GLIOMA, scheme="x")


def test_what_fits_no_layout(tmp_path: Path, brats: Path) -> None:
    with pytest.raises(UsageError, match="layout 'x' is unknown; expected one of auto, brats, msd, nnunet, bids, table, phantom"):
        find_cohort(brats, GLIOMA, layout="x")
    with pytest.raises(InputFileError, match=r"none: not found; expected a folder with cases in it, or a \.csv or \.tsv table"):
        find_cohort(tmp_path / "none", GLIOMA)
    with pytest.raises(InputFileError, match="is a file; expected a folder"):
        find_cohort(brats / "b/b_wt.nii.gz", GLIOMA)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputFileError, match="empty: fits no layout: no BraTS names") as caught:
        find_cohort(tmp_path / "empty", GLIOMA)
    message = str(caught.value)
    for part in (
        *("no BraTS names (brats)", "no dataset.json (msd, nnunet)", "no dataset_description.json or sub-*/anat (bids)"),
        *("no table of cases (table)", "no phantoms.json (phantom)", "no image file lies in it: check the folder"),
    ):
        assert part in message
    assert "\n" not in message and "…" not in message


def test_names_that_a_scanner_gave_get_advice(tmp_path: Path) -> None:
    touch(tmp_path, "T1_AX_SE_10_se2d1_t1.nii.gz", "MRHR_FLAIR_AX_21_fla.nii.gz", "MRHR_T2_AX_tse2d1_11_t2.nii.gz")
    with pytest.raises(InputFileError, match="are not named by case and modality: write a table") as caught:
        find_cohort(tmp_path, GLIOMA)
    assert "with the columns case,flair,t1,t1c,t2" in str(caught.value) and "'anymri segment --flair FILE …'" in str(caught.value)
    with pytest.raises(InputFileError, match=r"case,t2w,adc,dwi, .*'anymri segment --image T2w=FILE …'"):
        find_cohort(tmp_path, PROSTATE)


def test_a_data_set_one_folder_deeper_is_pointed_at(tmp_path: Path) -> None:
    touch(tmp_path, "nnUNet_raw/Dataset001_BrainTumour/dataset.json")
    with pytest.raises(InputFileError, match="Dataset001_BrainTumour in it has a description: give that folder"):
        find_cohort(tmp_path / "nnUNet_raw", GLIOMA)


def test_two_marks_are_said(tmp_path: Path, brats: Path) -> None:
    (brats / "cases.csv").write_text("case,flair\np,a/a-t2f.nii.gz\n")
    cohort = find_cohort(brats, GLIOMA)
    assert (cohort.layout, [s.name for s in cohort.studies]) == ("table", ["p"])
    assert cohort.notes == (f"{brats} could be read as brats, too; it is read as table; --layout takes another",)
    assert find_cohort(brats, GLIOMA, layout="brats").notes == ()
    (brats / "dataset_description.json").write_text('{"Name": "x"}')
    touch(brats, "sub-1/anat/sub-1_FLAIR.nii.gz")
    cohort = find_cohort(brats, GLIOMA)
    assert cohort.layout == "bids" and "could be read as table, too; it is read as bids" in cohort.notes[0]


def test_a_description_of_something_else_marks_nothing(brats: Path) -> None:
    (brats / "dataset.json").write_text('{"made": "elsewhere"}')
    (brats / "name_mapping.csv").write_text("Grade,BraTS_2020_subject_ID\nHGG,x\n")
    assert find_cohort(brats, GLIOMA).layout == "brats"
    (brats / "dataset.json").write_text("{")
    with pytest.raises(InputFileError, match=r"dataset\.json: is no JSON"):
        find_cohort(brats, GLIOMA)
    assert find_cohort(brats, GLIOMA, layout="brats").layout == "brats"


def test_a_fault_of_the_folds_is_not_a_matter_of_layout(brats: Path) -> None:
    (brats / "splits.json").write_text('{"folds": [["x"]]}')
    with pytest.raises(CaseError, match="names 1 cases that are not there: x"):
        find_cohort(brats, GLIOMA)
