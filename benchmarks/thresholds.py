"""What it would gain to cut a region's logits elsewhere than at 0, on cases that the weights were not trained on.

    python benchmarks/thresholds.py runs/ccsd-base_fold0 --data prepared --json thresholds.json

Dice for every threshold follows from the voxels counted over the logit that `anymri calibrate` takes, on the prepared grid and
before regions are nested. Three ways to choose one, none of which looks at the reference of the case at hand:

* ``region``: what was best on average in the other cases, smoothed over 2 units of logit; one for all subsets;
* ``subset``: the same for each subset by itself;
* ``patient``: what promises the case at hand the highest Dice by probabilities that were calibrated on the other cases.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from measuring import described, write_json
from observing import observed
from scipy.ndimage import uniform_filter1d

from anymri.metrics.statistics import Estimate, paired_difference
from anymri.trust.counts import EVERYWHERE, LOGITS, TRUE
from anymri.trust.fitting import Sample, calibrated

ZERO = int(np.searchsorted(LOGITS, 0.0))  # The first bin above 0.
_SMOOTHED = 41  # Bins, of 0.05 each.


def main() -> None:
    """Measure and print a row per region and way."""
    found, file = observed(__doc__)
    first = next(iter(found.values()))
    print(f"{described()}\n{len(first)} cases; gain in mean Dice over {len(first.subsets)} subsets, in points")
    rows = {region: gains(sample) for region, sample in found.items()}
    for region, ways in rows.items():
        print(
            f"{region:<6}"
            + "   ".join(f"{w} {100 * e.value:+.2f} [{100 * e.low:.2f}, {100 * e.high:.2f}]" for w, e in ways.items())
        )
    content = {region: {way: [e.value, e.low, e.high] for way, e in ways.items()} for region, ways in rows.items()}
    write_json(file, {"cases": len(first), "gain": content})


def gains(sample: Sample) -> dict[str, Estimate]:
    """Return what each way to choose a threshold gains over 0."""
    dice = dice_by_threshold(sample)
    return {way: paired_difference(found, dice[:, :, ZERO]) for way, found in chosen(sample, dice).items()}


def dice_by_threshold(sample: Sample) -> np.ndarray:
    """Return the Dice of a mask of all voxels in a bin and those above it, (C, S, K)."""
    mask, common = (_and_above(sample.counts_CSNK[:, :, n]) for n in (EVERYWHERE, TRUE))
    return 2 * common / np.maximum(mask + common[..., :1], 1)


def chosen(sample: Sample, dice_CSK: np.ndarray) -> dict[str, np.ndarray]:
    """Return way → the Dice that its thresholds reach, (C, S)."""
    found = {way: np.empty(dice_CSK.shape[:2]) for way in ("region", "subset", "patient")}
    for case in range(len(sample)):
        own, others = dice_CSK[case], np.delete(dice_CSK, case, 0).mean(0)
        found["region"][case] = own[:, _best(others.mean(0))]
        found["subset"][case] = [row[_best(mean)] for row, mean in zip(own, others, strict=True)]
        found["patient"][case] = list(_promised(sample, case, own))
    return found


def _promised(sample: Sample, case: int, own_SK: np.ndarray) -> Iterator[float]:
    how = calibrated(sample.without([case]))
    for subset, voxels, reached in zip(sample.subsets, sample.counts_CSNK[case][:, EVERYWHERE], own_SK, strict=True):
        mask, common = _and_above(voxels), _and_above(voxels * how.of(subset).probability(LOGITS))
        yield float(reached[np.argmax(2 * common / np.maximum(mask + common[0], 1))])


def _and_above(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts[..., ::-1], -1)[..., ::-1]


def _best(dice_K: np.ndarray) -> int:
    return int(np.argmax(uniform_filter1d(dice_K, _SMOOTHED, mode="nearest")))


if __name__ == "__main__":
    main()
