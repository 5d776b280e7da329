from __future__ import annotations

import numpy as np
import pytest

from anymri.trust.advice import Gain, fitted, most_helpful, steps

from ..material import task_with

MODALITIES = task_with(3).modalities
SUBSETS = ("M0", "M1", "M2", "M0+M1", "M0+M2", "M1+M2", "M0+M1+M2")

DICE = np.array([[0.1, 0.2, 0.3, 0.4, 0.6, 0.5, 0.7], [0.3, 0.2, 0.3, 0.4, 0.4, 0.5, 0.7]] * 2)
NEVER = np.zeros(DICE.shape, bool)


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
    assert best is not None and best[0] == "M2"


def test_what_is_gained_over_an_empty_mask_is_not_counted() -> None:
    dice, empty = DICE.copy(), NEVER.copy()
    dice[0, 0], empty[0, 0] = 1.0, True  # Nothing was found from M0 alone, and nothing is there.
    gains = fitted(dice, SUBSETS, MODALITIES, empty_CS=empty)
    assert gains["M0"]["M1"].mean == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    assert gains["M1"] == fitted(DICE, SUBSETS, MODALITIES, empty_CS=NEVER)["M1"]
    empty[1, 0] = True
    assert "M0" not in fitted(dice, SUBSETS, MODALITIES, empty_CS=empty)  # Two cases are too few.


def test_what_gains_next_to_nothing_is_not_called_help() -> None:
    assert most_helpful({"M1": Gain(mean=0.009, low=-0.1, high=0.2, error=0.001)}) is None
    assert most_helpful({}) is None


def test_what_may_be_chance_is_not_called_help() -> None:
    sure, unsure = Gain(mean=0.04, low=-0.1, high=0.2, error=0.019), Gain(mean=0.05, low=-0.1, high=0.3, error=0.026)
    assert most_helpful({"M1": sure, "M2": unsure}) == ("M1", sure)
    assert most_helpful({"M2": unsure}) is None
    assert unsure.model_copy(update={"error": 0.02}).helps


def test_errors_of_gains_are_those_of_their_means() -> None:
    error = fitted(DICE, SUBSETS, MODALITIES, empty_CS=NEVER)["M0"]["M1"].error
    assert error == pytest.approx(np.std([0.3, 0.1, 0.3, 0.1], ddof=1) / 2)
