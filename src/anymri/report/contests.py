"""Measured methods against each other, case by case: tables of paired tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from anymri.metrics.pooled import Contest, contests
from anymri.metrics.scores import Sheet
from anymri.metrics.statistics import Bootstrap
from anymri.report.series import MeasuredSeries, regions_of
from anymri.report.table import NOTHING, Cell, Origin, Row, Table, Unit, counted, number

_ALL_PAIRS = 4  # Methods up to which each is compared with each.
_POINTS = Unit("points", 100.0, 2)


def contest_table(
    series: Sequence[MeasuredSeries], *, name: str, title: str, bootstrap: Bootstrap
) -> tuple[Table | None, tuple[str, ...]]:
    """Return paired tests between measured methods, and what could not be compared."""
    if len(series) < 2:
        return None, ()
    sheets = {s.label: s.dice.sheet for s in series}
    labels = list(sheets)
    each = len(labels) <= _ALL_PAIRS
    pairs = list(itertools.combinations(labels, 2)) if each else [(other, labels[0]) for other in labels[1:]]
    apart = {p: what for p in pairs if (what := _different(sheets[p[0]], sheets[p[1]]))}
    # Whether protocols may differ was decided where the series were brought together.
    found = contests([p for p in pairs if p not in apart], sheets, across_protocols=True, bootstrap=bootstrap)
    refused = tuple(f"{a} and {b} were scored {what}: they are not compared." for (a, b), what in apart.items())
    if not found:
        return None, refused
    regions = regions_of(series)
    by_pair: dict[tuple[str, str], dict[str, Contest]] = {}
    for contest in found:
        by_pair.setdefault((contest.first, contest.second), {})[contest.region] = contest
    cohort = series[0].measured.cohort
    rows = tuple(
        Row(f"{a} − {b}", _contest_cells(of, regions), origin=Origin(cohort, next(iter(of.values())).protocol))
        for (a, b), of in by_pair.items()
    )
    notes = (
        "Dice, first minus second, mean over subsets of the means over cases that both have; seeds are averaged per case first.",
        f"Intervals of {100 * bootstrap.level:g} %: paired bootstrap over cases ({bootstrap.resamples} resamples).",
        f"p: Wilcoxon's signed-rank test over the cases, two-sided; p Holm: corrected for all {len(found)} tests of this table.",
        *(() if each else (f"More than {_ALL_PAIRS} methods: each is compared with {labels[0]}, the first that was given.",)),
    )
    header = tuple(h for _ in regions for h in ("difference", "p", "p Holm", "cases"))
    return Table(name, title, "methods", header, rows, tuple((r, 4) for r in regions), notes), refused


def _different(first: Sheet, second: Sheet) -> str:
    """Return in words what two methods have nothing of in common; empty if they can be compared."""
    parts = (
        (first.cases, second.cases, "on different cases"),
        (first.subsets, second.subsets, "on different subsets"),
        (first.regions, second.regions, "in different regions"),
    )
    return next((what for mine, others, what in parts if not set(mine) & set(others)), "")


def _contest_cells(of: dict[str, Contest], regions: Sequence[str]) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for region in regions:
        contest = of.get(region)
        if contest is None:
            cells += [Cell(NOTHING)] * 4
            continue
        signed = number(contest.estimate, _POINTS)
        cells += [signed, _p(contest.p), _p(contest.p_holm), counted(contest.estimate.cases)]
    return tuple(cells)


def _p(p: float) -> Cell:
    return Cell("< 0.0001", p) if p < 1e-4 else Cell(f"{p:.4f}", p) if p == p else Cell(NOTHING)
