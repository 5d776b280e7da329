"""Published numbers as typed values. Percent becomes a share and every metric gets our name for it here, once.

``ccsd.csv`` and ``others.csv`` hold the numbers as they were printed; ``sources.json`` says of each source what it is, by which
protocol it was measured, and what must be known to read it. A source is found by the words before the first semicolon of the
column ``source``; what follows there is in words in sources.json, as the protocol or as a footnote.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from anymri.errors import UsageError
from anymri.metrics.protocol import DICE
from anymri.metrics.robustness import curve_of

MEAN = "mean"  # In place of a subset: the mean over all subsets, as it was printed.
HD95 = "hausdorff_95_mm"
_FILES = ("ccsd.csv", "others.csv")
# Name in the files → our metric, its unit, and what one printed unit is worth in ours.
_METRICS = {"dice_percent": (DICE, "1", 100.0), "hd95_mm": (HD95, "mm", 1.0)}


@dataclass(frozen=True)
class PublishedScore:
    """One published number.

    Attributes:
        method: As it was printed.
        subset: Modalities at hand, as a Subset prints; ``MEAN`` for the printed mean over all subsets.
        region: Name of the region.
        metric: Our name for it.
        value: In the unit.
        unit: "1" for a share.
    """

    method: str
    subset: str
    region: str
    metric: str
    value: float
    unit: str


@dataclass(frozen=True)
class Footnote:
    """What must be known of some numbers of a table.

    Attributes:
        text: One line.
        methods: Of these methods.
        regions: In these regions; in all if there are none.
    """

    text: str
    methods: tuple[str, ...]
    regions: tuple[str, ...]

    def concerns(self, method: str, region: str) -> bool:
        """Return whether it is about this number."""
        return method in self.methods and (not self.regions or region in self.regions)


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """All numbers of one source on one data set.

    Attributes:
        name: The word on the command line.
        data: Data set, for people.
        data_name: The word on the command line for all tables on this data set.
        title: Short, for headings.
        citation: Where it was published.
        protocol: How it was measured, as far as the source says.
        kind: "methods" compares methods, "ablation" variants of one.
        verified: False if the numbers come from third parties or are superseded.
        footnotes: What must be known of some of the numbers.
        scores: The numbers, in the order of the file.
    """

    name: str
    data: str
    data_name: str
    title: str
    citation: str
    protocol: str
    kind: Literal["methods", "ablation"]
    verified: bool
    footnotes: tuple[Footnote, ...]
    scores: tuple[PublishedScore, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order of the file."""
        return _distinct(s.method for s in self.scores)

    @property
    def subsets(self) -> tuple[str, ...]:
        """The subsets, without the mean, in the order of the file."""
        return _distinct(s.subset for s in self.scores if s.subset != MEAN)

    def value(self, method: str, subset: str, region: str, metric: str = DICE) -> float | None:
        """Return one number in the metric's unit; None if it was not published."""
        return _index(self).get((method, subset, region, metric))

    def mean(self, method: str, region: str, metric: str = DICE) -> float | None:
        """Return the mean over the subsets: as printed, else of the printed subsets; None if neither was published."""
        printed = self.value(method, MEAN, region, metric)
        if printed is not None:
            return printed
        values = [v for s in self.subsets if (v := self.value(method, s, region, metric)) is not None]
        return sum(values) / len(values) if values else None

    def curve(self, method: str, region: str) -> tuple[float, ...]:
        """Return the robustness curve of Dice for 1..N modalities; empty if the subsets were not published."""
        means = {s: v for s in self.subsets if (v := self.value(method, s, region)) is not None}
        return curve_of(means) if means else ()


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Return every published table that comes with the package."""
    folder = files("anymri.published")
    sources: list[dict[str, Any]] = json.loads(folder.joinpath("sources.json").read_text(encoding="utf-8"))["sources"]
    scores: dict[tuple[str, str], list[PublishedScore]] = {(s["data"], s["source"]): [] for s in sources}
    for name in _FILES:
        for row in csv.DictReader(io.StringIO(folder.joinpath(name).read_text(encoding="utf-8"))):
            scores[row["data"], row["source"].partition(";")[0]].append(_score(row))
    return tuple(_table(s, scores[s["data"], s["source"]]) for s in sources)


def published_named(name: str) -> tuple[PublishedTable, ...]:
    """Return the tables of a data set, such as brats2018, or the one table of that name, such as ccsd-table-1.

    Raises:
        UsageError: If there is neither.
    """
    tables = published_tables()
    found = tuple(t for t in tables if name in (t.data_name, t.name))
    if not found:
        known = ", ".join(_distinct(t.data_name for t in tables))
        raise UsageError(
            f"published table '{name}' does not exist; expected a data set ({known}) or one of {', '.join(t.name for t in tables)}"
        )
    return found


def _score(row: dict[str, str]) -> PublishedScore:
    metric, unit, divisor = _METRICS[row["metric"]]
    return PublishedScore(row["method"], row["subset"], row["region"], metric, float(row["value"]) / divisor, unit)


def _table(source: dict[str, Any], scores: list[PublishedScore]) -> PublishedTable:
    notes = (Footnote(n["text"], tuple(n["methods"]), tuple(n["regions"])) for n in source["footnotes"])
    said = {k: source[k] for k in ("name", "data", "data_name", "title", "citation", "protocol", "kind", "verified")}
    return PublishedTable(**said, footnotes=tuple(notes), scores=tuple(scores))


@cache
def _index(table: PublishedTable) -> dict[tuple[str, str, str, str], float]:
    return {(s.method, s.subset, s.region, s.metric): s.value for s in table.scores}


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
