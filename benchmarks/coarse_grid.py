"""The highest Dice that masks drawn on a coarser grid can reach: the reference itself is brought there and back, no network.

    python benchmarks/coarse_grid.py --data prepared --fold 4 --strides 1 2 3 4 --json coarse_grid.json

A model on a grid of stride s gives one number per cube of s³ voxels. Here it is the best it could give, the share of the cube that
lies in the region, brought back as `anymri` brings logits back, and cut at one half. What is left to 100 is what the grid costs
(an order of magnitude: logits may be sharper than shares). Without --data synthetic patients are made.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring import described, write_json

from anymri.cohorts.phantom import write_phantoms
from anymri.data.patients import pooled
from anymri.domain.task import GLIOMA
from anymri.engine.inference import nested
from anymri.metrics.masks import dice
from anymri.preparation.pipeline import prepare_cohort
from anymri.volumes.store import case_folder, list_cases, read_cohort, read_labels


def main() -> None:
    """Measure and print a row per stride."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of a prepared cohort with references.")
    parser.add_argument("--fold", type=int, help="Only its cases.")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data
        if data is None:
            data = Path(folder) / "prepared"
            prepare_cohort(write_phantoms(Path(folder) / "patients", GLIOMA, seeds=[1, 2]), GLIOMA, data)
        names = read_cohort(data)[1].folds[given.fold] if given.fold is not None else [case.name for case in list_cases(data)]
        found = {stride: ceilings([case_folder(data, name) for name in names], stride) for stride in given.strides}
    print(f"{described()}\n{len(names)} cases; Dice in percent, mean and worst case")
    print(f"{'stride':<8}" + "".join(f"{region:>16}" for region in GLIOMA.region_names))
    for stride, values in found.items():
        print(f"{stride:<8}" + "".join(f"{100 * v.mean():10.1f} {100 * v.min():5.1f}" for v in values.T))
    rows = {s: dict(zip(GLIOMA.region_names, v.mean(0).tolist(), strict=True)) for s, v in found.items()}
    write_json(given.json, {"cases": len(names), "dice": rows})


def ceilings(cases: list[Path], stride: int) -> np.ndarray:
    """Return Dice per case and region, (cases, R)."""
    return np.array([_ceiling(case, stride) for case in cases])


def _ceiling(case: Path, stride: int) -> list[float]:
    bits = read_labels(case)
    masks = np.stack([bits >> r & 1 for r in range(len(GLIOMA.region_names))]).astype(bool)
    shares = pooled(masks.astype(np.float32), stride) / stride**3
    logits = F.interpolate(torch.from_numpy(shares)[None] - 0.5, scale_factor=stride, mode="trilinear", align_corners=False)[0]
    found = nested(logits.numpy()[(..., *(slice(n) for n in masks.shape[1:]))])
    return [dice(ours, theirs) for ours, theirs in zip(found, masks, strict=True)]


if __name__ == "__main__":
    main()
