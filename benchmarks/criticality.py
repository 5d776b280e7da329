"""A training step of CCSD with either criticality and with its losses switched off, alternating in one run: CPU seconds and ratios.

    OMP_NUM_THREADS=1 python benchmarks/criticality.py --json criticality.json

The gradient is read where L_seg of the full set left it, so that a step costs no second backward pass. What such a pass would cost
is measured beside it: a step that sends L_seg of the full set through the decoder twice. CPU seconds, since others may compute on
the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Literal

import torch
from measuring import described, write_json
from reference import noise_batch

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA
from anymri.methods.ccsd import CCSD, CCSDConfig

COSINE, GRADIENT, TWICE = "cosine", "gradient", "gradient, second pass"
OFF = {"HMSD alone": {"dmcd": 0.0}, "DMCD alone": {"hmsd": 0.0}, "neither": {"hmsd": 0.0, "dmcd": 0.0}}


def seconds(method: CCSD, batch: Batch, seed: int, *, twice: bool) -> float:
    """Return CPU seconds of the terms of a step, each back-propagated as it comes; the seed draws the same students for all."""
    method.zero_grad(set_to_none=True)
    started = time.process_time()
    for term in method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(seed)):
        again = twice and term.name == "seg_full"
        (term.value * term.weight).backward(retain_graph=again)
        if again:
            # Into tensors of its own: what the step learns from stays as it was.
            torch.autograd.grad(term.value, [p for p in method.decoder.parameters() if p.requires_grad])
    return time.process_time() - started


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CCSDConfig.sizes, default="small")
    parser.add_argument("--edge", type=int, default=64, help="Voxels of the patch along each axis.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    cosine = CCSDConfig.sized(given.size).build(GLIOMA)
    by_gradient: Literal["gradient"] = "gradient"
    gradient = cosine.config.model_copy(update={"criticality": by_gradient}).build(GLIOMA)
    gradient.load_state_dict(cosine.state_dict())
    without = {name: (cosine.config.model_copy(update=losses).build(GLIOMA), False) for name, losses in OFF.items()}
    kinds = {COSINE: (cosine, False), GRADIENT: (gradient, False), TWICE: (gradient, True), **without}
    batch = noise_batch(given.edge)
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for round_ in range(given.rounds + 1):
        for kind in list(kinds) if round_ % 2 else reversed(kinds):
            method, twice = kinds[kind]
            took = seconds(method, batch, round_, twice=twice)
            if round_:  # The first warms up.
                found[kind].append(took)
    print(f"ccsd {given.size}, one patch of {given.edge}³, {given.rounds} steps each\n{described()}")
    print(f"{'step':<24}{'median CPU s':>14}{'ratio to cosine':>18}{'10th to 90th percentile of the ratio':>40}")
    rows = []
    for kind, times in found.items():
        ratios = sorted(t / c for t, c in zip(times, found[COSINE], strict=True))
        low, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.1, 0.9))
        row = {
            "step": kind,
            "seconds": statistics.median(times),
            "ratio": statistics.median(ratios),
            "low": low,
            "high": high,
        }
        rows.append(row)
        print(f"{kind:<24}{row['seconds']:>14.3f}{row['ratio']:>18.3f}{f'{low:.3f} to {high:.3f}':>40}")
    write_json(given.json, {"size": given.size, "edge": given.edge, "rows": rows})


if __name__ == "__main__":
    main()
