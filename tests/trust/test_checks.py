"""What is said of a case is said without its reference: poison it, and nothing changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymri.errors import UsageError
from anymri.trust.calibration import Calibration, Calibrations
from anymri.trust.checks import Said, checked, said_of, taught
from anymri.trust.counts import BAND, EVERYWHERE, LOGITS, TRUE, TRUE_BAND
from anymri.trust.fitting import Sample, fitted, samples

from ..material import task_with
from .made import TRUTH, emptied, made_observations

TASK = task_with(3)


def sample(cases: int = 6, **how: float) -> Sample:
    return samples(made_observations(TASK, cases, **how), TASK.modalities)[0]


def poisoned(whole: Sample, case: int) -> Sample:
    """Return the sample with NaN for all that only a reference tells of one case."""
    counts, dice = whole.counts_CSNK.astype(float), whole.dice_CS.copy()
    counts[case][:, [TRUE, BAND, TRUE_BAND]] = np.nan
    dice[case] = np.nan
    return Sample(counts, dice, whole.empty_CS, whole.subsets, whole.modalities)


def same(a: Said, b: Said) -> bool:
    return (
        a.expected == b.expected
        and all(np.array_equal(x, y) for x, y in ((a.by_modalities, b.by_modalities), (a.gains, b.gains), (a.helps, b.helps)))
        and np.array_equal(a.gains_by_patient, b.gains_by_patient)
    )


def test_nothing_that_is_said_of_a_case_knows_its_reference() -> None:
    whole = sample()
    assert same(said_of(whole, 2), said_of(poisoned(whole, 2), 2))


def test_no_half_is_calibrated_by_itself() -> None:
    whole = sample()
    poison = poisoned(poisoned(whole, 0), 2)
    assert taught(whole.without([0, 2])) == taught(poison.without([0, 2]))
    # Halves are 0, 2, 4 and 1, 3, 5. What is believed after one is wrong of the other if the two are unlike, however well both fit.
    counts, odd = whole.counts_CSNK.copy(), Calibration(temperature=2.0, offset=1.0)
    for case in (0, 2, 4):
        counts[case][:, TRUE] = counts[case][:, EVERYWHERE] * odd.probability(LOGITS)
        counts[case][:, TRUE_BAND] = counts[case][:, BAND] * odd.probability(LOGITS)
    unlike = replace(whole, counts_CSNK=counts)
    checks = checked(unlike).calibration["fitted"]
    same_cases = checked(unlike, belief=fitted(unlike)).calibration["fitted"]
    assert checks.band["all"] > 4 * same_cases.band["all"]
    assert same_cases.band["patient"] > 2 * same_cases.band["all"]  # What cancels over patients is off in each.


def test_the_poison_is_noticed_where_it_may_be_looked_at() -> None:
    whole = sample()
    with pytest.raises(ValueError, match=r".*"):  # NaN is no calibration.
        said_of(poisoned(whole, 2), 3)


def test_what_is_so_is_found_and_held() -> None:
    whole = sample(8)
    belief, checks = fitted(whole), checked(whole)
    for how in (belief.calibration.pooled, *belief.calibration.subsets.values()):
        assert (how.temperature, how.offset) == pytest.approx((TRUTH.temperature, TRUTH.offset), rel=0.02)
    before, between, after = (checks.calibration[way] for way in ("raw", "temperature", "fitted"))
    assert after.everywhere["all"] < 0.2 * before.everywhere["all"] and after.cross_entropy < between.cross_entropy
    assert set(after.band) == {"1", "2", "3", "all", "each", "patient"}
    assert checks.calibration["pooled"].cross_entropy == pytest.approx(after.cross_entropy, rel=1e-3)  # All subsets are alike here.
    assert checks.dice.correlation > 0.9 and checks.dice.mean_absolute_error < 0.7 * checks.dice.by_modalities_alone
    assert 0.5 <= checks.dice.coverage <= 1
    assert checks.advice is not None
    assert checks.advice.choices == 8 * 3  # With one modality of three there is a choice, with two there is none.
    assert checks.advice.best == 1.0 and checks.advice.gain == pytest.approx(checks.advice.possible)
    # M2 gains most, M1 next: who always advises M2 is as good where it is missing.
    assert checks.advice.always["M2"].gain == pytest.approx(checks.advice.always["M2"].advised)
    always = checks.advice.always
    assert always["M0"].gain < always["M0"].advised
    assert always["M2"].best == always["M2"].advised_best == always["M0"].advised_best == 1.0 and always["M0"].best == 0.0
    # Where M1 is missing and so is M0 it gains most, where M2 is missing it does not.
    assert always["M1"].best == 0.5 and always["M1"].advised_best == 1.0


def test_what_others_taught_is_checked_as_it_is() -> None:
    whole, others = sample(8), samples(made_observations(TASK, 20, seed=7), TASK.modalities)[0]
    belief = fitted(others)
    own, lent = checked(whole), checked(whole, belief=belief)
    assert set(lent.calibration) == {"raw", "pooled", "fitted"}
    assert lent.calibration["raw"].everywhere["patient"] == pytest.approx(own.calibration["raw"].everywhere["patient"])
    assert lent.dice is not None and own.dice is not None and lent.dice.by_modalities_alone == own.dice.by_modalities_alone
    assert lent.dice.correlation > 0.9 and 0.5 <= lent.dice.coverage <= 1
    expected = np.array([[e.middle for e in said_of(whole, c, belief=belief).expected if e is not None] for c in range(8)])
    assert lent.dice.mean_absolute_error == pytest.approx(np.abs(expected - whole.dice_CS).mean())
    assert lent.advice is not None and own.advice is not None and lent.advice.best == own.advice.best == 1.0


def test_what_does_not_hold_is_found_not_to() -> None:
    whole = sample(8)
    belief = fitted(whole)
    assert belief.expectation is not None
    sure = belief.expectation.model_copy(update={"intercept": belief.expectation.intercept + 2.0})
    dice = checked(whole, belief=belief.model_copy(update={"expectation": sure, "calibration": Calibrations()})).dice
    assert dice is not None and dice.coverage < 0.2 and dice.mean_absolute_error > 0.15
    assert checked(whole, belief=belief.model_copy(update={"expectation": None})).dice is None


def test_of_the_only_case_with_a_mask_the_others_know_nothing() -> None:
    whole = sample(6)
    dice = checked(emptied(whole, range(5), rightly=False), belief=fitted(whole)).dice
    assert dice is not None and dice.by_modalities_alone is None and dice.correlation > 0.5


def test_a_choice_by_patient_is_on_the_scale_of_what_is_believed() -> None:
    whole = sample(8)
    belief = fitted(whole)
    off = Calibrations(pooled=Calibration(temperature=2.0, offset=-3.0))
    said = [said_of(whole, c, belief=belief.model_copy(update={"calibration": off})) for c in range(8)]
    assert np.abs(np.mean([s.gains_by_patient - s.gains[:, 0] for s in said], axis=0)).max() < 0.02


def test_what_a_subset_hides_of_another_shows_in_each() -> None:
    whole = sample(8)
    counts, odd = whole.counts_CSNK.copy(), Calibration(temperature=2.0, offset=-3.0)
    for s in range(0, 7, 2):  # Every other subset is sure of too much.
        counts[:, s, TRUE] = counts[:, s, EVERYWHERE] * odd.probability(LOGITS)
        counts[:, s, TRUE_BAND] = counts[:, s, BAND] * odd.probability(LOGITS)
    checks = checked(replace(whole, counts_CSNK=counts))
    pooled, own = checks.calibration["pooled"], checks.calibration["fitted"]
    assert own.everywhere["each"] < 0.7 * pooled.everywhere["each"] and pooled.everywhere["all"] < 2e-3
    assert own.cross_entropy < pooled.cross_entropy


def test_advice_that_the_output_would_not_give_is_not_counted() -> None:
    whole = sample(8)
    assert checked(whole).advice is not None and checked(whole).advice.unnamed == 0
    # From M0 both others gain next to nothing now: no output names one.
    near = whole.dice_CS.copy()
    of = [whole.subsets.index(name) for name in ("M0", "M0+M1", "M0+M2")]
    near[:, of[1:]] = near[:, of[:1]] + [0.005, 0.008]
    quiet = checked(replace(whole, dice_CS=near)).advice
    assert quiet is not None and quiet.choices == 8 * 2 and quiet.unnamed == 8
    m1, m2, both = (near[:, whole.subsets.index(name)] for name in ("M1", "M2", "M1+M2"))
    assert quiet.gain == pytest.approx(np.mean([both - m1, both - m2]))


def test_advice_that_is_too_unsure_is_not_counted_either() -> None:
    whole = sample(8)
    spread = whole.dice_CS.copy()
    of = [whole.subsets.index(name) for name in ("M0", "M0+M1", "M0+M2")]
    swing = np.where(np.arange(8) % 2, 0.3, -0.25)[:, None]  # A mean gain of 0.025 with a standard error of 0.1.
    spread[:, of[:1]] = 0.5
    spread[:, of[1:]] = 0.5 + swing
    advice = checked(replace(whole, dice_CS=spread)).advice
    assert advice is not None and advice.choices == 8 * 2 and advice.unnamed == 8


def test_a_sure_gain_is_advised_before_a_larger_one_that_may_be_chance() -> None:
    whole = sample(8)
    mixed = whole.dice_CS.copy()
    alone, first, second = (whole.subsets.index(name) for name in ("M0", "M0+M1", "M0+M2"))
    mixed[:, alone] = 0.4
    mixed[:, first] = 0.45 + np.arange(8) * 1e-3
    mixed[:, second] = 0.4 + np.where(np.arange(8) % 2, 0.5, -0.3)
    advice = checked(replace(whole, dice_CS=mixed)).advice
    assert advice is not None and advice.choices == 8 * 3 and advice.unnamed == 0
    assert advice.always["M1"].advised == pytest.approx(advice.always["M1"].gain)


def test_warnings_are_checked_against_what_was_reached() -> None:
    whole = sample()
    said = [said_of(whole, c) for c in range(6)]
    warned = np.array([[e.doubtful or e.uncertain for e in s.expected if e is not None] for s in said])
    poor = whole.dice_CS < 0.5
    caution = checked(whole).caution
    assert caution is not None and caution.masks == 6 * 7 and caution.poor == poor.sum() > 0
    assert caution.doubtful + caution.uncertain == warned.sum() > 0
    assert caution.doubtful_poor + caution.uncertain_poor == (warned & poor).sum() > 0.8 * poor.sum()


def test_without_a_choice_no_advice_is_checked() -> None:
    two = task_with(2)
    (first, *_) = samples(made_observations(two, 5), two.modalities)
    assert checked(first).advice is None


def test_empty_masks_are_left_out_of_the_checks() -> None:
    whole = emptied(sample(8), [0, 2], rightly=True)
    checks, others = checked(whole), checked(sample(8).without([0, 2]))
    assert checks.dice is not None and others.dice is not None and checks.advice is not None
    assert checks.dice.correlation > 0.9 and checks.dice.mean_absolute_error < 1.5 * others.dice.mean_absolute_error
    assert checks.advice == others.advice
    assert same(said_of(whole, 2), said_of(poisoned(whole, 2), 2)) and said_of(whole, 2).expected == (None,) * 7


def test_of_masks_that_are_hardly_ever_found_nothing_is_checked() -> None:
    checks = checked(emptied(sample(8), range(4), rightly=False))
    assert checks.dice is None and checks.advice is not None and checks.advice.choices == 4 * 3
    never = checked(emptied(sample(6), range(6), rightly=True))
    assert never.dice is None and never.advice is None


def test_too_few_or_uneven_cases_are_refused() -> None:
    with pytest.raises(UsageError, match="4 cases are too few"):
        samples(made_observations(TASK, 4), TASK.modalities)
    uneven = [*made_observations(TASK, 5), *made_observations(task_with(2), 1)]
    with pytest.raises(UsageError, match="other subsets"):
        samples(uneven, TASK.modalities)
