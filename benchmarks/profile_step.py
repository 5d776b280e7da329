"""Where a training step of CCSD goes: shares of its time by kind of operation, and what its memory holds.

    OMP_NUM_THREADS=1 python benchmarks/profile_step.py --size small base --edge 64 --json profile_step.json

A step is one patch of noise in bf16, all terms back-propagated as `anymri train` does; the optimiser's own step is not part of it.
Shares are of torch.profiler's self time on the processor, summed over steps that draw different students. It is wall time of each
operation without those it calls: on a machine that does other work, shares count and seconds do not. Kinds go by the names of
operations: a product within a loss is a product. What autograd does between them is the rest.

Memory is measured, not estimated: storages that graphs hold, each counted once, seen by hooks on what autograd saves; weights and
the image are not among them. The peak is that of a whole step beyond what was held before. Every size has a process of its own.
"""

from __future__ import annotations

import argparse
import re
import weakref
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
from measuring import described, peak_mib, write_json
from reference import noise_batch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA
from anymri.engine.inference import autocast
from anymri.engine.state import State, first_state
from anymri.engine.step import back_propagate
from anymri.methods import ccsd
from anymri.methods.ccsd import CCSDConfig
from anymri.methods.method import Method, Size
from anymri.nn.leaves import Leaves
from anymri.nn.processor import keep_memory
from anymri.recipes.default import default

REST = "rest"
_KINDS = (  # The first that fits an operation's name.
    ("convolutions, backward", "convolution_backward|ConvolutionBackward"),
    ("convolutions, forward", "conv"),
    ("norms, backward", "batch_norm_backward|BatchNormBackward"),
    ("norms, forward", "batch_norm"),
    ("activations, both ways", "leaky_relu|LeakyRelu|LeakyReLU"),
    ("softmax and losses", r"softmax|Softmax|kl_div|aten::(exp|log|xlogy|clamp|where|clamp_min|pow|linalg_vector_norm)_?$"),
    ("copies and casts", r"copy|Copy|aten::(to|cat|clone|contiguous|index|fill_|zero_|_index_put_impl_|narrow|stack)$|Cat"),
    (
        "sums and products",
        r"aten::(add|sub|mul|div|sum|mean|neg|mm|bmm|addcmul)_?$|(Add|Mul|Div|Sub|Sum|Mean)Backward",
    ),
)
KINDS = (*(kind for kind, _ in _KINDS), REST)


def kind_of(operation: str) -> str:
    """Return the kind of an operation by the name that the profiler gives it."""
    return next((kind for kind, names in _KINDS if re.search(names, operation)), REST)


def stepped(method: Method, batch: Batch, seed: int) -> None:
    """Leave the gradients of one step at the weights."""
    method.zero_grad(set_to_none=True)
    back_propagate(method, batch, progress=0.5, generator=torch.Generator().manual_seed(seed), precision="bf16")


def shares(method: Method, batch: Batch, steps: int) -> dict[str, float]:
    """Return the share in percent of each kind of operation; they add up to 100."""
    stepped(method, batch, 0)  # Warms up.
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for step in range(steps):
            stepped(method, batch, step + 1)
    spent = Counter(dict.fromkeys(KINDS, 0.0))
    for row in profiled.key_averages():
        spent[kind_of(row.key)] += row.self_cpu_time_total
    return {kind: 100 * time / sum(spent.values()) for kind, time in spent.items()}


class Watched(Leaves):
    """Leaves whose values and sums can be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Tensor] = []

    def cut(self, feature: Tensor) -> Tensor:
        """Return a leaf and remember it."""
        self.all.append(super().cut(feature))
        return self.all[-1]

    def sums(self) -> list[Tensor]:
        """Return what terms have left so far."""
        return [total for leaf in self.all if (total := self.gathered(leaf)) is not None]


def mib(tensors: Iterable[Tensor], without: frozenset[int] = frozenset()) -> float:
    """Return the MiB of the storages of tensors, each counted once."""
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for place, size in sizes.items() if place not in without) / 2**20


def memory(state: State, batch: Batch) -> dict[str, float]:
    """Return MiB that a step holds, by what holds it; makes the optimiser's first step, so that its state is there."""
    method, alive = state.method, dict[int, "weakref.ref[Tensor]"]()
    known = frozenset(t.untyped_storage().data_ptr() for t in (*method.parameters(), batch.image_BMDHW))

    def packed(tensor: Tensor) -> Tensor:
        token = tensor.detach()
        alive[id(token)] = weakref.ref(token)
        weakref.finalize(token, alive.pop, id(token), None)
        return token

    def held(more: Iterable[Tensor] = ()) -> float:
        return mib([*(t for ref in alive.values() if (t := ref()) is not None), *more], known)

    watched: list[Watched] = []
    decodes: list[float] = []
    encoders = sums = 0.0
    iterator = method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(0))
    before = peak_mib()
    with (
        torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor),
        patch.object(ccsd, "Leaves", lambda: watched.append(Watched()) or watched[-1]),
    ):
        while True:
            with autocast(torch.device("cpu"), "bf16"):
                term = next(iterator, None)
            if term is None:
                break
            name, at_most, sums = term.name, held(watched[0].all), max(sums, mib(watched[0].sums()))
            (term.value * term.weight).backward()
            del term
            if name == "seg_full":  # Its graph is gone, and nothing is gathered yet.
                encoders = held(watched[0].all)
            if name in ("seg_full", "seg_subset", "hmsd"):
                decodes.append(at_most - encoders)
    peak = peak_mib() - before
    gradients = mib(p.grad for p in method.parameters() if p.grad is not None)
    for optimiser in state.optimisers.values():
        optimiser.step()
    kept = [t for o in state.optimisers.values() for s in o.state.values() for t in s.values() if isinstance(t, Tensor)]
    return {
        "features of all encoders, with their graph": encoders,
        "one decode, with its graph and loss": max(decodes),
        "sums at the leaves": sums,
        "gradients of weights": gradients,
        "weights": mib(method.parameters()),
        "averaged weights and optimiser's state": mib([*state.averaged.values(), *kept]),
        "peak of a step, beyond what was there": peak,
    }


def measured(size: Size, edge: int, steps: int) -> dict[str, dict[str, float]]:
    """Return shares of time and MiB of one size."""
    torch.manual_seed(0)
    run = default("ccsd", "small")  # Only its optimiser counts here.
    method = CCSDConfig.sized(size).build(GLIOMA).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    state, batch = first_state(method.train(), run, torch.device("cpu")), noise_batch(edge)
    return {"MiB": memory(state, batch), "percent": shares(method, batch, steps)}


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=CCSDConfig.sizes, default=["small"])
    parser.add_argument("--edge", type=int, default=64, help="Voxels of the patch along each axis.")
    parser.add_argument("--steps", type=int, default=3, help="That are profiled, after one that warms up.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = {}
    for size in given.size:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=keep_memory) as fresh:  # As the command keeps it.
            found[size] = fresh.submit(measured, size, given.edge, given.steps).result()
    print(f"ccsd, one patch of {given.edge}³ in bf16\n{described()}")
    for what, digits in (("percent", 1), ("MiB", 0 if given.edge >= 32 else 2)):
        print(f"\n{what:<48}" + "".join(f"{size:>10}" for size in found))
        for row in next(iter(found.values()))[what]:
            print(f"{row:<48}" + "".join(f"{of[what][row]:>10.{digits}f}" for of in found.values()))
    write_json(given.json, {"edge": given.edge, "steps": given.steps, "sizes": found})


if __name__ == "__main__":
    main()
