"""One column of a comparison: a method that was measured or published, and what it reached in whatever is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anymri.domain.task import TASKS, Task
from anymri.methods import METHODS
from anymri.metrics.pooled import Pooled, pooled
from anymri.metrics.protocol import DICE
from anymri.metrics.robustness import Robustness, aurc, robustness
from anymri.metrics.scores import Sheet, empties_unknown, split
from anymri.metrics.statistics import Bootstrap, Estimate, mean, weighted
from anymri.metrics.tables import empties
from anymri.published.reading import HD95, PublishedTable
from anymri.report.measured import Measured
from anymri.report.table import Origin, known

APART = "hausdorff_95_mm where neither mask is empty"
_NOTHING = known(None)


@dataclass(frozen=True, eq=False)
class MeasuredSeries:
    """A measured method.

    Attributes:
        measured: Its scores.
        bootstrap: How its intervals are drawn.
    """

    measured: Measured
    bootstrap: Bootstrap

    @property
    def label(self) -> str:
        """What it is called."""
        return self.measured.label

    @property
    def group(self) -> str:
        """Heading over the methods it stands beside: those of its category, where that is known."""
        category = category_of(self.measured.method)
        return f"measured: {category}" if category else "measured"

    @property
    def origin(self) -> Origin:
        """On which cohort it was scored, and by which protocol."""
        return Origin(self.measured.cohort, self.measured.protocol)

    @property
    def peers(self) -> object:
        """Equal for what may be compared number by number: the same cases and subsets, cohort and protocol."""
        return self.measured.cohort, self.measured.protocol, frozenset(self.dice.sheet.cases), self.subsets

    @cached_property
    def dice(self) -> Pooled:
        """Dice, its seeds averaged."""
        return pooled(self.measured.by_seed, DICE)

    @cached_property
    def distance(self) -> Sheet | None:
        """HD95, its seeds averaged; None if it was not scored or has values that no mean can be made of."""
        if self.endless or not all(any(row.metric == HD95 for row in t) for t in self.measured.by_seed.values()):
            return None
        return pooled(self.measured.by_seed, HD95).sheet

    @cached_property
    def distance_apart(self) -> Sheet | None:
        """HD95 of masks where neither is empty, which no rule touches; None as for ``distance``, or if volumes are not known."""
        tables = self.measured.by_seed.values()
        if not all(any(row.metric == HD95 for row in t) and all(map(empties, split(t))) for t in tables):
            return None
        found = pooled({seed: empties_unknown(t, HD95) for seed, t in self.measured.by_seed.items()}, HD95).sheet
        return None if np.isinf(found.values).any() else found

    @cached_property
    def endless(self) -> bool:
        """Whether some HD95 is infinite, as some protocols have it where a mask is empty."""
        return any(row.metric == HD95 and math.isinf(row.value) for t in self.measured.by_seed.values() for row in t)

    @property
    def subsets(self) -> tuple[str, ...]:
        """Subsets that it was scored on."""
        return self.dice.sheet.subsets

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that it was scored in."""
        return self.dice.sheet.regions

    def at(self, subset: str, region: str) -> Estimate:
        """Return the mean Dice over cases."""
        return self._cells.get((subset, region), _NOTHING)

    def mean(self, regions: Sequence[str], metric: str = DICE) -> Estimate:
        """Return the mean over subsets, and over regions if there are several, of the means over cases."""
        scores = self._sheet(metric)
        if scores is None or not set(regions) <= set(scores.regions):
            return _NOTHING
        return self._mean(scores, range(len(scores.subsets)), [scores.regions.index(r) for r in regions])

    def without(self, modality: str, of: int, region: str) -> Estimate:
        """Return the mean Dice over the subsets that lack a modality of so many; nothing unless all of these were scored."""
        scores = self.dice.sheet
        kept = subsets_without(self.subsets, modality, of)
        if not kept or region not in scores.regions:
            return _NOTHING
        return self._mean(scores, [scores.subsets.index(s) for s in kept], [scores.regions.index(region)])

    def _sheet(self, metric: str) -> Sheet | None:
        if metric == DICE:
            return self.dice.sheet
        return self.distance_apart if metric == APART else self.distance

    def _mean(self, scores: Sheet, subsets: Sequence[int], regions: Sequence[int]) -> Estimate:
        """Return the mean over some subsets and regions of the means over cases."""
        values = scores.values[:, subsets][:, :, regions].reshape(len(scores.cases), -1)
        measured = scores.measured[:, subsets][:, :, regions].reshape(values.shape)
        return mean(values, measured=measured, bootstrap=self.bootstrap)

    def curve(self, region: str) -> tuple[Estimate, ...]:
        """Return the robustness curve for 1..N modalities; empty if there is none."""
        found = self._robustness.get(region)
        return found.curve if found else ()

    def area(self, region: str) -> tuple[Estimate, Estimate]:
        """Return the area under the robustness curve, and that divided by N − 1."""
        found = self._robustness.get(region)
        return (found.aurc, found.normalised) if found else (_NOTHING, _NOTHING)

    @cached_property
    def _robustness(self) -> dict[str, Robustness]:
        return {r.region: r for r in robustness(self.dice.sheet, bootstrap=self.bootstrap)}

    @cached_property
    def _cells(self) -> dict[tuple[str, str], Estimate]:
        scores = self.dice.sheet
        found: dict[tuple[str, str], Estimate] = {}
        for r, region in enumerate(scores.regions):
            each = np.eye(len(scores.subsets))
            estimates = weighted(scores.values[:, :, r], each, measured=scores.measured[:, :, r], bootstrap=self.bootstrap)
            found |= {(s, region): e for s, e in zip(scores.subsets, estimates, strict=True)}
        return found


@dataclass(frozen=True, eq=False)
class PublishedSeries:
    """A published method; nothing but values is known of it.

    Attributes:
        table: Where it stands.
        label: Its name there.
    """

    table: PublishedTable
    label: str

    @property
    def group(self) -> str:
        """Heading over the methods it stands beside."""
        return f"published on {self.table.data}: {self.table.title.partition(':')[0]}"

    @property
    def origin(self) -> Origin:
        """On which data it was scored, and what the source says of how."""
        return Origin(self.table.data, self.table.protocol)

    @property
    def peers(self) -> object:
        """Equal for what was published side by side."""
        return self.table.name

    @property
    def subsets(self) -> tuple[str, ...]:
        """Subsets that were published."""
        return self.table.subsets

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that were published."""
        return tuple(dict.fromkeys(s.region for s in self.table.scores if s.method == self.label))

    def at(self, subset: str, region: str) -> Estimate:
        """Return the published Dice."""
        return known(self.table.value(self.label, subset, region))

    def mean(self, regions: Sequence[str], metric: str = DICE) -> Estimate:
        """Return the published mean over subsets, averaged over regions if there are several."""
        values = [self.table.mean(self.label, r, metric) for r in regions]
        found = [v for v in values if v is not None]
        return known(sum(found) / len(found)) if found and len(found) == len(values) else _NOTHING

    def without(self, modality: str, of: int, region: str) -> Estimate:
        """Return the mean of the published Dice over the subsets that lack a modality of so many; nothing unless all were."""
        found = [self.table.value(self.label, s, region) for s in subsets_without(self.subsets, modality, of)]
        values = [v for v in found if v is not None]
        return known(sum(values) / len(values)) if values and len(values) == len(found) else _NOTHING

    def curve(self, region: str) -> tuple[Estimate, ...]:
        """Return the robustness curve from the published subsets; empty if there are none."""
        return tuple(map(known, self.table.curve(self.label, region)))

    def area(self, region: str) -> tuple[Estimate, Estimate]:
        """Return the area under the robustness curve, and that divided by N − 1."""
        curve = self.table.curve(self.label, region)
        return (known(aurc(curve)), known(aurc(curve) / (len(curve) - 1))) if len(curve) > 1 else (_NOTHING, _NOTHING)


Series = MeasuredSeries | PublishedSeries


def category_of(method: str) -> str:
    """Return the category of a method, whatever settings its name tells; nothing if it is unknown, as with anyone's masks."""
    return next((entry.category for entry in METHODS if entry.name == method.partition(" (")[0]), "")


def by_group(series: Sequence[MeasuredSeries]) -> tuple[MeasuredSeries, ...]:
    """Return the series with those of one category side by side: categories and methods in the order in which they were given."""
    groups = list(dict.fromkeys(s.group for s in series))
    return tuple(sorted(series, key=lambda s: groups.index(s.group)))


def subsets_without(subsets: Sequence[str], modality: str, of: int) -> tuple[str, ...]:
    """Return which printed subsets lack a modality; none unless all 2^(of − 1) − 1 of them are there."""
    kept = tuple(s for s in subsets if modality not in s.split("+"))
    return kept if len(kept) == 2 ** (of - 1) - 1 else ()


def task_of(series: Sequence[Series]) -> Task | None:
    """Return the task whose modalities and regions these are; None if there is no such task."""
    regions = {r for s in series for r in s.regions}
    names = {n for s in series for subset in s.subsets for n in subset.split("+")}
    fitting = (t for t in TASKS if regions <= set(t.region_names) and names <= set(t.modalities.names))
    return next(fitting, None)


def regions_of(series: Sequence[Series]) -> tuple[str, ...]:
    """Return the regions of all, innermost first, as the tables of the field have them."""
    task = task_of(series)
    found = dict.fromkeys(r for s in series for r in s.regions)
    # Without a task: a score table begins with the outermost.
    return tuple(r for r in reversed(task.region_names if task else tuple(found)) if r in found)


def origin_of(series: Sequence[Series]) -> Origin | None:
    """Return where the numbers of all come from; if from several places, each behind the name of what comes from there."""
    found = dict.fromkeys(("measured" if isinstance(s, MeasuredSeries) else s.table.title, s.origin) for s in series)
    if len({origin for _, origin in found}) == 1:
        return series[0].origin
    cohort, protocol = (
        " | ".join(f"{name}: {said}" for name, said in parts)
        for parts in ([(n, o.cohort) for n, o in found], [(n, o.protocol) for n, o in found])
    )
    return Origin(cohort, protocol) if found else None


def is_known(estimate: Estimate) -> bool:
    """Return whether there is a number."""
    return not math.isnan(estimate.value)
