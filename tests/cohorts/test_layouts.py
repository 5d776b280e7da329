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


def test_auto_tries_one_layout_after_the_other(tmp_path: Path) -> None:
    touch(tmp_path, "p/p_t2w.nii.gz", "p/p_adc.nii.gz", "p/p_seg.nii.gz")
    (study,) = find_cohort(tmp_path, PROSTATE).studies
    assert set(study.images) == {"T2w", "ADC"}
    assert study.scheme == "gland_lesion"


def test_a_scheme_replaces_that_of_whole_references(brats: Path) -> None:
    assert [s.scheme for s in find_cohort(brats, GLIOMA, scheme="msd").studies] == ["msd", "wt", None]
    with pytest.raises(LabelSchemeError, match="'x' is unknown"):
        find_cohort(brats, GLIOMA, scheme="x")


def test_what_fits_no_layout(tmp_path: Path, brats: Path) -> None:
    with pytest.raises(UsageError, match="layout 'x' is unknown; expected one of auto, brats, phantom"):
        find_cohort(brats, GLIOMA, layout="x")
    with pytest.raises(InputFileError, match="is not a folder"):
        find_cohort(tmp_path / "none", GLIOMA)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputFileError, match=r"empty: fits none of the layouts \(brats: holds no BraTS case; phantom: holds no phantom"
    ):
        find_cohort(tmp_path / "empty", GLIOMA)


def test_a_fault_of_the_folds_is_not_a_matter_of_layout(brats: Path) -> None:
    (brats / "splits.json").write_text('{"folds": [["x"]]}')
    with pytest.raises(CaseError, match="names 1 cases that are not there: x"):
        find_cohort(brats, GLIOMA)
