"""Labels of every edition ↔ region bits."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.domain.region import LabelScheme
from anymri.domain.task import GLIOMA, PROSTATE, TASKS, Task
from anymri.errors import LabelSchemeError
from anymri.preparation.labels import labels_from_bits, region_bits

WT, TC, ET = 1, 3, 7
ALL = [(task, scheme) for task in TASKS for scheme in task.schemes]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("brats2021", {0: 0, 1: TC, 2: WT, 4: ET}),
        ("brats2023", {0: 0, 1: TC, 2: WT, 3: ET}),
        ("brats2013", {0: 0, 1: TC, 2: WT, 3: TC, 4: ET}),
        ("msd", {0: 0, 1: WT, 2: TC, 3: ET}),
        ("brats2024", {0: 0, 1: TC, 2: WT, 3: ET, 4: 0}),
        ("wt", {0: 0, 1: WT}),
    ],
)
def test_glioma_editions(scheme: str, expected: dict[int, int]) -> None:
    values = np.array(list(expected)).reshape(1, 1, -1)
    bits = region_bits(values, GLIOMA.scheme(scheme), GLIOMA)
    assert bits.dtype == np.uint8
    assert bits.ravel().tolist() == list(expected.values())


@pytest.mark.parametrize(("task", "scheme"), [(t, s) for t, s in ALL if s.written], ids=lambda x: x.name)
def test_what_is_written_is_read_again(task: Task, scheme: LabelScheme) -> None:
    patterns = np.array([0, *((1 << (r + 1)) - 1 for r in range(len(task.regions)))], np.uint8).reshape(-1, 1, 1)
    written = labels_from_bits(patterns, scheme, task)
    assert len(np.unique(written)) == len(patterns)
    assert np.array_equal(region_bits(written, scheme, task), patterns)


def test_bits_that_are_not_nested_lose_what_lies_outside() -> None:
    bits = np.array([0b000, 0b100, 0b010, 0b101, 0b110, 0b011], np.uint8).reshape(-1, 1, 1)
    assert labels_from_bits(bits, GLIOMA.scheme("brats2021"), GLIOMA).ravel().tolist() == [0, 0, 0, 2, 0, 1]


def test_a_region_may_be_known_without_the_outer_one() -> None:
    bits = region_bits(np.array([0, 1]), PROSTATE.scheme("lesion"), PROSTATE)
    assert bits.tolist() == [0, 0b10]


def test_zones_of_the_prostate_are_its_gland() -> None:
    scheme = PROSTATE.scheme("zones")
    assert region_bits(np.array([0, 1, 2]), scheme, PROSTATE).tolist() == [0, 1, 1]
    assert scheme.known == ("PG",)


@pytest.mark.parametrize(
    ("values", "scheme", "message"),
    [
        ([0, 1, 3, 3], "brats2021", r"case_seg\.nii\.gz: holds the value 3 \(2 voxels\); scheme brats2021 knows 0, 1, 2, 4; "),
        ([0, 1, 3, 3], "brats2021", "schemes that would fit: brats2023, brats2013, msd, brats2024$"),
        ([0, 4], "brats2023", r"value 4 \(1 voxels\).*would fit: brats2021, brats2013"),
        ([0, -1, 9], "wt", r"-1 \(1 voxels\), 9 \(1 voxels\).*no scheme of task glioma fits"),
        ([1000000], "brats2021", r"1000000 \(1 voxels\)"),
    ],
)
def test_foreign_values_are_named(values: list[int], scheme: str, message: str) -> None:
    with pytest.raises(LabelSchemeError, match=message) as caught:
        region_bits(np.array(values, np.int32), GLIOMA.scheme(scheme), GLIOMA, file="case_seg.nii.gz")
    assert "\n" not in str(caught.value)


def test_a_scheme_that_cannot_write() -> None:
    with pytest.raises(LabelSchemeError, match="scheme wt cannot write NCR, ED, ET; choose one of brats2021"):
        labels_from_bits(np.zeros((1, 1, 1), np.uint8), GLIOMA.scheme("wt"), GLIOMA)
