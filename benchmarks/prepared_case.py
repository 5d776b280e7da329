"""Prepare one case, store it, and draw random crops from it: seconds, size on disk, crops per second.

    python benchmarks/prepared_case.py CASE_FOLDER --json prepared_case.json

Without a folder a synthetic patient is made. Images are prepared in two threads, crops are read by one. CPU seconds stand beside
wall seconds, since others may compute on the same machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from anymri.cohorts import find_cohort
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.preparation.pipeline import prepare_cohort
from anymri.volumes.store import list_cases, read_case, read_image

EDGE, CROPS = 96, 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path, nargs="?")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = None if given.case else write_phantoms(Path(folder) / "patient", GLIOMA, seeds=[1])
        started, cpu = time.perf_counter(), time.process_time()
        prepare_cohort(made or find_cohort(given.case, GLIOMA), GLIOMA, Path(folder) / "prepared")
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        print(f"prepared in {seconds:.2f} s, {cpu_seconds:.2f} CPU s")
        (case,) = list_cases(Path(folder) / "prepared")
        size = sum(f.stat().st_size for f in case.iterdir()) / 1e6
        print(f"{size:.2f} MB on disk, modalities {', '.join(read_case(case).modalities)}")
        rng = np.random.default_rng(0)
        room = np.maximum(np.array(read_case(case).grid.shape) - EDGE, 1)
        started, cpu = time.perf_counter(), time.process_time()
        for d, h, w in rng.integers(0, room, (CROPS, 3)):
            read_image(case, (slice(d, d + EDGE), slice(h, h + EDGE), slice(w, w + EDGE)))
        crops, crops_cpu = CROPS / (time.perf_counter() - started), CROPS / (time.process_time() - cpu)
        print(f"{crops:.0f} crops of {EDGE}³ per second, {crops_cpu:.0f} per CPU second")
    if given.json:
        row = {"seconds": seconds, "cpu_seconds": cpu_seconds, "MB": size}
        row |= {"crops_per_second": crops, "crops_per_cpu_second": crops_cpu}
        given.json.write_text(json.dumps(row) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
