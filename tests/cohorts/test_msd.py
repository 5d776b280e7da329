"""The Medical Segmentation Decathlon: the description of Task01 as it is published, and what may be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anymri.cohorts import LAYOUTS, find_cohort, find_msd
from anymri.domain.case import Source, Split
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import InputFileError, LabelSchemeError, UsageError

# All fields of the published file, its spelling included; the lists are shortened.
TASK01 = """{
"name": "BRATS",
"description": "Gliomas segmentation tumour and oedema in on brain images",
"reference": "https://www.med.upenn.edu/sbia/brats2017.html",
"licence":"CC-BY-SA 4.0",
"release":"2.0 04/05/2018",
"tensorImageSize": "4D",
"modality": {
 "0": "FLAIR",
 "1": "T1w",
 "2": "t1gd",
 "3": "T2w"
 },
 "labels": {
 "0": "background",
 "1": "edema",
 "2": "non-enhancing tumor",
 "3": "enhancing tumour"
 },
 "numTraining": 2,
 "numTest": 2,
 "training":[{"image":"./imagesTr/BRATS_457.nii.gz","label":"./labelsTr/BRATS_457.nii.gz"},
             {"image":"./imagesTr/BRATS_306.nii.gz","label":"./labelsTr/BRATS_306.nii.gz"}],
 "test":["./imagesTs/BRATS_485.nii.gz","./imagesTs/BRATS_562.nii.gz"]
}"""
FILES = (
    *("imagesTr/BRATS_457.nii.gz", "imagesTr/BRATS_306.nii.gz", "labelsTr/BRATS_457.nii.gz", "labelsTr/BRATS_306.nii.gz"),
    *("imagesTs/BRATS_485.nii.gz", "imagesTs/BRATS_562.nii.gz"),
)
APPLE = tuple(f"{Path(f).parent}/._{Path(f).name}" for f in FILES)  # As the published archives have them.


@pytest.fixture
def task01(folder) -> Any:
    folder.write("dataset.json", TASK01)
    folder.touch(*FILES, *APPLE, "._dataset.json")
    return folder


def changed(folder: Any, **fields: Any) -> Path:
    content = json.loads(TASK01) | fields
    folder.write("dataset.json", {k: v for k, v in content.items() if v is not None})
    return folder.path


def reasons(path: Path, task: Any = GLIOMA) -> list[str]:
    return [f"{p.name}: {reason}" for p, reason in find_msd(path, task).left_out]


def test_task01_to_the_letter(task01) -> None:
    cohort = find_cohort(task01.path, GLIOMA)
    assert cohort == find_msd(task01.path, GLIOMA) == LAYOUTS["msd"](task01.path, GLIOMA)
    assert [s.name for s in cohort.studies] == ["BRATS_306", "BRATS_457", "BRATS_485", "BRATS_562"]
    first, *_, last = cohort.studies
    image = task01.path / "imagesTr/BRATS_306.nii.gz"
    assert first.images == {n: Source(image, c) for c, n in enumerate(("FLAIR", "T1", "T1c", "T2"))}
    assert first.labels == Source(task01.path / "labelsTr/BRATS_306.nii.gz") and first.scheme == "msd"
    assert (last.labels, last.scheme) == (None, None)
    assert (cohort.layout, cohort.left_out, cohort.notes, cohort.split) == ("msd", (), (), None)
    assert cohort.licence == "CC-BY-SA 4.0" and "brats2017" in cohort.citation


def test_the_order_of_channels_is_that_of_the_description(task01) -> None:
    path = changed(task01, modality={"0": "T2", "1": "T1ce", "2": "FLAIR", "3": "T1"})
    assert {n: s.channel for n, s in find_msd(path, GLIOMA).studies[0].images.items()} == {"T2": 0, "T1c": 1, "FLAIR": 2, "T1": 3}


def test_the_scheme_is_the_one_declared_never_the_usual_one(task01) -> None:
    path = changed(task01, labels={"0": "background", "1": "necrosis", "2": "edema", "3": "enhancing tumor"})
    assert find_msd(path, GLIOMA).studies[0].scheme == "brats2023"
    path = changed(task01, labels={"0": "background", "1": "core", "2": "shell"})
    cohort = find_msd(path, GLIOMA)
    assert cohort.studies[0].scheme is None and cohort.studies[0].labels is not None
    assert (
        "labels are not understood ('shell' (2) is no label of task glioma that is known); name their --scheme" in cohort.notes[0]
    )
    named = find_msd(path, GLIOMA, scheme="wt")
    assert named.studies[0].scheme == "wt" and named.notes == ()
    with pytest.raises(LabelSchemeError, match="'x' is unknown"):
        find_msd(path, GLIOMA, scheme="x")


def test_a_scheme_that_contradicts_the_description_is_taken_and_noted(task01) -> None:
    cohort = find_msd(task01.path, GLIOMA, scheme="brats2021")
    assert cohort.studies[0].scheme == "brats2021"
    assert cohort.notes[0].endswith("declares labels of scheme msd; brats2021 was named and is used")


def test_task05_the_prostate(folder) -> None:
    """Two channels, neither with b-values; zones instead of a lesion."""
    entry = {"image": "./imagesTr/prostate_16.nii.gz", "label": "./labelsTr/prostate_16.nii.gz"}
    content = {
        **{"name": "PROSTATE", "tensorImageSize": "4D", "modality": {"0": "T2", "1": "ADC"}, "numTraining": 1, "numTest": 0},
        **{"labels": {"0": "background", "1": "PZ", "2": "TZ"}, "training": [entry], "test": []},
    }
    folder.write("dataset.json", content)
    folder.touch("imagesTr/prostate_16.nii.gz", "labelsTr/prostate_16.nii.gz")
    (study,) = find_cohort(folder.path, PROSTATE).studies
    assert {n: s.channel for n, s in study.images.items()} == {"T2w": 0, "ADC": 1}
    assert study.scheme == "zones"
    cohort = find_cohort(folder.path, GLIOMA)  # T2 is a modality of that task, too; what is none is said.
    assert set(cohort.studies[0].images) == {"T2"} and "channel 1 is 'ADC', no modality of task glioma" in cohort.notes[0]


def test_a_single_modality_is_a_file_without_channels(task01) -> None:
    path = changed(task01, modality={"0": "FLAIR"}, tensorImageSize="3D")
    assert find_msd(path, GLIOMA).studies[0].images == {"FLAIR": Source(path / "imagesTr/BRATS_306.nii.gz")}


def test_lists_of_files_and_a_validation_part_as_monai_writes_them(folder) -> None:
    names = ("flair", "t1", "t1ce", "t2")
    entry = {"image": [f"imagesTr/p1_{n}.nii.gz" for n in names], "label": "labelsTr/p1_seg.nii.gz"}
    other = {"image": [f"imagesVal/p2_{n}.nii.gz" for n in names]}
    content = {"modality": dict(zip("0123", names, strict=True)), "training": [entry], "validation": [other], "labels": {}}
    folder.write("dataset.json", content)
    folder.touch(*entry["image"], str(entry["label"]), *other["image"])
    p1, p2 = find_cohort(folder.path, GLIOMA).studies
    assert (p1.name, p2.name) == ("p1_seg", "p2")
    assert p1.images["T1c"] == Source(folder.path / "imagesTr/p1_t1ce.nii.gz")
    assert set(p2.images) == {"FLAIR", "T1", "T1c", "T2"} and p2.labels is None


def test_what_cannot_be_used_is_said(task01) -> None:
    entries = [
        *({"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("BRATS_457", "gone")),
        {"image": "./imagesTr/BRATS_457.nii.gz", "label": "./labelsTr/BRATS_457.nii.gz"},
        {"image": "./imagesTr/BRATS_306.nii.gz", "label": "../else/BRATS_306.nii.gz"},
        {"image": "/etc/hostname", "label": "./labelsTr/BRATS_306.nii.gz"},
        {"image": "./imagesTr/._BRATS_306.nii.gz", "label": "./labelsTr/BRATS_306.nii.gz"},
        *({"label": "./labelsTr/BRATS_306.nii.gz"}, {"image": 7}, "", None, ["x"], {"image": ["a", "b"]}),
        {"image": "./imagesTr/notes.txt"},
    ]
    path = changed(task01, training=entries, test=["./imagesTs/BRATS_485.nii.gz"])
    task01.touch("imagesTr/notes.txt")
    found = "\n".join(reasons(path))
    assert [s.name for s in find_msd(path, GLIOMA).studies] == ["BRATS_457", "BRATS_485"]
    for line in (
        *("gone.nii.gz: is not there", "dataset.json: BRATS_457 stands in it twice; it is taken once"),
        *("'../else/BRATS_306.nii.gz' leads out of the folder", "'/etc/hostname' leads out of the folder"),
        *(
            "._BRATS_306.nii.gz: a hidden file",
            "dataset.json: an entry names no image: {'label'",
            "an entry names no image: {'image': 7}",
        ),
        *("another number of images than there are channels: a and 1 more for 4", "notes.txt: is no image that can be read"),
        *("BRATS_562.nii.gz: does not stand in dataset.json", "'' leads out of the folder", "names no image: None"),
    ):
        assert line in found, line
    assert "numTraining is 2; 13 training cases were found, 1 of them can be used" in find_msd(path, GLIOMA).notes[-1]


def test_one_name_for_two_cases_is_neither(task01) -> None:
    path = changed(task01, test=["./imagesTs/BRATS_306.nii.gz", "./imagesTs/BRATS_485.nii.gz"])
    task01.touch("imagesTs/BRATS_306.nii.gz")
    assert [s.name for s in find_msd(path, GLIOMA).studies] == ["BRATS_457", "BRATS_485"]
    assert sum("BRATS_306 is also in" in line for line in reasons(path)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[" * 100000, "is no JSON"),
        ("[]", "holds list; expected a JSON object"),
        ("null", "holds NoneType"),
        ("{}", 'gives no names of channels; expected "modality"'),
        ('{"modality": ["FLAIR"]}', "gives no names of channels"),
        ('{"modality": {"0": 5}}', "gives no names of channels"),
        ('{"modality": {"1": "FLAIR"}}', "gives no names of channels"),
        ('{"modality": {"0": "T1", "1": "t1w"}}', r"two channels are T1 \(T1, t1w\)"),
        ('{"modality": {"0": "FLAIR"}, "training": {}}', '"training" is dict; expected a list'),
        ('{"modality": {"0": "FLAIR"}, "training": []}', "lists no case that is there"),
        ('{"modality": {"0": "FLAIR"}, "test": ["a.nii.gz"]}', r"lists no case that is there \(a\.nii\.gz: is not there\)"),
    ],
)
def test_descriptions_that_are_none(folder, content: str, message: str) -> None:
    folder.write("dataset.json", content)
    with pytest.raises(InputFileError, match=message) as caught:
        find_msd(folder.path, GLIOMA)
    assert "\n" not in str(caught.value) and "dataset.json" in str(caught.value)


def test_other_faults(folder) -> None:
    with pytest.raises(InputFileError, match=r"dataset\.json: not found"):
        find_msd(folder.path, GLIOMA)
    with pytest.raises(InputFileError, match="is not a folder"):
        find_msd(folder.path / "none", GLIOMA)
    folder.write("dataset.json", {"modality": {"0": "CT"}, "training": []})
    with pytest.raises(UsageError, match="its channels are CT; task glioma needs FLAIR, T1, T1c, T2"):
        find_msd(folder.path, GLIOMA)
    (folder.path / "dataset.json").write_bytes(b'{"modality": "\xff"}')
    with pytest.raises(InputFileError, match="is no JSON"):
        find_msd(folder.path, GLIOMA)


def test_folds_unicode_and_spaces(folder) -> None:
    content = {
        "modality": {"0": "FLAIR"},
        "labels": {"1": "whole tumor"},
        "training": [{"image": "imagesTr/é 1.nii", "label": "labelsTr/é 1.nii"}],
    }
    folder.write("dataset.json", "\ufeff" + json.dumps(content, ensure_ascii=False))
    folder.write("splits.json", {"folds": [["é 1"]]})
    folder.touch("imagesTr/é 1.nii", "labelsTr/é 1.nii")
    cohort = find_cohort(folder.path, GLIOMA)
    assert (cohort.studies[0].name, cohort.studies[0].scheme, cohort.split) == ("é 1", "wt", Split((("é 1",),)))


def test_links_out_of_the_folder_are_followed(task01, tmp_path: Path) -> None:
    """A path may not lead out; what the owner of the folder has linked into it may lie anywhere."""
    real = tmp_path / "elsewhere.nii.gz"
    real.touch()
    (task01.path / "imagesTs/BRATS_485.nii.gz").unlink()
    (task01.path / "imagesTs/BRATS_485.nii.gz").symlink_to(real)
    (task01.path / "imagesTs/loop").symlink_to(task01.path)
    assert "BRATS_485" in [s.name for s in find_msd(task01.path, GLIOMA).studies]
