"""Single layers of the finest level: torch's kernels, channels first and last, against those that inference chooses.

    python benchmarks/kernels.py --size 96 112 96 --rounds 9 --threads 1 --json kernels.json

A layer is called without gradients, in float32, on noise; what it returns is freed within the time that is taken. Ours is the same
layer within ``suited_to``, on the layout that it keeps. Freed memory is kept in a whole process or not at all: one process has all
three as they are, another ours with ``keep_memory``. They take turns; CPU milliseconds are medians over rounds. Beside them stands
the largest difference of any value from the same layer in float64.
"""

from __future__ import annotations

import argparse
import operator
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from measuring import described, timed, write_json
from torch import Tensor, nn

from anymri.nn.blocks import InstanceNorm
from anymri.nn.processor import channels_last, keep_memory, suited_to

FIRST, LAST, OURS, KEPT = SIDES = ("torch, first", "torch, last", "ours", "ours, kept")
HERE = (FIRST, LAST, OURS)  # Sides that give freed memory back.
Extent = tuple[int, int, int]
LAYERS: dict[str, tuple[Callable[[], Callable[..., Tensor]], tuple[int, ...], int]] = {  # Channels given, and how much coarser.
    "3×3×3, 16 → 16": (lambda: nn.Conv3d(16, 16, 3, padding=1, bias=False), (16,), 1),
    "3×3×3, 1 → 16": (lambda: nn.Conv3d(1, 16, 3, padding=1, bias=False), (1,), 1),
    "1×1×1, 16 → 16": (lambda: nn.Conv3d(16, 16, 1, bias=False), (16,), 1),
    "transposed, 32 → 16": (lambda: nn.ConvTranspose3d(32, 16, 2, stride=2, bias=False), (32,), 2),
    "instance norm, 16 channels": (lambda: InstanceNorm(16), (16,), 1),
    "sum of two, 16 channels": (lambda: operator.add, (16, 16), 1),
}


@lru_cache(maxsize=2)
def ready(name: str, size: Extent, last: bool) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Return a layer and what it is given, the same numbers in every process."""
    make, channels, coarser = LAYERS[name]
    torch.manual_seed(0)
    layer, inputs = make(), [torch.randn(1, c, *(n // coarser for n in size)) for c in channels]
    return layer, [channels_last(x) for x in inputs] if last else inputs


def called(side: str, name: str, size: Extent) -> Tensor:
    """Return what a layer returns on a side."""
    layer, inputs = ready(name, size, side != FIRST)
    with suited_to(torch.device("cpu")) if side in (OURS, KEPT) else nullcontext():
        return layer(*inputs)


@torch.inference_mode()
def milliseconds(name: str, size: Extent, sides: Sequence[str]) -> dict[str, float]:
    """Return CPU milliseconds of a call on each side, in the order given; of the first calls also those of making the input."""
    return {side: 1000 * timed(lambda side=side: called(side, name, size).shape)[2] for side in sides}


@torch.inference_mode()
def apart(name: str, size: Extent, sides: Sequence[str]) -> dict[str, float]:
    """Return the largest difference of any value from the layer in float64, for each side."""
    layer, inputs = ready(name, size, False)
    found = {side: called(side, name, size) for side in sides}
    inputs = [x.double() for x in inputs]
    if isinstance(layer, nn.Conv3d):
        pad = layer.kernel_size[0] // 2
        padded, weight = nn.functional.pad(inputs[0], (pad,) * 6), layer.weight.double()
        slabs = (padded[:, :, z : z + 8 + 2 * pad] for z in range(0, size[0], 8))  # Unfolded, all would take 27 times the memory.
        exact = torch.cat([nn.functional.conv3d(slab, weight) for slab in slabs], 2)
    else:
        exact = (deepcopy(layer).double() if isinstance(layer, nn.Module) else layer)(*inputs)
    return {side: float((value - exact).abs().max()) for side, value in found.items()}


def measured(size: Extent, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Return, for each layer, medians of milliseconds and differences, by side."""
    rows, fresh = [], get_context("spawn")
    with ProcessPoolExecutor(1, fresh) as plain, ProcessPoolExecutor(1, fresh, initializer=keep_memory) as kept:
        for process in (plain, kept):
            process.submit(torch.set_num_threads, threads).result()
        for name in LAYERS:
            found: dict[str, list[float]] = {side: [] for side in SIDES}
            for round_ in range(rounds + 1):
                turns = ((plain, HERE), (kept, (KEPT,))) if round_ % 2 else ((kept, (KEPT,)), (plain, HERE[::-1]))
                for process, sides in turns:
                    for side, ms in process.submit(milliseconds, name, size, sides).result().items():
                        found[side] += [ms] if round_ else []  # The first warms up.
            differences = plain.submit(apart, name, size, HERE).result() | kept.submit(apart, name, size, (KEPT,)).result()
            rows.append({"layer": name, "cpu_ms": {s: statistics.median(ms) for s, ms in found.items()}, "apart": differences})
    return rows


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(96, 112, 96), help="Voxels of what is returned; even.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = measured(tuple(given.size), given.rounds, given.threads)
    print(f"{'×'.join(map(str, given.size))} voxels, {given.rounds} rounds\n{described()}")
    print(f"{'CPU ms, difference from float64':<32}" + "".join(f"{side:>20}" for side in SIDES))
    for row in rows:
        cells = (f"{row['cpu_ms'][side]:.1f}  {row['apart'][side]:.0e}" for side in SIDES)
        print(f"{row['layer']:<32}" + "".join(f"{cell:>20}" for cell in cells))
    write_json(given.json, {"size": list(given.size), "rounds": given.rounds, "rows": rows})


if __name__ == "__main__":
    main()
