from __future__ import annotations

import numpy as np
import pytest

from anymri.trust.counts import BINS, EVERYWHERE, INSIDE, LOGITS, counted, near, right, said


def test_every_voxel_is_counted_once_in_the_bin_of_its_logit() -> None:
    logits = np.array([[[-99.0, -30.0, -0.001, 0.001, 4.02, 99.0]]], np.float32)
    found = counted(logits, np.ones_like(logits, bool))
    assert found.sum() == 6 and found[0] == 2 and found[-1] == 1
    assert found[BINS // 2 - 1] == found[BINS // 2] == 1  # Nothing is shared across the threshold of a mask.
    (place,) = np.flatnonzero(found * (LOGITS > 1) * (LOGITS < 9))
    assert abs(LOGITS[place] - 4.02) <= 0.025
    assert counted(logits, logits > 0).sum() == 3


def test_what_is_found_outside_of_the_foreground_is_counted_too() -> None:
    logits = np.full((2, 1, 1, 4), -5.0, np.float32)
    logits[0, 0, 0, :2] = 5.0
    logits[1, 0, 0, 1] = 5.0
    foreground = np.array([[[False, True, True, False]]])
    found = said(logits, logits > 0, foreground)
    assert found[:, EVERYWHERE].sum(-1).tolist() == [3, 3] and found[:, INSIDE].sum(-1).tolist() == [2, 1]


def test_what_the_reference_says_is_counted_in_its_domains() -> None:
    logits = np.zeros((1, 1, 1, 4), np.float32)
    truth = np.array([[[[True, True, False, False]]]])
    everywhere, band = np.array([[[True, True, True, False]]]), np.array([[[False, True, True, False]]])
    assert right(logits, truth, (everywhere, band)).sum(-1).tolist() == [[2, 2, 1]]


@pytest.mark.parametrize(("spacing", "expected"), [((1.0, 1.0, 1.0), 7), ((1.0, 1.0, 4.0), 5)])
def test_a_band_is_measured_in_millimetres(spacing: tuple[float, float, float], expected: int) -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    assert near(mask, spacing, 1.2).sum() == expected


def test_around_nothing_the_band_is_everything() -> None:
    assert near(np.zeros((2, 3, 4), bool), (1.0, 1.0, 1.0), 10.0).all()
