"""Segment one patient from several subsets, each in a process of its own: Dice against a reference, seconds, peak memory.

    python benchmarks/one_patient.py CASE_FOLDER --json one_patient.json

CASE_FOLDER is a BraTS folder with a reference; seconds are from the command's start to its end, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from anymri.cohorts import find_cohort
from anymri.domain.task import GLIOMA
from anymri.metrics.masks import dice
from anymri.preparation.labels import region_bits
from anymri.volumes.nifti import read_labels

SUBSETS = (("FLAIR", "T1", "T1c", "T2"), ("FLAIR", "T1c"), ("T1",))


def measured(images: dict[str, Path], truth: np.ndarray, weights: list[str]) -> dict[str, object]:
    """Return Dice per region, seconds and peak memory in MiB of one run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        words = [word for name, path in images.items() for word in ("--image", f"{name}={path}")]
        command = [sys.executable, "-m", "anymri", "segment", *words, "--out", folder, *weights]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(process.returncode)
        found = region_bits(read_labels(Path(folder) / "segmentation.nii.gz").array, GLIOMA.scheme(), GLIOMA)
        steps = json.loads((Path(folder) / "summary.json").read_text())["seconds"]
    values = {
        name: dice((found >> r & 1).astype(bool), (truth >> r & 1).astype(bool)) for r, name in enumerate(GLIOMA.region_names)
    }
    return {"subset": "+".join(images), "dice": values, "seconds": seconds, "steps": steps, "peak_MiB": usage.ru_maxrss / 1024}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    (study,) = find_cohort(given.case, GLIOMA).studies
    if study.labels is None:
        parser.error(f"{given.case} has no reference")
    scheme = GLIOMA.scheme(study.scheme)
    truth = region_bits(read_labels(study.labels.path).array, scheme, GLIOMA)
    weights = ["--weights", given.weights] if given.weights else []
    rows = []
    print(f"{study.name} on {platform.machine()}, {os.cpu_count()} cores")
    print(f"{'subset':<20}{'WT':>8}{'TC':>8}{'ET':>8}{'seconds':>10}{'peak MiB':>10}")
    for subset in SUBSETS:
        row = measured({n: study.images[n].path for n in subset if n in study.images}, truth, weights)
        rows.append(row)
        values = "".join(f"{v:>8.3f}" for v in row["dice"].values())  # type: ignore[attr-defined]
        print(f"{row['subset']:<20}{values}{row['seconds']:>10.1f}{row['peak_MiB']:>10.0f}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
