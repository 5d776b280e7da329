"""What each protocol makes of masks that can be counted by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import UsageError
from anymri.metrics.protocol import (
    PROTOCOLS,
    Protocol,
    caveats,
    penalise_false_lesion,
    penalise_mismatch,
    prepare_case,
    protocol_named,
    rules,
    score_case,
    score_masks,
    zero_if_either_empty,
)

BRATS = (240, 240, 155)
MM = (1.0, 1.0, 1.0)
DIAGONAL = math.sqrt(139_225)  # 240² + 240² + 155²
CROP = math.sqrt(160**2 + 192**2 + 128**2)
NAN = math.nan


def box(*edges: slice) -> np.ndarray:
    mask = np.zeros(BRATS, dtype=bool)
    mask[edges] = True
    return mask


# Inside the crop of 160 × 192 × 128, which starts at 40, 24 and 13.
NOTHING = np.zeros(BRATS, dtype=bool)
LESION = box(slice(100, 110), slice(100, 110), slice(70, 75))  # 500 voxels
MOVED = box(slice(102, 112), slice(100, 110), slice(70, 75))  # 400 of them in common


def scored(name: str, prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Score the innermost of three regions; the two around it are whole."""
    regions = GLIOMA.region_names
    around = dict.fromkeys(regions[:-1], LESION | MOVED)
    case = prepare_case({**around, regions[-1]: truth}, MM, protocol_named(name))
    return score_case({**around, regions[-1]: prediction}, case)[regions[-1]]


# Dice where masks overlap, both are empty, it is missed, it is invented; then HD95 likewise.
EXPECTED = {
    "anymri": ((0.8, 1, 0, 0), (2, 0, DIAGONAL, DIAGONAL)),
    "rfnet": ((0.8, 1, 2e-11, 2e-11), (2, 0, DIAGONAL, DIAGONAL)),
    "m3ae": ((0.8, 1, 0, 0), (2, 0, DIAGONAL, DIAGONAL)),
    "smunet": ((801 / 1001, 1, 1 / 501, 1 / 501), (2, 0, CROP, CROP)),
    "adamm": ((0.8, 1, 0, 0), (2, 0, DIAGONAL, DIAGONAL)),
    "adamm_zero_if_either_empty": ((0.8, 1, 0, 0), (2, 0, 0, 0)),
    "adamm_penalise_false_lesion": ((0.8, 1, 0, 0), (2, 0, 0, DIAGONAL)),
    "nnunet": ((0.8, NAN, 0, 0), (2, NAN, NAN, NAN)),
}


def test_every_protocol_has_its_numbers_here() -> None:
    assert list(EXPECTED) == [p.name for p in PROTOCOLS]


@pytest.mark.parametrize("name", EXPECTED)
def test_dice_and_hausdorff_by_hand(name: str) -> None:
    found = [scored(name, *pair) for pair in ((MOVED, LESION), (NOTHING, NOTHING), (NOTHING, LESION), (LESION, NOTHING))]
    dice, distance = EXPECTED[name]
    assert [f["dice"] for f in found] == pytest.approx(dice, rel=1e-6, nan_ok=True)
    # Two surfaces that are 2 mm apart along one axis: the 95th percentile is 2 mm.
    assert [f["hausdorff_95_mm"] for f in found] == pytest.approx(distance, nan_ok=True)
    assert [f["directed_hausdorff_95_mm"] for f in found] == pytest.approx(distance, nan_ok=True)


@pytest.mark.parametrize("name", EXPECTED)
def test_only_rfnet_removes_a_small_lesion_and_leaves_what_is_around_it(name: str) -> None:
    just_below = LESION.copy()
    just_below[100, 100, 70] = False
    kept = scored(name, just_below, LESION)["volume_ml"]
    assert kept == (0.0 if name == "rfnet" else pytest.approx(0.499))
    assert scored(name, LESION, LESION)["volume_ml"] == pytest.approx(0.5)
    if name == "rfnet":
        assert scored(name, just_below, NOTHING)["dice"] == 1.0  # a false lesion removed
        assert scored(name, just_below, LESION)["dice"] < 1e-9  # a true one too
        regions = GLIOMA.region_names
        case = prepare_case(dict.fromkeys(regions, LESION), MM, protocol_named(name))
        found = score_case(dict.fromkeys(regions, just_below), case)
        assert [round(found[r]["volume_ml"], 3) for r in regions] == [0.499, 0.499, 0.0]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_lies_outside_the_centre_counts_where_there_is_no_crop(name: str) -> None:
    # Of 1000 predicted voxels 500 lie before 40, where the crop begins; the reference is the rest. The crop ends before 141.
    edge = box(slice(35, 45), slice(100, 110), slice(70, 80))
    values = scored(name, edge, edge & box(slice(40, 240), slice(None), slice(None)))
    cropped = name in ("smunet", "adamm", "adamm_zero_if_either_empty", "adamm_penalise_false_lesion")
    assert values["volume_ml"] == pytest.approx(0.5 if cropped else 1.0)
    assert values["dice"] == pytest.approx(1.0 if cropped else 2 / 3)
    above = box(slice(100, 110), slice(100, 110), slice(141, 146))
    assert scored(name, above, above)["volume_ml"] == pytest.approx(0.0 if cropped else 0.5)
    below = box(slice(100, 110), slice(100, 110), slice(140, 145))
    assert scored(name, below, below)["volume_ml"] == pytest.approx(0.1 if cropped else 0.5)


def test_rules_for_three_regions_are_for_tasks_with_three() -> None:
    assert len(PROSTATE.regions) != 3
    for protocol in PROTOCOLS:
        regions = dict.fromkeys(PROSTATE.region_names, LESION)
        if protocol.least_voxels:
            with pytest.raises(UsageError, match="'rfnet' has rules for 3 regions; found "):
                score_case(regions, prepare_case(regions, MM, protocol))
        else:
            assert score_case(regions, prepare_case(regions, MM, protocol))


@pytest.mark.parametrize(
    ("rule", "missed", "invented"),
    [
        (zero_if_either_empty(), 0.0, 0.0),
        (penalise_false_lesion(), 0.0, DIAGONAL),
        (penalise_false_lesion(50.0), 0.0, 50.0),
        (penalise_mismatch(), DIAGONAL, DIAGONAL),
        (penalise_mismatch(50.0), 50.0, 50.0),
    ],
)
def test_the_three_treatments_of_distances(rule, missed: float, invented: float) -> None:
    protocol = dataclasses.replace(PROTOCOLS[0], distance=rule)
    assert score_masks(NOTHING, NOTHING, MM, protocol)["hausdorff_95_mm"] == 0.0
    assert score_masks(NOTHING, LESION, MM, protocol)["hausdorff_95_mm"] == pytest.approx(missed)
    assert score_masks(LESION, NOTHING, MM, protocol)["hausdorff_95_mm"] == pytest.approx(invented)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
def test_rules_are_told_as_they_are(protocol: Protocol) -> None:
    where, removed, dice, distances, shares = rules(protocol)
    assert ("160 × 192 × 128" in where) == (protocol.window is not None)
    assert ("500" in removed) == bool(protocol.least_voxels)
    assert (f"+ {protocol.dice_epsilon:g})" in dice) == (protocol.dice_epsilon > 0)
    assert ("373.13" in distances) == (protocol.name in ("adamm", "adamm_penalise_false_lesion"))
    assert ("no value" in distances) == (protocol.name == "nnunet") == ("fractions" in shares)
    told = " ".join(caveats(protocol))
    assert all(line in told for line in (*protocol.open, *protocol.unlike))
    assert bool(told) == (protocol.name != "anymri")


def test_no_two_protocols_have_the_same_rules_but_the_one_that_says_so() -> None:
    alike = [(a.name, b.name) for a in PROTOCOLS for b in PROTOCOLS if a.name < b.name and rules(a) == rules(b)]
    assert alike == [("anymri", "m3ae")]
    assert "ours under another name" in protocol_named("m3ae").description
