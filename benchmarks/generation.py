"""What a generated patch costs beside one that is cut: CPU milliseconds of one core, and a profile of how its patches look.

    OMP_NUM_THREADS=1 python benchmarks/generation.py --data prepared --material material --json generation.json

Without cases they are synthetic patients, prepared into a temporary folder; without material it is one head of shells and a tumour.
Every kind of patch makes one in turn, so that all meet the same machine; a ratio is the median over rounds of its CPU time over
that of a patch that is cut and augmented as by default, in the same round. Percentiles of z-scores of healthy brain, per modality,
stand beside those of the real patches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crops import cases_in

from anymri.data.batch import Batch
from anymri.data.patients import load_patients
from anymri.engine.run import Run
from anymri.engine.supply import data_of, material_of, supply_of
from anymri.recipes.default import default
from anymri.volumes.nifti import write_nifti
from anymri.volumes.volume import Grid, Volume

CUT = "cut"
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def kinds(material: Path) -> dict[str, Run]:
    """Return one run per kind of patch."""
    plain = default("ccsd", "small").model_copy(update={"batch": 1, "accumulate": 1, "tumour_share": 1.0})
    content = plain.model_dump(mode="json")

    def run(generation: dict[str, Any], **fields: Any) -> Run:
        maps = {"material": str(material)} if "synthetic" in generation else {}
        return Run.model_validate({**content, **fields, **maps, "generation": generation})

    return {
        CUT: plain,
        "mix": run({"mix": 1.0}),
        "transplant": run({"transplant": 1.0}),
        "synthetic": run({"synthetic": 1.0}),
        "synthetic, no artefacts": run({"synthetic": 1.0, "artefacts": None}),
        "cut, artefacts": run({}, augmentation={**content["augmentation"], "artefacts": {}}),
    }


def made_material(folder: Path) -> Path:
    """Write a head of shells, as large as a real one, and a tumour of shells."""
    axis = np.arange(200) - 99.5
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    for part, shells in (
        ("anatomies", ((90, 507), (75, 24), (72, 3), (66, 41), (20, 4))),
        ("tumours", ((40, 1), (25, 3), (20, 2))),
    ):
        labels = np.zeros(radius.shape, np.int16)
        for limit, label in shells:
            labels[radius < limit] = label
        write_nifti(folder / part / "made.nii.gz", Volume(labels, Grid((200, 200, 200), np.diag([-1.0, -1.0, 1.0, 1.0]))))
    return folder


def percentiles(batch: Batch) -> list[list[float]]:
    """Return percentiles of what is brain and no tumour, per modality."""
    image, healthy = batch.image_BMDHW[0].numpy(), batch.target_BRDHW[0, 0].numpy() < 0.1
    return [np.percentile(c[(c != 0) & healthy], PERCENTILES).tolist() for c in image if ((c != 0) & healthy).any()]


def measured(runs: dict[str, Run], folders: list[Path], rounds: int) -> dict[str, dict[str, Any]]:
    """Return for each kind CPU milliseconds, the ratio to what is cut, and percentiles."""
    first = next(iter(runs.values()))
    patients = load_patients(folders, first.task_object, first.window.stride, threads=1)
    material = next(filter(None, map(material_of, runs.values())), None)
    makes = {
        kind: partial(data_of, run, supply_of(run, patients, material if run.material else None), torch.device("cpu"))
        for kind, run in runs.items()
    }
    spent: dict[str, list[float]] = {kind: [] for kind in runs}
    looks: dict[str, list[list[list[float]]]] = {kind: [] for kind in runs}
    for number in range(rounds + 1):
        for kind, make in makes.items():
            begun = time.process_time()
            batch, _, _ = make((0, number, 0))
            if number:  # The first warms up.
                spent[kind].append(1000 * (time.process_time() - begun))
                looks[kind].append(percentiles(batch))
    whole = {kind: [row for row in rows if len(row) == len(first.task_object.modalities)] for kind, rows in looks.items()}
    return {
        kind: {
            "median_ms": statistics.median(times),
            "least_ms": min(times),
            "ratio": statistics.median(t / c for t, c in zip(times, spent[CUT], strict=True)),
            "percentiles": np.mean(whole[kind], axis=0).round(2).tolist() if whole[kind] else [],
        }
        for kind, times in spent.items()
    }


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of a prepared cohort.")
    parser.add_argument("--material", type=Path)
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with cases_in(given.data, given.cases) as folders, tempfile.TemporaryDirectory() as empty:
        found = measured(kinds(given.material or made_material(Path(empty))), list(folders), given.rounds)
    print(f"{'kind':<26}{'median ms':>12}{'least ms':>12}{'ratio':>8}")
    for kind, row in found.items():
        print(f"{kind:<26}{row['median_ms']:>12.1f}{row['least_ms']:>12.1f}{row['ratio']:>8.2f}")
    print(f"\npercentiles {PERCENTILES} of healthy brain")
    for kind, row in found.items():
        for modality, values in zip(default("ccsd", "small").task_object.modalities.names, row["percentiles"], strict=False):
            print(f"{kind:<26}{modality:<8}{' '.join(f'{v:6.2f}' for v in values)}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
