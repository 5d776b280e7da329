"""A table of a report: cells with intervals, the best in bold, footnotes. What it looks like in a format: formats.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from anymri.metrics.statistics import Estimate

NOTHING = "–"


@dataclass(frozen=True)
class Unit:
    """How numbers of a kind are printed.

    Attributes:
        name: Behind a heading, such as "%".
        scale: A printed number per number.
        digits: After the point.
        higher: Whether a higher number is better.
    """

    name: str
    scale: float
    digits: int
    higher: bool = True


PERCENT = Unit("%", 100.0, 2)
MILLIMETRES = Unit("mm", 1.0, 2, higher=False)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: As printed, without interval and marks.
        value: The number as printed but with all digits; NaN if it is none.
        low: Lower end of its interval; NaN if there is none.
        high: Upper end.
        interval: The interval as printed; empty if there is none.
        best: Whether it is the best of those it may be compared with.
        marks: Letters of its footnotes.
    """

    text: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    interval: str = ""
    best: bool = False
    marks: str = ""


@dataclass(frozen=True)
class Origin:
    """On which cases and by which rules numbers were scored; of several, what concerns which of them.

    Attributes:
        cohort: Name of the cohort, or of the data set of published numbers.
        protocol: Name of the rules, or what a publication says of them.
    """

    cohort: str
    protocol: str


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        label: What it is of.
        cells: One per column.
        section: Rows of one section follow each other under its name; empty if there are none.
        ruled: Whether a line separates it from the row above.
        marks: Letters of the footnotes on the whole row.
        origin: Where its numbers come from; None for that of the table.
    """

    label: str
    cells: tuple[Cell, ...]
    section: str = ""
    ruled: bool = False
    marks: str = ""
    origin: Origin | None = None


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered.

    Attributes:
        name: Of its files, without ending.
        title: What it shows.
        corner: Heading of the rows' labels.
        groups: Headings over several columns and how many each is over; empty if there are none.
        header: One heading per column.
        rows: The body.
        notes: What must be known to read it.
        footnotes: What the letters of marks stand for: a, b, c …
        modalities: If given, rows are subsets of these, drawn as dots.
        origin: Where the numbers of its rows come from; None if rows tell, or if nothing was scored.
    """

    name: str
    title: str
    corner: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    origin: Origin | None = None


def number(estimate: Estimate, unit: Unit, *, marks: str = "") -> Cell:
    """Return a cell of a mean and its interval; an interval has one digit less, because it is not known better."""
    if math.isnan(estimate.value):
        return Cell(NOTHING)
    value, low, high = (v * unit.scale for v in (estimate.value, estimate.low, estimate.high))
    less = max(unit.digits - 1, 0)
    # z: what rounds to zero has no sign.
    interval = "" if math.isnan(low) else f"{low:z.{less}f} to {high:z.{less}f}"
    return Cell(f"{value:z.{unit.digits}f}", value, low, high, interval, marks=marks)


def counted(count: int) -> Cell:
    """Return a cell of a whole number."""
    return Cell(str(count), float(count))


def known(value: float | None) -> Estimate:
    """Return a number of which nothing but its value is known, as published ones are."""
    return Estimate(math.nan if value is None else value, math.nan, math.nan, 0, 0)


def with_best(cells: Sequence[Cell], among: Sequence[Hashable], *, higher: bool = True) -> tuple[Cell, ...]:
    """Return the cells with the best of each group marked; as printed, so that what looks equal is equal.

    Args:
        cells: To choose from.
        among: For each cell the group that it may be compared in; None takes part in nothing.
        higher: Whether a higher number is better.
    """
    best: dict[Hashable, float] = {}
    counts: dict[Hashable, int] = {}
    choose: Callable[[float, float], float] = max if higher else min
    for cell, group in zip(cells, among, strict=True):
        if group is not None and not math.isnan(cell.value):
            printed = float(cell.text)
            best[group] = choose(best.get(group, printed), printed)
            counts[group] = counts.get(group, 0) + 1
    return tuple(
        replace(c, best=True) if counts.get(g, 0) > 1 and not math.isnan(c.value) and float(c.text) == best[g] else c
        for c, g in zip(cells, among, strict=True)
    )


def column_best(
    rows: Iterable[Row], *, among: Sequence[Hashable], columns: Sequence[int], higher: Sequence[bool]
) -> tuple[Row, ...]:
    """Return the rows with the best of each of some columns marked.

    Args:
        rows: To choose from.
        among: For each row the group that it may be compared in.
        columns: In which to choose.
        higher: For each of these whether a higher number is better.
    """
    made = tuple(rows)
    cells = [list(row.cells) for row in made]
    for column, up in zip(columns, higher, strict=True):
        marked = with_best([row.cells[column] for row in made], among, higher=up)
        for own, cell in zip(cells, marked, strict=True):
            own[column] = cell
    return tuple(replace(row, cells=tuple(own)) for row, own in zip(made, cells, strict=True))
