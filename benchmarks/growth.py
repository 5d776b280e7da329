"""How time and memory grow with voxels, modalities, cases and processes: a table, a plot each, and exponents.

    python benchmarks/growth.py --json bench/growth.json --figures docs/figures

Every point is a process of its own on one thread: CPU seconds, and the most memory that it held. Voxels and modalities: a window
of noise, its answer for the full set and its answers for all subsets, in a process that has begun: imports and first calls are not
counted, and memory is above what was held before. Cases: ``anymri evaluate`` and ``anymri segment --cohort`` over synthetic
patients, less what they take before the first: imports, weights, first calls, from runs over tiny patients. Processes: the same
evaluation by one process and by two, a core each, start-up included; what grows is cases per second of wall time, and the memory
of all.

An exponent is the slope of a line through the points on logarithmic axes: 1 is linear, 2 quadratic. What does not depend on the
size would lower it, hence is subtracted first; points that are then too small to tell are left out, and hollow in the plots. What
each further case or modality adds needs no such subtraction and stands beside it. M modalities have 2^M − 1 subsets, so the time
for all of them cannot grow linearly; that of one of them can. Sizes take turns: up in one round, down in the next.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fifteen_subsets import FIFTEEN, Setting, child
from fifteen_subsets import FULL as ALONE
from measuring import described, held_mib, write_json
from processes import begun, gather

from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.methods.ccsd import CCSDConfig
from anymri.preparation.pipeline import prepare_cohort

FULL, ALL, EACH = "the full set", "all subsets", "one of all subsets"
NAMES = {
    "voxels": "voxels of the window",
    "modalities": "modalities of the task",
    "cases": "cases",
    "processes": "processes, one thread each",
}
UNITS = {
    "cpu": "CPU seconds, one thread",
    "MiB": "peak memory (MiB)",
    "cases_per_second": "cases per second, wall time",
}
LEAST = {"cpu": 0.05, "MiB": 16.0}  # Below it a value says more of the allocator, the clock and single calls than of the size.
FURTHER = {"cases": "case", "modalities": "modality"}  # What is counted one by one.
TINY, TINY_ROUNDS = (48, 48, 48), 3  # Cases that cost next to nothing, for what a command takes before the first.
COSTS = ("cpu", "MiB")
COLOURS = ("#1f77b4", "#d62728", "#2ca02c")
Point = dict[str, float]


@dataclass(frozen=True)
class Growth:
    """Points of one line: what grew, and what was measured of it at each size, a median over the rounds."""

    axis: str
    series: str
    points: list[Point]
    start: Point = field(default_factory=dict)  # What was subtracted.
    least: Point = field(default_factory=lambda: dict(LEAST))  # Of each quantity, what is large enough to be fitted.

    def told(self, quantity: str) -> list[Point]:
        """Return the points that are large enough to be fitted."""
        return [p for p in self.points if p[quantity] > 0 and p[quantity] >= self.least.get(quantity, 0.0)]

    def exponent(self, quantity: str) -> float:
        """Return the slope on logarithmic axes; NaN if fewer than two points, or less than half of them, are large enough."""
        told = self.told(quantity)
        if len(told) < 2 or len(told) < len(self.points) / 2:
            return float("nan")
        x, y = (np.array([point[name] for point in told]) for name in ("x", quantity))
        return float(np.polyfit(np.log(x), np.log(y), 1)[0])

    def further(self, quantity: str) -> list[tuple[float, float]]:
        """Return (x, what each further one added up to there) between sizes that follow each other; no start-up is in it."""
        pairs = zip(self.points, self.points[1:], strict=False)
        return [(b["x"], (b[quantity] - a[quantity]) / (b["x"] - a["x"])) for a, b in pairs]

    def verdict(self, quantity: str) -> str:
        """Return what the exponent says in words; nothing of what is no cost."""
        exponent = self.exponent(quantity)
        if math.isnan(exponent):
            return "too small to tell"
        return "more than linear" if quantity in COSTS and exponent > 1.05 else ""

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is plotted of it."""
        return tuple(name for name in UNITS if name in self.points[0])


def grown(axis: str, series: str, sizes: Sequence[int], rounds: int, measure: Callable[[int], Point]) -> Growth:
    """Return the growth over sizes that take turns."""
    found: dict[int, list[Point]] = {size: [] for size in sizes}
    for round_ in range(rounds):
        for size in sizes if round_ % 2 == 0 else reversed(sizes):
            found[size].append(measure(size))
            print(f"  {axis} {size}, {series}: " + ", ".join(f"{k} {v:.3g}" for k, v in found[size][-1].items()), flush=True)
    points = [{key: statistics.median(row[key] for row in rows) for key in rows[0]} for rows in found.values()]
    return Growth(axis, series, points)


# Windows of noise


def of_windows(setting: Setting, axis: str, sizes: Sequence[int], rounds: int) -> list[Growth]:
    """Return growth with voxels (sizes: edges) or with modalities: one answer, all of them, and with modalities each of all."""
    found: list[Growth] = []
    for series, what in ((FULL, ALONE), (ALL, FIFTEEN)):

        def of_size(size: int, what: str = what) -> Point:
            if axis == "voxels":
                return {"x": float(size**3), **child(replace(setting, extent=(size, size, size)), what)}
            return {"x": float(size), **child(replace(setting, modalities=size), what)}

        found.append(grown(axis, series, sizes, rounds, of_size))
    if axis == "modalities":
        each = [{"x": p["x"], **{k: p[k] / (2 ** p["x"] - 1) for k in ("cpu", "wall")}} for p in found[-1].points]
        found.append(Growth(axis, EACH, each))
    return found


# Commands over cases


def finished(running: Sequence[subprocess.Popen[bytes]]) -> Point:
    """Return wall seconds until all processes have ended, their CPU seconds and the memory that they held at most, summed."""
    started, left = time.perf_counter(), list(running)
    cpu, peaks = 0.0, dict.fromkeys((process.pid for process in running), 0.0)
    while left:
        for process in list(left):
            peaks[process.pid] = max(peaks[process.pid], held_mib(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu += usage.ru_utime + usage.ru_stime
                left.remove(process)
        time.sleep(0.01)
    wall = time.perf_counter() - started
    said = [process.stderr.read().decode() if process.stderr else "" for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("".join(said))
    return {"cpu": cpu, "wall": wall, "MiB": sum(peaks.values())}


def started(measure: Callable[[int], Point], rounds: int) -> list[Point]:
    """Return what a command takes before its first case, imports and first calls included, from runs over one tiny case and two.

    Seconds are those of one less what the second adds; memory is that of one.
    """
    pairs = [(measure(1), measure(2)) for _ in range(rounds)]
    return [{"cpu": 2 * one["cpu"] - two["cpu"], "wall": 2 * one["wall"] - two["wall"], "MiB": one["MiB"]} for one, two in pairs]


def less(growth: Growth, before: Sequence[Point]) -> Growth:
    """Return growth above start-up; what start-up itself varies by is too small to tell."""
    start = {key: statistics.median(row[key] for row in before) for key in before[0]}
    noise = {key: max(row[key] for row in before) - min(row[key] for row in before) for key in LEAST}
    points = [{key: value - start.get(key, 0.0) for key, value in point.items()} for point in growth.points]
    print(f"  start-up of {growth.series}: " + ", ".join(f"{k} {v:.3g}" for k, v in start.items()), flush=True)
    return replace(growth, points=points, start=start, least={key: max(LEAST[key], noise[key]) for key in LEAST})


def of_cases(cohorts: dict[int, Path], tiny: dict[int, Path], weights: str, rounds: int) -> list[Growth]:
    """Return growth of two commands with cases, above what they take before the first."""
    program = [sys.executable, "-m", "anymri"]

    def evaluated(cohort: Path) -> Point:
        words = [*program, "evaluate", weights, "--data", str(cohort), "--fold", "0", "--device", "cpu"]
        return _command(words, "scores.csv")

    def segmented(cohort: Path) -> Point:
        return _command([*program, "segment", "--cohort", str(cohort), "--weights", weights, "--device", "cpu"], "masks")

    found = []
    for series, measure in (("evaluate, 15 subsets each", evaluated), ("segment --cohort", segmented)):

        def of_count(count: int, measure: Callable[[Path], Point] = measure) -> Point:
            return {"x": float(count), **measure(cohorts[count])}

        def of_tiny(count: int, measure: Callable[[Path], Point] = measure) -> Point:
            return measure(tiny[count])

        before = started(of_tiny, TINY_ROUNDS)
        found.append(less(grown("cases", series, sorted(cohorts), rounds, of_count), before))
    return found


def _command(words: Sequence[str], out: str, processes: int = 1) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        return finished(begun([*words, "--out", str(Path(folder) / out)], processes))


def of_processes(cohort: Path, cases: int, weights: str, processes: Sequence[int], rounds: int) -> Growth:
    """Return what more processes get done of one evaluation, and what memory they take together."""

    def evaluated(count: int) -> Point:
        words = [sys.executable, "-m", "anymri", "evaluate", weights, "--data", str(cohort), "--fold", "0", "--device", "cpu"]
        row = _command(words, "scores.csv", count)
        return {"x": float(count), **row, "cases_per_second": cases / row["wall"]}

    found = grown("processes", f"evaluate, {cases} cases", processes, rounds, evaluated)
    # CPU seconds beside it tell whether cores or memory were shared; the plot is of what is gained.
    return replace(found, points=[{("cpu_of_all" if k == "cpu" else k): v for k, v in point.items()} for point in found.points])


def cohorts_of(root: Path, counts: Sequence[int], shape: tuple[int, int, int] | None) -> dict[int, Path]:
    """Return prepared cohorts of the first so many of the same synthetic patients."""
    seeds = range(1, max(counts) + 1)
    raw = root / "raw"
    made = write_phantoms(raw, GLIOMA, seeds=seeds, shape=shape) if shape else write_phantoms(raw, GLIOMA, seeds=seeds)
    prepare_cohort(made, GLIOMA, root / "phantoms")
    return {count: gather(root / str(count), root / "phantoms", count) for count in counts}


# What is shown


def drawn(axis: str, growths: Sequence[Growth], file: Path) -> None:
    """Write a plot of what grew along an axis: what was fitted, hollow what was not, and the linear line through the first."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    plainly = FuncFormatter(lambda value, _: f"{value:g}")
    quantities = [name for name in UNITS if any(name in g.quantities for g in growths)]
    figure = Figure(figsize=(4.2 * (len(quantities) + (axis == "cases")), 3.4), layout="constrained")
    panels = figure.subplots(1, len(quantities) + (axis == "cases"), squeeze=False)[0]
    if axis == "cases":
        _draw_further(panels[-1], growths)
    for panel, quantity in zip(panels, quantities, strict=False):
        lines = [g for g in growths if quantity in g.quantities]
        for growth, colour in zip(lines, COLOURS, strict=False):
            exponent, told = growth.exponent(quantity), growth.told(quantity)
            rest = [p for p in growth.points if p not in told and p[quantity] > 0]
            label = f"{growth.series}: " + (growth.verdict(quantity) if math.isnan(exponent) else f"exponent {exponent:.2f}")
            panel.loglog([p["x"] for p in told], [p[quantity] for p in told], "o-", color=colour, label=label)
            panel.loglog([p["x"] for p in rest], [p[quantity] for p in rest], "o", color=colour, fillstyle="none")
            if told:
                x = np.array([p["x"] for p in told])
                panel.loglog(x, told[0][quantity] * x / x[0], "--", color=colour, alpha=0.4, linewidth=1)
        panel.plot([], [], "--", color="#888888", label="linear")
        panel.set(xlabel=NAMES[axis], ylabel=UNITS[quantity] + ("" if axis == "processes" else ", above start-up"))
        ticks = sorted({p["x"] for g in lines for p in g.points})
        panel.set_xticks(ticks, [f"{x:g}" if x < 1000 else f"{round(x ** (1 / 3))}³" for x in ticks])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(plainly)
        panel.yaxis.set_minor_formatter(plainly if spread(growths, quantity) < 10 else NullFormatter())
        panel.legend(fontsize=7, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": axis}):  # Small, and the same numbers make the same file.
        figure.savefig(file, metadata={"Date": None})


def spread(growths: Sequence[Growth], quantity: str) -> float:
    """Return how many times the smallest value of a quantity the largest is."""
    values = [p[quantity] for g in growths if quantity in g.quantities for p in g.points if p[quantity] > 0]
    return max(values, default=1.0) / min(values, default=1.0)


def _draw_further(panel: Any, growths: Sequence[Growth]) -> None:
    """Draw what every further case adds: a level line is linear growth."""
    for growth, colour in zip(growths, COLOURS, strict=False):
        steps = growth.further("cpu")
        panel.plot([x for x, _ in steps], [y for _, y in steps], "o-", color=colour, label=growth.series)
    panel.set(xlabel=NAMES["cases"], ylabel="CPU seconds per further case")
    panel.set_ylim(bottom=min([0.0, *(y for g in growths for _, y in g.further("cpu"))]))
    panel.legend(fontsize=7, frameon=False)


def show(growths: Sequence[Growth]) -> None:
    """Print every exponent, 1 is linear, and what each further case or modality adds."""
    print(f"{'against':<12}{'of':<28}{'quantity':<18}{'from':>10}{'to':>10}{'exponent':>10}")
    for growth in growths:
        for quantity in growth.quantities:
            first, last = growth.points[0][quantity], growth.points[-1][quantity]
            exponent = growth.exponent(quantity)
            row = f"{growth.axis:<12}{growth.series:<28}{quantity:<18}{first:>10.3g}{last:>10.3g}"
            print(f"{row}{'' if math.isnan(exponent) else f'{exponent:.2f}':>10}  {growth.verdict(quantity)}".rstrip())
    for growth in growths:
        if growth.axis in FURTHER and growth.series != EACH:
            steps = ", ".join(f"{y:.3g} up to {x:g}" for x, y in growth.further("cpu"))
            print(f"CPU seconds per further {FURTHER[growth.axis]}, {growth.series}: {steps}")


def as_row(growth: Growth) -> dict[str, Any]:
    """Return growth for JSON: points, what was subtracted, exponents (null where too small to tell), what each further one adds."""
    exponents = {q: growth.exponent(q) for q in growth.quantities}
    told = {q: None if math.isnan(e) else e for q, e in exponents.items()}
    further = {q: growth.further(q) for q in growth.quantities} if growth.axis in FURTHER else {}
    return vars(growth) | {"exponents": told, "further": further}


def main() -> None:
    """Measure, print, write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CCSDConfig.sizes[:-1], default="small")
    parser.add_argument("--edges", type=int, nargs="+", default=[32, 48, 64, 96], help="Of cubic windows, in voxels.")
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--cases", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shape", type=int, nargs=3, help="Of synthetic patients, in voxels.")
    parser.add_argument("--weights", default="ccsd-small")
    parser.add_argument("--axes", nargs="+", choices=tuple(NAMES), default=list(NAMES), help="Against what; all if none are given.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--figures", type=Path, help="Folder of plots; that of --json if none is given.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    growths: list[Growth] = []
    setting = Setting(given.size, "shared_mean", (sorted(given.edges)[len(given.edges) // 2 - 1],) * 3)
    if "voxels" in given.axes:
        growths += of_windows(setting, "voxels", given.edges, given.rounds)
    if "modalities" in given.axes:
        growths += of_windows(setting, "modalities", given.modalities, given.rounds)
    growths += of_commands(given)
    print(described())
    show(growths)
    plots = given.figures or (given.json.parent if given.json else None)
    if plots is not None:
        for axis in given.axes:
            drawn(axis, [g for g in growths if g.axis == axis], plots / f"growth_{axis}.svg")
    write_json(given.json, {"size": given.size, "growth": [as_row(g) for g in growths]})


def of_commands(given: argparse.Namespace) -> list[Growth]:
    """Return growth with cases and with processes, of what is asked for."""
    found: list[Growth] = []
    if not {"cases", "processes"} & set(given.axes):
        return found
    with tempfile.TemporaryDirectory() as folder:
        cohorts = cohorts_of(Path(folder), given.cases, tuple(given.shape) if given.shape else None)
        if "cases" in given.axes:
            tiny = cohorts_of(Path(folder) / "tiny", (1, 2), TINY)
            found += of_cases(cohorts, tiny, given.weights, given.rounds)
        if "processes" in given.axes:
            most = max((n for n in given.cases if n <= 4), default=min(given.cases))
            found.append(of_processes(cohorts[most], most, given.weights, given.processes, given.rounds))
    return found


if __name__ == "__main__":
    main()
