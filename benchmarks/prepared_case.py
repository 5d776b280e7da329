"""Prepare one case, store it, and draw random crops from it: seconds, size on disk, crops per second.

    python benchmarks/prepared_case.py CASE_FOLDER --json prepared_case.json

Without a folder a synthetic patient is made. Images are prepared in two threads, crops are read by one. CPU seconds stand beside
wall seconds, since others may compute on the same machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measuring import described, timed, write_json

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
        cohort, prepared = made or find_cohort(given.case, GLIOMA), Path(folder) / "prepared"
        _, seconds, cpu_seconds = timed(lambda: prepare_cohort(cohort, GLIOMA, prepared))
        print(f"{described()}\nprepared in {seconds:.2f} s, {cpu_seconds:.2f} CPU s")
        (case,) = list_cases(prepared)
        size = sum(f.stat().st_size for f in case.iterdir()) / 1e6
        print(f"{size:.2f} MB on disk, modalities {', '.join(read_case(case).modalities)}")
        rng = np.random.default_rng(0)
        room = np.maximum(np.array(read_case(case).grid.shape) - EDGE, 1)
        boxes = [tuple(slice(c, c + EDGE) for c in corner) for corner in rng.integers(0, room, (CROPS, 3)).tolist()]
        _, wall, cpu = timed(lambda: [read_image(case, (d, h, w)) for d, h, w in boxes])
        crops, crops_cpu = CROPS / wall, CROPS / cpu
        print(f"{crops:.0f} crops of {EDGE}³ per second, {crops_cpu:.0f} per CPU second")
    row = {"seconds": seconds, "cpu_seconds": cpu_seconds, "MB": size}
    write_json(given.json, row | {"crops_per_second": crops, "crops_per_cpu_second": crops_cpu})


if __name__ == "__main__":
    main()
