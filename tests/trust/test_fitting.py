"""What is fitted of a region: on brain and band alike, and of the Dice to expect not on empty masks, which are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymri.trust.calibration import Calibration, cross_entropy, soft_dice
from anymri.trust.counts import BAND, DOMAINS, LOGITS, TRUE_BAND
from anymri.trust.fitting import EmptyMasks, Sample, calibrated, fitted, samples, weighed

from ..material import task_with
from .made import TRUTH, emptied, made_observations

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


def test_brain_and_band_count_the_same() -> None:
    whole = sample(5)
    counts = whole.counts_CSNK.copy()
    counts[:, :, TRUE_BAND] = counts[:, :, BAND] * Calibration(temperature=1.0, offset=0.5).probability(LOGITS)
    odd = replace(whole, counts_CSNK=counts)
    voxels, true = weighed(odd)
    assert voxels.sum(-1) == pytest.approx([2.0] * 7)
    total, how = counts.sum((0, 1)), calibrated(odd).pooled
    brain, band = (cross_entropy(total[v], total[t], how) for v, t in DOMAINS.values())
    assert cross_entropy(voxels.sum(0), true.sum(0), how) == pytest.approx((brain + band) / 2)
    counts[:, :, [BAND, TRUE_BAND]] *= 0.01  # A smaller band of the same kind changes nothing.
    small = calibrated(replace(whole, counts_CSNK=counts)).pooled
    assert (small.temperature, small.offset) == pytest.approx((how.temperature, how.offset), rel=1e-2)
    assert TRUTH.offset < small.offset < 0.5


def test_a_subset_is_calibrated_by_itself_and_all_with_half_the_weight_each() -> None:
    whole, own = sample(5), Calibration(temperature=4.0, offset=0.5)
    counts = whole.counts_CSNK.copy()
    for all_of, true in DOMAINS.values():
        counts[:, 2, true] = counts[:, 2, all_of] * own.probability(LOGITS)
    odd = replace(whole, counts_CSNK=counts)
    how, (voxels, true) = calibrated(odd), weighed(odd)
    assert list(how.subsets) == list(whole.subsets) and how.of("no such subset") is how.pooled
    for s, name in enumerate(whole.subsets):
        known, found = (voxels[s] + voxels.mean(0), true[s] + true.mean(0)), how.of(name)
        best = cross_entropy(*known, found)
        for temperature, offset in ((1.02, 0.0), (1 / 1.02, 0.0), (1.0, 0.02), (1.0, -0.02)):
            beside = Calibration(temperature=found.temperature * temperature, offset=found.offset + offset)
            assert best < cross_entropy(*known, beside)
    assert TRUTH.temperature < how.of("M0").temperature < how.pooled.temperature < how.of("M2").temperature < own.temperature
    assert odd.soft_dice(how)[0, 2] == pytest.approx(float(soft_dice(counts[0, 2], how.of("M2"))))


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
