"""Score tables for people: subsets × regions, robustness curve and AURC, as plain text or Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymri.metrics.protocol import DICE, HAUSDORFF, PROTOCOLS, REFERENCE_VOLUME, VOLUME, Protocol, rules
from anymri.metrics.robustness import robustness
from anymri.metrics.scores import ScoreTable, Sheet, sheet, split
from anymri.metrics.statistics import DEFAULT, Bootstrap, Estimate, mean

_NOTHING = "–"
_SHARE = "1"
_EMPTIES_NOTE = "empty b/m/i: number of masks empty in both / in the prediction alone (missed) / in the reference alone (invented)"


@dataclass(frozen=True)
class TextTable:
    """A table ready to be printed.

    Attributes:
        title: What it shows.
        header: One word per column.
        rows: Cells.
        notes: What must be known to read it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Empties:
    """How many masks were empty.

    Attributes:
        both: In prediction and reference.
        missed: In the prediction alone.
        invented: In the reference alone.
    """

    both: int
    missed: int
    invented: int

    def __str__(self) -> str:
        return f"{self.both}/{self.missed}/{self.invented}"


def summaries(table: ScoreTable, *, metric: str = DICE, bootstrap: Bootstrap = DEFAULT) -> tuple[TextTable, ...]:
    """Return the table of subsets and the robustness table of each method, cohort, protocol and seed, and its HD95 if it has some.

    Raises:
        UsageError: If the table lacks the metric or measures one thing twice.
    """
    made: list[TextTable] = []
    for part in split(table):
        made.append(subset_table(part, metric=metric, bootstrap=bootstrap))
        made.append(robustness_table(part, metric=metric, bootstrap=bootstrap))
        if metric != HAUSDORFF and any(row.metric == HAUSDORFF for row in part):
            made.append(subset_table(part, metric=HAUSDORFF, bootstrap=bootstrap))
    return tuple(made)


def subset_table(table: ScoreTable, *, metric: str = DICE, bootstrap: Bootstrap = DEFAULT) -> TextTable:
    """Return one row per subset in canonical order and their mean; per region the mean with its interval and the empties.

    Beside a mean of distances stands that over the cases where neither mask is empty, which no rule touches.

    Raises:
        UsageError: If the table lacks the metric, mixes methods, cohorts or protocols, or measures one thing twice.
    """
    scores = sheet(table, metric)
    empty = _emptiness(table, scores)
    untouched: NDArray[np.bool_] | None = None
    if empty is not None and scores.unit != _SHARE:
        untouched = np.logical_not(np.logical_or(empty[0], empty[1]))
    header = ["modalities", "cases"]
    for region in scores.regions:
        header += [region, *([] if untouched is None else [f"{region} neither empty"]), f"{region} empty b/m/i"]
    rows: list[tuple[str, ...]] = []
    undefined = 0
    groups = [(subset, [s]) for s, subset in enumerate(scores.subsets)]
    groups.append((f"mean of {len(scores.subsets)}", list(range(len(scores.subsets)))))
    for name, columns in groups:
        cells = [name, str(int(scores.measured[:, columns].any(axis=(1, 2)).sum()))]
        for r in range(len(scores.regions)):
            values, measured = scores.values[:, columns, r], scores.measured[:, columns, r]
            estimate = mean(values, measured=measured, bootstrap=bootstrap)
            cells.append(_interval(estimate, scores))
            if untouched is not None:
                known = untouched[:, columns, r]
                cells.append(_interval(mean(np.where(known, values, math.nan), measured=known, bootstrap=bootstrap), scores))
            cells.append(str(_count(empty, columns, r)) if empty is not None else _NOTHING)
            undefined += estimate.undefined if len(columns) == 1 else 0
        rows.append(tuple(cells))
    notes = [_EMPTIES_NOTE if empty is not None else f"empties unknown: the score table has no {VOLUME} and {REFERENCE_VOLUME}"]
    notes += _notes(scores, bootstrap, undefined)
    return TextTable(f"{_title(table, scores)}, mean over cases", tuple(header), tuple(rows), tuple(notes))


def robustness_table(table: ScoreTable, *, metric: str = DICE, bootstrap: Bootstrap = DEFAULT) -> TextTable:
    """Return the robustness curve: one row per number of modalities, then the area under it, whole and divided by N − 1.

    Raises:
        UsageError: If the table lacks the metric, mixes methods, cohorts or protocols, or measures one thing twice.
    """
    scores = sheet(table, metric)
    found = robustness(scores, bootstrap=bootstrap)
    rows = [
        (str(k), str(found[0].subsets[k - 1]), *(_interval(f.curve[k - 1], scores) for f in found))
        for k in range(1, len(found[0].curve) + 1)
    ]
    rows.append(("AURC", "", *(_interval(f.aurc, scores) for f in found)))
    rows.append(("AURC/(N−1)", "", *(_interval(f.normalised, scores) for f in found)))
    notes = ["AURC: trapezoids under the mean over the subsets of each size, for 1 to N modalities"]
    notes += _notes(scores, bootstrap, int((scores.measured & np.isnan(scores.values)).sum()))
    header = ("modalities", "subsets", *scores.regions)
    return TextTable(f"{_title(table, scores)}, by number of modalities", header, tuple(rows), tuple(notes))


def plain(table: TextTable) -> str:
    """Return a table as text for the terminal: columns aligned, names to the left and numbers to the right."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]

    def aligned(cells: Iterable[str]) -> str:
        padded = (c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([table.title, rule, aligned(table.header), rule, *map(aligned, table.rows), rule, *table.notes]) + "\n"


def markdown(table: TextTable) -> str:
    """Return a table as Markdown."""
    lines = [table.header, tuple("---" if i == 0 else "---:" for i in range(len(table.header))), *table.rows]
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines]
    return "\n".join([f"**{table.title}**", "", *body, "", *(f"* {note}" for note in table.notes)]) + "\n"


def empties(table: ScoreTable, metric: str = DICE) -> dict[tuple[str, str], Empties]:
    """Return how many masks were empty for each (subset, region) that the table scores.

    Raises:
        UsageError: If the table lacks the metric, mixes methods, cohorts or protocols, or measures one thing twice.
    """
    scores = sheet(table, metric)
    found = _emptiness(table, scores)
    if found is None:
        return {}
    return {
        (subset, region): _count(found, [s], r)
        for s, subset in enumerate(scores.subsets)
        for r, region in enumerate(scores.regions)
    }


def _emptiness(table: ScoreTable, scores: Sheet) -> NDArray[np.bool_] | None:
    """Return which masks are empty, (2, C, S, R) on the sheet's axes: the prediction, the reference; None without volumes."""
    places = {
        (c, s, r): (i, j, k)
        for i, c in enumerate(scores.cases)
        for j, s in enumerate(scores.subsets)
        for k, r in enumerate(scores.regions)
    }
    volumes = np.full((2, *scores.values.shape), math.nan)
    for row in table:
        place = places.get((row.case, row.subset, row.region))
        if place is not None and row.metric in (VOLUME, REFERENCE_VOLUME):
            volumes[(0 if row.metric == VOLUME else 1, *place)] = row.value
    if np.isnan(volumes[:, scores.measured]).any():
        return None
    return volumes == 0.0


def _count(empty: NDArray[np.bool_], columns: list[int], region: int) -> Empties:
    predicted, referred = empty[0][:, columns, region], empty[1][:, columns, region]
    return Empties(int((predicted & referred).sum()), int((predicted & ~referred).sum()), int((~predicted & referred).sum()))


def _title(table: ScoreTable, scores: Sheet) -> str:
    first = next(row for row in table if row.metric == scores.metric)
    unit = scores.unit if scores.unit != _SHARE else "%" if _percent(scores) else "fraction"
    return f"{first.method} on {first.cohort}: {scores.metric} ({unit}), protocol {first.protocol}"


def _notes(scores: Sheet, bootstrap: Bootstrap, undefined: int) -> list[str]:
    notes = [
        f"in brackets: {100 * bootstrap.level:g} % interval, bootstrap over {len(scores.cases)} cases "
        f"({bootstrap.resamples} resamples, seed {bootstrap.seed})"
    ]
    if undefined:
        notes.append(f"{undefined} values have no number under this protocol and are in no mean")
    protocol = _protocol(scores)
    said = "rules that this version does not know" if protocol is None else "; ".join(rules(protocol))
    return [*notes, f"protocol {scores.protocol}: {said}; see 'anymri list protocols'"]


def _protocol(scores: Sheet) -> Protocol | None:
    return next((p for p in PROTOCOLS if p.name == scores.protocol), None)


def _percent(scores: Sheet) -> bool:
    protocol = _protocol(scores)
    return protocol is None or protocol.percent


def _interval(estimate: Estimate, scores: Sheet) -> str:
    if math.isnan(estimate.value):
        return _NOTHING
    scale, digits = 1.0, 2
    if scores.unit == _SHARE:
        scale, digits = (100.0, 1) if _percent(scores) else (1.0, 3)
    value, low, high = (f"{scale * v:.{digits}f}" for v in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"
