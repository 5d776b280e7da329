"""BraTS folders of every edition, whole and faulty. Only names matter here, so the files are empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anymri.cohorts import LAYOUTS, find_brats
from anymri.domain.case import Split
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import CaseError, InputFileError, LabelSchemeError, UsageError

OLD = ("_flair", "_t1", "_t1ce", "_t2", "_seg")
NEW = ("-t2f", "-t1n", "-t1c", "-t2w", "-seg")


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def case(folder: str, suffixes: tuple[str, ...] = OLD, ending: str = ".nii.gz") -> tuple[str, ...]:
    name = folder.rsplit("/", 1)[-1]
    return tuple(f"{folder}/{name}{s}{ending}" for s in suffixes)


def reasons(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): reason for path, reason in find_brats(root, GLIOMA).left_out}


def test_it_is_a_layout() -> None:
    assert LAYOUTS["brats"] is find_brats


@pytest.mark.parametrize(
    ("folder", "suffixes", "ending", "scheme"),
    [
        ("HGG/Brats17_2013_10_1", OLD, ".nii.gz", "brats2021"),
        ("MICCAI_BraTS_2018/LGG/Brats18_2013_0_1", OLD, ".nii.gz", "brats2021"),
        ("MICCAI_BraTS2020_TrainingData/BraTS20_Training_001", OLD, ".nii", "brats2021"),
        ("BraTS2021_00000", OLD, ".nii.gz", "brats2021"),
        ("a/b/c/BraTS-GLI-00000-000", NEW, ".nii.gz", "brats2023"),
        ("BraTS-GLI-02064-101", NEW, ".nii", "brats2023"),
        ("converted", OLD, ".mha", "brats2021"),
        ("converted", OLD, ".NRRD", "brats2021"),
    ],
)
def test_every_edition(tmp_path: Path, folder: str, suffixes: tuple[str, ...], ending: str, scheme: str) -> None:
    touch(tmp_path, *case(folder, suffixes, ending))
    cohort = find_brats(tmp_path, GLIOMA)
    (study,) = cohort.studies
    paths = dict(zip(("FLAIR", "T1", "T1c", "T2"), case(folder, suffixes, ending), strict=False))
    assert study.name == folder.rsplit("/", 1)[-1]
    assert {n: s.path for n, s in study.images.items()} == {n: tmp_path / p for n, p in paths.items()}
    assert study.labels is not None
    assert study.labels.path == tmp_path / case(folder, suffixes, ending)[4]
    assert study.scheme == scheme
    assert cohort.left_out == ()
    assert cohort.split is None
    assert cohort.name == tmp_path.name


def test_cases_are_sorted_and_may_share_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"all/{n}{s}.nii.gz" for n in ("b", "a_t1_x", "c") for s in OLD))
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["a_t1_x", "b", "c"]


def test_upper_case_and_strange_names(tmp_path: Path) -> None:
    touch(tmp_path, "é 1/é 1_FLAIR.NII.GZ", "é 1/é 1_Seg.nii", ".hidden/x_t1.nii.gz", "é 1/._é 1_t1.nii.gz")
    (study,) = find_brats(tmp_path, GLIOMA).studies
    assert study.name == "é 1"
    assert set(study.images) == {"FLAIR"}
    assert study.labels is not None


def test_modalities_and_labels_may_be_missing(tmp_path: Path) -> None:
    touch(tmp_path, *case("a", ("_t1ce",)), *case("b", OLD[:4]), *case("c", ("_flair", "_wt")))
    a, b, c = find_brats(tmp_path, GLIOMA).studies
    assert (set(a.images), a.labels, a.scheme) == ({"T1c"}, None, None)
    assert (len(b.images), b.labels) == (4, None)
    assert c.labels is not None
    assert c.scheme == "wt"


def test_the_scheme_may_be_given(tmp_path: Path) -> None:
    touch(tmp_path, *case("a"), *case("b", ("_flair", "_wt")))
    cohort = find_brats(tmp_path, GLIOMA, scheme="brats2013")
    a, b = cohort.studies
    assert (a.scheme, b.scheme) == ("brats2013", "wt")
    assert cohort.notes == ("1 references are called as those of brats2021; brats2013 was named and is used",)
    assert find_brats(tmp_path, GLIOMA).notes == find_brats(tmp_path, GLIOMA, scheme="brats2021").notes == ()
    with pytest.raises(LabelSchemeError, match="'brats1999' is unknown"):
        find_brats(tmp_path, GLIOMA, scheme="brats1999")


def test_the_misnamed_label_map_of_2020(tmp_path: Path) -> None:
    touch(tmp_path, *case("BraTS20_Training_355", OLD[:4], ".nii"), "BraTS20_Training_355/W39_1998.09.19_Segm.nii")
    (study,) = find_brats(tmp_path, GLIOMA).studies
    assert study.labels is not None
    assert study.labels.path.name == "W39_1998.09.19_Segm.nii"
    touch(tmp_path, "else/x_Segm.nii")
    assert "cannot be told" in reasons(tmp_path)["else/x_Segm.nii"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *case("good"),
        "good/good_wt.nii.gz",
        "good/good_pet.nii.gz",
        "good/notes.txt",
        *case("twice"),
        "twice/twice_flair.nii",
        *case("labels", ("_seg",)),
        *case("both"),
        "both/both-seg.nii.gz",
        *case("HGG/same"),
        *case("LGG/same"),
        "VSD.1/VSD.Brain.XX.O.MR_Flair.1.mha",
        "VSD.1/VSD.Brain.XX.O.MR_T1.2.mhd",
    )
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["good"]
    found = reasons(tmp_path)
    assert "tells more" in found.pop("good/good_wt.nii.gz")
    assert "ends in none of" in found.pop("good/good_pet.nii.gz")
    assert found.pop("twice/twice").startswith("FLAIR is there twice: twice_flair.nii and twice_flair.nii.gz; remove one")
    assert "no image" in found.pop("labels/labels")
    assert "two label maps" in found.pop("both/both")
    assert f"also in {tmp_path / 'LGG/same'}" in found.pop("HGG/same")
    assert f"also in {tmp_path / 'HGG/same'}" in found.pop("LGG/same")
    assert "ends in none of" in found.pop("VSD.1/VSD.Brain.XX.O.MR_Flair.1.mha")
    assert "apart; save it as a single .mha" in found.pop("VSD.1/VSD.Brain.XX.O.MR_T1.2.mhd")
    assert found == {}


def test_one_modality_by_two_editions_names_is_there_twice(tmp_path: Path) -> None:
    touch(tmp_path, *case("a"), "a/a-t2f.nii.gz", *case("b"))
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["b"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "real", *case("a"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "back").symlink_to(source, target_is_directory=True)
    cohort = find_brats(source, GLIOMA)
    assert [s.name for s in cohort.studies] == ["a"]
    assert cohort.left_out == ()


HOSPITAL = (
    "MRHR_FLAIR_AX_Siemens_MRHR_FLAIR_AX_SE_IR_5_tir2d1_21_fla.nii.gz",
    "MRHR_T1_AX_POST_GAD_Siemens_SE_13_se2d1r_t1c.nii.gz",
    "MRHR_T2_AX_Siemens_MRHR_T2_AX_SE_2_tse2d1_11_t2.nii.gz",
    "T1_AX_Siemens_T1_AX_SE_10_se2d1_t1.nii.gz",
)


def test_names_that_a_scanner_gave_make_no_patient_of_each_image(tmp_path: Path) -> None:
    touch(tmp_path, *(f"study/{n}" for n in HOSPITAL))
    with pytest.raises(InputFileError, match="holds no BraTS case"):
        find_brats(tmp_path, GLIOMA)
    touch(tmp_path, *case("a"))
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["a"]
    found = reasons(tmp_path)
    assert set(found) == {f"study/{n}" for n in HOSPITAL}
    assert found[f"study/{HOSPITAL[3]}"].startswith("stands alone: a BraTS case is a folder of its name")


def test_single_images_beside_each_other_may_be_patients(tmp_path: Path) -> None:
    touch(tmp_path, "all/p1_flair.nii.gz", "all/p2_flair.nii.gz", "all/p1_brainmask.nii.gz")
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["p1", "p2"]
    touch(tmp_path, "all/p3_flair.nii.gz", "all/p3_t1.nii.gz", "all/p4_t2.nii.gz")
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["p1", "p2", "p3", "p4"]
    touch(tmp_path, "two/q1_flair.nii.gz", "two/q2_t1.nii.gz")
    assert [s.name for s in find_brats(tmp_path, GLIOMA).studies] == ["p1", "p2", "p3", "p4"]


def test_folds_that_come_with_the_data(tmp_path: Path) -> None:
    touch(tmp_path, *case("a"), *case("b"), *case("c"))
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"folds": [["a"], ["b"]], "train_only": ["c"]}))
    assert find_brats(tmp_path, GLIOMA).split == Split((("a",), ("b",)), ("c",))
    path.write_text(json.dumps({"folds": [["a", "x"], ["y"]]}))
    with pytest.raises(CaseError, match=r"splits\.json: names 2 cases that are not there: x, y"):
        find_brats(tmp_path, GLIOMA)
    path.write_text("{")
    with pytest.raises(CaseError, match="cannot be read"):
        find_brats(tmp_path, GLIOMA)


def test_no_case_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="is not a folder"):
        find_brats(tmp_path / "none", GLIOMA)
    with pytest.raises(InputFileError, match="holds no BraTS case; expected files such as"):
        find_brats(tmp_path, GLIOMA)
    touch(tmp_path, "a.nii.gz")
    with pytest.raises(InputFileError, match=r"holds no BraTS case \(a\.nii\.gz: its name ends in none of"):
        find_brats(tmp_path, GLIOMA)


def test_a_task_of_other_modalities(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hold no T2w, ADC, DWI; task prostate needs another layout"):
        find_brats(tmp_path, PROSTATE)
