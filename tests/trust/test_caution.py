from __future__ import annotations

import numpy as np
import pytest

from anymri.trust.caution import caution
from anymri.trust.expectation import Expected


def said(poor: float) -> Expected:
    return Expected(0.1, 0.5, 0.9, poor)


def test_warnings_and_chances_are_counted_by_what_came_true() -> None:
    expected = [[said(0.05), said(0.2), None], [said(0.3), said(0.6), said(0.05)]]
    found = caution(expected, np.array([[0.9, 0.4, 0.0], [0.8, 0.3, 0.2]]))
    assert found is not None
    assert (found.masks, found.poor, found.unwarned) == (5, 3, 1)  # Of the mask without an expected Dice nothing is counted.
    assert (found.doubtful, found.doubtful_poor, found.uncertain, found.uncertain_poor) == (1, 1, 2, 1)
    assert [(c.masks, c.came_true) for c in found.chances] == [(2, 0.5), (2, 0.5), (1, 1.0)]
    assert [c.said for c in found.chances] == pytest.approx([0.05, 0.25, 0.6])


def test_where_no_dice_was_expected_there_is_nothing_to_count() -> None:
    assert caution([[None]], np.array([[0.3]])) is None
