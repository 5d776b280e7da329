"""What a report says, in order: sections of tables and pictures, made of measured and published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anymri.errors import UsageError
from anymri.metrics.protocol import protocol_named, rules
from anymri.metrics.statistics import Bootstrap
from anymri.published.reading import PublishedTable
from anymri.report.ablation import ablation_tables, published_ablations, training_table
from anymri.report.comparison import (
    area_table,
    empty_table,
    mean_table,
    seed_table,
    split_tables,
    subset_tables,
    without_table,
)
from anymri.report.contests import contest_table, without_contest_table
from anymri.report.figures import Picture, area_figure, curve_figure, training_figure
from anymri.report.measured import Arena, Material
from anymri.report.series import MeasuredSeries, PublishedSeries, Series, by_group
from anymri.report.table import Cell, Row, Table, counted


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading.
        anchor: Its place, for links.
        paragraphs: What is said before its tables and pictures.
        parts: Tables and pictures, in order.
    """

    title: str
    anchor: str
    paragraphs: tuple[str, ...]
    parts: tuple[Table | Picture, ...]


def sections_of(
    material: Material, published: Sequence[PublishedTable], *, case: Picture | None, bootstrap: Bootstrap
) -> tuple[Section, ...]:
    """Return the sections of a report; what there is nothing of is left out.

    Raises:
        UsageError: If a score table lacks Dice.
    """
    found: list[Section] = []
    several = len(material.arenas) > 1
    for place, arena in enumerate(material.arenas, start=1):
        found += _arena_sections(arena, published, suffix=f"_{place}" if several else "", bootstrap=bootstrap)
    if not material.arenas:
        for data in dict.fromkeys(t.data for t in published):
            found += _published_sections(data, [t for t in published if t.data == data], bootstrap)
    if case is not None:
        found.append(Section("One case", "case", (), (case,)))
    ablations = published_ablations(published, bootstrap=bootstrap)
    if ablations:
        found.append(Section("Published ablations", "published-ablations", (), ablations))
    trainings = training_table(material.trainings)
    if trainings:
        curves = training_figure(material.trainings, name="figure_training", title="Training curves")
        found.append(Section("Trainings", "trainings", (), tuple(p for p in (trainings, curves) if p)))
    if published:
        found.append(Section("Sources of published numbers", "sources", _SOURCES, (_source_table(published),)))
    return tuple(found)


_SOURCES = (
    "Published numbers are repeated as they were printed; means of them and areas under their curves are ours. They come from "
    "other cases, splits, trainings and rules of scoring than what was measured here, and than each other's: no difference between "
    "them is tested.",
)
_APART = (
    "What was scored on different cohorts or by different protocols stands in sections of its own: such numbers are not compared "
    "with each other."
)


_ACROSS = (
    "Scores of different protocols stand side by side because that was asked for: a difference between them may be one of the "
    "rules alone. The best is marked within a protocol."
)


def _arena_sections(arena: Arena, published: Sequence[PublishedTable], *, suffix: str, bootstrap: Bootstrap) -> list[Section]:
    """Return what is said of the methods that were scored on one cohort by one protocol."""
    measured = by_group([MeasuredSeries(m, bootstrap) for m in arena.methods])
    others = _published_series(published)
    series: tuple[Series, ...] = (*measured, *others)
    where = f"{arena.cohort}, {'protocol' if len(arena.protocols) == 1 else 'across protocols'} {' and '.join(arena.protocols)}"
    tests, refused = contest_table(measured, name=f"table_tests{suffix}", title=f"Paired tests, {where}", bootstrap=bootstrap)
    lacking = without_contest_table(
        measured, name=f"table_tests_without{suffix}", title=f"Paired tests without a modality, {where}", bootstrap=bootstrap
    )
    areas = area_table(series, name=f"table_aurc{suffix}", title=f"Area under the robustness curve, {where}")
    made: tuple[tuple[str, tuple[Table | Picture | None, ...]], ...] = (
        ("Methods", (_method_table(measured, f"table_methods{suffix}", where),)),
        (
            "Dice for every subset",
            subset_tables(series, name=f"table_subsets{suffix}", title=f"Dice, {where}", bootstrap=bootstrap),
        ),
        ("Splits", split_tables(measured, name=f"table_splits{suffix}", where=where)),
        ("Means", (mean_table(series, name=f"table_means{suffix}", title=f"Means over subsets, {where}", bootstrap=bootstrap),)),
        (
            "Robustness",
            (
                curve_figure(series, name=f"figure_modalities{suffix}", title=f"Mean Dice by number of modalities, {where}"),
                areas,
                area_figure(series, name=f"figure_aurc{suffix}", title=f"Area under the robustness curve, {where}"),
                without_table(series, name=f"table_without{suffix}", title=f"Without a modality, {where}"),
            ),
        ),
        ("Paired tests", (tests, lacking)),
        ("Ablations", ablation_tables(measured, name=f"table_ablation{suffix}", where=where, bootstrap=bootstrap)),
        ("Seeds", (seed_table(measured, name=f"table_seeds{suffix}", title=f"Seeds, {where}"),)),
        ("Empty masks", (empty_table(measured, name=f"table_empties{suffix}", title=f"Empty masks, {where}"),)),
    )
    mixed = (_ACROSS,) if len(arena.protocols) > 1 else ()
    apart = (_APART,) if suffix else ()
    said = {"Methods": (*mixed, *(_rules(arena.cohort, p) for p in arena.protocols), *apart), "Paired tests": (*mixed, *refused)}
    return [
        Section(title if not suffix else f"{title}: {where}", f"{_anchor(title)}{suffix}", said.get(title, ()), kept)
        for title, parts in made
        if (kept := tuple(p for p in parts if p is not None)) or said.get(title)
    ]


def _published_sections(data: str, published: Sequence[PublishedTable], bootstrap: Bootstrap) -> list[Section]:
    """Return what is said of published numbers that stand alone."""
    series = _published_series(published)
    if not series:
        return []
    suffix = f"_{published[0].data_name}"
    parts: list[Table | Picture | None] = [
        *subset_tables(series, name=f"table_subsets{suffix}", title=f"Dice, {data} (published)", bootstrap=bootstrap),
        mean_table(series, name=f"table_means{suffix}", title=f"Means over subsets, {data} (published)", bootstrap=bootstrap),
        curve_figure(series, name=f"figure_modalities{suffix}", title=f"Mean Dice by number of modalities, {data} (published)"),
        area_table(series, name=f"table_aurc{suffix}", title=f"Area under the robustness curve, {data} (published)"),
        area_figure(series, name=f"figure_aurc{suffix}", title=f"Area under the robustness curve, {data} (published)"),
        without_table(series, name=f"table_without{suffix}", title=f"Without a modality, {data} (published)"),
    ]
    return [Section(f"{data}, as published", f"published{suffix}", (), tuple(p for p in parts if p is not None))]


def _published_series(tables: Iterable[PublishedTable]) -> tuple[PublishedSeries, ...]:
    return tuple(PublishedSeries(t, m) for t in tables if t.kind == "methods" for m in t.methods)


def _rules(cohort: str, name: str) -> str:
    try:
        protocol = protocol_named(name)
        told = f": {'; '.join(rules(protocol))}{'' if protocol.percent else ', but in percent here, as all of this report'}"
    except UsageError:  # Scored by a version that knows more protocols than this one.
        told = ""
    return f"Scored on cohort {cohort} by the protocol {name}{told}."


def _method_table(series: Sequence[MeasuredSeries], name: str, where: str) -> Table:
    rows = tuple(
        Row(
            s.label,
            (
                Cell(s.measured.method),
                counted(len(s.dice.sheet.cases)),
                counted(len(s.subsets)),
                Cell(", ".join("unknown" if seed is None else str(seed) for seed in s.measured.by_seed)),
                Cell(s.measured.origin),
                Cell(", ".join(dict.fromkeys(row.run for t in s.measured.by_seed.values() for row in t if row.run)) or "unknown"),
            ),
            section=s.group,
            origin=s.origin,
        )
        for s in series
    )
    header = ("method", "cases", "subsets", "seeds", "scores of", "weights, SHA-256")
    return Table(name, f"What was measured, {where}", "label", header, rows)


def _source_table(published: Sequence[PublishedTable]) -> Table:
    rows = tuple(
        Row(t.name, (Cell(t.title), Cell(t.data), Cell(t.citation), Cell(t.protocol), Cell("yes" if t.verified else "no")))
        for t in published
    )
    header = ("title", "data", "source", "protocol", "first hand")
    notes = tuple(f"{t.title}: {n.text}" for t in published for n in t.footnotes)
    return Table("table_sources", "Sources", "name", header, rows, notes=notes)


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
