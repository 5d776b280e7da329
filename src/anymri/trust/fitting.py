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
from anymri.trust.calibration import Calibrations, soft_dice
from anymri.trust.counts import DOMAINS, TRUE, Array, Floats
from anymri.trust.expectation import Expectation
from anymri.trust.observation import Observation

LEAST_CASES = 5  # In all; of a region, with a mask that is not empty: below it no Dice is expected of it.
_PARTS = 10  # That residuals come out of: each from a formula fitted on the other nine.


@dataclass(frozen=True, eq=False)
class Sample:
    """Observed cases of one region.

    Attributes:
        counts_CSNK: Over the logit; N as in ``counts``.
        dice_CS: What was reached.
        empty_CS: Whether the mask is empty. Of an empty mask the probabilities say nothing of a Dice, which is 0 or 1 there.
        subsets: Axis S, as a Subset prints.
        modalities: Of the task.
    """

    counts_CSNK: Array
    dice_CS: Floats
    empty_CS: Array
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
        of = list(cases)
        return Sample(self.counts_CSNK[of], self.dice_CS[of], self.empty_CS[of], self.subsets, self.modalities)

    def without(self, cases: Sequence[int]) -> Sample:
        """Return all but these cases."""
        return self.taken([c for c in range(len(self)) if c not in set(cases)])

    def soft_dice(self, how: Calibrations) -> Floats:
        """Return the Dice that the model's own probabilities promise, (C, S). The reference is not looked at."""
        return np.stack([soft_dice(self.counts_CSNK[:, s], how.of(name)) for s, name in enumerate(self.subsets)], axis=1)

    @property
    def with_mask(self) -> list[int]:
        """Cases that have a mask that is not empty for any subset."""
        return [int(c) for c in np.flatnonzero(~self.empty_CS.all(1))]

    def rows(self, values_CS: Array) -> Array:
        """Return the values of the masks that are not empty, (rows,)."""
        return values_CS[~self.empty_CS]

    @property
    def at_hand_of_rows(self) -> list[tuple[str, ...]]:
        """Modalities of these rows."""
        names = self.at_hand
        return [names[s] for s in np.nonzero(~self.empty_CS)[1]]


class EmptyMasks(BaseModel):
    """How often nothing was found of a region, over cases and subsets.

    Attributes:
        masks: How often.
        right: How often of these the reference has nothing of it either.
        cases: How many cases have such a mask.
        without: How many cases have nothing of the region in their reference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    masks: int
    right: int
    cases: int
    without: int


class Belief(BaseModel):
    """What is to be believed of one region.

    Attributes:
        calibration: From logits to probabilities.
        expectation: From these to the Dice to expect of a mask that is not empty; None if too few such masks were seen.
        gains: Subset → missing modality → what it gained; without what too few cases tell.
        empty: How often an empty mask was right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: Calibrations
    expectation: Expectation | None
    gains: dict[str, dict[str, Gain]]
    empty: EmptyMasks


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
            np.stack([o.empty_SR[:, r] for o in observations]),
            subsets,
            modalities,
        )
        for r in range(regions)
    )


def fitted(sample: Sample, *, least: int = LEAST_CASES) -> Belief:
    """Return what is to be believed of a region after these cases.

    Args:
        sample: The cases.
        least: How many with a mask that is not empty it takes to expect a Dice.
    """
    how, cases = calibrated(sample), sample.with_mask
    formula = None
    if len(cases) >= least:
        missed = []
        for part in (cases[p::_PARTS] for p in range(min(_PARTS, len(cases)))):
            others = sample.without(part)
            how_else = calibrated(others)
            missed.append(_residuals(_formula(others, how_else), sample.taken(part), how_else))
        formula = expectation.with_range(_formula(sample, how), np.concatenate(missed), len(cases))
    gains = advice.fitted(sample.dice_CS, sample.subsets, sample.modalities, empty_CS=sample.empty_CS)
    return Belief(calibration=how, expectation=formula, gains=gains, empty=empties(sample))


def calibrated(sample: Sample) -> Calibrations:
    """Return the calibrations that make the reference of these cases likeliest.

    That of a subset rests on its own voxels and on those of all subsets, each with half the weight: on its own alone it learns
    what is chance in these cases, and is worse on others than one for all.
    """
    voxels, true = weighed(sample)
    whole = voxels.mean(0), true.mean(0)
    own = {n: calibration.fitted(v + whole[0], t + whole[1]) for n, v, t in zip(sample.subsets, voxels, true, strict=True)}
    return Calibrations(pooled=calibration.fitted(*whole), subsets=own)


def weighed(sample: Sample) -> tuple[Floats, Floats]:
    """Return voxels over the logit and those of them in the reference, (S, K) each; brain and band count 1 in every subset.

    A brain holds about six times the voxels of its band, most of them plainly healthy. Alone it would settle what is said near the
    tumour, which is where a probability matters; the band alone would let the rest of the brain go.
    """
    total = sample.counts_CSNK.sum(0).astype(np.float64)
    sizes = [np.maximum(total[:, domain].sum(-1, keepdims=True), 1.0) for domain, _ in DOMAINS.values()]
    voxels, true = (sum(total[:, pair[n]] / size for pair, size in zip(DOMAINS.values(), sizes, strict=True)) for n in range(2))
    return np.asarray(voxels), np.asarray(true)


def _formula(sample: Sample, how: Calibrations) -> Expectation:
    return expectation.fitted(sample.rows(sample.soft_dice(how)), sample.rows(sample.dice_CS), sample.at_hand_of_rows)


def _residuals(formula: Expectation, sample: Sample, how: Calibrations) -> Floats:
    soft = sample.rows(sample.soft_dice(how))
    return expectation.residuals(formula, soft, sample.rows(sample.dice_CS), sample.at_hand_of_rows)


def empties(sample: Sample) -> EmptyMasks:
    """Return how often nothing was found, and how often that was right: Dice is 1 there if it was, 0 if not."""
    empty, right = sample.empty_CS, sample.empty_CS & (sample.dice_CS == 1)
    lacking = sample.counts_CSNK[:, :, TRUE].sum((1, 2)) == 0
    return EmptyMasks(masks=int(empty.sum()), right=int(right.sum()), cases=int(empty.any(1).sum()), without=int(lacking.sum()))
