"""Means over cases with bootstrap intervals, paired differences, Wilcoxon with Holm.

A mean over subsets is the mean over its subsets of the means over cases, as published tables have it. Resampling draws *cases*,
with all their subsets: the 15 subsets of a case are one patient, not 15 observations.

A value that is NaN enters no mean and is counted beside it; an infinite one is refused.
"""

# scipy comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from anymri.errors import UsageError
from anymri.metrics.scores import ScoreTable, compared_protocol, sheet

Values = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_LEAST_CASES = 2


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn.

    Attributes:
        resamples: How many draws of all cases with replacement.
        level: Share of the draws inside the interval, which is cut at equal percentiles on both sides.
        seed: Of the draws.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Attributes:
        value: The mean; NaN if a part of it has no case at all.
        low: Lower end; NaN with fewer than two cases.
        high: Upper end, likewise.
        cases: Cases with at least one value in it.
        undefined: Values that were measured but are NaN by the protocol, and are left out.
    """

    value: float
    low: float
    high: float
    cases: int
    undefined: int


@dataclass(frozen=True)
class Difference:
    """One method against another on the same cases and subsets, in one region.

    Attributes:
        region: Name of the region.
        estimate: Mean of first minus second.
        p: Two-sided Wilcoxon signed-rank over the cases' means.
        p_holm: The same, corrected for the number of regions by Holm.
        protocol: Name of the rules that both were scored by; of both, if they differ.
    """

    region: str
    estimate: Estimate
    p: float
    p_holm: float
    protocol: str


DEFAULT = Bootstrap()


def mean(values_CK: Values, *, measured: _Flags | None = None, bootstrap: Bootstrap = DEFAULT) -> Estimate:
    """Return the mean over columns of the means over cases.

    Args:
        values_CK: One row per case, one column per subset; NaN where there is no value.
        measured: Which cells were measured; a NaN among them counts as undefined. All, if not given.
        bootstrap: How the interval is drawn.

    Raises:
        UsageError: If a value is infinite.
    """
    weights = np.full((1, values_CK.shape[1]), 1.0 / max(values_CK.shape[1], 1))
    return weighted(values_CK, weights, measured=measured, bootstrap=bootstrap)[0]


def weighted(
    values_CK: Values, weights_JK: Values, *, measured: _Flags | None = None, bootstrap: Bootstrap = DEFAULT
) -> tuple[Estimate, ...]:
    """Return J weighted sums of the K columns' means over cases, all from the same draws.

    Args:
        values_CK: One row per case, one column per subset; NaN where there is no value.
        weights_JK: One row per sum. A column of weight zero does not touch the sum.
        measured: Which cells were measured; a NaN among them counts as undefined. All, if not given.
        bootstrap: How the intervals are drawn.

    Raises:
        UsageError: If a value is infinite.
    """
    _check_finite(values_CK)
    known = ~np.isnan(values_CK)
    undefined = ~known if measured is None else measured & ~known
    n = len(values_CK)
    once = np.ones((1, n))
    generator = np.random.default_rng(bootstrap.seed)
    times = generator.multinomial(n, np.full(n, 1.0 / n), size=bootstrap.resamples).astype(np.float64) if n else np.empty((0, 0))
    estimates: list[Estimate] = []
    means, draws = _column_means(values_CK, known, once), _column_means(values_CK, known, times)
    for weights in weights_JK:
        used = np.flatnonzero(weights)
        cases = int(known[:, used].any(axis=1).sum())
        value = float(means[0, used] @ weights[used])
        low, high = _interval(draws[:, used] @ weights[used], bootstrap.level) if cases >= _LEAST_CASES else (math.nan, math.nan)
        estimates.append(Estimate(value, low, high, cases, int(undefined[:, used].sum())))
    return tuple(estimates)


def paired_difference(
    first_CK: Values, second_CK: Values, *, measured: _Flags | None = None, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Return the mean of first minus second over the cells where both have a value.

    Args:
        first_CK: One row per case, one column per subset.
        second_CK: The same cases and subsets.
        measured: Which cells were measured in both; where either is NaN among them counts as undefined. All, if not given.
        bootstrap: How the interval is drawn: both lose and repeat the same cases.

    Raises:
        UsageError: If the shapes differ or a value is infinite.
    """
    if first_CK.shape != second_CK.shape:
        raise UsageError(
            f"paired values must be of the same cases and subsets; found shapes {first_CK.shape} and {second_CK.shape}"
        )
    _check_finite(first_CK)
    _check_finite(second_CK)
    return mean(first_CK - second_CK, measured=measured, bootstrap=bootstrap)


def wilcoxon(differences: Values) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test; 1.0 if nothing differs, NaN without differences.

    NaN among the differences is left out; zeros are discarded, as Wilcoxon did.

    Source: Wilcoxon, 1945; scipy.stats.wilcoxon.
    """
    known = differences[~np.isnan(differences)]
    if not known.size:
        return math.nan
    if not known.any():
        return 1.0
    # The result is a pair (statistic, p) under a name that scipy's types do not tell.
    p: Any = stats.wilcoxon(known[known != 0])[1]
    return float(p)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p values corrected for their number by Holm's step-down procedure; NaN stays and does not count.

    Source: Holm, 1979.
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(order) - rank)))
        corrected[i] = largest
    return tuple(corrected)


def differences(
    first: ScoreTable, second: ScoreTable, metric: str, *, across_protocols: bool = False, bootstrap: Bootstrap = DEFAULT
) -> tuple[Difference, ...]:
    """Return how two methods differ in each region, over all subsets, on what both were scored on.

    Args:
        first: Scores of the one method.
        second: Scores of the other.
        metric: Name of the metric.
        across_protocols: Compare although the rules of scoring differ.
        bootstrap: How the intervals are drawn.

    Raises:
        UsageError: If the tables were scored by different protocols and that was not asked for, or share no case, subset or region.
    """
    a, b = sheet(first, metric), sheet(second, metric)
    protocol = compared_protocol((a.protocol, b.protocol), across_protocols=across_protocols)
    # Cases, subsets and regions of both, in the first table's order.
    cases = _shared("case", a.cases, b.cases)
    subsets = _shared("subset", a.subsets, b.subsets)
    regions = _shared("region", a.regions, b.regions)
    here, there = (
        np.ix_([s.cases.index(c) for c in cases], [s.subsets.index(m) for m in subsets], [s.regions.index(r) for r in regions])
        for s in (a, b)
    )
    first_CSR, second_CSR = a.values[here], b.values[there]
    measured = a.measured[here] & b.measured[there]
    p_values = [wilcoxon(_row_means((first_CSR - second_CSR)[:, :, r])) for r in range(len(regions))]
    estimates = [
        paired_difference(first_CSR[:, :, r], second_CSR[:, :, r], measured=measured[:, :, r], bootstrap=bootstrap)
        for r in range(len(regions))
    ]
    return tuple(Difference(*found, protocol) for found in zip(regions, estimates, p_values, holm(p_values), strict=True))


def _check_finite(values: Values) -> None:
    if np.isinf(values).any():
        raise UsageError("a mean of infinite values was asked for; score under a protocol that says what an empty mask is worth")


def _shared(what: str, mine: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    shared = tuple(n for n in mine if n in set(others))
    if not shared:
        raise UsageError(f"the two score tables share no {what}; a paired comparison needs the same ones in both")
    return shared


def _column_means(values_CK: Values, known: _Flags, times_BC: Values) -> Values:
    """Return the means over cases of each column for each draw, (B, K); NaN where a draw holds no value of the column."""
    count = times_BC @ known.astype(np.float64)
    total = times_BC @ np.where(known, values_CK, 0.0)
    return np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0)


def _row_means(values_CK: Values) -> Values:
    count = (~np.isnan(values_CK)).sum(axis=1)
    total = np.where(np.isnan(values_CK), 0.0, values_CK).sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), math.nan), where=count > 0)


def _interval(draws: Values, level: float) -> tuple[float, float]:
    # A draw in which a part of the sum has no case says nothing about the sum.
    defined = draws[~np.isnan(draws)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
