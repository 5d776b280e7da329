"""Prepare one case, store it, and draw random crops from it, all on one thread: seconds, size on disk, crops per second.

OMP_NUM_THREADS=1 python benchmarks/prepared_case.py CASE_FOLDER
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from anymri.cohorts import find_cohort
from anymri.domain.task import GLIOMA
from anymri.preparation.pipeline import prepare_cohort
from anymri.volumes.store import list_cases, read_case, read_image

EDGE, CROPS = 96, 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    cohort = find_cohort(parser.parse_args().case, GLIOMA)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        prepare_cohort(cohort, GLIOMA, Path(folder))
        print(f"prepared in {time.perf_counter() - started:.2f} s")
        (case,) = list_cases(Path(folder))
        size = sum(f.stat().st_size for f in case.iterdir()) / 1e6
        print(f"{size:.2f} MB on disk, modalities {', '.join(read_case(case).modalities)}")
        rng = np.random.default_rng(0)
        room = np.maximum(np.array(read_case(case).grid.shape) - EDGE, 1)
        started = time.perf_counter()
        for d, h, w in rng.integers(0, room, (CROPS, 3)):
            read_image(case, (slice(d, d + EDGE), slice(h, h + EDGE), slice(w, w + EDGE)))
        print(f"{CROPS / (time.perf_counter() - started):.0f} crops of {EDGE}³ per second")


if __name__ == "__main__":
    main()
