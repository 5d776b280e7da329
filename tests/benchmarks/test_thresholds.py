"""A threshold is chosen without the reference of the case it is tried on, and one that is off by as much everywhere is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymri.trust.counts import BINS, EVERYWHERE, LOGITS, TRUE
from anymri.trust.fitting import Sample, samples

from ..material import benchmark, task_with
from ..trust.made import made_observations

TASK = task_with(2)
script = benchmark("thresholds")


def sample(cases: int = 6) -> Sample:
    return samples(made_observations(TASK, cases), TASK.modalities)[0]


def test_dice_at_nought_is_that_of_the_mask() -> None:
    whole = sample()
    counts = whole.counts_CSNK
    inside = LOGITS > 0
    mask, true = counts[:, :, EVERYWHERE, inside].sum(-1), counts[:, :, TRUE]
    expected = 2 * true[..., inside].sum(-1) / (mask + true.sum(-1))
    found = script.dice_by_threshold(whole)
    assert found.shape[-1] == BINS and found[..., script.ZERO] == pytest.approx(expected)
    assert found[..., 0] == pytest.approx(2 * true.sum(-1) / (counts[:, :, EVERYWHERE].sum(-1) + true.sum(-1)))


def test_logits_that_are_too_high_everywhere_are_cut_higher() -> None:
    whole = sample()
    shifted = np.roll(whole.counts_CSNK, 120, -1)  # By 6; the outermost bins are empty.
    assert not whole.counts_CSNK[..., -120:].any()
    off = replace(whole, counts_CSNK=shifted)
    least = min(estimate.value for estimate in script.gains(off).values())
    assert least > 0.02 > max(abs(estimate.value) for estimate in script.gains(whole).values())


def test_a_threshold_knows_nothing_of_the_reference_of_its_case() -> None:
    whole = sample()
    counts = whole.counts_CSNK.copy()
    dice = script.dice_by_threshold(whole)
    told = np.broadcast_to(np.arange(BINS), dice.shape).astype(float)  # In place of the Dice of case 2: which bin was chosen.
    dice_told = np.concatenate([dice[:2], told[2:3], dice[3:]])
    counts[2, :, TRUE:] = counts[2, :, TRUE:, ::-1]  # Another reference altogether.
    before = script.chosen(whole, dice_told)
    after = script.chosen(replace(whole, counts_CSNK=counts), dice_told)
    for way in before:
        assert np.array_equal(before[way][2], after[way][2]) and (before[way][2] > 0).all()
