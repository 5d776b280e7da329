"""What AdaMM's presence head says of windows, and what its gate takes out of them: false positives, and what was right.

    python benchmarks/presence_gate.py RUN/weights.safetensors --data prepared --fold 4 --json presence_gate.json

Every patient of a cohort may have every region, so that a gate over whole cases has nothing to take out. A window may be without:
here each is a case of its own, cut from the cases of a fold that were left out, and answered twice by the same weights, with
``gate="window"`` and with ``gate="off"``. Reported by subsets with and without T1c:

* windows that lack the region in the reference: how many of them the network alone draws it into, and which share of those voxels
  the gate takes out (what it is for);
* windows that have it: how many of them the gate empties, and which share of rightly drawn voxels that costs (its price).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import described, write_json

from anymri.data.patients import Patient, load_patient
from anymri.engine.inference import autocast, nested, window_corners
from anymri.engine.model import read_model, with_settings
from anymri.methods.method import Method
from anymri.nn.processor import keep_memory, suited_to
from anymri.volumes.store import case_folder, read_cohort

MARK = "T1c"
GATES = ("off", "window")
CPU = torch.device("cpu")


@dataclass
class Tally:
    """Counts over windows, the region being in the reference or not.

    Attributes:
        windows: How many.
        drawn: In how many of them something was drawn without the gate.
        emptied: In how many of those nothing was left with it.
        voxels: What was drawn without the gate: false where the region is not there, else true positives alone.
        taken: How many of these the gate took out.
    """

    windows: int = 0
    drawn: int = 0
    emptied: int = 0
    voxels: int = 0
    taken: int = 0

    def add(self, free: np.ndarray, gated: np.ndarray, counted: np.ndarray) -> None:
        """Count one window."""
        self.windows += 1
        self.drawn += bool(free.any())
        self.emptied += bool(free.any() and not gated.any())
        self.voxels += int((free & counted).sum())
        self.taken += int((free & counted & ~gated).sum())


Tallies = defaultdict[tuple[str, str, bool], Tally]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="File of AdaMM's weights.")
    parser.add_argument("--data", type=Path, required=True, help="Folder of a prepared cohort.")
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--edge", type=int, default=64, help="Of windows, in the model's voxels.")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    keep_memory()
    model = read_model(given.weights)
    if model.header.method != "adamm":
        raise SystemExit(f"{given.weights}: weights of {model.header.method}; only adamm has a presence head")
    names = read_cohort(given.data)[1].folds[given.fold]
    task, stride = model.method.task, model.header.window.stride
    tallies: Tallies = defaultdict(Tally)
    both = {gate: with_settings(model, {**model.header.config, "gate": gate}).method for gate in GATES}
    for name in names:
        patient = load_patient(case_folder(given.data, name), task, stride, intensity=model.header.window.intensity)
        with autocast(CPU, given.precision), suited_to(CPU):
            count(both, patient, (given.edge, stride), tallies)
    print(f"{described()}\n{len(names)} cases, windows of {given.edge}³, {given.precision}")
    print(f"{'subsets':<14}{'region':<8}{'reference':<12}{'windows':>9}{'drawn':>8}{'emptied':>9}{'voxels':>10}{'taken out':>11}")
    for (subsets, region, there), t in sorted(tallies.items()):
        row = (
            f"{subsets:<14}{region:<8}{'has it' if there else 'lacks it':<12}{t.windows:>9}{t.drawn:>8}{t.emptied:>9}{t.voxels:>10}"
        )
        print(row + f"{100 * t.taken / max(t.voxels, 1):>9.1f} %")
    rows = [{"subsets": s, "region": r, "in_reference": there, **vars(t)} for (s, r, there), t in sorted(tallies.items())]
    write_json(given.json, {"cases": len(names), "edge": given.edge, "precision": given.precision, "rows": rows})


def count(both: Mapping[str, Method], patient: Patient, size: tuple[int, int], tallies: Tallies) -> None:
    """Add every window of a patient, under every subset of what it has, as both answer it; ``size``: their edge, and stride."""
    (edge, stride), task = size, both["off"].task
    present = task.modalities.subset(n for n, at_hand in zip(task.modalities.names, patient.present, strict=True) if at_hand)
    for image, truth in windows(patient, edge, stride):
        for subset in (s for s in both["off"].supports() if s <= present):
            free, gated = (answer(both[gate], image, present.mask, subset.mask) for gate in GATES)
            marked = f"{'with' if MARK in subset.names else 'without'} {MARK}"
            for r, region in enumerate(task.region_names):
                there = bool(truth[r].any())
                tallies[marked, region, there].add(free[r], gated[r], truth[r] if there else ~truth[r])


def windows(patient: Patient, edge: int, stride: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Yield images (1, M, d, h, w) and masks (R, d, h, w) of windows that cover a patient, those without brain left out."""
    extent = patient.image.shape[1:]
    for corner in window_corners(extent, [edge] * 3, 0.0):
        box = tuple(slice(c, min(c + edge, n)) for c, n in zip(corner, extent, strict=True))
        image, shares = patient.image[(slice(None), *box)], patient.shares[(slice(None), *box)]
        pads = [(0, 0), *((0, edge - n) for n in image.shape[1:])]
        if image.any():
            filled = torch.from_numpy(np.pad(image, pads).astype(np.float32))[None]
            yield filled, np.pad(shares, pads) * 2 >= stride**3


@torch.inference_mode()
def answer(method: Method, image: torch.Tensor, present: Sequence[bool], keep: Sequence[bool]) -> np.ndarray:
    """Return the masks (R, d, h, w) of one window."""
    features = method.encode(image, torch.tensor([list(present)]), torch.zeros((1, 3), dtype=torch.int64))
    return nested(method.decode(features, torch.tensor([list(keep)]))[0].float().numpy())


if __name__ == "__main__":
    main()
