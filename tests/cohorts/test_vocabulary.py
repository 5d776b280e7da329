"""Words of data sets: known or not, never guessed."""

from __future__ import annotations

import itertools

import pytest

from anymri.cohorts.vocabulary import declared_by_regions, declared_scheme, modality_called
from anymri.domain.task import GLIOMA, PROSTATE, TASKS, Task


def called(text: str, task: Task = GLIOMA) -> str | None:
    modality = modality_called(text, task)
    return modality.name if modality else None


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("FLAIR", "flair", "T2-FLAIR", "T2 Flair", "t2f", "T2w-FLAIR", "fluid attenuated inversion recovery"), "FLAIR"),
        (("T1", "T1w", "t1n", "T1-weighted", "T1 (native)", "native T1", "T1 pre-contrast", "T1_without_contrast"), "T1"),
        (("T1c", "T1ce", "t1gd", "T1Gd", "T1-gadolinium", "T1wCE", "T1+C", "T1 post", "T1-weighted with contrast"), "T1c"),
        (("post-contrast T1", "T1 contrast enhanced", "contrast-enhanced T1-weighted"), "T1c"),
        (("T2", "T2w", "t2-weighted", " T2 "), "T2"),
        (
            (
                "CT",
                "PD",
                "T1map",
                "MRHR_FLAIR_AX",
                "T1 T2",
                "flair2",
                "",
                "   ",
                "contrast",
                "T2*",
                "t2star",
                "T1 C-",
                "T1 (C-)",
                "T1-",
            ),
            None,
        ),
    ],
)
def test_modalities(words: tuple[str, ...], name: str | None) -> None:
    found = {word: called(word) for word in words}
    assert found == dict.fromkeys(words, name)


def test_the_same_word_is_another_modality_of_another_task() -> None:
    assert [called(w, PROSTATE) for w in ("T2", "t2w", "ADC", "hbv", "FLAIR")] == ["T2w", "T2w", "ADC", "DWI", None]


def test_no_word_stands_for_two_modalities_of_a_task() -> None:
    from anymri.cohorts.vocabulary import _MODALITIES

    for task in TASKS:
        for a, b in itertools.combinations(task.modalities.names, 2):
            assert not set(_MODALITIES[a]) & set(_MODALITIES[b])
        for modality in task.modalities:
            assert called(modality.name, task) == called(modality.option, task) == modality.name
            assert all(called(word, task) == modality.name for word in _MODALITIES[modality.name])


MSD = {0: "background", 1: "edema", 2: "non-enhancing tumor", 3: "enhancing tumour"}


@pytest.mark.parametrize(
    ("table", "task", "scheme"),
    [
        (MSD, GLIOMA, "msd"),
        ({0: "background", 1: "NCR", 2: "ED", 3: "ET"}, GLIOMA, "brats2023"),
        ({1: "NCR/NET", 2: "peritumoral edema", 4: "GD-enhancing tumor"}, GLIOMA, "brats2021"),
        ({0: "BG", 1: "necrosis", 2: "edema", 3: "non-enhancing tumor", 4: "enhancing tumor"}, GLIOMA, "brats2013"),
        ({1: "NETC", 2: "SNFH", 3: "ET", 4: "RC"}, GLIOMA, "brats2024"),
        ({1: "NETC", 2: "SNFH", 3: "ET"}, GLIOMA, "brats2023"),
        ({0: "background", 1: "Whole Tumour"}, GLIOMA, "wt"),
        ({1: "whole tumor", 2: "tumor core", 3: "enhancing tumor"}, GLIOMA, "msd"),
        ({0: "background", 1: "PZ", 2: "TZ"}, PROSTATE, "zones"),
        ({1: "gland", 2: "lesion"}, PROSTATE, "gland_lesion"),
        ({1: "csPCa"}, PROSTATE, "lesion"),
    ],
)
def test_tables_of_labels(table: dict[int, str], task: Task, scheme: str) -> None:
    declared = declared_scheme(table, task)
    assert declared.scheme is task.scheme(scheme), declared.reason


@pytest.mark.parametrize(
    ("table", "task", "reason"),
    [
        ({1: "edema"}, GLIOMA, "it says 1 nothing that is told, which is no scheme"),  # Not the whole tumour, whatever the value.
        ({1: "edema", 2: "enhancing tumor"}, GLIOMA, r"1 nothing that is told, 2 ET"),
        ({1: "tumor"}, GLIOMA, r"'tumor' \(1\) is no label"),
        ({1: "edema", 2: "liver"}, GLIOMA, r"'liver' \(2\) is no label of task glioma"),
        ({**MSD, 4: "ignore"}, GLIOMA, "4 marks voxels to ignore"),
        ({1: "enhancing tumor", 2: "edema", 3: "necrosis"}, GLIOMA, r"1 WT\+TC\+ET, 2 WT, 3 WT\+TC, which is no scheme"),
        ({0: "edema", 1: "enhancing tumor"}, GLIOMA, "no scheme"),
        ({}, GLIOMA, "it says no label"),
        ({1: "PZ"}, PROSTATE, "no scheme of task prostate"),
        (MSD, PROSTATE, "'edema'"),
    ],
)
def test_tables_that_are_no_scheme(table: dict[int, str], task: Task, reason: str) -> None:
    import re

    declared = declared_scheme(table, task)
    assert declared.scheme is None and re.search(reason, declared.reason), declared


def test_tables_of_regions() -> None:
    """As nnU-Net writes them; a single value may stand without a list."""
    whole = {"background": (0,), "whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}
    assert declared_by_regions(whole, GLIOMA).scheme is GLIOMA.scheme("msd")
    assert declared_by_regions(whole | {"tumor core": (1, 3)}, GLIOMA).scheme is GLIOMA.scheme("brats2023")
    assert declared_by_regions({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}, GLIOMA).scheme is GLIOMA.scheme("brats2021")
    assert declared_by_regions({"whole_tumor": (1,)}, GLIOMA).scheme is GLIOMA.scheme("wt")
    for table, reason in (
        (whole | {"ignore": (4,)}, "4 marks voxels to ignore"),
        ({"whole tumor": (1, 2, 3)}, "no scheme"),
        ({"edema": (1,)}, "'edema' is no region"),
        (whole | {"WT": (1,)}, "region WT stands in it twice"),
    ):
        declared = declared_by_regions(table, GLIOMA)
        assert declared.scheme is None and reason in declared.reason
