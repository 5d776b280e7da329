"""Which missing modality would help most: what adding it gained in the cases that were measured, by subset and region.

The advice depends on what is at hand and on the region, not on the patient: a choice that looked at the model's uncertainty as well
was no better on cases that it had not seen. Every fit measures that anew.

A step out of an empty mask is not counted: what it gains depends on whether there is anything to find. A step into one counts as it
is scored, because nobody knows beforehand that it is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from anymri.domain.modality import ModalitySet
from anymri.trust.counts import Array, Floats
from anymri.trust.expectation import quantiles

LEAST_GAIN = 0.01  # Of Dice. Nothing below it is called help,
_ERRORS = 2.0  # nor what is within so many standard errors of nothing.
_ALIKE = 1.0  # Within so many standard errors of their difference two gains are told as about as much.
_LEAST_CASES = 3  # From fewer nothing is said of a step.


class Gain(BaseModel):
    """What one more modality gained in Dice.

    Attributes:
        mean: Over the cases.
        low: Most often not less.
        high: Most often not more.
        error: Standard error of the mean.
        best: Share of the cases in which no other missing modality gained more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    low: float
    high: float
    error: float
    best: float

    @property
    def helps(self) -> bool:
        """Whether it is enough, and sure enough, to be called help."""
        return self.mean >= LEAST_GAIN and self.mean >= _ERRORS * self.error


Gains = dict[str, dict[str, Gain]]  # Subset → missing modality → gain.


@dataclass(frozen=True)
class Help:
    """The missing modality that would help most.

    Attributes:
        modality: Its name.
        gain: What it gained.
        alike: Other missing modalities that gained about as much, or more but not surely so.
    """

    modality: str
    gain: Gain
    alike: tuple[str, ...]


class Step(NamedTuple):
    """One more modality: positions of the subset without and with it on the axis of subsets."""

    modality: str
    without: int
    to: int


def steps(subsets: Sequence[str], modalities: ModalitySet) -> tuple[Step, ...]:
    """Return every step from one subset to another that has one modality more."""
    found = [modalities.subset(text.split("+")) for text in subsets]
    place = {subset.mask: s for s, subset in enumerate(found)}
    pairs = [(name, s, modalities.subset([*subset.names, name]).mask) for s, subset in enumerate(found) for name in subset.missing]
    return tuple(Step(name, s, place[mask]) for name, s, mask in pairs if mask in place)


def gained(dice_CS: Array, walk: Sequence[Step]) -> Floats:
    """Return what each step gained in each case, (C, steps)."""
    return dice_CS[:, [t.to for t in walk]] - dice_CS[:, [t.without for t in walk]]


def fitted(dice_CS: Array, subsets: Sequence[str], modalities: ModalitySet, *, empty_CS: Array) -> Gains:
    """Return what each missing modality gained, by subset, over the cases whose mask without it was not empty.

    Args:
        dice_CS: What was reached.
        subsets: Axis S, as a Subset prints.
        modalities: Of the task.
        empty_CS: Whether the mask is empty.
    """
    walk = steps(subsets, modalities)
    whole = gained(dice_CS, walk)
    gains: Gains = {}
    for k, step in enumerate(walk):
        counted = ~empty_CS[:, step.without]
        column = whole[counted, k]
        if len(column) < _LEAST_CASES:
            continue
        low, high = quantiles(column, len(column))
        most = whole[counted][:, [n for n, other in enumerate(walk) if other.without == step.without]].max(1)
        gains.setdefault(subsets[step.without], {})[step.modality] = Gain(
            mean=float(column.mean()),
            low=low,
            high=high,
            error=float(column.std(ddof=1) / np.sqrt(len(column))),
            best=float((column >= most).mean()),
        )
    return gains


def most_helpful(gains: Mapping[str, Gain]) -> Help | None:
    """Return the modality with the highest mean gain among those that help; None if nothing is missing or none is known to help."""
    helping = {name: gain for name, gain in gains.items() if gain.helps}
    if not helping:
        return None
    name = max(helping, key=lambda n: helping[n].mean)
    first = gains[name]
    alike = tuple(n for n, gain in gains.items() if n != name and _alike(gain, first))
    return Help(name, first, alike)


def _alike(gain: Gain, best: Gain) -> bool:
    return gain.mean >= LEAST_GAIN and gain.mean >= best.mean - _ALIKE * math.hypot(gain.error, best.error)
