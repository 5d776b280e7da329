"""BIDS: file names to the letter of the specification, raw data sets and derivatives."""

from __future__ import annotations

from typing import Any

import pytest

from anymri.cohorts import LAYOUTS, find_bids, find_cohort
from anymri.domain.case import Source
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import InputFileError, LabelSchemeError

RAW = {
    "Name": "Gliomas of one hospital",
    "BIDSVersion": "1.9.0",
    "DatasetType": "raw",
    "License": "CC0",
    "HowToAcknowledge": "Cite us.",
}
DERIVATIVE = {"Name": "masks", "BIDSVersion": "1.9.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "drawn by hand"}]}
MSD = (
    "index\tname\tabbreviation\tcolor\tmapping\n0\tBackground\tBG\t#000000\t0\n"
    "1\tedema\tED\t#ff53bb\n2\tnon-enhancing tumor\tNCR\n3\tenhancing tumor\tET\n"
)
TISSUE = "index\tname\tabbreviation\n1\tGray Matter\tGM\n2\tWhite Matter\tWM\n"


def anat(sub: str, *ends: str, ses: str = "", root: str = "") -> tuple[str, ...]:
    where, start = (f"sub-{sub}/ses-{ses}", f"sub-{sub}_ses-{ses}") if ses else (f"sub-{sub}", f"sub-{sub}")
    return tuple(f"{root}{where}/anat/{start}_{e}.nii.gz" for e in ends)


FOUR = ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")


def names(folder: Any, task: Any = GLIOMA) -> dict[str, list[str]]:
    return {s.name: sorted(s.images) for s in find_bids(folder.path, task).studies}


def reasons(folder: Any) -> dict[str, str]:
    return {p.name: reason for p, reason in find_bids(folder.path, GLIOMA).left_out}


def test_a_raw_data_set_with_masks_in_a_derivative(folder) -> None:
    folder.write("dataset_description.json", RAW)
    folder.write("participants.tsv", "participant_id\tage\nsub-01\t50\n")
    folder.touch("README", "sub-01/anat/sub-01_T1w.json", *anat("01", *FOUR), *anat("02", "acq-highres_run-1_FLAIR"))
    folder.write("derivatives/masks/dataset_description.json", DERIVATIVE)
    folder.touch(*anat("01", "space-orig_dseg", root="derivatives/masks/"))
    folder.write("derivatives/masks/sub-01/anat/sub-01_space-orig_dseg.tsv", MSD)
    cohort = find_cohort(folder.path, GLIOMA)
    assert cohort == find_bids(folder.path, GLIOMA) == LAYOUTS["bids"](folder.path, GLIOMA)
    one, two = cohort.studies
    files = dict(zip(("T1", "T1c", "T2", "FLAIR"), anat("01", *FOUR), strict=True))
    assert one.name == "sub-01" and one.images == {n: Source(folder.path / f) for n, f in files.items()}
    assert one.labels == Source(folder.path / "derivatives/masks/sub-01/anat/sub-01_space-orig_dseg.nii.gz")
    assert (one.scheme, two.name, set(two.images), two.labels) == ("msd", "sub-02", {"FLAIR"}, None)
    assert (cohort.name, cohort.licence, cohort.citation) == ("Gliomas of one hospital", "CC0", "Cite us.")
    assert (cohort.layout, cohort.left_out, cohort.notes) == ("bids", (), ())


def test_sessions_are_cases_of_their_own(folder) -> None:
    folder.touch(*anat("01", "FLAIR", ses="pre"), *anat("01", "T1w", "T2w", ses="post"), *anat("02", "FLAIR"))
    folder.touch(*anat("01", "dseg", ses="pre", root="derivatives/m/"), *anat("01", "dseg", root="derivatives/m/"))
    folder.write("derivatives/m/dseg.tsv", MSD)
    assert find_cohort(folder.path, GLIOMA).layout == "bids"  # Even without a description.
    assert names(folder) == {"sub-01_ses-pre": ["FLAIR"], "sub-01_ses-post": ["T1", "T2"], "sub-02": ["FLAIR"]}
    assert [s.name for s in find_bids(folder.path, GLIOMA).studies if s.labels] == ["sub-01_ses-pre"]
    assert reasons(folder) == {"sub-01_dseg.nii.gz": "sub-01 has no image that can be used"}


def test_a_derivative_by_itself(folder) -> None:
    folder.write("dataset_description.json", DERIVATIVE)
    ends = ("space-SRI24_desc-brain_FLAIR", "ce-gadobutrol_space-SRI24_desc-brain_T1w", "space-SRI24_dseg")
    folder.touch(*anat("01", *ends))
    folder.write("sub-01/anat/sub-01_space-SRI24_dseg.tsv", MSD.replace("edema", "peritumoral edema"))
    (study,) = find_cohort(folder.path, GLIOMA).studies
    assert set(study.images) == {"FLAIR", "T1c"} and study.scheme == "msd"


def test_several_files_for_one_modality_are_never_picked_from(folder) -> None:
    folder.touch(*anat("01", "run-1_FLAIR", "run-2_FLAIR", "T2w"), "sub-01/anat/sub-01_T2w.nii", *anat("01", "T1w"))
    folder.touch(*anat("02", "space-MNI_T1w", "space-orig_T1w"))
    assert names(folder) == {"sub-01": ["T1"]}
    found = reasons(folder)
    assert len(found) == 6 and found["sub-01_run-1_FLAIR.nii.gz"].startswith(
        "one of 2 files for FLAIR of sub-01; leave one, or name"
    )
    assert found["sub-02_space-MNI_T1w.nii.gz"].startswith("one of 2 files for T1 of sub-02")


def test_a_contrast_agent_makes_another_modality(folder) -> None:
    folder.touch(*anat("01", "ce-gad_T1w", "ce-gad_FLAIR", "ce-gad_T2w"), *anat("02", "ce-gad_T1w", "T1w"))
    assert names(folder) == {"sub-01": ["T1c"], "sub-02": ["T1", "T1c"]}
    assert reasons(folder)["sub-01_ce-gad_FLAIR.nii.gz"] == "FLAIR with ce-gad is no modality of task glioma"


def test_what_is_left_out_is_said(folder) -> None:
    folder.write(".bidsignore", "# ours\n*_acq-bad_*\nsub-03/\n/sub-02/anat/*T2w*\n")
    folder.touch(
        *anat("01", "FLAIR", "T1map", "part-phase_T1w", "label-tumor_mask", "acq-bad_T2w"),
        *(
            "sub-01/anat/sub-02_T1w.nii.gz",
            "sub-01/anat/sub-01_ses-1_T2w.nii.gz",
            "sub-01/anat/T1w.nii.gz",
            "sub-01/anat/sub-01_T1w.mgz",
        ),
        *("sub-01/anat/sub-01_acq-a_acq-b_T2w.nii.gz", "sub-01/anat/sub-01__T2w.nii.gz"),
        *("sub-01/func/sub-01_task-rest_bold.nii.gz", "sourcedata/sub-01/anat/sub-01_T1w.nii.gz", "code/x.nii.gz"),
        *anat("02", "T1w", "T2w"),
        *anat("03", "T1w"),
        *anat("01", "desc-brain_T1w", root="derivatives/fmriprep/"),
    )
    assert names(folder) == {"sub-01": ["FLAIR"], "sub-02": ["T1"]}
    found = reasons(folder)
    assert found.pop("sub-01_T1map.nii.gz") == "T1map is no modality of task glioma"
    assert found.pop("sub-01_part-phase_T1w.nii.gz") == "T1w (part-phase) is no modality of task glioma"
    assert found.pop("sub-01_label-tumor_mask.nii.gz") == "mask is no modality of task glioma"
    for ignored in ("sub-01_acq-bad_T2w.nii.gz", "sub-02_T2w.nii.gz", "sub-03_T1w.nii.gz"):
        assert found.pop(ignored) == ".bidsignore leaves it out"
    strange = ("sub-02_T1w.nii.gz", "sub-01_ses-1_T2w.nii.gz", "T1w.nii.gz", "sub-01_acq-a_acq-b_T2w.nii.gz", "sub-01__T2w.nii.gz")
    for name in strange:
        assert "none of BIDS" in found.pop(name)
    assert "convert it" in found.pop("sub-01_T1w.mgz")
    assert found.pop("sub-01_desc-brain_T1w.nii.gz").startswith(
        "an image of a derivative; to use it, give that derivative's folder"
    )
    assert found == {}


def test_tissue_classes_beside_the_tumour(folder) -> None:
    """Two segmentations: the one whose own table fits the task is taken; without tables neither is."""
    folder.touch(*anat("01", "FLAIR"), *anat("01", "dseg", root="derivatives/fmriprep/"))
    folder.touch(*anat("01", "seg-tumor_dseg", root="derivatives/masks/"))
    (study,) = find_bids(folder.path, GLIOMA).studies
    assert study.labels is None and reasons(folder)["sub-01_dseg.nii.gz"].startswith("one of 2 segmentations of a case")
    folder.write("derivatives/fmriprep/desc-aseg_dseg.tsv", TISSUE)  # Of another segmentation: "desc" is not in the file's name.
    folder.write("derivatives/fmriprep/dseg.tsv", TISSUE)
    folder.write("derivatives/masks/seg-tumor_dseg.tsv", MSD)
    (study,) = find_bids(folder.path, GLIOMA).studies
    assert study.labels is not None and study.labels.path.name == "sub-01_seg-tumor_dseg.nii.gz" and study.scheme == "msd"
    assert reasons(folder) == {"sub-01_dseg.nii.gz": "sub-01_seg-tumor_dseg.nii.gz is the segmentation for task glioma"}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (None, "no dseg.tsv tells what its values mean"),
        (TISSUE, "'Gray Matter' (1) is no label of task glioma"),
        ("value\tname\n1\tx\n", "is no table with the columns index and name: KeyError"),
        ("index\tname\none\tx\n", "ValueError"),
        ("index\tname\n1\n", "is no table with the columns index and name"),
    ],
)
def test_labels_that_nothing_declares_need_a_scheme(folder, table: str | None, reason: str) -> None:
    folder.touch(*anat("01", "FLAIR", "dseg"))
    if table is not None:
        folder.write("dseg.tsv", table)
    cohort = find_bids(folder.path, GLIOMA)
    assert cohort.studies[0].labels is not None and cohort.studies[0].scheme is None
    assert reason in cohort.notes[0]
    named = find_bids(folder.path, GLIOMA, scheme="brats2021")
    assert named.studies[0].scheme == "brats2021" and named.notes == ()


def test_the_nearest_table_counts(folder) -> None:
    folder.touch(*anat("01", "FLAIR", "dseg"), *anat("02", "FLAIR", "dseg"))
    folder.write("dseg.tsv", MSD)
    folder.write("sub-02/sub-02_dseg.tsv", "index\tname\n1\twhole tumor\n")
    assert [s.scheme for s in find_bids(folder.path, GLIOMA).studies] == ["msd", "wt"]
    cohort = find_bids(folder.path, GLIOMA, scheme="wt")
    assert [s.scheme for s in cohort.studies] == ["wt", "wt"]
    assert len(cohort.notes) == 1 and "declares labels of scheme msd; wt was named" in cohort.notes[0]
    with pytest.raises(LabelSchemeError):
        find_bids(folder.path, GLIOMA, scheme="none")


def test_the_maps_of_a_scanner_for_the_prostate(folder) -> None:
    folder.touch(*anat("01", "T2w"), "sub-01/dwi/sub-01_ADC.nii.gz", "sub-01/dwi/sub-01_trace.nii.gz")
    assert names(folder, PROSTATE) == {"sub-01": ["ADC", "T2w"]}


def test_faults_and_loops(folder) -> None:
    with pytest.raises(InputFileError, match=r"holds no BIDS case; expected files such as sub-01/anat/sub-01_FLAIR\.nii\.gz"):
        find_bids(folder.path, GLIOMA)
    folder.touch(*anat("é1", "FLAIR"))
    (folder.path / "sub-é1" / "anat" / "loop").symlink_to(folder.path)
    assert names(folder) == {"sub-é1": ["FLAIR"]}
    folder.write("dataset_description.json", "[]")
    with pytest.raises(InputFileError, match=r"dataset_description\.json: holds list"):
        find_cohort(folder.path, GLIOMA)
