"""Measured methods against each other, case by case: tables of paired tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from anymri.metrics.pooled import Contest, contests
from anymri.metrics.scores import Sheet
from anymri.metrics.statistics import Bootstrap
from anymri.report.series import MeasuredSeries, regions_of, subsets_without, task_of
from anymri.report.table import NOTHING, Cell, Origin, Row, Table, Unit, counted, number
from anymri.report.trainings import differing

_ALL_PAIRS = 4  # Methods up to which each is compared with each.
_POINTS = Unit("points", 100.0, 2)


def contest_table(
    series: Sequence[MeasuredSeries], *, name: str, title: str, bootstrap: Bootstrap
) -> tuple[Table | None, tuple[str, ...]]:
    """Return paired tests between measured methods over all subsets, and what could not be compared."""
    sheets = {s.label: s.dice.sheet for s in series}
    pairs, rule = _pairs(series)
    apart = {p: what for p in pairs if (what := _different(sheets[p[0]], sheets[p[1]]))}
    # Whether protocols may differ was decided where the series were brought together.
    found = contests([p for p in pairs if p not in apart], sheets, across_protocols=True, bootstrap=bootstrap)
    refused = tuple(f"{a} and {b} were scored {what}: they are not compared." for (a, b), what in apart.items())
    if not found:
        return None, refused
    rows = [
        Row(f"{a} − {b}", cells, origin=Origin(series[0].measured.cohort, protocol))
        for (a, b, _), protocol, cells in _contested(found, regions_of(series))
    ]
    over = "mean over subsets of the means over cases that both have"
    notes = (*_read(over, len(found), bootstrap), *rule)
    return _table(rows, regions_of(series), (name, title, "methods"), notes), refused


def without_contest_table(series: Sequence[MeasuredSeries], *, name: str, title: str, bootstrap: Bootstrap) -> Table | None:
    """Return paired tests over the subsets that lack a modality, for each; between methods that were scored on all of a task's."""
    task = task_of(series)
    if task is None:
        return None
    modalities = task.modalities.names
    whole = {s.label: s.dice.sheet for s in series if len(s.subsets) == 2 ** len(modalities) - 1}
    if not whole:
        return None
    parts = {m: subsets_without(next(iter(whole.values())).subsets, m, len(modalities)) for m in modalities}
    pairs, rule = _pairs(series)
    kept = [(a, b) for a, b in pairs if a in whole and b in whole and not _different(whole[a], whole[b])]
    found = contests(kept, whole, parts=parts, across_protocols=True, bootstrap=bootstrap)
    if not found:
        return None
    rows = [
        Row(modality, cells, section=f"{a} − {b}", origin=Origin(series[0].measured.cohort, protocol))
        for (a, b, modality), protocol, cells in _contested(found, regions_of(series))
    ]
    over = f"mean over the {2 ** (len(modalities) - 1) - 1} subsets that lack the modality of the means over cases that both have"
    notes = (*_read(over, len(found), bootstrap), *rule)
    return _table(rows, regions_of(series), (name, title, "without"), notes)


def _pairs(series: Sequence[MeasuredSeries]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return which methods are compared, first and second, and the rule by which they were chosen, if it is not each with each."""
    labels = [s.label for s in series]
    if len(labels) <= _ALL_PAIRS:
        return list(itertools.combinations(labels, 2)), ()
    pairs = [(other, labels[0]) for other in labels[1:]]
    neighbours = [(b.label, a.label) for a, b in itertools.combinations(series, 2) if _one_setting_apart(a, b)]
    rule = f"More than {_ALL_PAIRS} methods: each is compared with {labels[0]}, the first that was given"
    more = ", and variants of a method that differ in one setting with each other" if neighbours else ""
    return list(dict.fromkeys([*pairs, *neighbours])), (f"{rule}{more}.",)


def _one_setting_apart(first: MeasuredSeries, second: MeasuredSeries) -> bool:
    """Return whether two are variants of one method whose run folders tell exactly one setting in which they differ."""
    trainings = [own.measured.trainings[0] for own in (first, second) if own.measured.trainings]
    if len(trainings) < 2 or len({t.method for t in trainings}) > 1 or len({t.cohort for t in trainings}) > 1:
        return False
    return len(differing(trainings)) == 1


def _contested(found: Sequence[Contest], regions: Sequence[str]) -> list[tuple[tuple[str, str, str], str, tuple[Cell, ...]]]:
    """Return for every pair and part, which come first, the protocol and the cells of a row."""
    rows: dict[tuple[str, str, str], dict[str, Contest]] = {}
    for contest in found:
        rows.setdefault((contest.first, contest.second, contest.part), {})[contest.region] = contest
    return [(key, next(iter(of.values())).protocol, _contest_cells(of, regions)) for key, of in rows.items()]


def _read(over: str, tests: int, bootstrap: Bootstrap) -> tuple[str, ...]:
    return (
        f"Dice, first minus second, {over}; seeds are averaged per case first.",
        f"Intervals of {100 * bootstrap.level:g} %: paired bootstrap over cases ({bootstrap.resamples} resamples).",
        f"p: Wilcoxon's signed-rank test over the cases, two-sided; p Holm: corrected for all {tests} tests of this table.",
    )


def _table(rows: Sequence[Row], regions: Sequence[str], named: tuple[str, str, str], notes: tuple[str, ...]) -> Table:
    name, title, corner = named
    header = tuple(h for _ in regions for h in ("difference", "p", "p Holm", "cases"))
    return Table(name, title, corner, header, tuple(rows), tuple((r, 4) for r in regions), notes)


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
