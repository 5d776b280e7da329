"""A training step of CCSD against plain code that runs every student as a full forward pass: time, memory, gradients.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --size base --edge 64

The reference (reference.py) is what published programs do: the same layers in float32 and contiguous, every student a pass of its
own through all encoders, all terms summed and back-propagated at once. Ours is what `anymri train` runs, in float32 and in bf16.
Steps alternate in one run and draw the same subsets. Memory is the peak of a process that makes one step, beyond what it
held before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
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


def method_of(size: Size, kind: str) -> CCSD:
    """Return the network in the layout of its kind; the weights are those of seed 0."""
    torch.manual_seed(0)
    network = CCSDConfig.sized(size).build(GLIOMA)
    return network if kind == REFERENCE else network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def made(method: CCSD, batch: Batch, seed: int, kind: str) -> float:
    """Make a step of a kind; return its CPU seconds."""
    method.zero_grad(set_to_none=True)
    started = time.process_time()
    if kind == REFERENCE:
        reference_step(method, batch, seed)
    else:
        our_step(method, batch, seed, "bf16" if kind == BF16 else "float32")
    return time.process_time() - started


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


def peak_MiB() -> float:
    """Return the most memory that this process has held. Linux alone; getrusage would count what its parent held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure_memory(size: Size, edge: int, kind: str, students: int) -> None:
    """Make one step and print the MiB it took beyond what was there; with only so many students, if asked."""
    if students:
        subsets = [torch.tensor([[b >> m & 1 == 1 for m in range(4)]]) for b in (3, 5, 6, 9, 10, 12)]
        ccsd.students_of = lambda present, generator: [(s, present[:, 0]) for s in subsets[:students]]
    method, batch = method_of(size, kind), noise_batch(edge)
    before = peak_MiB()
    made(method, batch, 1, kind)
    print(peak_MiB() - before)


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
    methods, batch = {kind: method_of(given.size, kind) for kind in KINDS}, noise_batch(given.edge)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for round_ in range(given.rounds + 1):
        for kind in KINDS if round_ % 2 else reversed(KINDS):
            took = made(methods[kind], batch, round_, kind)
            if round_:  # The first warms up.
                found[kind].append(took)
    words = ["--size", given.size, "--edge", str(given.edge)]
    print(f"ccsd {given.size}, one patch of {given.edge}³, {given.rounds} steps each, {torch.get_num_threads()} thread(s)")
    print(f"{'':<16}{'CPU s':>8}{'times faster':>14}{'peak MiB':>10}{'of reference':>14}{'gradients apart':>17}")
    rows = []
    for kind in KINDS:
        faster = statistics.median(r / t for r, t in zip(found[REFERENCE], found[kind], strict=True))
        memory = peak_of_a_process([*words, "--memory-of", kind])
        row = {"kind": kind, "seconds": statistics.median(found[kind]), "faster": faster, "MiB": memory}
        row["gradients_apart"] = apart(methods[kind], methods[REFERENCE])
        rows.append(row)
        share = f"{memory / rows[0]['MiB']:.2f}"  # type: ignore[operator]
        print(f"{kind:<16}{row['seconds']:>8.2f}{faster:>14.2f}{memory:>10.0f}{share:>14}{row['gradients_apart']:>17.1e}")
    by_students = {n: peak_of_a_process([*words, "--memory-of", BF16, "--students", str(n)]) for n in (1, 4, 6)}
    print("peak MiB in bf16 with " + ", ".join(f"{n} students {peak:.0f}" for n, peak in by_students.items()))
    if given.json:
        report = {"threads": os.environ.get("OMP_NUM_THREADS"), "steps": rows, "MiB_by_students": by_students}
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
