from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from anymri.trust.expectation import Expectation, Expected, correlation, fitted, quantiles, residuals, with_range

ROWS = [("A",), ("B",), ("A", "B")] * 20
SOFT = expit(np.linspace(-2, 2, 60))
NONE = (0.0,) * 20
DICE = expit(0.3 + 0.8 * logit(SOFT) + np.array([0.5 * ("B" in row) for row in ROWS]))


def test_a_known_formula_is_found() -> None:
    found = fitted(SOFT, DICE, ROWS)
    assert found.slope == pytest.approx(0.8, abs=0.03)
    assert found.modalities["B"] - found.modalities["A"] == pytest.approx(0.5, abs=0.1)
    said = [found.expected(float(s), row).middle for s, row in zip(SOFT, ROWS, strict=True)]
    assert np.abs(np.array(said) - DICE).max() < 0.02


def test_a_few_cases_that_went_wrong_pull_no_harder_than_others() -> None:
    wrong = DICE.copy()
    wrong[::12] = 0.0
    said = np.array([fitted(SOFT, wrong, ROWS).expected(float(s), row).middle for s, row in zip(SOFT, ROWS, strict=True)])
    assert np.median(np.abs(said - DICE)) < 0.04


def test_dice_of_nought_and_one_are_no_infinities() -> None:
    found = fitted(np.array([0.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.5]), [("A",)] * 3)
    assert 0 < found.expected(0.0, ("A",)).middle < 0.5 < found.expected(1.0, ("A",)).middle < 1


def test_the_range_is_that_of_the_residuals() -> None:
    formula = Expectation(intercept=0.0, slope=1.0, modalities={}, residuals=NONE)
    values = np.linspace(-1, 1, 101)
    low, high = quantiles(values, 100)
    assert (low, high) == pytest.approx((-0.818, 0.818))  # 0.9 · 101 / 100 of the way.
    assert quantiles(values, 5) == pytest.approx((-1, 1))  # As far as five cases can tell, anything that was seen.
    ranged = with_range(formula, values, 100).expected(0.5, ())
    assert ranged == pytest.approx((expit(-0.818), 0.5, expit(0.818), 0.5))


def test_the_chance_of_a_poor_outline_is_how_often_the_truth_lay_so_far_below() -> None:
    values = np.linspace(-1, 1, 1001)
    formula = with_range(Expectation(intercept=0.0, slope=1.0, modalities={}, residuals=NONE), values, 100)
    for middle in (-0.6, 0.0, 0.25, 0.8):
        assert formula.expected(float(expit(middle)), ()).poor == pytest.approx((values + middle < 0).mean(), abs=6e-3)
    assert formula.expected(0.97, ()).poor in (0.02, 0.03) and formula.expected(0.03, ()).poor in (
        0.97,
        0.98,
    )  # Twenty quantiles tell no more.


def test_a_range_holds_its_middle() -> None:
    formula = Expectation(intercept=0.0, slope=1.0, modalities={}, low=0.2, high=0.4, residuals=NONE)
    low, middle, high, _ = formula.expected(0.5, ("A",))
    assert low == middle < high


def test_two_tiers_of_doubt() -> None:
    tiers = {
        Expected(0.1, 0.4, 0.9, 0.5): (True, False),
        Expected(0.4, 0.6, 0.9, 0.49): (False, True),
        Expected(0.1, 0.6, 0.9, 0.2): (False, True),
        Expected(0.1, 0.6, 0.9, 0.19): (False, False),
    }
    for expected, tier in tiers.items():
        assert (expected.doubtful, expected.uncertain) == tier


def test_a_warning_goes_by_the_chance_that_is_shown() -> None:
    steps = tuple((np.arange(20) / 10 - 1).tolist())  # A chance falls by 0.05 where the middle rises by 0.1.
    formula = Expectation(intercept=0.0, slope=1.0, modalities={}, residuals=steps)
    edge = formula.expected(float(expit(0.058)), ())
    assert edge.poor == 0.5 and edge.doubtful and not edge.uncertain  # 0.496 before it was rounded.
    edge = formula.expected(float(expit(0.658)), ())
    assert edge.poor == 0.2 and edge.uncertain  # 0.196.


def test_residuals_are_above_where_the_truth_was_better() -> None:
    formula = Expectation(intercept=0.0, slope=1.0, modalities={"A": 1.0}, residuals=NONE)
    assert residuals(formula, np.array([0.5, 0.5]), np.array([expit(2.0), expit(0.0)]), [("A",), ("A",)]) == pytest.approx([1, -1])


def test_correlation_of_what_does_not_vary_is_nought() -> None:
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0
    assert correlation(np.arange(3.0), np.arange(3.0)) == pytest.approx(1.0)
