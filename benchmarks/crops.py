"""Crops of 128³ per second against threads and processes, from disk and from memory; what drawing and augmenting cost a step.

    python benchmarks/crops.py --json crops.json
    python benchmarks/crops.py --data prepared --run ccsd --size base

The cases are synthetic patients, prepared into a temporary folder, or those of a prepared cohort. ``disk`` reads a box of the image
and of the reference from the compressed store; ``memory`` cuts it out of loaded patients; both end in float32, four modalities.
The step is one of the given method's default run; its data lie there already (cached), are made before it (at once), or beside the
step before it (ahead). They are the same for all three, and so are the students that a step draws. All take turns in one run; CPU
seconds stand beside wall seconds, since others may compute on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import described, timed, write_json

from anymri.cohorts.phantom import write_phantoms
from anymri.data.ahead import Fetch, Key, at_once, one_ahead
from anymri.data.augment import apply_augmentation, draw_augmentation
from anymri.data.patches import draw_patches, make_batch
from anymri.data.patients import Patient, load_patients
from anymri.domain.task import GLIOMA
from anymri.engine.run import Run
from anymri.engine.state import first_state
from anymri.engine.step import make_step
from anymri.engine.supply import Supply, data_of, supply_of
from anymri.preparation.pipeline import prepare_cohort
from anymri.recipes.default import default
from anymri.volumes.store import list_cases, read_case, read_image, read_labels

KINDS = ("wall", "cpu")
_loaded: list[Patient] = []  # Of a process.


@contextmanager
def cases_in(data: Path | None, count: int) -> Iterator[list[Path]]:
    """Give folders of prepared cases with all modalities."""
    if data is not None:
        yield [f for f in list_cases(data) if len(read_case(f).modalities) == len(GLIOMA.modalities)][:count]
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare_cohort(write_phantoms(Path(folder) / "raw", GLIOMA, seeds=range(1, count + 1)), GLIOMA, Path(folder) / "prepared")
        yield list(list_cases(Path(folder) / "prepared"))


def from_disk(folders: Sequence[Path], edge: int, seed: int) -> float:
    """Read one crop; return a number of it."""
    rng = np.random.default_rng(seed)
    folder = folders[int(rng.integers(len(folders)))]
    room = np.maximum(np.array(read_case(folder).grid.shape) - edge, 0)
    d, h, w = (slice(int(c), int(c) + edge) for c in rng.integers(0, room + 1))
    image, labels = read_image(folder, (d, h, w)), read_labels(folder, (d, h, w))
    return float(image[0, 0, 0, 0]) + float(labels[0, 0, 0])


def from_memory(edge: int, seed: int) -> float:
    """Cut one crop out of the patients of this process; return a number of it."""
    size = (edge, edge, edge)
    draws = draw_patches(_loaded, size, 1, tumour_share=0.75, weights=[1.0] * len(_loaded), seed=(seed,))
    return float(make_batch(_loaded, draws, size, 1).image_BMDHW[0, 0, 0, 0, 0])


def load(folders: Sequence[Path]) -> None:
    """Load patients once in this process, on the grid of the store."""
    torch.set_num_threads(1)
    _loaded[:] = load_patients(folders, GLIOMA, 1, threads=1)


def rate(pool: Executor, crop: Callable[[int], float], count: int) -> float:
    """Return crops per second."""
    return count / timed(lambda: list(pool.map(crop, range(count))))[1]


def rates(folders: Sequence[Path], edge: int, *, count: int, rounds: int, workers: Sequence[int]) -> list[dict[str, Any]]:
    """Return crops per second for every source and pool; the first round warms up."""
    load(folders)
    start = get_context("spawn")
    pools: dict[tuple[str, int], Executor] = {("threads", n): ThreadPoolExecutor(n) for n in workers}
    pools |= {("processes", n): ProcessPoolExecutor(n, start, initializer=load, initargs=(folders,)) for n in workers}
    crops = {"disk": partial(from_disk, folders, edge), "memory": partial(from_memory, edge)}
    found: dict[tuple[str, str, int], list[float]] = {(s, *p): [] for s, p in itertools.product(crops, pools)}
    for round_ in range(rounds + 1):
        for source, kind, n in found:
            per_second = rate(pools[kind, n], crops[source], count if round_ else 2 * n)
            if round_:
                found[source, kind, n].append(per_second)
    for pool in pools.values():
        pool.shutdown()
    return [{"from": s, "by": k, "workers": n, "crops_per_second": statistics.median(r)} for (s, k, n), r in found.items()]


def data_costs(run: Run, patients: Sequence[Patient], count: int) -> tuple[float, float]:
    """Return the CPU seconds of cutting and of augmenting the batch of a step."""
    cut = augmented = 0.0
    for step in range(count + 1):
        seed = (run.seed, step, 0)
        begun = time.process_time()
        draws = draw_patches(
            patients, run.patch, run.batch, tumour_share=run.tumour_share, weights=[1.0] * len(patients), seed=seed
        )
        batch = make_batch(patients, draws, run.patch, run.window.stride)
        between = time.process_time()
        generator = torch.Generator().manual_seed(step)
        apply_augmentation(batch, draw_augmentation(run.augmentation, run.batch, len(GLIOMA.modalities), generator))
        if step:  # The first warms up.
            cut, augmented = cut + between - begun, augmented + time.process_time() - between
    return cut / count, augmented / count


def lying_there(run: Run, supply: Supply, step: int) -> Fetch:
    """Return a way to fetch the data of one step that costs nothing: all of them are made now."""
    made_of = partial(data_of, run, supply, torch.device("cpu"))
    kept: dict[Key, Any] = {key: made_of(key) for key in ((run.seed, step, part) for part in range(run.accumulate))}

    def fetch(make: Callable[[Key], Any], key: Key, following: Key) -> Any:
        return kept[key]

    return fetch


def step_costs(run: Run, folders: Sequence[Path], *, rounds: int, steps: int) -> dict[str, Any]:
    """Return what a step costs with a cached batch, with data made before each step, and made ahead in a thread, in turns."""
    patients = load_patients(folders, run.task_object, run.window.stride, threads=1)
    supply = supply_of(run, patients)
    torch.manual_seed(0)
    method = run.method_config.build(run.task_object).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    state = first_state(method.train(), run, torch.device("cpu"))
    found: dict[str, list[tuple[float, float]]] = {"cached": [], "at once": [], "ahead": []}
    with one_ahead() as ahead:
        ways: dict[str, Fetch] = {"at once": at_once, "ahead": ahead}
        for round_ in range(rounds + 1):
            for way in list(found) if round_ % 2 else reversed(found):
                for number in range(steps + 1):
                    # Of the same draws for all, so that they do the same work; the first of a turn has nothing made ahead.
                    state = replace(state, place=replace(state.place, step=round_ * (steps + 1) + number))
                    fetch = ways.get(way) or lying_there(run, supply, state.place.step)
                    _, wall, cpu = timed(partial(make_step, state, run, supply, progress=0.5, fetch=fetch))
                    if round_ and number:
                        found[way].append((wall, cpu))
    cut, augment = data_costs(run, patients, 30)
    seconds = {
        way: {"wall": statistics.median(w for w, _ in t), "cpu": statistics.median(c for _, c in t)} for way, t in found.items()
    }
    longer = {
        way: {
            k: statistics.median(t[i] / c[i] for t, c in zip(found[way], found["cached"], strict=True)) - 1
            for i, k in enumerate(KINDS)
        }
        for way in ("at once", "ahead")
    }
    return {"seconds": seconds, "longer_than_cached": longer, "cut_seconds": cut, "augment_seconds": augment}


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of a prepared cohort.")
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--crops", type=int, default=40, help="Per round.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--run", default="ccsd", help="Method whose step is measured.")
    parser.add_argument("--size", nargs="+", default=["small"])
    parser.add_argument("--steps", type=int, default=3, help="Per turn.")
    parser.add_argument("--threads", type=int, default=1, help="Of torch, for steps.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with cases_in(given.data, given.cases) as folders:
        table = rates(folders, given.edge, count=given.crops, rounds=given.rounds, workers=given.workers)
        print(f"{described()}\ncrops of {given.edge}³ with {len(GLIOMA.modalities)} modalities per second, {len(folders)} cases")
        for row in table:
            print(f"{row['from']:<8}{row['workers']:>3} {row['by']:<12}{row['crops_per_second']:>8.1f}")
        costs = {}
        torch.set_num_threads(given.threads)
        for size in given.size:
            run = default(given.run, size)
            costs[f"{given.run}.{size}"] = cost = step_costs(run, folders, rounds=given.rounds, steps=given.steps)
            print(f"\n{given.run} {size}, {run.batch} patches of {run.patch}, {torch.get_num_threads()} thread(s)")
            cut, augment = (1000 * cost[f"{part}_seconds"] for part in ("cut", "augment"))
            print(
                f"cutting {cut:.1f} ms CPU and augmenting {augment:.1f} ms are "
                f"{(cut + augment) / cost['seconds']['cached']['cpu'] / 10:.1f} % of a step with a cached batch"
            )
            print(f"{'data':<10}{'wall s':>10}{'CPU s':>10}{'longer, wall':>15}{'longer, CPU':>15}")
            for way, seconds in cost["seconds"].items():
                longer = "".join(f"{100 * cost['longer_than_cached'][way][k]:>13.1f} %" for k in KINDS) if way != "cached" else ""
                print(f"{way:<10}{seconds['wall']:>10.3f}{seconds['cpu']:>10.3f}{longer}")
    write_json(given.json, {"threads_of_steps": given.threads, "crops": table, "steps": costs})


if __name__ == "__main__":
    main()
