"""The trainings of ``ccsd-base``, of the same at size ``small``, and of the baseline beside them."""

from __future__ import annotations

import math

import pytest

from anymri.compare import check_alike
from anymri.engine.model import shapes_of
from anymri.engine.run import Run
from anymri.recipes import run_named


def named(recipe: str) -> Run:
    run = run_named(recipe)
    assert isinstance(run, Run)
    return run


def weights(run: Run) -> int:
    return sum(math.prod(shape) for shape in shapes_of(run.method_config, run.task_object).values())


def test_the_baseline_sees_the_same_patches_and_has_as_many_weights() -> None:
    ours, baseline = named("shipped.ccsd_base"), named("shipped.dropout_unet_base")
    check_alike({"ours": ours, "baseline": baseline})
    assert ours.learning_rate == baseline.learning_rate
    assert weights(baseline) == pytest.approx(weights(ours), rel=0.06)


def test_sizes_are_within_what_may_be_shipped() -> None:
    assert 2 * weights(named("shipped.ccsd_base")) < 15e6 and 2 * weights(named("shipped.ccsd_small")) < 3e6
    base, small = named("shipped.ccsd_base"), named("shipped.ccsd_small")
    assert base.model_copy(update={"config": {**base.config, "widths": small.config["widths"]}}) == small
