"""The Dice to expect of a region in a patient, as a range: from what the model's own probabilities say, and what is at hand.

logit(Dice) ≈ intercept + slope · logit(soft Dice) + what each modality at hand adds. The range holds the middle share of how far
the truth lay from that in cases that the formula was not fitted on. So does the chance that the outline is poor, which is what a
reader is warned by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy.special import expit, logit

from anymri.trust.counts import Array, Floats

LEVEL = 0.8  # Share of the patients whose Dice is to lie in the range.
LOW = 0.5  # A Dice below it: the outline is as much wrong as right. It is called poor.
OFTEN = 0.5  # Chance of a poor outline from which on it is not to be relied on,
SOMETIMES = 0.2  # and from which on it may be wrong, though most are not.
_EDGE = 0.02  # Dice below it and above 1 − it count as that: a logit would make worlds of the difference.
_RIDGE = 1.0  # Against a few hundred rows.
_SHARES = (np.arange(20) + 0.5) / 20  # Quantiles of residuals that are kept.
_FAR = 0.7  # Residuals beyond it, on the scale of the logit, pull no harder (Huber).
_ROUNDS = 20


class Expected(NamedTuple):
    """The Dice to expect: most often between low and high; and the chance that it is poor, below 0.5."""

    low: float
    middle: float
    high: float
    poor: float

    @property
    def doubtful(self) -> bool:
        """Whether the mask should not be relied on."""
        return self.poor >= OFTEN

    @property
    def uncertain(self) -> bool:
        """Whether the mask is not doubtful and may be wrong all the same."""
        return SOMETIMES <= self.poor < OFTEN


class Expectation(BaseModel):
    """From what a model says of itself to the Dice to expect of one region.

    Attributes:
        intercept: Of the formula, on the scale of the logit.
        slope: On the logit of the soft Dice.
        modalities: What each modality at hand adds.
        low: How far below the truth may lie, on that scale; negative as a rule.
        high: How far above.
        residuals: Twenty quantiles of how far above the formula the truth lay, in equal steps, lowest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    intercept: float
    slope: float
    modalities: dict[str, float]
    low: float = 0.0
    high: float = 0.0
    residuals: tuple[float, ...] = Field(min_length=len(_SHARES), max_length=len(_SHARES))

    @field_validator("residuals")
    @classmethod
    def _in_order(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(value):
            raise ValueError("must not fall")
        return value

    def expected(self, soft_dice: float, at_hand: Sequence[str]) -> Expected:
        """Return the Dice to expect of a patient with these modalities."""
        middle = self.intercept + self.slope * float(_logit(soft_dice)) + sum(self.modalities.get(m, 0.0) for m in at_hand)
        low, center, high = (float(expit(middle + shift)) for shift in (self.low, 0.0, self.high))
        poor = float(np.interp(float(_logit(LOW)) - middle, self.residuals, _SHARES))
        return Expected(min(low, center), center, max(high, center), round(poor, 2))  # What is said goes by what is shown.


def fitted(soft_dice: Array, dice: Array, at_hand: Sequence[Sequence[str]]) -> Expectation:
    """Return the formula that fits best, with outliers held at arm's length; its range is not known yet.

    Args:
        soft_dice: One per row, a row for each case and subset.
        dice: What was reached.
        at_hand: Modalities of each row.
    """
    names = list(dict.fromkeys(m for row in at_hand for m in row))
    flags = np.array([[m in row for m in names] for row in at_hand], float)
    design = np.concatenate([_logit(soft_dice)[:, None], flags], axis=1)
    centre, target, weight = design.mean(0), _logit(dice), np.ones(len(dice))
    intercept, slopes = 0.0, np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        whole = np.concatenate([np.ones((len(target), 1)), design - centre], axis=1)
        penalty = np.diag([1e-9] + [_RIDGE] * design.shape[1])
        found = np.linalg.solve((whole * weight[:, None]).T @ whole + penalty, (whole * weight[:, None]).T @ target)
        intercept, slopes = float(found[0]), found[1:]
        weight = _FAR / np.maximum(np.abs(target - whole @ found), _FAR)
    start = intercept - float(slopes @ centre)
    added = dict(zip(names, map(float, slopes[1:]), strict=True))
    return Expectation(intercept=start, slope=float(slopes[0]), modalities=added, residuals=(0.0,) * len(_SHARES))


def residuals(expectation: Expectation, soft_dice: Array, dice: Array, at_hand: Sequence[Sequence[str]]) -> Floats:
    """Return how far above the formula the truth lay, one per row, on the scale of the logit."""
    said = [expectation.expected(float(s), row).middle for s, row in zip(soft_dice, at_hand, strict=True)]
    return _logit(dice) - logit(np.array(said))


def with_range(expectation: Expectation, out_of_fold: Array, cases: int) -> Expectation:
    """Return the formula with the range that its residuals tell.

    Args:
        expectation: Without one.
        out_of_fold: Residuals of cases that it, or its like, was not fitted on.
        cases: How many they are of. The fewer, the wider: the quantiles are those of a sample with the patient at hand as one more.
    """
    low, high = quantiles(out_of_fold, cases)
    kept = tuple(map(float, np.quantile(out_of_fold, _SHARES)))
    return expectation.model_copy(update={"low": low, "high": high, "residuals": kept})


def quantiles(values: Array, cases: int) -> tuple[float, float]:
    """Return the ends of the middle share of some values, a little wider the fewer the cases."""
    upper = min(1.0, (1 + LEVEL) / 2 * (cases + 1) / max(cases, 1))
    low, high = np.quantile(values, [1 - upper, upper])
    return float(low), float(high)


def _logit(dice: Array | float) -> Any:
    return logit(np.clip(np.asarray(dice, float), _EDGE, 1 - _EDGE))


def correlation(a: Array, b: Array) -> float:
    """Return Pearson's correlation; 0 if one of them does not vary, or nothing is known."""
    if len(a) < 2 or not (np.std(a) > 0 and np.std(b) > 0):
        return 0.0
    found = float(np.corrcoef(a, b)[0, 1])
    return found if math.isfinite(found) else 0.0
