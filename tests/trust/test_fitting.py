"""Empty masks are counted, and teach nothing of the Dice to expect."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.trust.fitting import EmptyMasks, Sample, fitted, samples

from ..material import task_with
from .made import emptied, made_observations

TASK = task_with(3)


def sample(cases: int) -> Sample:
    return samples(made_observations(TASK, cases), TASK.modalities)[0]


@pytest.mark.parametrize("rightly", [True, False])
def test_empty_masks_do_not_turn_the_formula(rightly: bool) -> None:
    whole = sample(24)
    with_empty, others = emptied(whole, range(0, 24, 4), rightly=rightly), whole.without(range(0, 24, 4))
    found, expected = fitted(with_empty), fitted(others)
    assert found.expectation is not None and expected.expectation is not None
    assert found.expectation.slope == pytest.approx(expected.expectation.slope, rel=0.3)
    assert found.expectation.high - found.expectation.low < 1.5 * (expected.expectation.high - expected.expectation.low)
    assert found.gains == expected.gains
    right, without = (42, 6) if rightly else (0, 0)
    assert found.empty == EmptyMasks(masks=42, right=right, cases=6, without=without)
    assert expected.empty == EmptyMasks(masks=0, right=0, cases=0, without=0)


def test_an_empty_mask_of_one_subset_leaves_the_case_its_others() -> None:
    whole = sample(6)
    empty = whole.empty_CS.copy()
    empty[2, 3] = True
    partly = Sample(whole.counts_CSNK, whole.dice_CS, empty, whole.subsets, whole.modalities)
    assert partly.with_mask == list(range(6)) and len(partly.at_hand_of_rows) == 6 * 7 - 1
    assert partly.at_hand_of_rows[2 * 7 + 3] == partly.at_hand[4]
    assert np.array_equal(partly.rows(whole.dice_CS), np.delete(whole.dice_CS.ravel(), 2 * 7 + 3))


def test_of_masks_that_are_hardly_ever_found_no_dice_is_expected() -> None:
    assert fitted(emptied(sample(6), [0, 1], rightly=False)).expectation is None
    never = fitted(emptied(sample(6), range(6), rightly=True))
    assert never.expectation is None and never.gains == {} and never.empty is not None and never.empty.right == 42
