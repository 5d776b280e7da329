from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from anymri.trust.calibration import (
    Calibration,
    cross_entropy,
    expected_calibration_error,
    fitted,
    fitted_temperature,
    soft_dice,
)
from anymri.trust.counts import BINS, LOGITS

RAW = Calibration()

VOXELS = np.round(1000 * np.exp(-((LOGITS + 4) ** 2) / 30) + 50)


def at(logit: float) -> int:
    """Return the bin of a logit."""
    return int(np.argmin(np.abs(LOGITS - logit)))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    true = VOXELS * expit(LOGITS / temperature)
    assert fitted_temperature(VOXELS, true).temperature == pytest.approx(temperature, rel=1e-3)
    found = fitted(VOXELS, true)
    assert found.temperature == pytest.approx(temperature, rel=5e-3) and found.offset == pytest.approx(0, abs=5e-3)


def test_a_known_offset_is_found_which_no_temperature_can_stand_for() -> None:
    true = VOXELS * expit(LOGITS / 2 - 1.5)
    found, without = fitted(VOXELS, true), fitted_temperature(VOXELS, true)
    assert (found.temperature, found.offset) == pytest.approx((2.0, -1.5), rel=5e-3)
    assert cross_entropy(VOXELS, true, found) < cross_entropy(VOXELS, true, without) < cross_entropy(VOXELS, true, RAW)
    assert expected_calibration_error(VOXELS, true, found) < 1e-3 < expected_calibration_error(VOXELS, true, without)


def test_without_a_voxel_nothing_is_changed() -> None:
    nothing = np.zeros(BINS)
    assert fitted(nothing, nothing).temperature == pytest.approx(1.0)
    assert math.isnan(expected_calibration_error(nothing, nothing, RAW))


def test_calibration_error_by_hand() -> None:
    voxels, true = np.zeros(BINS), np.zeros(BINS)
    for logit, count, right in ((-3.0, 900, 90), (2.0, 80, 60), (2.1, 20, 10)):
        voxels[at(logit)], true[at(logit)] = count, right
    low, high = expit(LOGITS[at(-3.0)]), expit(LOGITS[[at(2.0), at(2.1)]])
    # 0.047 is in the first of 15 bins, 0.88 and 0.89 are both in the fourteenth.
    assert int(low * 15) == 0 and {int(p * 15) for p in high} == {13}
    expected = (abs(900 * low - 90) + abs(80 * high[0] + 20 * high[1] - 70)) / 1000
    assert expected_calibration_error(voxels, true, RAW) == pytest.approx(expected)


def test_cross_entropy_by_hand() -> None:
    voxels, true = np.zeros(BINS), np.zeros(BINS)
    voxels[at(1.0)], true[at(1.0)] = 4, 3
    p = expit(LOGITS[at(1.0)])
    assert cross_entropy(voxels, true, RAW) == pytest.approx(-(3 * math.log(p) + math.log(1 - p)) / 4)


def test_soft_dice_by_hand() -> None:
    everywhere, inside = np.zeros(BINS), np.zeros(BINS)
    everywhere[at(-2.0)], everywhere[at(1.0)] = 10, 5
    inside[at(1.0)] = 5
    low, high = expit(LOGITS[at(-2.0)]), expit(LOGITS[at(1.0)])
    assert soft_dice(np.stack([everywhere, inside]), RAW) == pytest.approx(2 * 5 * high / (10 * low + 5 * high + 5))
    assert soft_dice(np.zeros((2, BINS)), RAW) == 0.0
    assert soft_dice(np.stack([np.stack([everywhere, inside])] * 3), RAW).shape == (3,)


def test_the_best_mask_of_a_doubtful_region_reaches_below_one_half() -> None:
    # Why an offset is needed, and why it is negative: where little can be told, the mask with the highest expected Dice takes in
    # voxels that are more likely outside.
    p = np.linspace(0.05, 0.45, 100)
    dice = [2 * p[p > t].sum() / (p.sum() + (p > t).sum()) for t in p[:-1]]
    assert 0 < p[int(np.argmax(dice))] < 0.5


def test_probabilities_keep_the_order_of_logits() -> None:
    p = Calibration(temperature=2.5, offset=-1.6).probability(LOGITS)
    assert (np.diff(p) >= 0).all() and p.min() >= 0 and p.max() <= 1
    assert p[LOGITS > 0].min() > expit(-1.6) > p[LOGITS < 0].max()
