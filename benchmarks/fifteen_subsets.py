"""All subsets of one window: encoded once and decoded for each, against as many full forward passes in plain code.

    python benchmarks/fifteen_subsets.py --json fifteen_subsets.json
    python benchmarks/fifteen_subsets.py --size base --window 96 112 96 --rounds 3 --threads 2

Two references (benchmarks/reference.py): passes that run every encoder, and passes that run those of kept modalities. A third side
is the package with torch's own kernels, as the references have them: what encoding once gives by itself. The sides take turns in
one run; CPU seconds stand beside wall seconds, since others may compute on the same machine. All keep freed memory for the next
tensor while they are timed, so that none loses time by it. Memory is what a process of its own held at most above what it held
before, network and image included; the plain pass gives freed memory back there, as plain programs do. One subset of k
modalities, nothing else at hand, is shown against k; growth.py has the rest.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from measuring import described, peak_mib, timed, write_json
from reference import logits_of_all_encoders, logits_of_kept_encoders

from anymri.domain.modality import Modality, ModalitySet, subsets
from anymri.domain.task import GLIOMA, Task
from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.methods.ccsd import CCSD, CCSDConfig
from anymri.nn.processor import keep_memory

OURS, ONCE, ALL, KEPT = SIDES = ("anymri", "torch's kernels", "all encoders", "kept encoders")
PLAIN, FULL, FIFTEEN = "one plain pass", "full set", "all subsets"  # Whose memory is measured.
AT_MOST = 1e-4  # Difference of any logit.
Extent = tuple[int, int, int]
Logits = list[np.ndarray]


@dataclass(frozen=True)
class Setting:
    """What is measured: a network of a size on noise of an extent, for a task of some modalities."""

    size: str
    absent: str
    extent: Extent
    modalities: int = len(GLIOMA.modalities)
    skips: str = CCSDConfig().skips

    def model(self) -> Model:
        """Return the network, freshly initialised, that takes the whole extent as one window of the full grid."""
        torch.manual_seed(0)
        config = CCSDConfig.sized(self.size).model_copy(update={"absent": self.absent, "skips": self.skips})  # type: ignore[arg-type]
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


def by_torch_kernels(model: Model, image: np.ndarray, keeps: Sequence[tuple[bool, ...]]) -> Logits:
    """Return the same, encoded once too, by the kernels that torch chooses."""
    with patch("anymri.engine.inference.suited_to", lambda device: nullcontext()):
        return by_anymri(model, image, keeps)


@torch.inference_mode()
def by_passes(model: Model, image: np.ndarray, keeps: Sequence[tuple[bool, ...]], *, skip_absent: bool) -> Logits:
    """Return the same by a full forward pass each."""
    assert isinstance(model.method, CCSD)
    forward = logits_of_kept_encoders if skip_absent else logits_of_all_encoders
    batch = torch.from_numpy(image)[None]
    return [forward(model.method, batch, torch.tensor([keep]))[0].numpy() for keep in keeps]


def work_of(side: str, model: Model, image: np.ndarray, keeps: Sequence[tuple[bool, ...]]) -> Callable[[], Logits]:
    """Return what computes the logits of all subsets on one side."""
    if side == OURS:
        return lambda: by_anymri(model, image, keeps)
    if side == ONCE:
        return lambda: by_torch_kernels(model, image, keeps)
    return lambda: by_passes(model, image, keeps, skip_absent=side == KEPT)


def ratios(setting: Setting, rounds: int) -> dict[str, object]:
    """Return seconds of each side, ratios to ours and to encoding once alone within each round, and how far logits are apart."""
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
            apart = max(apart, *(float(np.abs(a - b).max()) for a, b in zip(found[OURS], found[side], strict=True)))
    rows: dict[str, object] = {"apart": apart, "subsets": len(keeps)}
    for side in SIDES:
        rows[side] = {
            "wall": _middle(seconds[side], 0),
            "cpu": _middle(seconds[side], 1),
            "ratio_wall": _ratio(seconds[side], seconds[OURS], 0),
            "ratio_cpu": _ratio(seconds[side], seconds[OURS], 1),
            "ratio_wall_once": _ratio(seconds[side], seconds[ONCE], 0),
            "ratio_cpu_once": _ratio(seconds[side], seconds[ONCE], 1),
        }
    return rows


def per_modality(setting: Setting, rounds: int) -> list[dict[str, float]]:
    """Return seconds of one subset of k modalities, nothing else at hand, and of its plain pass."""
    model, image = setting.model(), setting.image()
    counts = range(1, setting.modalities + 1)
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {(side, k): [] for k in counts for side in (OURS, ALL)}
    for round_ in range(rounds):
        for side, k in taken if round_ % 2 else reversed(taken):
            keep = (True,) * k + (False,) * (setting.modalities - k)
            taken[side, k].append(timed(work_of(side, model, image, [keep]))[1:])
    rows = []
    for k in counts:
        ours, plain = taken[OURS, k], taken[ALL, k]
        ratio = _ratio(plain, ours, 1)
        rows.append({"k": k, "wall": _middle(ours, 0), "cpu": _middle(ours, 1), "plain_cpu": _middle(plain, 1), "ratio_cpu": ratio})
    return rows


def _middle(values: Sequence[tuple[float, float]], which: int) -> float:
    return statistics.median(v[which] for v in values)


def _ratio(values: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]], which: int) -> float:
    return statistics.median(v[which] / o[which] for v, o in zip(values, others, strict=True))


# Memory: each measured in a process of its own.


def child(setting: Setting, what: str) -> dict[str, float]:
    """Return wall and CPU seconds and MiB of PLAIN, FULL or FIFTEEN above what was held before, with as many threads."""
    words = ["--child", what, "--size", setting.size, "--absent", setting.absent, "--skips", setting.skips]
    words += ["--modalities", str(setting.modalities), "--window", *map(str, setting.extent)]
    command = [sys.executable, __file__, *words, "--threads", str(torch.get_num_threads())]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def settled_mib() -> float:
    """Return MiB that this process holds once what is free was given back; its peak is counted from here on."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    peak = Path("/proc/self/clear_refs")
    if peak.is_file():  # Imports may have taken more than is held now, and would hide as much.
        peak.write_text("5")
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_mib()
    return next(int(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def inchild(setting: Setting, what: str) -> None:
    """Do one thing and print its seconds and by how much the process grew, as JSON."""
    model, image, keeps = setting.model(), setting.image(), setting.keeps()
    small = replace(setting, extent=(16, 16, 16))
    work_of(ALL if what == PLAIN else OURS, small.model(), small.image(), keeps[-1:])()  # What torch allocates once.
    wanted = keeps if what == FIFTEEN else keeps[-1:]
    before = settled_mib()
    started, cpu = time.perf_counter(), time.process_time()
    if what == PLAIN:
        work_of(ALL, model, image, wanted)()
    else:  # One after the other, as the package hands them out: nobody holds all of them.
        for _ in region_logits_of(model, image, (True,) * setting.modalities, wanted, device=torch.device("cpu")):
            pass
    grown = peak_mib() - before
    took = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "MiB": grown}))


def memory(setting: Setting) -> dict[str, float]:
    """Return MiB above what was held before: one plain pass, our full set, all our subsets."""
    return {what: child(setting, what)["MiB"] for what in (PLAIN, FULL, FIFTEEN)}


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CCSDConfig.sizes[:-1], default="base")
    parser.add_argument("--absent", choices=("shared_mean", "zero"), default="shared_mean")
    parser.add_argument("--window", type=int, nargs=3, default=(64, 80, 64))
    parser.add_argument("--modalities", type=int, default=len(GLIOMA.modalities))
    parser.add_argument("--rounds", type=int, default=2)
    threads = torch.get_num_threads() if os.environ.get("OMP_NUM_THREADS") else os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--skips", choices=("shared", "fused"), default=CCSDConfig().skips)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.child != PLAIN:  # No plain program does so.
        keep_memory()
    torch.set_num_threads(given.threads)
    setting = Setting(given.size, given.absent, tuple(given.window), given.modalities, given.skips)
    if given.child:
        inchild(setting, given.child)
        return
    result: dict[str, object] = {
        "setting": vars(setting),
        "threads": given.threads,
        "ratios": ratios(setting, given.rounds),
        "memory": memory(setting),
        "per_modality": per_modality(setting, given.rounds),
    }
    show(result)
    write_json(given.json, result)
    apart = result["ratios"]["apart"]  # type: ignore[index]
    if not apart <= AT_MOST:
        raise SystemExit(f"a logit differs from that of a plain pass by {apart:.1e}; at most {AT_MOST:.0e} is rounding")


def show(result: dict[str, object]) -> None:
    """Print all that was measured."""
    print(f"{result['setting']}, {described()}")
    found = result["ratios"]
    assert isinstance(found, dict)
    print(f"{'':<36}{'times anymri':>24}{'times encoding once alone':>28}")
    print(f"{'':<16}{'wall s':>10}{'CPU s':>10}{'wall':>12}{'CPU':>12}{'wall':>16}{'CPU':>12}")
    for side in SIDES:
        row = found[side]
        ours, once = (f"{row['ratio_wall' + of]:>12.2f}{row['ratio_cpu' + of]:>12.2f}" for of in ("", "_once"))
        print(f"{side:<16}{row['wall']:>10.2f}{row['cpu']:>10.2f}{ours}    {once}")
    print(f"{ONCE}: the package without the kernels that suit a processor, so that encoding once is all that it gains by")
    print(f"largest difference of any logit: {found['apart']:.1e} (at most {AT_MOST:.0e}); asked for: ratios 4.5 and 2.5")
    peaks = result["memory"]
    assert isinstance(peaks, dict)
    text = ", ".join(f"{what} {peak:.0f}" for what, peak in peaks.items())
    plain, full = (peaks[FIFTEEN] / peaks[what] for what in (PLAIN, FULL))
    print(f"MiB above what was held before: {text}")
    print(f"all subsets / one plain pass {plain:.2f} (at most 1.5), / our full set {full:.2f}")
    for row in result["per_modality"]:  # type: ignore[attr-defined]
        print("one subset" + "".join(f"{k:>12} {v:<9.4g}" for k, v in row.items()))


if __name__ == "__main__":
    main()
