from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from anymri.errors import GridMismatchError, UsageError
from anymri.metrics.masks import prepare_reference
from anymri.metrics.protocol import (
    ANYMRI,
    PROTOCOLS,
    UNITS,
    EmptyRule,
    prepare_case,
    protocol_named,
    score,
    score_case,
    score_masks,
)

BRATS = (240, 240, 155)
MM = (1.0, 1.0, 1.0)
DISTANCES = ("hausdorff_95_mm", "directed_hausdorff_95_mm")
SHARES = ("dice", "surface_dice_1mm", "sensitivity", "precision")


def filled(shape=BRATS, size: int = 3) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[1 : 1 + size, 1 : 1 + size, 1 : 1 + size] = True
    return mask


def empty(shape=BRATS) -> np.ndarray:
    return np.zeros(shape, dtype=bool)


def test_both_empty_is_perfect():
    values = score_masks(empty(), empty(), MM, ANYMRI)
    assert {values[m] for m in SHARES} == {1.0}
    assert {values[m] for m in DISTANCES} == {0.0}
    assert values["volume_ml"] == values["reference_volume_ml"] == 0.0


@pytest.mark.parametrize(("mask", "truth"), [(empty(), filled()), (filled(), empty())])
def test_one_empty_is_the_worst(mask, truth):
    values = score_masks(mask, truth, MM, ANYMRI)
    assert {values[m] for m in SHARES} == {0.0}
    assert [round(values[m], 2) for m in DISTANCES] == [373.13, 373.13]


def test_the_diagonal_is_in_millimetres():
    values = score_masks(filled((10, 20, 30)), empty((10, 20, 30)), (3.0, 2.0, 0.5), ANYMRI)
    assert values["hausdorff_95_mm"] == pytest.approx(math.sqrt(30**2 + 40**2 + 15**2))


def test_every_metric_is_scored_in_order_and_has_a_value():
    for mask, truth in ((filled(), filled()), (empty(), filled()), (filled(), empty()), (empty(), empty())):
        values = score_masks(mask, truth, MM, ANYMRI)
        assert tuple(values) == tuple(UNITS)
        assert all(math.isfinite(v) for v in values.values())


def test_masks_that_meet_nowhere_are_no_matter_for_the_rules():
    far = np.roll(filled(), 50, axis=0)
    values = score(far, prepare_reference(filled(), MM), ANYMRI)
    assert values["dice"] == 0.0
    assert values["hausdorff_95_mm"] == pytest.approx(50.0)


# What other protocols of the field need, said in the same fields.
@pytest.mark.parametrize(
    ("rule", "missed", "invented"),
    [
        (EmptyRule(both=0.0, missed=0.0, invented=0.0), 0.0, 0.0),
        (EmptyRule(both=0.0, missed=0.0, invented="diagonal"), 0.0, 373.13),
        (EmptyRule(both=0.0, missed="diagonal", invented="diagonal"), 373.13, 373.13),
        (EmptyRule(both=0.0, missed=50.0, invented=50.0), 50.0, 50.0),
        (EmptyRule(both=math.nan, missed=math.nan, invented=math.nan), math.nan, math.nan),
    ],
)
def test_distances_can_be_ruled_otherwise(rule, missed, invented):
    protocol = dataclasses.replace(ANYMRI, name="other", distance=rule)
    assert score_masks(empty(), filled(), MM, protocol)["hausdorff_95_mm"] == pytest.approx(missed, abs=0.01, nan_ok=True)
    assert score_masks(filled(), empty(), MM, protocol)["hausdorff_95_mm"] == pytest.approx(invented, abs=0.01, nan_ok=True)
    assert score_masks(filled(), filled(), MM, protocol)["hausdorff_95_mm"] == 0.0


def test_dice_with_epsilon_needs_no_rule():
    protocol = dataclasses.replace(ANYMRI, dice_epsilon=1e-8)
    assert score_masks(empty(), empty(), MM, protocol)["dice"] == 1.0
    assert 0 < score_masks(filled(), empty(), MM, protocol)["dice"] < 1e-8


def test_small_predicted_regions_can_be_removed():
    shape = (30, 30, 30)
    truth = {"outer": filled(shape, 9), "inner": empty(shape)}
    prediction = {"outer": filled(shape, 7), "inner": filled(shape, 7)}
    protocol = dataclasses.replace(ANYMRI, least_voxels=(0, 500))
    scores = score_case(prediction, prepare_case(truth, MM, protocol))
    assert scores["inner"]["dice"] == 1.0 and scores["inner"]["volume_ml"] == 0.0
    assert scores["outer"]["volume_ml"] == pytest.approx(0.343)
    assert score_case(prediction, prepare_case(truth, MM, ANYMRI))["inner"]["dice"] == 0.0
    assert prediction["inner"].any()
    # The reference is never touched, and a region of just enough voxels stays.
    reversed_roles = score_case({"outer": truth["outer"], "inner": truth["inner"]}, prepare_case(prediction, MM, protocol))
    assert reversed_roles["inner"]["reference_volume_ml"] == pytest.approx(0.343)
    enough = dataclasses.replace(ANYMRI, least_voxels=(0, 343))
    assert score_case(prediction, prepare_case(truth, MM, enough))["inner"]["dice"] == 0.0


def test_a_window_cuts_prediction_and_reference_around_the_centre():
    shape = (20, 21, 8)
    generator = np.random.default_rng(0)
    truth, mask = (generator.random((2, *shape)) < 0.4).astype(np.uint8)
    protocol = dataclasses.replace(ANYMRI, window=(10, 10, 12))
    found = score_case({"lesion": mask}, prepare_case({"lesion": truth}, MM, protocol))["lesion"]
    centre = (slice(5, 15), slice(5, 15), slice(None))
    assert found == score_masks(mask[centre], truth[centre], MM, ANYMRI)
    with pytest.raises(GridMismatchError, match="does not fit"):
        score_case({"lesion": mask[1:]}, prepare_case({"lesion": truth}, MM, protocol))


def test_only_regions_that_the_reference_tells_are_scored():
    shape = (10, 10, 10)
    case = prepare_case({"outer": filled(shape)}, MM, ANYMRI)
    assert list(score_case({"outer": filled(shape), "inner": filled(shape)}, case)) == ["outer"]
    with pytest.raises(UsageError, match="lacks region outer"):
        score_case({"inner": filled(shape)}, case)
    with pytest.raises(GridMismatchError):
        prepare_case({"outer": filled(shape), "inner": filled()}, MM, ANYMRI)
    with pytest.raises(GridMismatchError):
        prepare_case({}, MM, ANYMRI)


def test_protocols_go_by_name():
    assert all(protocol_named(p.name) is p for p in PROTOCOLS)
    with pytest.raises(UsageError, match="expected one of anymri"):
        protocol_named("none")
