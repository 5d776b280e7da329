"""What was tried for speed or memory and not kept, each against what is there: ratios of CPU time, peaks, differences.

    OMP_NUM_THREADS=1 python benchmarks/alternatives.py --size small base --edge 48 --json alternatives.json

For a training step of CCSD (one patch of noise): its students as one batch, its specific encoders as one grouped convolution a
layer, its encoders' finest level computed anew for the backward pass. For inference: subsets decoded two at a time. Each takes
turns with what is there, in one process, on the same students. Peaks are those of a process that makes one step with six students,
or decodes all subsets, beyond what it held before. Compared: gradients of that step in float32, logits.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from fifteen_subsets import settled_mib
from measuring import described, peak_mib, timed, write_json
from reference import noise_batch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from training_step import BF16, FLOAT32, REFERENCE, apart, made, method_of

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.losses.agreement import kl_divergences
from anymri.methods import ccsd
from anymri.methods.ccsd import CCSD, CCSDConfig, Features
from anymri.methods.method import Size, Term
from anymri.nn.blocks import LEAK, Encoder
from anymri.nn.processor import keep_memory, suited_to
from anymri.nn.shared_specific import ModalityEncoders, Pyramids

SEED = 7  # Of the step whose gradients and peak are measured.


def repeated(features: Features, count: int) -> Features:
    """Return the features of one sample as those of a batch of it; nothing is copied."""
    many = features.mapped(lambda f: f.expand(count, *f.shape[1:]))
    return replace(many, present=features.present.expand(count, -1))


def _students_together(self: CCSD, features: Features, teacher: Tensor, generator: torch.Generator) -> Iterator[Term]:
    keep = torch.cat([keep for keep, _ in ccsd.students_of(features.present, generator)])
    logits = self._class_logits(repeated(features, len(keep)), keep)
    yield Term("hmsd", kl_divergences(teacher, logits, temperature=self.config.temperature).mean(), self.config.hmsd)


def _grouped(self: ModalityEncoders, image_BMDHW: Tensor, present_BM: Tensor) -> tuple[Pyramids, Pyramids]:
    x, count, found = image_BMDHW, len(self.specific), cast("Pyramids", [])
    for of_level in zip(*(cast("Encoder", encoder).levels for encoder in self.specific), strict=True):
        for blocks in zip(*cast("Any", of_level), strict=True):
            kernels, scale, shift = (torch.cat(of) for of in zip(*(block.parameters() for block in blocks), strict=True))
            x = F.conv3d(x, kernels, None, blocks[0][0].stride, blocks[0][0].padding, groups=count)
            x = F.leaky_relu(F.batch_norm(x, None, None, scale, shift, training=True), LEAK, inplace=True)
        found.append(list(x.chunk(count, 1)))
    levels = found[0 if self.every_level else -1 :]
    return [self.shared(image) for image in image_BMDHW.split(1, 1)], [list(own) for own in zip(*levels, strict=True)]


def _checkpointed(self: Encoder, x: Tensor) -> list[Tensor]:
    features = [cast("Tensor", checkpoint(self.levels[0], x, use_reentrant=False))]
    for level in list(self.levels)[1:]:
        features.append(level(features[-1]))
    return features


STEPS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a step as it is": nullcontext,
    "students in one batch": lambda: patch.object(CCSD, "_hmsd", _students_together),
    "specific encoders grouped": lambda: patch.object(ModalityEncoders, "forward", _grouped),
    "finest level checkpointed": lambda: patch.object(Encoder, "forward", _checkpointed),
}
DECODES = {"subsets as they are": 1, "two subsets in one batch": 2}  # How many at a time.


def stepped(method: CCSD, edge: int, name: str, seed: int, kind: str = BF16) -> CCSD:
    """Return the network with the gradient of a training step at its weights."""
    with STEPS[name]():
        made(method, noise_batch(edge), seed, kind)
    return method


@torch.inference_mode()
def encoded(size: Size, edge: int) -> tuple[CCSD, Features]:
    """Return a network and what it knows of noise, as inference has it."""
    method, batch = method_of(CCSDConfig.sized(size), REFERENCE).eval(), noise_batch(edge)
    with suited_to(torch.device("cpu")):
        return method, method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)


@torch.inference_mode()
def decoded(method: CCSD, features: Features, at_once: int) -> Iterator[Tensor]:
    """Yield logits of all subsets."""
    for keep in torch.tensor([s.mask for s in subsets(GLIOMA.modalities)]).split(at_once):
        with suited_to(torch.device("cpu")):
            yield method.decode(features if len(keep) == 1 else repeated(features, len(keep)), keep)


def peak(size: Size, edge: int, name: str) -> float:
    """Return the MiB that one of them takes in this process, beyond what was held before."""
    if name in STEPS:
        method = method_of(CCSDConfig.sized(size), BF16)
        stepped(method, 16, name, SEED)  # What torch imports and allocates once.
        before = settled_mib()
        stepped(method, edge, name, SEED)
    else:
        (method, features), before = encoded(size, edge), settled_mib()
        deque(decoded(method, features, DECODES[name]), maxlen=0)
    return peak_mib() - before


def turns(works: Mapping[str, Callable[[int], object]], rounds: int) -> list[dict[str, Any]]:
    """Return medians of CPU seconds and of ratios to the first; all take turns, with the seed of the round."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name in list(works)[:: 1 if round_ % 2 else -1]:
            found[name].append(timed(partial(works[name], SEED + round_))[2])
    first = next(iter(found.values()))  # The first round warms up.
    ratios = {name: statistics.median(a / b for a, b in list(zip(of, first, strict=True))[1:]) for name, of in found.items()}
    return [{"name": name, "cpu_s": statistics.median(of[1:]), "ratio_cpu": ratios[name]} for name, of in found.items()]


def measured(size: Size, edge: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each of them: seconds, ratios, and how far its results are from those of what is there."""
    plain, other = (method_of(CCSDConfig.sized(size), FLOAT32) for _ in range(2))
    steps = turns({name: partial(stepped, plain, edge, name) for name in STEPS}, rounds)
    stepped(plain, edge, steps[0]["name"], SEED, FLOAT32)
    for row in steps:
        row["apart"] = apart(stepped(other, edge, row["name"], SEED, FLOAT32), plain)
    method, features = encoded(size, edge)
    works = {name: lambda _, n=n: torch.cat(list(decoded(method, features, n))) for name, n in DECODES.items()}
    decodes = turns(works, rounds)
    for row in decodes:
        row["apart"] = float((works[row["name"]](0) - works[decodes[0]["name"]](0)).abs().max())
    return steps + decodes


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=CCSDConfig.sizes, default=["small"])
    parser.add_argument("--edge", type=int, default=48, help="Voxels of the patch along each axis.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", choices=(*STEPS, *DECODES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    keep_memory()  # As the commands do.
    if given.peak_of:
        print(peak(given.size[0], given.edge, given.peak_of))
        return
    print(f"ccsd, {given.edge}³, steps in bf16, inference in float32, {given.rounds} rounds\n{described()}")
    found: dict[str, list[dict[str, Any]]] = {}
    for size in given.size:
        found[size] = measured(size, given.edge, given.rounds)
        print(f"\n{size:<28}{'CPU s':>9}{'times':>9}{'peak MiB':>10}{'apart':>10}")
        for row in found[size]:
            words = [sys.executable, __file__, "--size", size, "--edge", str(given.edge), "--peak-of", row["name"]]
            row["MiB"] = float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
            numbers = f"{row['cpu_s']:>9.3f}{row['ratio_cpu']:>9.2f}{row['MiB']:>10.0f}{row['apart']:>10.1e}"
            print(f"{row['name']:<28}{numbers}", flush=True)
    write_json(given.json, {"edge": given.edge, "rounds": given.rounds, "sizes": found})


if __name__ == "__main__":
    main()
