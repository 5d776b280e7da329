"""The field's lists, as the package carries them."""

from __future__ import annotations

import json

import pytest

from anymri.errors import UsageError
from anymri.recipes.splits import FOLDER, split_lists


@pytest.mark.parametrize(
    ("cohort", "number", "sizes"),
    [
        ("brats2018", 1, (199, 29, 57)),
        ("brats2018", 2, (199, 29, 57)),
        ("brats2018", 3, (199, 29, 57)),
        ("brats2020", 1, (219, 50, 100)),
        ("brats2021", 1, (876, 125, 250)),
    ],
)
def test_the_parts_have_the_published_sizes(cohort: str, number: int, sizes: tuple[int, int, int]) -> None:
    parts = split_lists(cohort, number)  # that no case is in two parts, Parts itself checks
    assert (len(parts.train), len(parts.validation), len(parts.test)) == sizes


def test_the_test_parts_of_brats2018_overlap_as_is_known() -> None:
    one, two, three = (set(split_lists("brats2018", n).test) for n in (1, 2, 3))
    assert (len(one & two), len(one & three), len(two & three)) == (14, 9, 14)


def test_names_are_those_of_the_data() -> None:
    assert split_lists("brats2018").test[0] == "Brats18_TCIA04_149_1"
    assert all(n.startswith("BraTS20_Training_") for part in split_lists("brats2020").model_dump().values() for n in part)


@pytest.mark.parametrize(("cohort", "number"), [("brats1999", 1), ("brats2018", 4), ("brats2018", 0), ("brats2020", 2)])
def test_what_does_not_exist_names_what_does(cohort: str, number: int) -> None:
    with pytest.raises(UsageError, match="expected"):
        split_lists(cohort, number)


@pytest.mark.parametrize("year", [2018, 2020, 2021])
def test_every_edition_says_where_its_own_lists_are_from(year: int) -> None:
    source = json.loads((FOLDER / f"brats{year}.json").read_text(encoding="utf-8"))["source"]
    assert f"BRATS{year}_Training" in source and "M2FTrans at commit 03a0b28" in source
    assert ("U-HVED" in source) == (year == 2018)  # U-HVED is of 2019.
