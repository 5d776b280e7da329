"""ScoreTable: every measured number with where it comes from, one row each; its CSV; and one metric of it as an array.

The CSV has the columns of ``COLUMNS``, comma-separated, UTF-8; values have every digit of a float64, "nan" and "inf" where that is
the value; a seed that is not known is an empty field.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.errors import InputFileError, UsageError
from anymri.metrics.protocol import REFERENCE_VOLUME, UNITS, VOLUME
from anymri.volumes.writing import replacing

_JOINT = "+"  # Between the names in a printed subset: anymri.domain.modality.


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number.

    Attributes:
        method: Name of the method.
        cohort: Name of the cohort.
        case: Name of the case.
        subset: Modalities at hand, as a Subset prints.
        region: Name of the region.
        metric: A key of ``anymri.metrics.protocol.UNITS``.
        value: In the unit.
        unit: "1" for a share.
        seed: Seed of the training; None if not known.
        run: Which run or file of weights it comes from.
        protocol: Name of the rules it was scored by.
    """

    method: str
    cohort: str
    case: str
    subset: str
    region: str
    metric: str
    value: float
    unit: str
    seed: int | None
    run: str
    protocol: str


COLUMNS = tuple(f.name for f in fields(Score))


@dataclass(frozen=True)
class ScoreTable:
    """Scores in a fixed order."""

    rows: tuple[Score, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.rows)


@dataclass(frozen=True)
class Origin:
    """What all scores of one case by one method share; fields as in Score."""

    method: str
    cohort: str
    case: str
    seed: int | None
    run: str
    protocol: str


@dataclass(frozen=True, eq=False)
class Sheet:
    """One metric of one method over cases, subsets and regions.

    Attributes:
        metric: Its name.
        unit: Its unit.
        cases: Axis C, in the table's order.
        subsets: Axis S, in canonical order: by size, then in axis order.
        regions: Axis R, in the table's order.
        values: Shape (C, S, R); NaN where nothing was measured or the protocol gives no value.
        measured: Which cells the table has, shape (C, S, R).
        protocol: Name of the rules it was scored by; empty if not known.
    """

    metric: str
    unit: str
    cases: tuple[str, ...]
    subsets: tuple[str, ...]
    regions: tuple[str, ...]
    values: NDArray[np.float64]
    measured: NDArray[np.bool_]
    protocol: str = ""


def tabulated(origin: Origin, subset: str, scored: Mapping[str, Mapping[str, float]]) -> tuple[Score, ...]:
    """Return the rows for region → metric → value, as ``score_case`` returns them."""
    return tuple(
        Score(
            method=origin.method,
            cohort=origin.cohort,
            case=origin.case,
            subset=subset,
            region=region,
            metric=metric,
            value=value,
            unit=UNITS[metric],
            seed=origin.seed,
            run=origin.run,
            protocol=origin.protocol,
        )
        for region, values in scored.items()
        for metric, value in values.items()
    )


def joined(tables: Iterable[ScoreTable], *, across_protocols: bool = False) -> ScoreTable:
    """Return the rows of all tables, one after the other.

    Raises:
        UsageError: If they were scored by different protocols and that was not asked for.
    """
    rows = tuple(row for table in tables for row in table)
    compared_protocol((row.protocol for row in rows), across_protocols=across_protocols)
    return ScoreTable(rows)


def compared_protocol(protocols: Iterable[str], *, across_protocols: bool) -> str:
    """Return the name of the protocol that what is to be compared was scored by.

    Several are named all, which is what across protocols asks for.

    Raises:
        UsageError: If there are several and that was not asked for.
    """
    names = tuple(dict.fromkeys(p for p in protocols if p))
    if len(names) > 1 and not across_protocols:
        raise UsageError(
            f"scores of different protocols cannot be compared: {', '.join(sorted(names))}; score all by one, "
            "or ask for it by across_protocols=True"
        )
    return " against ".join(names)


def selected(table: ScoreTable, keep: Callable[[Score], bool]) -> ScoreTable:
    """Return the rows that are to be kept, in their order."""
    return ScoreTable(tuple(row for row in table if keep(row)))


def empties_unknown(table: ScoreTable, metric: str) -> ScoreTable:
    """Return the rows with no value (NaN) of a metric where prediction or reference is empty, by their volumes in the table."""

    def key(row: Score) -> tuple[object, ...]:
        return row.method, row.cohort, row.case, row.subset, row.region, row.seed, row.run, row.protocol

    empty = {key(row) for row in table if row.metric in (VOLUME, REFERENCE_VOLUME) and row.value == 0.0}
    return ScoreTable(tuple(replace(r, value=math.nan) if r.metric == metric and key(r) in empty else r for r in table))


def split(table: ScoreTable) -> tuple[ScoreTable, ...]:
    """Return the rows of each method, cohort, protocol and seed as a table of their own, in order of appearance."""
    parts: dict[tuple[object, ...], list[Score]] = {}
    for row in table:
        parts.setdefault((row.method, row.cohort, row.protocol, row.seed), []).append(row)
    return tuple(ScoreTable(tuple(rows)) for rows in parts.values())


def subset_size(subset: str) -> int:
    """Return how many modalities a printed subset has."""
    return subset.count(_JOINT) + 1


def subset_order(subsets: Iterable[str]) -> tuple[str, ...]:
    """Return printed subsets once each in canonical order: by size, then in axis order.

    The axis order is that of the largest subset; names that it lacks follow in order of appearance.
    """
    distinct = tuple(dict.fromkeys(subsets))
    largest = max(distinct, key=subset_size, default="")
    names = dict.fromkeys(n for subset in (largest, *distinct) for n in subset.split(_JOINT))
    place = {name: i for i, name in enumerate(names)}
    return tuple(sorted(distinct, key=lambda s: (subset_size(s), [place[n] for n in s.split(_JOINT)])))


def sheet(table: ScoreTable, metric: str) -> Sheet:
    """Return one metric of a table as an array.

    Raises:
        UsageError: If the table lacks the metric, mixes methods, cohorts, protocols or units, or measures one thing twice.
    """
    rows = [row for row in table if row.metric == metric]
    if not rows:
        known = ", ".join(dict.fromkeys(row.metric for row in table)) or "no rows at all"
        raise UsageError(f"the score table has no metric '{metric}'; it has {known}")
    _check_unmixed(rows)
    cases = tuple(dict.fromkeys(row.case for row in rows))
    subsets = subset_order(row.subset for row in rows)
    regions = tuple(dict.fromkeys(row.region for row in rows))
    place = [{name: i for i, name in enumerate(names)} for names in (cases, subsets, regions)]
    values = np.full((len(cases), len(subsets), len(regions)), math.nan)
    measured = np.zeros(values.shape, dtype=np.bool_)
    for row in rows:
        cell = place[0][row.case], place[1][row.subset], place[2][row.region]
        if measured[cell]:
            raise UsageError(
                f"the score table has {metric} of {row.region} for case {row.case} with {row.subset} twice "
                f"(again in run '{row.run}', seed {row.seed}); select one run or seed first"
            )
        measured[cell], values[cell] = True, row.value
    return Sheet(metric, rows[0].unit, cases, subsets, regions, values, measured, rows[0].protocol)


def write_scores(path: Path, table: ScoreTable) -> None:
    """Write a table as CSV, under a temporary name that is then renamed.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in table)


def read_scores(path: Path) -> ScoreTable:
    """Read a table that ``write_scores`` wrote.

    Raises:
        InputFileError: If the file is missing or unreadable, or a line of it is not as expected.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            try:
                _check_header(path, next(lines, None))
                return ScoreTable(tuple(_row(path, lines.line_num, cells) for cells in lines if cells))
            except csv.Error as error:
                raise InputFileError(f"{path}, line {lines.line_num}: not CSV ({error}); expected a score table") from error
    except FileNotFoundError:
        raise InputFileError(f"{path}: not found; expected a score table, which 'anymri evaluate' writes") from None
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: not text in UTF-8 ({error.reason}); expected a score table as CSV") from error
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); expected a score table as CSV") from error


def _check_unmixed(rows: Iterable[Score]) -> None:
    origins = {(row.method, row.cohort, row.protocol, row.unit) for row in rows}
    for what, found in zip(("methods", "cohorts", "protocols", "units"), zip(*origins, strict=True), strict=True):
        if len(set(found)) > 1:
            raise UsageError(f"the score table mixes {what} ({', '.join(sorted(set(found)))}); a mean needs one: select it first")


def _cells(row: Score) -> tuple[str, ...]:
    seed = "" if row.seed is None else str(row.seed)
    # repr of a float is the shortest text that reads back as the same float.
    value = repr(float(row.value))
    return row.method, row.cohort, row.case, row.subset, row.region, row.metric, value, row.unit, seed, row.run, row.protocol


def _check_header(path: Path, header: list[str] | None) -> None:
    expected = ",".join(COLUMNS)
    if header is None:
        raise InputFileError(f"{path}: is empty; expected a score table with the header {expected}")
    if tuple(header) != COLUMNS:
        raise InputFileError(f"{path}, line 1: found the header '{','.join(header)[:200]}'; expected {expected}")


def _row(path: Path, line: int, cells: list[str]) -> Score:
    if len(cells) != len(COLUMNS):
        raise InputFileError(f"{path}, line {line}: found {len(cells)} fields; expected {len(COLUMNS)}: {','.join(COLUMNS)}")
    method, cohort, case, subset, region, metric, value, unit, seed, run, protocol = cells
    number, seeded = _number(path, line, value), _seed(path, line, seed)
    return Score(method, cohort, case, subset, region, metric, number, unit, seeded, run, protocol)


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputFileError(f"{path}, line {line}: found the value '{text[:40]}'; expected a number, nan or inf") from None


def _seed(path: Path, line: int, text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        raise InputFileError(f"{path}, line {line}: found the seed '{text[:40]}'; expected a whole number or nothing") from None
