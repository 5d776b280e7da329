"""Raw data sets of nnU-Net: the folders and descriptions of its own documentation, and what may be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anymri.cohorts import LAYOUTS, find_cohort, find_nnunet
from anymri.domain.case import Source
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import InputFileError, UsageError

CHANNELS = {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}
LABELS = {"background": 0, "edema": 1, "non_enhancing_and_necrosis": 2, "enhancing_tumor": 3}
VERSION_2 = {"channel_names": CHANNELS, "labels": LABELS, "numTraining": 2, "file_ending": ".nii.gz"}


def case(name: str, part: str = "Tr", channels: str = "0123", ending: str = ".nii.gz") -> tuple[str, ...]:
    return tuple(f"images{part}/{name}_000{c}{ending}" for c in channels)


@pytest.fixture
def brats(folder) -> Any:
    """Dataset001_BrainTumour as the documentation draws it."""
    folder.write("dataset.json", VERSION_2)
    folder.touch(*case("BRATS_001"), *case("BRATS_002"), *case("BRATS_485", "Ts"))
    return folder.touch("labelsTr/BRATS_001.nii.gz", "labelsTr/BRATS_002.nii.gz")


def changed(folder: Any, **fields: Any) -> Path:
    folder.write("dataset.json", {k: v for k, v in (VERSION_2 | fields).items() if v is not None})
    return folder.path


def test_the_data_set_of_the_documentation(brats) -> None:
    cohort = find_cohort(brats.path, GLIOMA)
    assert cohort == find_nnunet(brats.path, GLIOMA) == LAYOUTS["nnunet"](brats.path, GLIOMA)
    assert [(s.name, s.scheme) for s in cohort.studies] == [("BRATS_001", "msd"), ("BRATS_002", "msd"), ("BRATS_485", None)]
    names = ("FLAIR", "T1", "T1c", "T2")
    first, _, test = cohort.studies
    assert first.images == {n: Source(brats.path / f"imagesTr/BRATS_001_000{c}.nii.gz") for c, n in enumerate(names)}
    assert first.labels == Source(brats.path / "labelsTr/BRATS_001.nii.gz")
    assert test.labels is None and test.images["T2"].path.parent.name == "imagesTs"
    assert (cohort.layout, cohort.left_out, cohort.notes) == ("nnunet", (), ())


REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (REGIONS, "msd"),
        (REGIONS | {"enhancing tumor": 3}, "msd"),
        (REGIONS | {"tumor core": [1, 3]}, "brats2023"),
        ({"background": 0, "whole_tumor": 1}, "wt"),
        ({"background": 0, "NCR": 1, "ED": 2, "ET": 3}, "brats2023"),
    ],
)
def test_labels_and_regions(brats, labels: dict[str, Any], scheme: str) -> None:
    cohort = find_nnunet(changed(brats, labels=labels, regions_class_order=[1, 2, 3]), GLIOMA)
    assert cohort.studies[0].scheme == scheme and cohort.notes == ()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (LABELS | {"ignore": 4}, "4 marks voxels to ignore, which no scheme can leave out"),
        (REGIONS | {"ignore": 4}, "4 marks voxels to ignore"),
        ({"background": 0, "lump": 1}, "'lump'"),
        ({"background": 0, "edema": 1, "enhancing_tumor": 1}, "two of its labels have one value"),
        ({"background": 0, "edema": "one"}, "no whole numbers"),
        ({"background": 0, "edema": True}, "no whole numbers"),
        ({"background": 0, "whole tumor": [[1]]}, "no whole numbers"),
        (None, 'there is no "labels"'),
        ([1, 2], 'there is no "labels"'),
    ],
)
def test_labels_that_are_not_understood_need_a_scheme(brats, labels: Any, reason: str) -> None:
    path = changed(brats, labels=labels)
    cohort = find_nnunet(path, GLIOMA)
    assert cohort.studies[0].labels is not None and cohort.studies[0].scheme is None
    assert reason in cohort.notes[0] and cohort.notes[0].endswith("name their --scheme")
    assert find_nnunet(path, GLIOMA, scheme="msd").studies[0].scheme == "msd"


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nii"])
def test_every_ending_that_is_read(folder, ending: str) -> None:
    folder.write(
        "dataset.json", VERSION_2 | {"file_ending": ending, "overwrite_image_reader_writer": "SimpleITKIO", "numTraining": 1}
    )
    folder.touch(*case("a", ending=ending), f"labelsTr/a{ending}", *case("a", channels="0", ending=".nii.gz"))
    cohort = find_nnunet(folder.path, GLIOMA)
    assert len(cohort.studies[0].images) == 4
    assert [r for _, r in cohort.left_out] == [f"its name does not end in {ending}, as dataset.json says"]


def test_modalities_may_be_absent(brats) -> None:
    (brats.path / "imagesTr/BRATS_001_0001.nii.gz").unlink()
    cohort = find_nnunet(brats.path, GLIOMA)
    assert set(cohort.studies[0].images) == {"FLAIR", "T1c", "T2"} and cohort.left_out == ()


def test_explicit_paths(folder, tmp_path: Path) -> None:
    """The key "dataset": relative to the folder, or anywhere."""
    elsewhere = tmp_path / "other" / "t2.nii.gz"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    folder.touch("f.nii.gz", "seg.nii.gz")
    entry = {"images": ["f.nii.gz", str(elsewhere)], "label": "./seg.nii.gz"}
    cases = {
        "p 1": entry,
        "p2": entry | {"images": ["f.nii.gz"]},
        "p3": entry | {"label": "$HOME/x.nii.gz"},
        "p4": 3,
        "p5": entry | {"label": 1},
    }
    folder.write("dataset.json", VERSION_2 | {"channel_names": {"0": "FLAIR", "1": "T2"}, "dataset": cases, "numTraining": 5})
    cohort = find_cohort(folder.path, GLIOMA)
    (study,) = cohort.studies
    assert study.name == "p 1" and study.images["T2"] == Source(elsewhere) and study.scheme == "msd"
    found = "\n".join(reason for _, reason in cohort.left_out)
    assert "p2 lists no label and 2 images" in found and "p4 lists" in found and "p5 lists" in found
    assert "variables are not replaced: write the path out (case p3)" in found
    folder.write("dataset.json", VERSION_2 | {"dataset": ["x"]})
    with pytest.raises(InputFileError, match='"dataset" is list'):
        find_nnunet(folder.path, GLIOMA)


def test_version_1(folder) -> None:
    """It lists images without the number of the channel, and its labels the other way round."""
    entry = {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}
    labels = {"0": "background", "1": "edema", "2": "non-enhancing", "3": "enhancing"}
    content = {"tensorImageSize": "4D", "modality": CHANNELS, "labels": labels, "training": [entry], "test": [], "numTraining": 1}
    folder.write("dataset.json", content)
    folder.touch(*case("BRATS_001"), "labelsTr/BRATS_001.nii.gz")
    cohort = find_cohort(folder.path, GLIOMA)
    assert cohort.layout == "nnunet" and cohort.studies[0].scheme == "msd" and len(cohort.studies[0].images) == 4
    with pytest.raises(
        InputFileError, match=r"but BRATS_001_0000\.nii\.gz is: this is the layout of nnU-Net, name it with --layout nnunet"
    ):
        find_cohort(folder.path, GLIOMA, layout="msd")


def test_the_prostate_of_the_documentation(folder) -> None:
    folder.write(
        "dataset.json", {**VERSION_2, "channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "PZ": 1, "TZ": 2}}
    )
    folder.touch(*case("prostate_16", channels="01"), "labelsTr/prostate_16.nii.gz")
    (study,) = find_nnunet(folder.path, PROSTATE).studies
    assert set(study.images) == {"T2w", "ADC"} and study.scheme == "zones"


def test_what_is_left_out_is_said(brats) -> None:
    brats.touch(
        *("labelsTr/orphan.nii.gz", "imagesTr/BRATS_001_0007.nii.gz", "imagesTr/BRATS_003.nii.gz", "labelsTs/BRATS_485.nii.gz"),
        *("imagesTr/deeper/x_0000.nii.gz", "notes.txt", "imagesTr/._BRATS_001_0000.nii.gz", "imagesTs/BRATS_002_0000.nii.gz"),
    )
    cohort = find_nnunet(brats.path, GLIOMA)
    assert [s.name for s in cohort.studies] == ["BRATS_001", "BRATS_485"]
    found = "\n".join(f"{p.relative_to(brats.path)}: {r}" for p, r in cohort.left_out)
    for line in (
        "labelsTr/orphan.nii.gz: labels of a case that has no image",
        "imagesTr/BRATS_001_0007.nii.gz: is channel 7; dataset.json names 4, counted from 0",
        "imagesTr/BRATS_003.nii.gz: its name does not end in the number of a channel",
        "labelsTs/BRATS_485.nii.gz: lies in none of imagesTr, imagesTs, labelsTr",
        "imagesTr/deeper/x_0000.nii.gz: lies in none of",
        "imagesTr: BRATS_002 is also in",
        "imagesTs: BRATS_002 is also in",
    ):
        assert line in found, found
    assert len(cohort.left_out) == 7


def test_counts_that_differ_are_noted(brats) -> None:
    (brats.path / "labelsTr/BRATS_002.nii.gz").unlink()
    assert find_nnunet(brats.path, GLIOMA).notes == (
        f"{brats.path / 'dataset.json'}: numTraining is 2; 2 training cases were found, 1 of them can be used with their labels",
    )


def test_faults(brats) -> None:
    for fields, message in (
        ({"file_ending": None}, 'lacks "file_ending"; expected one of .nii.gz'),
        ({"file_ending": ".png"}, "its files end in '.png'; .nii.gz, .nii, .mha, .nrrd are read; convert them"),
        ({"file_ending": 5}, "its files end in '5'"),
        ({"channel_names": ["FLAIR"]}, "gives no names of channels"),
        ({"channel_names": {"0": "T2", "1": "T2w"}}, "two channels are T2"),
    ):
        with pytest.raises(InputFileError, match=message):
            find_cohort(changed(brats, **fields), GLIOMA)
    with pytest.raises(UsageError, match="its channels are CT"):
        find_nnunet(changed(brats, channel_names={"0": "CT"}), GLIOMA)
    with pytest.raises(InputFileError, match="no case of it is there"):
        find_nnunet(changed(brats, file_ending=".mha"), GLIOMA)
