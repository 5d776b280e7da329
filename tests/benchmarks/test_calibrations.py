"""Forms of calibration are compared on cases that they were not fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymri.trust.calibration import Calibration
from anymri.trust.counts import DOMAINS, EVERYWHERE, LOGITS, TRUE
from anymri.trust.fitting import Sample, samples

from ..material import benchmark, task_with
from ..trust.made import TRUTH, made_observations

TASK = task_with(3)
script = benchmark("calibrations")


def sample() -> Sample:
    return samples(made_observations(TASK, 8), TASK.modalities)[0]


def with_truth(whole: Sample, subsets: list[int], how: Calibration) -> Sample:
    counts = whole.counts_CSNK.copy()
    for s in subsets:
        for voxels, true in DOMAINS.values():
            counts[:, s, true] = counts[:, s, voxels] * how.probability(LOGITS)
    return replace(whole, counts_CSNK=counts)


def test_where_all_subsets_are_alike_every_form_is_as_good() -> None:
    found = script.compared(sample())
    assert list(found) == ["none", "pooled", "number", "own", "fitted"]
    assert all(found[form]["band"] < 0.1 < found["none"]["band"] for form in found if form != "none")


@pytest.mark.parametrize(("subsets", "best"), [([0, 1, 2], "number"), ([0, 4, 6], "own")])
def test_the_form_that_is_so_is_found(subsets: list[int], best: str) -> None:
    # Subsets are M0, M1, M2, then those of two, then all: the first three are those of one modality.
    found = script.compared(with_truth(sample(), subsets, Calibration(temperature=4.0, offset=1.0)))
    assert found[best]["band"] < 0.1 < found["fitted"]["band"] < found["pooled"]["band"]
    assert (found["number"]["band"] < 0.1) == (best == "number")


def test_what_is_chance_in_one_half_is_not_learnt_for_the_other() -> None:
    whole = sample()
    counts, drawn = whole.counts_CSNK.copy(), np.random.default_rng(0)
    for case in range(8):
        for s in range(7):
            how = Calibration(temperature=TRUTH.temperature, offset=TRUTH.offset + drawn.normal(0, 1.0))
            for voxels, true in DOMAINS.values():
                counts[case, s, true] = counts[case, s, voxels] * how.probability(LOGITS)
    assert (counts[:, :, TRUE] <= counts[:, :, EVERYWHERE]).all()
    found = script.compared(replace(whole, counts_CSNK=counts))
    assert found["pooled"]["cross-entropy"] < found["fitted"]["cross-entropy"] < found["own"]["cross-entropy"]
