"""Methods side by side, measured and published: the tables of a report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from anymri.metrics.protocol import DICE
from anymri.metrics.scores import split, subset_order
from anymri.metrics.statistics import Bootstrap
from anymri.metrics.tables import Empties, empties
from anymri.published.reading import HD95, Footnote, PublishedTable
from anymri.report.formats import letter
from anymri.report.series import APART, MeasuredSeries, PublishedSeries, Series, is_known, origin_of, regions_of, task_of
from anymri.report.table import (
    MILLIMETRES,
    NOTHING,
    PERCENT,
    Cell,
    Row,
    Table,
    column_best,
    counted,
    known,
    number,
    with_best,
)

_WIDEST = 6  # Methods per region that one table can hold side by side.
_UNITS = {DICE: PERCENT, HD95: MILLIMETRES, APART: MILLIMETRES}
_NAMES = {DICE: "Dice", HD95: "HD95", APART: "HD95 where neither is empty"}
INTERVALS = "Intervals of {level:g} %: bootstrap over cases ({resamples} resamples). Published numbers come without."


@dataclass(frozen=True)
class Notes:
    """Footnotes of published tables with the letters they have in one table.

    Attributes:
        texts: The footnotes, in the order of their letters.
        places: Table name and footnote, in the same order.
    """

    texts: tuple[str, ...]
    places: tuple[tuple[str, Footnote], ...]

    def of_cell(self, series: Series, region: str) -> str:
        """Return the letters of what is said of one region of a method."""
        return self._letters(series, lambda note: bool(note.regions) and note.concerns(series.label, region))

    def of_row(self, series: Series) -> str:
        """Return the letters of what is said of a method as a whole."""
        return self._letters(series, lambda note: not note.regions and series.label in note.methods)

    def _letters(self, series: Series, concerns: Callable[[Footnote], bool]) -> str:
        if isinstance(series, MeasuredSeries):
            return ""
        return "".join(letter(i) for i, (name, note) in enumerate(self.places) if name == series.table.name and concerns(note))


def notes_of(series: Sequence[Series], regions: Sequence[str]) -> Notes:
    """Return the footnotes of all published tables among these that concern the regions shown, each once."""
    tables: dict[str, PublishedTable] = {s.table.name: s.table for s in series if isinstance(s, PublishedSeries)}
    places = tuple(
        (t.name, note) for t in tables.values() for note in t.footnotes if not note.regions or set(note.regions) & set(regions)
    )
    sources = len(tables) > 1
    texts = tuple(f"{tables[name].title}: {note.text}" if sources else note.text for name, note in places)
    return Notes(texts, places)


def sources_of(series: Sequence[Series]) -> tuple[str, ...]:
    """Return one line for every published table among these: its data, and what it says of how it was measured."""
    tables = dict.fromkeys(s.table for s in series if isinstance(s, PublishedSeries))
    return tuple(f"{t.title.partition(':')[0]}: {t.data}, {t.protocol}." for t in tables)


def subset_tables(series: Sequence[Series], *, name: str, title: str, bootstrap: Bootstrap) -> tuple[Table, ...]:
    """Return Table 1 of the field: subsets × regions × methods; one table per region if there are many methods."""
    shown = [s for s in series if s.subsets]
    if not shown:
        return ()
    regions = regions_of(shown)
    parts = [regions] if len(shown) <= _WIDEST else [(r,) for r in regions]
    names = [name if len(parts) == 1 else f"{name}_{part[0].lower()}" for part in parts]
    titles = [title if len(parts) == 1 else f"{title}: {part[0]}" for part in parts]
    return tuple(_subset_table(shown, part, (n, t), bootstrap) for part, n, t in zip(parts, names, titles, strict=True))


def mean_table(series: Sequence[Series], *, name: str, title: str, bootstrap: Bootstrap) -> Table | None:
    """Return Table 2 of the field: methods × Dice and HD95 of every region, mean over subsets; and how many masks were empty.

    Beside HD95 stands that of masks where neither is empty, which no protocol's rule touches.
    """
    if not series:
        return None
    regions = regions_of(series)
    notes = notes_of(series, regions)
    metrics = [m for m in _UNITS if any(is_known(s.mean((r,), m)) for s in series for r in regions)]
    measured = any(isinstance(s, MeasuredSeries) for s in series)
    rows: list[Row] = []
    for own in series:
        cells: list[Cell] = []
        for metric in metrics:
            cells += [number(own.mean((r,), metric), _UNITS[metric], marks=notes.of_cell(own, r)) for r in regions]
            cells.append(number(own.mean(regions, metric), _UNITS[metric]))
        if measured:
            cells += _empty_cells(own, regions)
        rows.append(Row(own.label, tuple(cells), section=own.group, marks=notes.of_row(own), origin=own.origin))
    width = len(regions) + 1
    groups = [(f"{_NAMES[m]}, {_UNITS[m].name}", width) for m in metrics]
    header = [*regions, "mean"] * len(metrics)
    told = [INTERVALS.format(level=100 * bootstrap.level, resamples=bootstrap.resamples)] if measured else []
    if measured:
        groups.append(("empty masks b/m/i", len(regions)))
        header += regions
        told.append("Empty masks: in both / in the prediction alone (missed) / in the reference alone (invented).")
    told += [said for s in series if isinstance(s, MeasuredSeries) for said in _undefined(s, regions, metrics)]
    told += sources_of(series)
    # Not where neither is empty: methods that miss different tumours are seen on different masks there.
    ranked = [m for m in metrics if m != APART]
    higher = [_UNITS[m].higher for m in ranked for _ in range(width)]
    best = column_best(rows, among=[s.peers for s in series], columns=range(len(higher)), higher=higher)
    return Table(name, title, "method", tuple(header), best, tuple(groups), tuple(told), notes.texts)


def without_table(series: Sequence[Series], *, name: str, title: str) -> Table | None:
    """Return the mean Dice over the subsets that lack a modality, for each; none unless all subsets of a task were scored."""
    shown, task = [s for s in series if s.subsets], task_of(series)
    if not shown or task is None:
        return None
    notes = notes_of(shown, ())
    modalities, regions = task.modalities.names, regions_of(shown)
    columns = [(r, m) for r in regions for m in modalities]
    rows = [
        Row(
            s.label,
            tuple(number(s.without(m, len(modalities), r), PERCENT) for r, m in columns),
            section=s.group,
            marks=notes.of_row(s),
            origin=s.origin,
        )
        for s in shown
    ]
    rows = [row for row in rows if any(cell.text != NOTHING for cell in row.cells)]
    peers = [s.peers for s in shown if any(is_known(s.without(m, len(modalities), r)) for r, m in columns)]
    if not rows:
        return None
    best = column_best(rows, among=peers, columns=range(len(columns)), higher=[True] * len(columns))
    told = f"Mean over the {2 ** (len(modalities) - 1) - 1} subsets that lack the modality of the means over cases."
    groups = tuple((f"{r}: Dice without, %", len(modalities)) for r in regions)
    header = tuple(m for _, m in columns)
    return Table(name, title, "method", header, best, groups, (told, *sources_of(shown)), notes.texts)


def area_table(series: Sequence[Series], *, name: str, title: str) -> Table | None:
    """Return the area under the robustness curve of every method that has one, and that divided by N − 1."""
    shown = [s for s in series if s.subsets and any(s.curve(r) for r in s.regions)]
    if not shown:
        return None
    regions, notes = regions_of(shown), notes_of(shown, ())
    rows = [
        Row(
            s.label,
            tuple(number(s.area(r)[part], PERCENT) for part in (0, 1) for r in regions),
            section=s.group,
            marks=notes.of_row(s),
            origin=s.origin,
        )
        for s in shown
    ]
    count = len(regions)
    return Table(
        name,
        title,
        "method",
        (*regions, *regions),
        column_best(rows, among=[s.peers for s in shown], columns=range(2 * count), higher=[True] * 2 * count),
        (("AURC, % × modalities", count), ("AURC / (N − 1), %", count)),
        (
            "Trapezoids under the mean over the subsets of each size, for 1 to N modalities; for four: half of the first and last, "
            "all of the second and third.",
            *sources_of(shown),
        ),
        notes.texts,
    )


def empty_table(series: Sequence[MeasuredSeries], *, name: str, title: str) -> Table | None:
    """Return how often reference and prediction were empty, summed over subsets, cases and seeds."""
    regions = regions_of(series) if series else ()
    rows: list[Row] = []
    for own in series:
        total, scored = _emptiness(own)
        for region in regions:
            if region in total:
                e = total[region]
                counts = (scored[region], e.both + e.invented, e.both + e.missed, e.both, e.missed, e.invented)
                rows.append(Row(region, tuple(map(counted, counts)), section=own.label, origin=own.origin))
    if not rows:
        return None
    header = ("masks", "reference empty", "prediction empty", "both empty", "missed", "found where nothing is")
    notes = (
        "Counted over all subsets, cases and seeds. What an empty mask is worth is the protocol's choice, and moves the means.",
    )
    return Table(name, title, "region", header, tuple(rows), notes=notes)


def seed_table(series: Sequence[MeasuredSeries], *, name: str, title: str) -> Table | None:
    """Return the mean Dice of every seed, where a method has several."""
    several = [s for s in series if len(s.measured.by_seed) > 1]
    if not several:
        return None
    regions = regions_of(several)
    rows: list[Row] = []
    for own in several:
        means: list[list[float]] = []
        for seed, table in own.measured.by_seed.items():
            alone = MeasuredSeries(replace(own.measured, by_seed={seed: table}), own.bootstrap)
            found = [alone.mean((r,)) for r in regions] + [alone.mean(regions)]
            means.append([e.value for e in found])
            rows.append(Row(f"seed {seed}", tuple(number(e, PERCENT) for e in found), section=own.label, origin=own.origin))
        spread = [100 * (max(values) - min(values)) for values in zip(*means, strict=True)]
        rows.append(
            Row("largest − smallest", tuple(Cell(f"{v:.2f}", v) for v in spread), section=own.label, ruled=True, origin=own.origin)
        )
    covered = [{s.cases for s in own.dice.by_seed.values()} for own in several]
    notes = ("Not every seed was scored on the same cases.",) if any(len(cases) > 1 for cases in covered) else ()
    return Table(name, title, "seed", (*regions, "mean"), tuple(rows), (("Dice, %", len(regions) + 1),), notes)


def split_tables(series: Sequence[MeasuredSeries], *, name: str, where: str) -> tuple[Table, ...]:
    """Return for every method that was trained on several splits with cases in common the mean over its splits."""
    kinds: dict[str, list[MeasuredSeries]] = {}
    for own in series:
        if own.measured.trainings:
            kinds.setdefault(own.measured.trainings[0].kind, []).append(own)
    groups = [g for g in kinds.values() if len({own.dice.sheet.cases for own in g}) > 1 and len({own.subsets for own in g}) == 1]
    return tuple(_split_table(g, f"{name}_{i}" if len(groups) > 1 else name, where) for i, g in enumerate(groups, start=1))


def _split_table(series: Sequence[MeasuredSeries], name: str, where: str) -> Table:
    regions, method = regions_of(series), series[0].measured.method

    def cells(of: Callable[[MeasuredSeries, str], float]) -> tuple[Cell, ...]:
        found = [[of(own, region) for own in series] for region in regions]
        return tuple(number(known(sum(values) / len(values)), PERCENT) for values in found)

    rows = [Row(s, cells(lambda own, region, s=s: own.at(s, region).value)) for s in series[0].subsets]
    rows.append(Row("mean", cells(lambda own, region: own.mean((region,)).value), ruled=True))
    notes = (
        f"Mean of the means of {len(series)} splits: {', '.join(own.label for own in series)}.",
        "Without intervals: the splits share cases, so what they found is not independent.",
    )
    return Table(
        name, f"{method}, mean of its splits, {where}", "modalities", regions, tuple(rows), notes=notes, origin=origin_of(series)
    )


def _subset_table(series: Sequence[Series], regions: Sequence[str], named: tuple[str, str], bootstrap: Bootstrap) -> Table:
    notes, task = notes_of(series, regions), task_of(series)
    subsets = subset_order(s for own in series for s in own.subsets)
    columns = [(own, region) for region in regions for own in series]
    among = [(region, own.peers) for own, region in columns]
    rows = [
        Row(subset, with_best([number(own.at(subset, region), PERCENT) for own, region in columns], among)) for subset in subsets
    ]
    means = [number(own.mean((region,)), PERCENT, marks=notes.of_cell(own, region) + notes.of_row(own)) for own, region in columns]
    rows.append(Row("mean", with_best(means, among), ruled=True))
    groups: list[tuple[str, int]] = []
    for region in regions:
        for group, members in itertools.groupby(series, key=lambda s: s.group):
            groups.append((f"{region}, {group}", len(list(members))))
    told = ["Dice in percent, mean over cases; the best of those that may be compared is in bold."]
    if any(isinstance(s, MeasuredSeries) for s in series):
        told.append(INTERVALS.format(level=100 * bootstrap.level, resamples=bootstrap.resamples))
    told += sources_of(series)
    modalities = task.modalities.names if task else ()
    # A subset of few modalities, as in a table without one of them, still names those that it can have.
    used = tuple(m for m in modalities if any(m in s.split("+") for s in subsets))
    return Table(
        *named,
        "modalities",
        tuple(own.label for own, _ in columns),
        tuple(rows),
        tuple(groups),
        tuple(told),
        notes.texts,
        used,
        origin_of(series),
    )


def _undefined(series: MeasuredSeries, regions: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return what must be known of values that no mean can be made of."""
    told = [f"{series.label}: no mean of HD95, some of its values are infinite."] if series.endless else []
    for metric in (m for m in metrics if m != APART):
        count = series.mean(regions, metric).undefined
        if count:
            told.append(
                f"{series.label}: {count} values of {_NAMES[metric]} have no number under this protocol and are in no mean."
            )
    return told


def _empty_cells(series: Series, regions: Sequence[str]) -> list[Cell]:
    if isinstance(series, PublishedSeries):
        return [Cell("not told")] * len(regions)
    total, _ = _emptiness(series)
    return [Cell(str(total[r])) if r in total else Cell(NOTHING) for r in regions]


def _emptiness(series: MeasuredSeries) -> tuple[dict[str, Empties], dict[str, int]]:
    """Return for each region how many masks were empty and how many were scored; nothing without volumes."""
    total: dict[str, Empties] = {}
    scored: dict[str, int] = {}
    for table in (part for own in series.measured.by_seed.values() for part in split(own)):
        for (_, region), e in empties(table).items():
            old = total.get(region, Empties(0, 0, 0))
            total[region] = Empties(old.both + e.both, old.missed + e.missed, old.invented + e.invented)
    for scores in series.dice.by_seed.values():
        for r, region in enumerate(scores.regions):
            scored[region] = scored.get(region, 0) + int(scores.measured[:, :, r].sum())
    return total, scored
