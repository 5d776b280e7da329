"""Score tables, run folders and weights made by code."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.metrics.scores import Score, ScoreTable, write_scores
from anymri.metrics.statistics import Bootstrap

FEW = Bootstrap(resamples=100)
SUBSETS = tuple(str(s) for s in subsets(GLIOMA.modalities))
METRICS = {"dice": "1", "hausdorff_95_mm": "mm", "volume_ml": "ml", "reference_volume_ml": "ml"}


def scores(
    method: str = "m", *, cases: Iterable[int] = range(6), shift: float = 0.0, seed: int | None = 0, run: str = "r", **origin: str
) -> ScoreTable:
    """Return a table whose values are drawn; the reference of the innermost region of case 0 is empty, and never found so."""
    rest = {"cohort": "phantoms", "protocol": "anymri"} | origin
    generator = np.random.default_rng(hash_of(method, run, str(seed)))
    rows = []
    for case in cases:
        for subset in SUBSETS:
            for region in GLIOMA.region_names:
                noise = generator.normal(0, 0.03)
                empty = case == 0 and region == GLIOMA.region_names[-1]
                values = {
                    "dice": 0.4 + 0.08 * subset.count("+") + 0.02 * case + shift + noise,
                    "hausdorff_95_mm": 9.0 - noise,
                    "volume_ml": 2.0,
                    "reference_volume_ml": 0.0 if empty else 3.0,
                }
                rows += [
                    Score(method, rest["cohort"], f"case{case}", subset, region, m, v, METRICS[m], seed, run, rest["protocol"])
                    for m, v in values.items()
                ]
    return ScoreTable(tuple(rows))


def hash_of(*words: str) -> int:
    """Return a number that is the same in every process."""
    return int(hashlib.sha256("/".join(words).encode()).hexdigest()[:8], 16)


def write_table(path: Path, method: str = "m", **how: Any) -> Path:
    """Write a table and return where."""
    write_scores(path, scores(method, **how))
    return path


def write_run(folder: Path, method: str = "ccsd", *, seed: int = 0, fold: int | None = 0, **config: Any) -> Path:
    """Write a finished run folder with a record, a log, a choice and weights that are no weights, but have a hash."""
    folder.mkdir(parents=True)
    run = {"method": method, "config": {"hmsd": 1.0, "dmcd": 1.0, "absent": "shared_mean"} | config, "seed": seed, "fold": fold}
    (folder / "run.json").write_text(json.dumps({"run": run | {"steps": 40}, "cohort": {"name": "phantoms"}}))
    lines = [{"step": s, "running": 4.0 / s, "seconds": 1.0} for s in (1, 20, 40)]
    (folder / "log.jsonl").write_text(
        "\n".join([*map(json.dumps, lines), json.dumps({"candidate": "at_1.0"}), '{"step": 4']) + "\n"
    )
    (folder / "selection.json").write_text(
        json.dumps({"rule": "mean Dice over few cases", "scores": {"at_0.7": 0.5, "at_1.0": 0.625}, "chosen": "at_1.0"})
    )
    (folder / "weights.safetensors").write_bytes(folder.name.encode())
    return folder


def write_scored_run(
    folder: Path, method: str = "ccsd", *, shift: float = 0.0, cases: Iterable[int] = range(6), **run: Any
) -> Path:
    """Write a run folder and, beside it, the scores of its weights."""
    write_run(folder, method, **run)
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()[:12]
    write_table(folder.with_name(f"{folder.name}.csv"), method, shift=shift, cases=cases, seed=run.get("seed", 0), run=digest)
    return folder


def cells(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV by its header."""
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
