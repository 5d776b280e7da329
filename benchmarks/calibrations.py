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

from collections.abc import Callable

import numpy as np
from measuring import described, write_json
from observing import observed

from anymri.trust.calibration import Calibrations, fitted
from anymri.trust.checks import errors
from anymri.trust.fitting import Sample, calibrated, weighed


def main() -> None:
    """Measure and print a row per region and form."""
    seen, file = observed(__doc__)
    cases = len(next(iter(seen.values())))
    print(f"{described()}\n{cases} cases; expected calibration error in %, the mean of every subset's; nats per 1,000 voxels")
    found = {region: compared(sample) for region, sample in seen.items()}
    for region, forms in found.items():
        for form, figures in forms.items():
            print(f"{region:<4}{form:<8}" + "   ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    write_json(file, {"cases": cases, "forms": found})


def compared(sample: Sample) -> dict[str, dict[str, float]]:
    """Return form → figure → its mean over both halves."""
    halves = [range(len(sample))[0::2], range(len(sample))[1::2]]
    found: dict[str, dict[str, float]] = {}
    for form, fit in FORMS.items():
        checks = [errors(sample.taken(half), fit(sample.without(half))) for half in halves]
        found[form] = {
            "brain": 100 * float(np.mean([c.everywhere["each"] for c in checks])),
            "band": 100 * float(np.mean([c.band["each"] for c in checks])),
            "patient, band": 100 * float(np.mean([c.band["patient"] for c in checks])),
            "cross-entropy": 1000 * float(np.mean([c.cross_entropy for c in checks])),
        }
    return found


def _by_number(sample: Sample) -> Calibrations:
    voxels, true = weighed(sample)
    sizes = np.array([len(names) for names in sample.at_hand])
    of = {k: fitted(voxels[sizes == k].sum(0), true[sizes == k].sum(0)) for k in np.unique(sizes)}
    return Calibrations(subsets={name: of[k] for name, k in zip(sample.subsets, sizes, strict=True)})


def _own(sample: Sample) -> Calibrations:
    return Calibrations(subsets={name: fitted(*counts) for name, *counts in zip(sample.subsets, *weighed(sample), strict=True)})


FORMS: dict[str, Callable[[Sample], Calibrations]] = {
    "none": lambda sample: Calibrations(),
    "pooled": lambda sample: Calibrations(pooled=calibrated(sample).pooled),
    "number": _by_number,
    "own": _own,
    "fitted": calibrated,
}


if __name__ == "__main__":
    main()
