"""How a method holds up as modalities go missing: mean score against their number, and the area under that curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anymri.errors import UsageError
from anymri.metrics.scores import Sheet, subset_size
from anymri.metrics.statistics import DEFAULT, Bootstrap, Estimate, weighted


@dataclass(frozen=True)
class Robustness:
    """The robustness curve of one region.

    Attributes:
        region: Name of the region.
        curve: Mean over the subsets of size k = 1..N, smallest first.
        subsets: How many subsets of each size went into it.
        aurc: Area under the curve, in the metric's unit times N − 1.
        normalised: The same divided by N − 1: the height of the curve on average.
    """

    region: str
    curve: tuple[Estimate, ...]
    subsets: tuple[int, ...]
    aurc: Estimate
    normalised: Estimate


def curve_of(means: Mapping[str, float]) -> tuple[float, ...]:
    """Return the mean over the subsets of each size, smallest first, from the means of printed subsets.

    Raises:
        UsageError: If there is no subset, or a size between 1 and the largest has none.
    """
    by_size: dict[int, list[float]] = {}
    for subset, value in means.items():
        by_size.setdefault(subset_size(subset), []).append(value)
    if not by_size:
        raise UsageError("a robustness curve needs scores of at least one subset")
    sizes = range(1, max(by_size) + 1)
    lacking = [k for k in sizes if k not in by_size]
    if lacking:
        raise UsageError(f"a robustness curve needs subsets of every size; there is none of {', '.join(map(str, lacking))}")
    return tuple(sum(by_size[k]) / len(by_size[k]) for k in sizes)


def aurc(curve: Sequence[float]) -> float:
    """Return the area under a robustness curve by trapezoids over the number of modalities k = 1..N.

    For four modalities ½·D₁ + D₂ + D₃ + ½·D₄. Divided by N − 1 it is the curve's height on average.

    Source: section 4.6 of CCSD, arXiv 2511.14599.
    """
    return sum(w * d for w, d in zip(_trapezoids(len(curve)), curve, strict=True))


def robustness(scores: Sheet, *, bootstrap: Bootstrap = DEFAULT) -> tuple[Robustness, ...]:
    """Return the robustness curve of every region with intervals over cases.

    Args:
        scores: One metric of one method. N is the number of modalities of its largest subset; a size without subsets makes that
            point and the area NaN.
        bootstrap: How the intervals are drawn; curve and areas share the draws.
    """
    sizes = np.array([subset_size(s) for s in scores.subsets])
    n = int(sizes.max(initial=0))
    counts = [int((sizes == k).sum()) for k in range(1, n + 1)]
    points = np.array([np.where(sizes == k, 1.0 / max(count, 1), 0.0) for k, count in enumerate(counts, start=1)])
    area = np.array(_trapezoids(n)) @ points
    # With one modality there is a point and no curve.
    weights = np.vstack((points, area, area / max(n - 1, 1)))
    nothing = Estimate(math.nan, math.nan, math.nan, 0, 0)
    found: list[Robustness] = []
    for r, region in enumerate(scores.regions):
        estimates = weighted(scores.values[:, :, r], weights, measured=scores.measured[:, :, r], bootstrap=bootstrap)
        curve = tuple(e if count else nothing for e, count in zip(estimates, counts, strict=False))
        whole = n > 1 and all(counts)
        found.append(Robustness(region, curve, tuple(counts), *(estimates[-2:] if whole else (nothing, nothing))))
    return tuple(found)


def _trapezoids(n: int) -> list[float]:
    return [0.0] if n == 1 else [0.5 if k in (0, n - 1) else 1.0 for k in range(n)]
