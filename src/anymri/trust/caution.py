"""How far warnings and chances of a poor outline came true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from anymri.trust.counts import Array, Floats
from anymri.trust.expectation import LOW, Expected

ENDS = (0.1, 0.2, 0.35, 0.5, 0.75)  # Where groups of masks end that a poor outline is about as likely of.


class Chance(BaseModel):
    """Masks of which a poor outline was said to be about as likely.

    Attributes:
        masks: How many.
        said: Mean chance.
        came_true: Share of them that were poor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    masks: int
    said: float
    came_true: float


class CautionCheck(BaseModel):
    """The warnings against the Dice that was reached, by masks that are not empty. Poor is a Dice below 0.5.

    Attributes:
        masks: How many a Dice was expected of.
        poor: How many of them were.
        doubtful: How many were said not to be relied on.
        doubtful_poor: How many of these were poor.
        uncertain: How many were said to be possibly wrong.
        uncertain_poor: How many of these were poor.
        chances: Masks by the chance of being poor: below 0.1, 0.2, 0.35, 0.5, 0.75 and 1; without those of which there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    masks: int
    poor: int
    doubtful: int
    doubtful_poor: int
    uncertain: int
    uncertain_poor: int
    chances: tuple[Chance, ...]

    @property
    def unwarned(self) -> int:
        """How many of the poor were not warned of."""
        return self.poor - self.doubtful_poor - self.uncertain_poor


def caution(expected: Sequence[Sequence[Expected | None]], dice_CS: Floats) -> CautionCheck | None:
    """Return what came of the warnings; None if no Dice was expected of any mask.

    Args:
        expected: Of each case and subset; None of a mask that none is expected of.
        dice_CS: What was reached.
    """
    pairs = [(e, dice < LOW) for of_case, row in zip(expected, dice_CS, strict=True) for e, dice in zip(of_case, row, strict=True)]
    known = [(e, bool(poor)) for e, poor in pairs if e is not None]
    if not known:
        return None
    return CautionCheck(
        masks=len(known),
        poor=sum(poor for _, poor in known),
        doubtful=sum(e.doubtful for e, _ in known),
        doubtful_poor=sum(e.doubtful and poor for e, poor in known),
        uncertain=sum(e.uncertain for e, _ in known),
        uncertain_poor=sum(e.uncertain and poor for e, poor in known),
        chances=_chances(np.array([e.poor for e, _ in known]), np.array([poor for _, poor in known])),
    )


def _chances(said: Floats, poor: Array) -> tuple[Chance, ...]:
    groups = [np.searchsorted(ENDS, said, side="right") == k for k in range(len(ENDS) + 1)]
    return tuple(Chance(masks=int(of.sum()), said=said[of].mean(), came_true=poor[of].mean()) for of in groups if of.any())
