"""Segment one patient by the command, each run a process of its own: seconds by step, CPU seconds, peak memory, Dice.

    python benchmarks/one_patient.py CASE_FOLDER --json one_patient.json
    python benchmarks/one_patient.py --weights ccsd-small
    python benchmarks/one_patient.py CASE_FOLDER --backend torch openvino --precision float32 bf16 --rounds 3

CASE_FOLDER is a BraTS folder with a reference; without it a synthetic patient of 240×240×155 is made. Seconds are from the start of
the command to its end, imports included, files on disk to files on disk. ``first window`` is the whole less the steps ``predict``,
``restore`` and ``write``: what passes before the network begins. Of onnx and openvino ``predict`` includes opening and compiling
the graph: their ``first window`` ends before that and must not be set beside torch's. Back ends and precisions take turns in every
round, figures are medians; a back end that has to make a graph does so in a run before the first round. ``base`` has weights drawn
at random with the settings of a default run: as slow as trained ones, and its Dice says nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from measuring import described, held_mib, write_json

from anymri.backends import BACKENDS
from anymri.cohorts import find_cohort
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.case import Study
from anymri.domain.task import GLIOMA
from anymri.engine.model import WeightsHeader, write_weights
from anymri.metrics.masks import dice
from anymri.preparation.labels import region_bits
from anymri.recipes.default import default
from anymri.segment.patient import Precision
from anymri.volumes.nifti import read_labels

SUBSETS = (("FLAIR", "T1", "T1c", "T2"), ("FLAIR", "T1c"), ("T1",))
BASE = "base (random)"


@dataclass(frozen=True)
class Measured:
    """One run of the command."""

    weights: str
    subset: str
    how: str
    dice: dict[str, float]
    seconds: float
    cpu_seconds: float
    first_window: float
    steps: dict[str, float]
    peak_mib: float


def write_random_weights(path: Path, method: str = "ccsd", size: str = "base") -> None:
    """Write weights as a default run of a method leaves them, but for training."""
    run = default(method, size)
    torch.manual_seed(0)
    network = run.method_config.build(GLIOMA)
    network.strip()
    header = WeightsHeader(name=f"{method}-{size}-random", method=method, config=run.config, task=run.task, window=run.window)
    write_weights(path, network.state_dict(), header)


def timed(command: list[str]) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and peak memory in MiB of a command."""
    started, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while (found := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak = max(peak, held_mib(process.pid))
            time.sleep(0.005)
        seconds, (_, status, usage) = time.perf_counter() - started, found
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return seconds, usage.ru_utime + usage.ru_stime, peak or usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measured(images: dict[str, Path], truth: np.ndarray, weights: tuple[str, Path | str | None], how: tuple[str, str]) -> Measured:
    """Return what one run took by a back end in a precision, and Dice per region."""
    name, file = weights
    with tempfile.TemporaryDirectory() as folder:
        words = [word for modality, path in images.items() for word in ("--image", f"{modality}={path}")]
        command = [sys.executable, "-m", "anymri", "segment", *words, "--out", folder]
        command += ["--backend", how[0], "--precision", how[1], *(["--weights", str(file)] if file else [])]
        seconds, cpu, peak = timed(command)
        found = region_bits(read_labels(Path(folder) / "segmentation.nii.gz").array, GLIOMA.scheme(), GLIOMA)
        steps = json.loads((Path(folder) / "summary.json").read_text())["seconds"]
    values = {r: dice((found >> i & 1).astype(bool), (truth >> i & 1).astype(bool)) for i, r in enumerate(GLIOMA.region_names)}
    first = seconds - sum(steps[step] for step in ("predict", "restore", "write"))
    return Measured(name, "+".join(images), " ".join(how), values, seconds, cpu, first, steps, peak)


def help_seconds(rounds: int = 7) -> tuple[float, float]:
    """Return wall and CPU seconds of ``anymri --help``: the medians."""
    runs = [timed([sys.executable, "-m", "anymri", "--help"]) for _ in range(rounds)]
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path, nargs="?")
    parser.add_argument("--weights", help="Name or file; the shipped small ones and random ones of size base if none are given.")
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=["torch"])
    parser.add_argument("--precision", nargs="+", choices=get_args(Precision), default=["auto"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    ways = [way for way in itertools.product(given.backend, given.precision) if way != ("onnx", "bf16")]
    with tempfile.TemporaryDirectory() as folder:
        made = None if given.case else write_phantoms(Path(folder) / "patient", GLIOMA, seeds=[1])
        (study,) = (made or find_cohort(given.case, GLIOMA)).studies
        if study.labels is None:
            parser.error(f"{given.case} has no reference")
        random = Path(folder) / "base.safetensors"
        write_random_weights(random)
        weights = {given.weights: given.weights} if given.weights else {"ccsd-small": None, BASE: random}
        found = show(study, weights, ways, given.rounds)
    wall, cpu = help_seconds()
    print(f"anymri --help: {wall:.2f} s, {cpu:.2f} CPU s (at most 0.3)")
    write_json(given.json, {"help": {"wall": wall, "cpu": cpu}, "runs": [vars(row) for row in found]})


def medians(runs: list[Measured]) -> Measured:
    """Return one run that has the median of every figure."""
    steps = {step: statistics.median(run.steps[step] for run in runs) for step in runs[0].steps}
    figures = ("seconds", "cpu_seconds", "first_window", "peak_mib")
    return replace(runs[0], steps=steps, **{f: statistics.median(getattr(run, f) for run in runs) for f in figures})


def show(study: Study, weights: dict[str, Path | str | None], ways: Sequence[tuple[str, str]], rounds: int) -> list[Measured]:
    """Measure and print every subset with every weights in every way."""
    assert study.labels is not None
    reference = read_labels(study.labels.path)
    truth = region_bits(reference.array, GLIOMA.scheme(study.scheme), GLIOMA)
    shape = "×".join(map(str, reference.array.shape))
    print(f"{study.name}, {shape}\n{described()}")
    head = ("WT", "TC", "ET", "seconds", "CPU s", "first window", "read", "prepare", "predict", "restore", "write", "peak MiB")
    print(f"{'weights':<16}{'subset':<18}{'by':<18}" + "".join(f"{h:>{max(8, len(h) + 2)}}" for h in head))
    rows = []
    for name, file in weights.items():
        for subset in SUBSETS:
            images = {n: study.images[n].path for n in subset if n in study.images}
            for way in (w for w in ways if w[0] != "torch"):
                measured(images, truth, (name, file), way)  # Graphs are made.
            runs: dict[tuple[str, str], list[Measured]] = {way: [] for way in ways}
            for round_ in range(rounds):
                for way in ways if round_ % 2 == 0 else reversed(ways):
                    runs[way].append(measured(images, truth, (name, file), way))
            for row in map(medians, runs.values()):
                rows.append(row)
                values = "".join(f"{v:>8.3f}" for v in row.dice.values())
                steps = "".join(f"{row.steps.get(h, 0.0):>{max(8, len(h) + 2)}.2f}" for h in head[6:11])
                times = f"{row.seconds:>9.2f}{row.cpu_seconds:>8.2f}{row.first_window:>14.2f}"
                print(f"{row.weights:<16}{row.subset:<18}{row.how:<18}{values}{times}{steps}{row.peak_mib:>10.0f}", flush=True)
    if any(way[0] != "torch" for way in ways):
        print("first window of onnx and openvino: without opening and compiling the graph, which their predict includes")
    return rows


if __name__ == "__main__":
    main()
