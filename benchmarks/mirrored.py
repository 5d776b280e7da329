"""What it gains to average every window with its mirror image, left to right, on cases that the weights were not trained on.

    anymri evaluate runs/ccsd-base_fold3 --data prepared --out scores.csv
    python benchmarks/mirrored.py runs/ccsd-base_fold3 --data prepared --beside scores.csv --out mirrored.csv

The network runs twice. Logits are averaged before small components are left out; the rest is that of `anymri evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measuring import described, write_json
from torch import Tensor

from anymri.engine.evaluation import evaluate
from anymri.engine.inference import device_named
from anymri.engine.model import Engine
from anymri.methods.method import Features, Note
from anymri.metrics.protocol import ANYMRI, DICE
from anymri.metrics.scores import ScoreTable, read_scores, selected
from anymri.metrics.statistics import Difference, differences
from anymri.nn.processor import keep_memory
from anymri.trust.measurement import assigned
from anymri.weights import load_model

ACROSS = 2  # Of (B, M, D, H, W): prepared images run from one side of the head to the other along D.


@dataclass(frozen=True)
class Mirrored:
    """Computes every window twice, the second time mirrored, and averages.

    Attributes:
        engine: What computes a window; it must blend logits, not what they are made of later.
    """

    engine: Engine

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> tuple[Features, Features]:
        """Return the features of a window and of its mirror image."""
        mirrored = image_BMDHW.flip(ACROSS)
        return self.engine.encode(image_BMDHW, present_BM, origin_B3), self.engine.encode(mirrored, present_BM, origin_B3)

    def decode_window(self, features: tuple[Any, Any], keep_BM: Tensor) -> tuple[Tensor, Note]:
        """Return the mean of both, and the note of the first."""
        (plain, note), (mirrored, _) = (self.engine.decode_window(f, keep_BM) for f in features)
        return (plain + mirrored.flip(ACROSS)) / 2, note

    def finish(self, blended: Tensor, notes: Sequence[Note]) -> Tensor:
        """Return logits_BRDHW of a case."""
        return self.engine.finish(blended, notes)


def main() -> None:
    """Score what was left out, and print the gain over the scores that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="Weights of a run that left a fold out.")
    parser.add_argument("--data", type=Path, default=Path("prepared"), help="Folder of a prepared cohort with references.")
    parser.add_argument("--beside", type=Path, required=True, help="What `anymri evaluate` made of the same weights.")
    parser.add_argument("--out", type=Path, default=Path("mirrored.csv"), help="Score table.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    keep_memory()
    model = load_model(given.weights)
    cases = [folder for _, folder in assigned([model], given.data, fold=None)]
    twice = replace(model, other_engine=Mirrored(model.method))
    device = device_named("cpu")
    found = evaluate(twice, cases, given.out, protocol=ANYMRI, device=device, report=lambda n, of, name: print(f"{n}/{of} {name}"))
    gained = gains(found, read_scores(given.beside))
    print(f"{described()}\n{len(cases)} cases; mirrored − plain, mean Dice in points")
    for part, rows in gained.items():
        print(f"{part:<26}" + "   ".join(f"{d.region} {_points(d)}" for d in rows))
    write_json(given.json, {part: {d.region: d.estimate.value for d in rows} for part, rows in gained.items()})


def gains(mirrored: ScoreTable, plain: ScoreTable) -> dict[str, list[Difference]]:
    """Return a set of subsets → what mirroring gained, by region."""
    most = max(len(row.subset.split("+")) for row in plain)
    found: dict[str, list[Difference]] = {}
    for part, least in {"all subsets": 1, "all modalities": most}.items():
        tables = [selected(t, lambda row, least=least: len(row.subset.split("+")) >= least) for t in (mirrored, plain)]
        found[part] = list(differences(tables[0], tables[1], DICE))
    return found


def _points(found: Difference) -> str:
    value, low, high = (100 * x for x in (found.estimate.value, found.estimate.low, found.estimate.high))
    return f"{value:+.2f} [{low:.2f}, {high:.2f}], p {found.p_holm:.3f}"


if __name__ == "__main__":
    main()
