"""All subsets of one window: encoded once and decoded for each, against as many full forward passes in plain code.

    python benchmarks/fifteen_subsets.py --json fifteen_subsets.json
    python benchmarks/fifteen_subsets.py --size base --window 96 112 96 --rounds 3 --threads 2

Two references (benchmarks/reference.py): passes that run every encoder, and passes that run those of kept modalities. The sides
take turns in one run; CPU seconds stand beside wall seconds, since others may compute on the same machine. Memory is the peak of a
process of its own above that of one that only holds network and image. One subset of k modalities, nothing else at hand, is shown
against k; growth.py has the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from reference import logits_of_all_encoders, logits_of_kept_encoders

from anymri.domain.modality import Modality, ModalitySet, subsets
from anymri.domain.task import GLIOMA, Task
from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.methods.ccsd import CCSD, CCSDConfig
from anymri.nn.processor import keep_memory

SIDES = ("anymri", "all encoders", "kept encoders")
Extent = tuple[int, int, int]
Logits = list[np.ndarray]


@dataclass(frozen=True)
class Setting:
    """What is measured: a network of a size on noise of an extent, for a task of some modalities."""

    size: str
    absent: str
    extent: Extent
    modalities: int = len(GLIOMA.modalities)

    def model(self) -> Model:
        """Return the network, freshly initialised, that takes the whole extent as one window of the full grid."""
        torch.manual_seed(0)
        config = CCSDConfig.sized(self.size).model_copy(update={"absent": self.absent, "skips": "fused"})  # type: ignore[arg-type]
        method = config.build(task_of(self.modalities)).eval()
        header = WeightsHeader(name="noise", method="ccsd", config={}, task="noise", window=Window(stride=1, size=self.extent))
        return Model(method, header)

    def image(self) -> np.ndarray:
        """Return noise (M, D, H, W)."""
        return np.random.default_rng(0).standard_normal((self.modalities, *self.extent), dtype=np.float32)

    def keeps(self) -> list[tuple[bool, ...]]:
        """Return every subset, one flag per modality."""
        return [s.mask for s in subsets(task_of(self.modalities).modalities)]


def task_of(count: int) -> Task:
    """Return the task of gliomas with so many modalities, named by number."""
    return replace(GLIOMA, modalities=ModalitySet(tuple(Modality(f"M{m}", f"modality {m}", f"m{m}") for m in range(count))))


def by_anymri(model: Model, image: np.ndarray, keeps: Sequence[tuple[bool, ...]]) -> Logits:
    """Return logits of every subset as the package computes them."""
    present = tuple(any(column) for column in zip(*keeps, strict=True))
    return list(region_logits_of(model, image, present, keeps, device=torch.device("cpu")))


@torch.inference_mode()
def by_passes(model: Model, image: np.ndarray, keeps: Sequence[tuple[bool, ...]], *, skip_absent: bool) -> Logits:
    """Return the same by a full forward pass each."""
    assert isinstance(model.method, CCSD)
    forward = logits_of_kept_encoders if skip_absent else logits_of_all_encoders
    batch = torch.from_numpy(image)[None]
    return [forward(model.method, batch, torch.tensor([keep]))[0].numpy() for keep in keeps]


def work_of(side: str, model: Model, image: np.ndarray, keeps: Sequence[tuple[bool, ...]]) -> Callable[[], Logits]:
    """Return what computes the logits of all subsets on one side."""
    if side == SIDES[0]:
        return lambda: by_anymri(model, image, keeps)
    return lambda: by_passes(model, image, keeps, skip_absent=side == SIDES[2])


def timed(work: Callable[[], Logits]) -> tuple[Logits, float, float]:
    """Return what the work returns, its wall seconds and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def ratios(setting: Setting, rounds: int) -> dict[str, object]:
    """Return seconds of each side, ratios to ours within each round, and how far the logits are apart."""
    model, image, keeps = setting.model(), setting.image(), setting.keeps()
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    apart = 0.0
    for side in SIDES:
        work_of(side, model, image, keeps[-1:])()  # Imports and first calls.
    for round_ in range(rounds):
        found = {}
        for side in SIDES if round_ % 2 else reversed(SIDES):
            found[side], wall, cpu = timed(work_of(side, model, image, keeps))
            seconds[side].append((wall, cpu))
        for side in SIDES[1:]:
            apart = max(apart, *(float(np.abs(a - b).max()) for a, b in zip(found[SIDES[0]], found[side], strict=True)))
    rows: dict[str, object] = {"apart": apart, "subsets": len(keeps)}
    for side in SIDES:
        pairs = [(theirs[i] / ours[i]) for ours, theirs in zip(seconds[SIDES[0]], seconds[side], strict=True) for i in (0, 1)]
        rows[side] = {
            "wall": statistics.median(w for w, _ in seconds[side]),
            "cpu": statistics.median(c for _, c in seconds[side]),
            "ratio_wall": statistics.median(pairs[::2]),
            "ratio_cpu": statistics.median(pairs[1::2]),
        }
    return rows


def per_modality(setting: Setting, rounds: int) -> list[dict[str, float]]:
    """Return seconds of one subset of k modalities, nothing else at hand, and of its plain pass."""
    model, image = setting.model(), setting.image()
    counts = range(1, setting.modalities + 1)
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {(side, k): [] for k in counts for side in SIDES[:2]}
    for round_ in range(rounds):
        for side, k in taken if round_ % 2 else reversed(taken):
            keep = (True,) * k + (False,) * (setting.modalities - k)
            taken[side, k].append(timed(work_of(side, model, image, [keep]))[1:])
    rows = []
    for k in counts:
        ours, plain = taken[SIDES[0], k], taken[SIDES[1], k]
        ratio = statistics.median(p[1] / o[1] for o, p in zip(ours, plain, strict=True))
        rows.append({"k": k, "wall": _middle(ours, 0), "cpu": _middle(ours, 1), "plain_cpu": _middle(plain, 1), "ratio_cpu": ratio})
    return rows


def _middle(values: Sequence[tuple[float, float]], which: int) -> float:
    return statistics.median(v[which] for v in values)


# Memory: each measured in a process of its own.


def child(setting: Setting, what: str) -> dict[str, float]:
    """Return wall and CPU seconds and MiB above idle of "one pass", "full set" or "fifteen" (all subsets), with as many threads."""
    words = ["--child", what, "--size", setting.size, "--absent", setting.absent, "--modalities", str(setting.modalities)]
    command = [sys.executable, __file__, *words, "--window", *map(str, setting.extent), "--threads", str(torch.get_num_threads())]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peak_mib() -> float:
    """Return the most memory that this process has held, without what the one that started it held."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss of a new process begins with that of its parent.
        return float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def inchild(setting: Setting, what: str) -> None:
    """Do one thing and print its seconds and by how much the process grew, as JSON."""
    model, image, keeps = setting.model(), setting.image(), setting.keeps()
    small = replace(setting, extent=(16, 16, 16))
    work_of(SIDES[0], small.model(), small.image(), keeps[-1:])()  # What torch allocates once.
    idle = peak_mib()
    if what == "one pass":
        work = work_of(SIDES[1], model, image, keeps[-1:])
    else:
        work = work_of(SIDES[0], model, image, keeps if what == "fifteen" else keeps[-1:])
    started, cpu = time.perf_counter(), time.process_time()
    if what == "one pass":
        work()
    else:  # One after the other, as the package hands them out: nobody holds all of them.
        present = (True,) * setting.modalities
        wanted = keeps if what == "fifteen" else keeps[-1:]
        for _ in region_logits_of(model, image, present, wanted, device=torch.device("cpu")):
            pass
    grown = peak_mib() - idle
    took = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "MiB": grown}))


def memory(setting: Setting) -> dict[str, float]:
    """Return MiB above the idle process: one plain pass, our full set, our fifteen subsets."""
    return {what: child(setting, what)["MiB"] for what in ("one pass", "full set", "fifteen")}


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CCSDConfig.sizes[:-1], default="base")
    parser.add_argument("--absent", choices=("shared_mean", "zero"), default="shared_mean")
    parser.add_argument("--window", type=int, nargs=3, default=(64, 80, 64))
    parser.add_argument("--modalities", type=int, default=len(GLIOMA.modalities))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    keep_memory()
    torch.set_num_threads(given.threads)
    setting = Setting(given.size, given.absent, tuple(given.window), given.modalities)
    if given.child:
        inchild(setting, given.child)
        return
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "setting": vars(setting),
        "threads": given.threads,
        "ratios": ratios(setting, given.rounds),
        "memory": memory(setting),
        "per_modality": per_modality(setting, given.rounds),
    }
    show(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(result: dict[str, object]) -> None:
    """Print all that was measured."""
    print(f"{result['setting']}, {result['threads']} thread(s), {result['machine']}")
    found = result["ratios"]
    assert isinstance(found, dict)
    print(f"{'':<16}{'wall s':>10}{'CPU s':>10}{'ratio wall':>12}{'ratio CPU':>12}")
    for side in SIDES:
        row = found[side]
        print(f"{side:<16}{row['wall']:>10.2f}{row['cpu']:>10.2f}{row['ratio_wall']:>12.2f}{row['ratio_cpu']:>12.2f}")
    print(f"largest difference of any logit: {found['apart']:.1e} (at most 1e-4); asked for: ratios 4.5 and 2.5")
    peaks = result["memory"]
    assert isinstance(peaks, dict)
    text = ", ".join(f"{what} {peak:.0f}" for what, peak in peaks.items())
    print(f"MiB above idle: {text}; fifteen / one plain pass {peaks['fifteen'] / peaks['one pass']:.2f} (at most 1.5)")
    for row in result["per_modality"]:  # type: ignore[attr-defined]
        print("one subset" + "".join(f"{k:>12} {v:<9.4g}" for k, v in row.items()))


if __name__ == "__main__":
    main()
