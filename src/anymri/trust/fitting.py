"""Observed cases → what is to be believed of one region: calibration, expected Dice, gains. Everything is fitted by this alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from anymri.domain.modality import ModalitySet
from anymri.errors import UsageError
from anymri.trust import advice, calibration, expectation
from anymri.trust.advice import Gain
from anymri.trust.calibration import Calibration, soft_dice
from anymri.trust.counts import EVERYWHERE, TRUE, Array, Floats
from anymri.trust.expectation import Expectation
from anymri.trust.observation import Observation

LEAST_CASES = 5
_PARTS = 10  # That residuals come out of: each from a formula fitted on the other nine.


@dataclass(frozen=True, eq=False)
class Sample:
    """Observed cases of one region.

    Attributes:
        counts_CSNK: Over the logit; N as in ``counts``.
        dice_CS: What was reached.
        subsets: Axis S, as a Subset prints.
        modalities: Of the task.
    """

    counts_CSNK: Array
    dice_CS: Floats
    subsets: tuple[str, ...]
    modalities: ModalitySet

    def __len__(self) -> int:
        return len(self.dice_CS)

    @property
    def at_hand(self) -> list[tuple[str, ...]]:
        """Modalities of each subset."""
        return [tuple(subset.split("+")) for subset in self.subsets]

    def taken(self, cases: Sequence[int]) -> Sample:
        """Return these cases alone."""
        return Sample(self.counts_CSNK[list(cases)], self.dice_CS[list(cases)], self.subsets, self.modalities)

    def without(self, cases: Sequence[int]) -> Sample:
        """Return all but these cases."""
        return self.taken([c for c in range(len(self)) if c not in set(cases)])

    def soft_dice(self, how: Calibration) -> Floats:
        """Return the Dice that the model's own probabilities promise, (C, S). The reference is not looked at."""
        return soft_dice(self.counts_CSNK, how)


class Belief(BaseModel):
    """What is to be believed of one region.

    Attributes:
        calibration: From logits to probabilities.
        expectation: From these to the Dice to expect.
        gains: Subset → missing modality → what it gained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: Calibration
    expectation: Expectation
    gains: dict[str, dict[str, Gain]]


def samples(observations: Sequence[Observation], modalities: ModalitySet) -> tuple[Sample, ...]:
    """Return the observed cases by region.

    Raises:
        UsageError: If there are too few, or they were not observed with the same subsets.
    """
    if len(observations) < LEAST_CASES:
        raise UsageError(
            f"{len(observations)} cases are too few to measure trust by; give weights with at least {LEAST_CASES} complete cases "
            "that they were not trained on"
        )
    subsets = observations[0].subsets
    if odd := [o.case for o in observations if o.subsets != subsets]:
        raise UsageError(f"case {odd[0]} was observed with other subsets than {observations[0].case}; measure complete cases alone")
    regions = observations[0].dice_SR.shape[1]
    return tuple(
        Sample(
            np.stack([o.counts_SRNK[:, r] for o in observations]),
            np.stack([o.dice_SR[:, r] for o in observations]),
            subsets,
            modalities,
        )
        for r in range(regions)
    )


def fitted(sample: Sample) -> Belief:
    """Return what is to be believed of a region after these cases."""
    how, formula = _formula(sample)
    parts = [list(range(len(sample)))[p::_PARTS] for p in range(min(_PARTS, len(sample)))]
    missed = []
    for part in parts:
        how_else, formula_else = _formula(sample.without(part))
        missed.append(_residuals(formula_else, sample.taken(part), how_else))
    ranged = expectation.with_range(formula, np.concatenate(missed), len(sample))
    gains = advice.fitted(sample.dice_CS, sample.subsets, sample.modalities)
    return Belief(calibration=how, expectation=ranged, gains=gains)


def calibrated(sample: Sample) -> Calibration:
    """Return the calibration that makes the reference of these cases likeliest, over all their voxels and subsets."""
    total = sample.counts_CSNK.sum((0, 1))
    return calibration.fitted(total[EVERYWHERE], total[TRUE])


def _formula(sample: Sample) -> tuple[Calibration, Expectation]:
    how = calibrated(sample)
    soft = sample.soft_dice(how)
    return how, expectation.fitted(soft.ravel(), sample.dice_CS.ravel(), sample.at_hand * len(sample))


def _residuals(formula: Expectation, sample: Sample, how: Calibration) -> Floats:
    soft = sample.soft_dice(how)
    return expectation.residuals(formula, soft.ravel(), sample.dice_CS.ravel(), sample.at_hand * len(sample))
