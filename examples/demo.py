"""Make a synthetic patient, take two of four sequences away, segment the rest, and compare with the truth."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.errors import AnymriError
from anymri.metrics.masks import dice
from anymri.preparation.labels import region_bits
from anymri.segment import Segmentation, segment, write_segmentation
from anymri.volumes.nifti import read_labels

SEED = 1
AT_HAND = ("FLAIR", "T1c")


def agreement(result: Segmentation, truth: Path) -> dict[str, float]:
    """Return region → Dice between what was found and the labels in a file."""
    bits = region_bits(read_labels(truth).array, GLIOMA.scheme(), GLIOMA, file=str(truth))
    return {
        region: dice(result.regions[region].array, np.asarray(bits >> position & 1, dtype=bool))
        for position, region in enumerate(GLIOMA.region_names)
    }


def main() -> None:
    """Run the demonstration and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the patient and the result")
    out: Path = parser.parse_args().out

    started = time.perf_counter()
    (study,) = write_phantoms(out / "patient", GLIOMA, seeds=[SEED]).studies
    print(f"A patient made by code: {study.name} ({time.perf_counter() - started:.1f} s)")

    started = time.perf_counter()
    try:
        result = segment({name: study.images[name].path for name in AT_HAND}, name=study.name)
        write_segmentation(result, out / "result")
    except AnymriError as error:
        raise SystemExit(f"error: {error}") from None
    used, missing = result.summary["modalities_used"], result.summary["modalities_missing"]
    print(f"Segmented from {', '.join(used)}, without {', '.join(missing)} ({time.perf_counter() - started:.1f} s)\n")

    assert study.labels is not None  # a phantom knows its tumour
    found = agreement(result, study.labels.path)
    print(f"{'region':<24}{'volume':>10}{'Dice':>8}")
    for region in GLIOMA.regions:
        volume = result.summary["volumes_ml"][region.name]
        print(f"{region.name + ', ' + region.description:<24}{volume:>7.1f} ml{found[region.name]:>8.3f}")
    print("\nDice is the agreement with the truth of the patient that was made: 1 is perfect.")
    for file in sorted((out / "result").iterdir()):
        print(file)
    print("Research use only. Not a medical device.")


if __name__ == "__main__":
    main()
