"""A loss that runs away, told from the noise of small batches: medians are compared, never single steps.

The level of the loss is the median of its last 25 steps. It has run away if it stands above the lowest level so far by more than

* a multiple of that lowest level (``Run.runaway``),
* half of what it has fallen by since the start, so that small losses may vary, and
* five times the spread of single steps, so that losses around zero may.

Half of that rise, in as few as 7 steps, is a doubt: no checkpoint is written while it lasts, so the last one is from before.

A run may have blown up before there is a first level. So that this does not become its own yardstick, the first level and its
spread count as four times the first loss of the stage at most, which no step of it had changed yet. That holds for losses above
zero alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median

WINDOW = 25
GLANCE = 7
LOST = 0.5
SPREADS = 5.0
SINGLE = 4.0  # How far a single loss, of a batch of one, may lie below what is usual.
PATIENCE = 100  # Steps after which a doubt that was not confirmed is dropped: the level is merely higher.


@dataclass(frozen=True)
class Course:
    """How the loss of a stage has gone; a checkpoint holds it in JSON.

    Attributes:
        recent: The last losses, at most WINDOW.
        first: The first loss of the stage; None if it is not known.
        start: The first level; None until there are enough losses.
        lowest: The lowest level so far.
        spread: Median distance of single losses from that level.
        doubt: For how many steps the loss has been suspiciously high.
    """

    recent: tuple[float, ...] = ()
    first: float | None = None
    start: float | None = None
    lowest: float = 0.0
    spread: float = 0.0
    doubt: int = 0

    @property
    def level(self) -> float:
        """Median of the recent losses."""
        return median(self.recent)

    @property
    def doubtful(self) -> bool:
        """Whether the loss may be running away."""
        return 0 < self.doubt <= PATIENCE


def followed(course: Course, loss: float, factor: float) -> Course:
    """Return the course after one more step."""
    first = course.first if course.recent else loss
    course = replace(course, recent=(*course.recent, loss)[-WINDOW:], first=first)
    if len(course.recent) < WINDOW:
        return course
    level = course.level
    if course.start is None or level < course.lowest:
        spread = median(abs(x - level) for x in course.recent)
        if course.start is None:
            most = SINGLE * first if first is not None and min(course.recent) > 0 else math.inf
            return replace(course, start=min(level, most), lowest=min(level, most), spread=min(spread, most))
        return replace(course, lowest=level, spread=spread, doubt=0)
    high = factor > 0 and median(course.recent[-GLANCE:]) > (course.lowest + limit(course, factor)) / 2
    return replace(course, doubt=course.doubt + 1 if high else 0)


def limit(course: Course, factor: float) -> float:
    """Return the level above which the loss has run away."""
    rise = max((factor - 1) * abs(course.lowest), LOST * ((course.start or 0.0) - course.lowest), SPREADS * course.spread)
    return course.lowest + rise


def runs_away(course: Course, factor: float) -> bool:
    """Return whether the loss has run away; never with factor 0."""
    return factor > 0 and course.start is not None and course.level > limit(course, factor)
