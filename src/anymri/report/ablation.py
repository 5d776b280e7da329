"""Variants of one method side by side: those that were measured, told apart by their records, and those that were published."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anymri.metrics.statistics import Bootstrap
from anymri.published.reading import PublishedTable
from anymri.report.comparison import INTERVALS, notes_of, sources_of, subset_tables
from anymri.report.series import MeasuredSeries, PublishedSeries, regions_of
from anymri.report.table import NOTHING, PERCENT, Cell, Origin, Row, Table, column_best, counted, number
from anymri.report.trainings import Training, differing, setting_name, setting_text

_FEW = 8  # Settings in which runs may differ and still be an ablation of one method.


def ablation_tables(series: Sequence[MeasuredSeries], *, name: str, where: str, bootstrap: Bootstrap) -> tuple[Table, ...]:
    """Return one table for each method of which several variants were measured that differ in few settings."""
    families: dict[str, list[MeasuredSeries]] = {}
    for own in series:
        if own.measured.trainings:
            families.setdefault(own.measured.method, []).append(own)
    tables: list[Table] = []
    for method, family in families.items():
        fields = differing([s.measured.trainings[0] for s in family])
        if len(family) > 1 and 0 < len(fields) <= _FEW:
            tables.append(_measured(family, fields, (f"{name}_{method}", f"Ablation of {method}, {where}"), bootstrap))
    return tuple(tables)


def published_ablations(tables: Sequence[PublishedTable], *, bootstrap: Bootstrap) -> tuple[Table, ...]:
    """Return the ablations among published tables as they were printed: variants × regions, or subsets × variants."""
    found: list[Table] = []
    for table in (t for t in tables if t.kind == "ablation"):
        series = [PublishedSeries(table, m) for m in table.methods]
        name, title = f"table_{table.name.replace('-', '_')}", f"{table.title} (published)"
        if table.subsets:
            found += subset_tables(series, name=name, title=title, bootstrap=bootstrap)
            continue
        regions = regions_of(series)
        notes = notes_of(series, regions)
        rows = [
            Row(
                s.label,
                (
                    *(number(s.mean((r,)), PERCENT, marks=notes.of_cell(s, r)) for r in regions),
                    number(s.mean(regions), PERCENT),
                ),
                marks=notes.of_row(s),
                origin=s.origin,
            )
            for s in series
        ]
        count = len(regions) + 1
        best = column_best(rows, among=[table.name] * len(rows), columns=range(count), higher=[True] * count)
        told = ("Mean over the subsets.", *sources_of(series))
        found.append(Table(name, title, "variant", (*regions, "mean"), best, (("Dice, %", count),), told, notes.texts))
    return tuple(found)


def training_table(trainings: Sequence[Training]) -> Table | None:
    """Return one line for every run folder: its seed and fold, how far it came, and which candidate was chosen."""
    if not trainings:
        return None
    rows = tuple(
        Row(
            t.name,
            (
                Cell(t.method),
                Cell(setting_text(t.seed)),
                Cell(setting_text(t.fold)),
                _made(t),
                Cell(f"{t.losses[-1][1]:.3f}", t.losses[-1][1]) if t.losses else Cell(NOTHING),
                Cell(t.chosen or "not finished"),
                _validation(t),
                Cell(t.weights or NOTHING),
            ),
            origin=Origin(t.cohort, _chosen_by(t)),
        )
        for t in trainings
    )
    header = (
        "method",
        "seed",
        "fold left out",
        "steps",
        "last loss",
        "chosen candidate",
        "its validation Dice, %",
        "weights, SHA-256",
    )
    cohorts = " and ".join(dict.fromkeys(t.cohort for t in trainings if t.cohort))
    notes = (
        "Loss: smoothed sum of the terms of the objective; it can be compared only between runs of one objective.",
        *dict.fromkeys(f"Validation Dice: {_chosen_by(t)}." for t in trainings if t.candidates),
    )
    return Table("table_trainings", f"Trainings on {cohorts}" if cohorts else "Trainings", "run folder", header, rows, notes=notes)


def _measured(family: Sequence[MeasuredSeries], fields: Sequence[str], called: tuple[str, str], bootstrap: Bootstrap) -> Table:
    regions = regions_of(family)
    among = {s.peers for s in family}
    rows = [
        Row(
            s.label,
            (
                *(Cell(setting_text(s.measured.trainings[0].settings.get(f))) for f in fields),
                *(number(s.mean((r,)), PERCENT) for r in regions),
                number(s.mean(regions), PERCENT),
                Cell(", ".join(map(setting_text, s.measured.by_seed))),
            ),
            origin=s.origin,
        )
        for s in family
    ]
    first, count = len(fields), len(regions) + 1
    marked = column_best(rows, among=[s.peers for s in family], columns=range(first, first + count), higher=[True] * count)
    header = (*map(setting_name, fields), *regions, "mean", "seeds")
    groups = (("settings in which they differ", first), ("Dice, %", count), ("", 1))
    notes = (
        "Mean over all subsets; seeds are averaged per case first.",
        INTERVALS.format(level=100 * bootstrap.level, resamples=bootstrap.resamples),
        *(
            ()
            if len(among) == 1
            else ("Not all variants were scored on the same cases: the best is marked among those that were.",)
        ),
    )
    return Table(*called, "variant", header, marked, groups, notes)


def _made(training: Training) -> Cell:
    """Return how many steps were made, or at least how many, if only the log tells."""
    if training.steps is not None:
        return counted(training.steps)
    return Cell(f"at least {training.losses[-1][0]}") if training.losses else Cell(NOTHING)


def _chosen_by(training: Training) -> str:
    """Return the rule by which candidates were scored; nothing if none was."""
    return (training.rule or "its run folder does not tell the rule") if training.candidates else ""


def _validation(training: Training) -> Cell:
    value = training.candidates.get(training.chosen or "", math.nan)
    return Cell(NOTHING) if math.isnan(value) else Cell(f"{100 * value:.2f}", 100 * value)
