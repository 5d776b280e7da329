from __future__ import annotations

import numpy as np
import pytest

from anymri.trust.advice import Gain, Help, fitted, most_helpful, steps

from ..material import task_with

MODALITIES = task_with(3).modalities
SUBSETS = ("M0", "M1", "M2", "M0+M1", "M0+M2", "M1+M2", "M0+M1+M2")

DICE = np.array([[0.1, 0.2, 0.3, 0.4, 0.6, 0.5, 0.7], [0.3, 0.2, 0.3, 0.4, 0.4, 0.5, 0.7]] * 2)
NEVER = np.zeros(DICE.shape, bool)


def gain(mean: float, error: float) -> Gain:
    return Gain(mean=mean, low=-0.1, high=0.3, error=error, best=0.5)


def test_every_subset_can_be_stepped_out_of_by_each_missing_modality() -> None:
    walk = steps(SUBSETS, MODALITIES)
    assert len(walk) == 3 * 2 + 3 * 1
    assert {(s.modality, SUBSETS[s.to]) for s in walk if SUBSETS[s.without] == "M1"} == {("M0", "M0+M1"), ("M2", "M1+M2")}
    assert len(steps(("M0", "M0+M1+M2"), MODALITIES)) == 0  # Steps to what a method does not serve are none.


def test_gains_by_hand() -> None:
    gains = fitted(DICE, SUBSETS, MODALITIES, empty_CS=NEVER)
    assert gains["M0"]["M1"].mean == pytest.approx((0.3 + 0.1) / 2) and gains["M0"]["M2"].mean == pytest.approx((0.5 + 0.1) / 2)
    assert (gains["M0"]["M1"].low, gains["M0"]["M1"].high) == pytest.approx((0.1, 0.3))
    assert "M0+M1+M2" not in gains
    best = most_helpful(gains["M0"])
    assert best is not None and best.modality == "M2"
    assert (gains["M0"]["M1"].best, gains["M0"]["M2"].best) == (0.5, 1.0)  # In every other case both gain alike.
    assert gains["M0+M1"]["M2"].best == 1.0


def test_what_is_gained_over_an_empty_mask_is_not_counted() -> None:
    dice, empty = DICE.copy(), NEVER.copy()
    dice[0, 0], empty[0, 0] = 1.0, True  # Nothing was found from M0 alone, and nothing is there.
    gains = fitted(dice, SUBSETS, MODALITIES, empty_CS=empty)
    assert gains["M0"]["M1"].mean == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    assert gains["M1"] == fitted(DICE, SUBSETS, MODALITIES, empty_CS=NEVER)["M1"]
    empty[1, 0] = True
    assert "M0" not in fitted(dice, SUBSETS, MODALITIES, empty_CS=empty)  # Two cases are too few.


def test_what_gains_next_to_nothing_is_not_called_help() -> None:
    assert most_helpful({"M1": gain(0.009, 0.001)}) is None
    assert most_helpful({}) is None


def test_what_may_be_chance_is_not_called_help() -> None:
    sure, unsure = gain(0.04, 0.019), gain(0.05, 0.026)
    assert most_helpful({"M1": sure, "M2": unsure}) == Help("M1", sure, ("M2",))  # Nor is it passed over, where it gained more.
    assert most_helpful({"M2": unsure}) is None
    assert gain(0.05, 0.02).helps


def test_what_gained_about_as_much_is_told() -> None:
    first = gain(0.1, 0.03)
    others = {"M1": gain(0.051, 0.04), "M2": gain(0.049, 0.04), "M3": gain(0.009, 0.2)}  # Off by 0.05 at most: 0.03² + 0.04².
    assert most_helpful({"M0": first, **others}) == Help("M0", first, ("M1",))


def test_errors_of_gains_are_those_of_their_means() -> None:
    error = fitted(DICE, SUBSETS, MODALITIES, empty_CS=NEVER)["M0"]["M1"].error
    assert error == pytest.approx(np.std([0.3, 0.1, 0.3, 0.1], ddof=1) / 2)
