"""Several trainings of one method as one: seeds averaged case by case, and methods compared case by case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymri.errors import UsageError
from anymri.metrics.scores import ScoreTable, Sheet, compared_protocol, sheet, subset_order
from anymri.metrics.statistics import DEFAULT, Bootstrap, Estimate, holm, mean, paired_difference, wilcoxon


@dataclass(frozen=True, eq=False)
class Pooled:
    """One metric of one method over all its seeds.

    Attributes:
        sheet: The mean over the seeds of every case, subset and region; a seed that lacks a case does not count in it.
        by_seed: The same for each seed alone.
    """

    sheet: Sheet
    by_seed: Mapping[int | None, Sheet]


@dataclass(frozen=True)
class Contest:
    """One method against another in one region, on the cases and subsets that both were scored on.

    Attributes:
        first: The one method.
        second: The other.
        region: Name of the region.
        estimate: Mean of first minus second; its cases are those that both have.
        p: Two-sided Wilcoxon signed-rank over the cases' mean differences.
        p_holm: The same, corrected by Holm for all contests of the family.
        protocol: Name of the rules that both were scored by; of both, if they differ.
        part: Name of the subsets that it is about; empty if it is about all.
    """

    first: str
    second: str
    region: str
    estimate: Estimate
    p: float
    p_holm: float
    protocol: str
    part: str = ""


def pooled(tables: Mapping[int | None, ScoreTable], metric: str) -> Pooled:
    """Return one metric of several seeds of one method as one sheet.

    Args:
        tables: Seed → its scores, of one method, cohort and protocol; the folds of a seed joined.
        metric: Name of the metric.

    Raises:
        UsageError: If a table lacks the metric, mixes methods, cohorts or protocols, or measures one thing twice; or if the seeds
            were scored by different protocols.
    """
    by_seed = {seed: sheet(table, metric) for seed, table in tables.items()}
    sheets = tuple(by_seed.values())
    # A mean of what different rules make of seeds is no number of anything: it cannot be asked for.
    protocol = compared_protocol((s.protocol for s in sheets), across_protocols=False)
    if len(sheets) == 1:
        return Pooled(sheets[0], by_seed)
    cases = _union(s.cases for s in sheets)
    subsets = subset_order(_union(s.subsets for s in sheets))
    regions = _union(s.regions for s in sheets)
    shape = len(sheets), len(cases), len(subsets), len(regions)
    values, measured = np.full(shape, math.nan), np.zeros(shape, np.bool_)
    for i, own in enumerate(sheets):
        place = _places((cases, subsets, regions), _names(own))
        values[i][place], measured[i][place] = own.values, own.measured
    # Seeds last, so that one function averages seeds of a cell and subsets of a case alike.
    means = _last_means(np.moveaxis(values, 0, -1))
    scored = np.logical_or.reduce(measured, axis=0)
    return Pooled(Sheet(metric, sheets[0].unit, cases, subsets, regions, means, scored, protocol), by_seed)


def overall(scores: Sheet, region: str, *, bootstrap: Bootstrap = DEFAULT) -> Estimate:
    """Return the mean of one region over all subsets: the mean over subsets of the means over cases."""
    r = scores.regions.index(region)
    return mean(scores.values[:, :, r], measured=scores.measured[:, :, r], bootstrap=bootstrap)


def contests(
    pairs: Iterable[tuple[str, str]],
    sheets: Mapping[str, Sheet],
    *,
    parts: Mapping[str, Sequence[str]] | None = None,
    across_protocols: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> tuple[Contest, ...]:
    """Compare methods in pairs, region by region; all of it is one family for Holm's correction.

    Args:
        pairs: Names of the methods, first and second.
        sheets: Name → one metric of it, all of one cohort.
        parts: Name → subsets: every pair is compared over each of these alone. Over all subsets, if not given.
        across_protocols: Compare although the rules of scoring differ.
        bootstrap: How the intervals are drawn: both methods lose and repeat the same cases.

    Raises:
        UsageError: If two methods share no case, subset or region, or were scored by different protocols and nobody asked for it.
    """
    found: list[Contest] = []
    for first, second in pairs:
        names = (sheets[first].protocol, sheets[second].protocol)
        protocol = compared_protocol(names, across_protocols=across_protocols)
        for part in parts or ("",):
            own = {n: _over(sheets[n], parts[part]) if parts else sheets[n] for n in (first, second)}
            for region, estimate, p in _contest(first, second, own, bootstrap):
                found.append(Contest(first, second, region, estimate, p, math.nan, protocol, part))
    corrected = holm([contest.p for contest in found])
    return tuple(replace(contest, p_holm=p_holm) for contest, p_holm in zip(found, corrected, strict=True))


def _over(scores: Sheet, subsets: Sequence[str]) -> Sheet:
    """Return some subsets of a sheet, in its order."""
    kept = [i for i, name in enumerate(scores.subsets) if name in subsets]
    names = tuple(scores.subsets[i] for i in kept)
    return replace(scores, subsets=names, values=scores.values[:, kept], measured=scores.measured[:, kept])


def _contest(first: str, second: str, sheets: Mapping[str, Sheet], bootstrap: Bootstrap) -> list[tuple[str, Estimate, float]]:
    a, b = sheets[first], sheets[second]
    shared = [tuple(n for n in mine if n in set(others)) for mine, others in zip(_names(a), _names(b), strict=True)]
    for what, names in zip(("case", "subset", "region"), shared, strict=True):
        if not names:
            raise UsageError(f"{first} and {second} share no {what}; a paired comparison needs the same ones in both")
    here, there = _places(_names(a), shared), _places(_names(b), shared)
    mine_CSR, others_CSR = a.values[here], b.values[there]
    measured = a.measured[here] & b.measured[there]
    return [
        (
            region,
            paired_difference(mine_CSR[:, :, r], others_CSR[:, :, r], measured=measured[:, :, r], bootstrap=bootstrap),
            wilcoxon(_last_means(mine_CSR[:, :, r] - others_CSR[:, :, r])),
        )
        for r, region in enumerate(shared[2])
    ]


def _names(scores: Sheet) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    return scores.cases, scores.subsets, scores.regions


def _places(names: Iterable[Sequence[str]], wanted: Iterable[Sequence[str]]) -> tuple[NDArray[np.intp], ...]:
    """Return where the wanted names of each axis stand, for indexing."""
    return np.ix_(*([axis.index(n) for n in part] for axis, part in zip(names, wanted, strict=True)))


def _last_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = np.asarray(np.count_nonzero(known, axis=-1))
    total = np.asarray(np.where(known, values, 0.0).sum(axis=-1))
    return np.divide(total, count, out=np.full(count.shape, math.nan), where=count > 0)


def _union(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n for part in names for n in part))
