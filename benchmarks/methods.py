"""What every method costs at one size: parameters, operations, seconds and memory, of a training step and of a patient.

    OMP_NUM_THREADS=1 python benchmarks/methods.py --size small
    python benchmarks/methods.py ccsd adamm --size base --window 96 112 96

A patient is one window of noise, which at 2 mm holds a head. Operations are counted by torch.utils.flop_counter (convolutions and
matrix products; a multiplication with its addition counts as two). A training step is of one patch in bf16, as `anymri train`
makes it; a method with two stages spends half of its steps in each, and its step is the mean of both. Every method is measured in a
process of its own; memory is that process's peak beyond what it held before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import described, peak_mib, timed, write_json
from reference import noise_batch
from torch.utils.flop_counter import FlopCounterMode

from anymri.domain.task import GLIOMA
from anymri.engine.step import back_propagate
from anymri.methods import METHODS, method_named
from anymri.methods.method import Method, Size
from anymri.methods.retrieval import Retrieval
from anymri.nn.processor import keep_memory, suited_to

Row = dict[str, float]
CPU = torch.device("cpu")
HALVES = ("training", "inference")
COLUMNS = {
    "trained": ("parameters in training, M", 2),
    "shipped": ("parameters shipped, M", 2),
    "gflop": ("GFLOP, all modalities", 0),
    "gflop_15": ("GFLOP, all subsets", 0),
    "seconds": ("s, all modalities", 2),
    "seconds_15": ("s, all subsets", 2),
    "MiB_15": ("peak MiB, all subsets", 0),
    "step": ("s a training step", 2),
    "MiB_step": ("peak MiB of a step", 0),
}


def millions(method: Method) -> float:
    """Return how many parameters a network has, in millions."""
    return sum(p.numel() for p in method.parameters()) / 1e6


def cpu_seconds(work: Callable[[], None], rounds: int) -> float:
    """Return the median of CPU seconds, the first round left out."""
    return statistics.median([timed(work)[2] for _ in range(rounds + 1)][1:])


def training(method: Method, edge: int, rounds: int) -> Row:
    """Return seconds and memory of a training step, a mean over the stages."""
    batch = noise_batch(edge)
    seconds, before = [], peak_mib()
    for stage in method.stages:
        method.enter_stage(stage)
        generator = torch.Generator().manual_seed(0)

        def step(generator: torch.Generator = generator) -> None:
            method.zero_grad(set_to_none=True)
            back_propagate(method, batch, progress=0.9, generator=generator, precision="bf16")

        seconds.append(cpu_seconds(step, rounds))
    return {"trained": millions(method), "step": statistics.mean(seconds), "MiB_step": peak_mib() - before}


def inference(method: Method, window: tuple[int, int, int], rounds: int) -> Row:
    """Return operations, seconds and memory of a patient, for all modalities and for all subsets; strips the method."""
    method.strip()
    method.eval()
    image = torch.randn((1, len(GLIOMA.modalities), *window), generator=torch.Generator().manual_seed(0))
    full = torch.ones((1, len(GLIOMA.modalities)), dtype=torch.bool)
    subsets = [torch.tensor([subset.mask]) for subset in method.supports()]

    def segmented(keeps: list[torch.Tensor]) -> None:
        features = method.encode(image, full, torch.zeros((1, 3), dtype=torch.int64))
        for keep in keeps:
            method.decode(features, keep)

    before = peak_mib()
    row = {"shipped": millions(method)}
    with torch.inference_mode():
        with suited_to(CPU):
            row["seconds"], row["seconds_15"] = (cpu_seconds(lambda k=keeps: segmented(k), rounds) for keeps in ([full], subsets))
        row["MiB_15"] = peak_mib() - before
        for name, keeps in (("gflop", [full]), ("gflop_15", subsets)):
            with FlopCounterMode(display=False) as counter:
                segmented(keeps)
            row[name] = counter.get_total_flops() / 1e9
    return row


def measured(name: str, size: Size, given: argparse.Namespace) -> Row:
    """Measure one method, each half in a fresh process."""
    words = [sys.executable, __file__, name, "--size", size, "--edge", str(given.edge), "--rounds", str(given.rounds)]
    words += ["--window", *map(str, given.window)]
    parts = [subprocess.run([*words, "--half", half], check=True, capture_output=True, text=True).stdout for half in HALVES]
    return {key: value for part in parts for key, value in json.loads(part).items()}


def half_of(name: str, given: argparse.Namespace) -> Row:
    """Measure training or inference in this process."""
    keep_memory()
    torch.manual_seed(0)
    method = method_named(name).config.sized(given.size).build(GLIOMA)
    method = method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if isinstance(method, Retrieval):  # An empty one answers nothing: what it is for would be left out.
        entries = len(method.bank.cases)
        method.bank.enter(torch.randn_like(method.bank.features), torch.arange(1, entries + 1))
    return training(method, given.edge, given.rounds) if given.half == "training" else inference(method, given.window, given.rounds)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="Which; all if none are given.")
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--edge", type=int, default=64, help="Voxels of the training patch along each axis.")
    parser.add_argument("--window", type=int, nargs=3, default=(80, 96, 80), help="Voxels of the window that holds a head.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--half", choices=HALVES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.methods or [entry.name for entry in METHODS]
    if given.half:
        print(json.dumps(half_of(names[0], given)))
        return
    print(f"{described()}\nsize {given.size}, patch {given.edge}³, window {'×'.join(map(str, given.window))}\n")
    print("| method | " + " | ".join(title for title, _ in COLUMNS.values()) + " |\n| --- |" + " ---: |" * len(COLUMNS))
    rows = {}
    for name in names:
        row = rows[name] = measured(name, given.size, given)
        print(f"| {name} | " + " | ".join(f"{row[key]:.{digits}f}" for key, (_, digits) in COLUMNS.items()) + " |", flush=True)
    write_json(given.json, {"size": given.size, "window": given.window, "edge": given.edge, "methods": rows})


if __name__ == "__main__":
    main()
