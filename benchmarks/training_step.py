"""A training step of CCSD against plain code that runs every student as a full forward pass: time, memory, gradients.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --size base --edge 64

The reference (reference.py) is what published programs do: the same layers in float32 and contiguous, every student a pass of its
own through all encoders, all terms summed and back-propagated at once. Ours is what `anymri train` runs, in float32 and in bf16,
but for `keep_memory`: steps alternate in one process, where it would serve both sides, so neither has it. They draw the same
subsets. Gradients are compared with the reference's and with those that the reference leaves with its layers in float64. Memory is
the peak of a process that makes one step, beyond what it held before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from measuring import described, peak_mib, timed, write_json
from reference import class_logits, decoded, encoded, noise_batch, slots
from torch import Tensor

from anymri.data.batch import Batch
from anymri.data.draw import draw_subsets
from anymri.domain.task import GLIOMA
from anymri.engine.step import back_propagate
from anymri.losses.agreement import kl_divergence
from anymri.losses.segmentation import segmentation_loss
from anymri.losses.subsets import cosine_criticality, descending, students_of
from anymri.methods import ccsd
from anymri.methods.ccsd import CCSD, CCSDConfig
from anymri.methods.method import Size

REFERENCE, FLOAT32, BF16 = "reference", "ours, float32", "ours, bf16"
KINDS = (REFERENCE, FLOAT32, BF16)


def reference_step(method: CCSD, batch: Batch, seed: int) -> None:
    """Leave the gradient of L_seg(full) + L_seg(subset) + HMSD + DMCD at the weights, by one pass per subset."""
    config, present = method.config, batch.present_BM
    generator = torch.Generator().manual_seed(seed)

    def passed(keep_BM: Tensor) -> Tensor:
        return class_logits(method, batch.image_BMDHW, keep_BM, skip_absent=False)

    def supervised(logits: Tensor) -> Tensor:
        return segmentation_loss(logits, batch.target_BRDHW, batch.known_BR, GLIOMA.membership)

    everything = [True] * present.shape[1]
    features = encoded(method, batch.image_BMDHW)
    full = decoded(method, features, everything)
    total = supervised(full) + supervised(passed(draw_subsets(present, generator)))
    students = students_of(present, generator)
    for keep, _ in students:
        total = total + config.hmsd * kl_divergence(full, passed(keep), temperature=config.temperature) / len(students)
    fused = slots(method, features, everything)
    scores = cosine_criticality(torch.stack([f.flatten(1) for f in fused], 1), present)
    kept = [everything]
    for m in descending(scores, present)[0][:-1]:
        kept.append([k and i != m for i, k in enumerate(kept[-1])])
    for larger, smaller in pairwise([torch.cat(slots(method, features, keep), 1) for keep in kept]):
        total = total + config.dmcd * kl_divergence(larger, smaller, temperature=config.temperature)
    total.backward()


def our_step(method: CCSD, batch: Batch, seed: int, precision: str = "float32") -> None:
    """Leave the same gradient at the weights as the package does."""
    back_propagate(method, batch, progress=0.5, generator=torch.Generator().manual_seed(seed), precision=precision)


def method_of(config: CCSDConfig, kind: str) -> CCSD:
    """Return the network in the layout of its kind; the weights are those of seed 0."""
    torch.manual_seed(0)
    network = config.build(GLIOMA)
    return network if kind == REFERENCE else network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def made(method: CCSD, batch: Batch, seed: int, kind: str) -> tuple[float, float]:
    """Make a step of a kind; return its wall and its CPU seconds."""
    method.zero_grad(set_to_none=True)
    if kind == REFERENCE:
        _, wall, cpu = timed(lambda: reference_step(method, batch, seed))
    else:
        _, wall, cpu = timed(lambda: our_step(method, batch, seed, "bf16" if kind == BF16 else "float32"))
    return wall, cpu


def exact(config: CCSDConfig, batch: Batch, seed: int) -> CCSD:
    """Return the network with what the reference's step leaves at its weights if all layers compute in float64.

    Losses are the package's, which take logits in float32: next to the layers' their rounding is nothing.
    """
    method = method_of(config, REFERENCE).double()
    reference_step(method, replace(batch, image_BMDHW=batch.image_BMDHW.double()), seed)
    return method


def apart(one: CCSD, other: CCSD) -> float:
    """Return ‖g − h‖ / ‖h‖ over all gradients."""
    pairs = [(p.grad, q.grad) for p, q in zip(one.parameters(), other.parameters(), strict=True)]
    shared = [(g.double(), h.double()) for g, h in pairs if g is not None and h is not None]
    difference = sum(((g - h) ** 2).sum() for g, h in shared)
    return float((difference / sum((h**2).sum() for _, h in shared)) ** 0.5)


def peak_of_a_process(words: list[str]) -> float:
    """Return the MiB that one step takes in a fresh process."""
    output = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    return float(output.stdout)


def measure_memory(size: Size, edge: int, kind: str, students: int) -> None:
    """Make one step and print the MiB it took beyond what was there; with only so many students, if asked."""
    if students:
        subsets = [torch.tensor([[b >> m & 1 == 1 for m in range(4)]]) for b in (3, 5, 6, 9, 10, 12)]
        ccsd.students_of = lambda present, generator: [(s, present[:, 0]) for s in subsets[:students]]
    method, batch = method_of(CCSDConfig.sized(size), kind), noise_batch(edge)
    before = peak_mib()
    made(method, batch, 1, kind)
    print(peak_mib() - before)


def measure_steps(config: CCSDConfig, batch: Batch, rounds: int) -> list[dict[str, Any]]:
    """Return, for each kind, the medians of its seconds, how many times faster it is, and how far its last gradients are apart."""
    methods = {kind: method_of(config, kind) for kind in KINDS}
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for round_ in range(rounds + 1):
        for kind in KINDS if round_ % 2 else reversed(KINDS):
            took = made(methods[kind], batch, round_, kind)
            if round_:  # The first warms up.
                found[kind].append(took)
    finest = exact(config, batch, rounds)
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        pairs = zip(found[REFERENCE], found[kind], strict=True)
        ratios = [(r_wall / wall, r_cpu / cpu) for (r_wall, r_cpu), (wall, cpu) in pairs]
        rows.append(
            {
                "kind": kind,
                **dict(zip(("wall_s", "cpu_s"), map(statistics.median, zip(*found[kind], strict=True)), strict=True)),
                **dict(zip(("faster_wall", "faster_cpu"), map(statistics.median, zip(*ratios, strict=True)), strict=True)),
                "apart_from_reference": apart(methods[kind], methods[REFERENCE]),
                "apart_from_float64": apart(methods[kind], finest),
            }
        )
    return rows


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CCSDConfig.sizes, default="small")
    parser.add_argument("--edge", type=int, default=48, help="Voxels of the patch along each axis.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--students", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        measure_memory(given.size, given.edge, given.memory_of, given.students)
        return
    words = ["--size", given.size, "--edge", str(given.edge)]
    print(f"ccsd {given.size}, one patch of {given.edge}³, {given.rounds} steps each\n{described()}")
    rows = measure_steps(CCSDConfig.sized(given.size), noise_batch(given.edge), given.rounds)
    heads = ("wall s", "times faster", "CPU s", "times faster", "peak MiB", "of reference", "apart from it", "apart from float64")
    print(f"{'':<16}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
    for row in rows:
        row["MiB"] = peak_of_a_process([*words, "--memory-of", row["kind"]])
        cells = [f"{row[name]:.2f}" for name in ("wall_s", "faster_wall", "cpu_s", "faster_cpu")]
        cells += [f"{row['MiB']:.0f}", f"{row['MiB'] / rows[0]['MiB']:.2f}"]
        cells += [f"{row[name]:.2e}" for name in ("apart_from_reference", "apart_from_float64")]
        print(f"{row['kind']:<16}" + "".join(f"{cell:>{len(head) + 2}}" for head, cell in zip(heads, cells, strict=True)))
    by_students = {n: peak_of_a_process([*words, "--memory-of", BF16, "--students", str(n)]) for n in (1, 4, 6)}
    print("peak MiB in bf16 with " + ", ".join(f"{n} students {peak:.0f}" for n, peak in by_students.items()))
    write_json(given.json, {"steps": rows, "MiB_by_students": by_students})


if __name__ == "__main__":
    main()
