"""Which calibration holds best on cases that it was not fitted on: one for all subsets, for each number of modalities, or for each.

    python benchmarks/calibrations.py runs/ccsd-base_fold2 runs/ccsd-base_fold3 --data prepared --json calibrations.json

Voxels are counted over the logit as `anymri calibrate` does, in cases that the weights were not trained on. One half of the cases,
every other one, is calibrated by what was fitted on the other; both ways, and the mean of the two.

* ``none``: as the network gives it;
* ``pooled``: a temperature and an offset for all subsets;
* ``number``: for each number of modalities;
* ``own``: for each subset, on its own voxels;
* ``fitted``: for each subset, on its own voxels and those of all, half each, which is what `anymri calibrate` does.
"""

from __future__ import annotations

import numpy as np
from measuring import described, write_json
from observing import observed

from anymri.trust.calibration import Calibrations, fitted
from anymri.trust.checks import halved
from anymri.trust.fitting import Sample, calibrated, weighed


def main() -> None:
    """Measure and print a row per region and form."""
    seen, file = observed(__doc__)
    cases = len(next(iter(seen.values())))
    print(f"{described()}\n{cases} cases; expected calibration error in %, the mean of every subset's; nats per 1,000 voxels")
    found = {region: compared(sample) for region, sample in seen.items()}
    for region, rows in found.items():
        for form, figures in rows.items():
            print(f"{region:<4}{form:<8}" + "   ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    write_json(file, {"cases": cases, "forms": found})


def compared(sample: Sample) -> dict[str, dict[str, float]]:
    """Return form → figure → its mean over both halves."""
    return {
        form: {
            "brain": 100 * check.everywhere["each"],
            "band": 100 * check.band["each"],
            "patient, band": 100 * check.band["patient"],
            "cross-entropy": 1000 * check.cross_entropy,
        }
        for form, check in halved(sample, forms).items()
    }


def forms(sample: Sample) -> dict[str, Calibrations]:
    """Return form → the calibrations of it that some cases teach."""
    how = calibrated(sample)
    return {
        "none": Calibrations(),
        "pooled": Calibrations(pooled=how.pooled),
        "number": _by_number(sample),
        "own": _own(sample),
        "fitted": how,
    }


def _by_number(sample: Sample) -> Calibrations:
    voxels, true = weighed(sample)
    sizes = np.array([len(names) for names in sample.at_hand])
    of = {k: fitted(voxels[sizes == k].sum(0), true[sizes == k].sum(0)) for k in np.unique(sizes)}
    return Calibrations(subsets={name: of[k] for name, k in zip(sample.subsets, sizes, strict=True)})


def _own(sample: Sample) -> Calibrations:
    return Calibrations(subsets={name: fitted(*counts) for name, *counts in zip(sample.subsets, *weighed(sample), strict=True)})


if __name__ == "__main__":
    main()
