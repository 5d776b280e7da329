from __future__ import annotations

import math

import numpy as np
import pytest

from anymri.errors import GridMismatchError
from anymri.metrics import masks

MM = (1.0, 1.0, 1.0)


def cube(shape: tuple[int, int, int], start: int, stop: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def test_a_cube_against_itself_moved():
    target = cube((20, 20, 20), 5, 10)
    mask = np.roll(target, 2, axis=0)
    assert masks.dice(mask, target) == pytest.approx(2 * 75 / 250)
    assert masks.sensitivity(mask, target) == masks.precision(mask, target) == pytest.approx(0.6)
    assert masks.hausdorff_95_mm(mask, target, (3.0, 1.0, 1.0)) == pytest.approx(6.0)
    assert masks.volume_ml(mask, (3.0, 1.0, 1.0)) == pytest.approx(0.375)


def test_pooled_and_directed_distances_differ():
    target = cube((30, 30, 30), 2, 12)
    mask = target.copy()
    mask[25:29, 25:29, 25:29] = True  # A stray lesion: far from the reference, while all of the reference is hit.
    found = masks.compare(mask, masks.prepare_reference(target, MM))
    assert found.to_prediction_mm.max() == 0.0
    assert found.hausdorff_95_mm < found.directed_hausdorff_95_mm
    assert found.directed_hausdorff_95_mm == pytest.approx(np.percentile(found.to_reference_mm, 95))


def test_one_reference_serves_predictions_anywhere_on_the_grid():
    target = cube((30, 30, 30), 10, 14)
    reference = masks.prepare_reference(target, MM)
    for start in (0, 10, 26):
        mask = cube((30, 30, 30), start, start + 4)
        assert masks.compare(mask, reference).hausdorff_95_mm == masks.hausdorff_95_mm(mask, target, MM)


@pytest.mark.parametrize(("mask", "target", "expected"), [(False, False, 0.0), (True, False, math.inf), (False, True, math.inf)])
def test_empty_masks_are_told_honestly(mask, target, expected):
    filled, empty = cube((6, 6, 6), 1, 4), np.zeros((6, 6, 6), dtype=bool)
    mask, target = (filled if m else empty for m in (mask, target))
    assert masks.hausdorff_95_mm(mask, target, MM) == expected
    assert masks.directed_hausdorff_95_mm(mask, target, MM) == expected
    assert math.isnan(masks.dice(mask, target)) if expected == 0.0 else masks.dice(mask, target) == 0.0
    share = masks.surface_dice(mask, target, MM, tolerance_mm=1.0)
    assert math.isnan(share) if expected == 0.0 else share == 0.0


def test_which_mask_is_empty_is_told_apart():
    filled, empty = cube((6, 6, 6), 1, 4), np.zeros((6, 6, 6), dtype=bool)
    missed = masks.compare(empty, masks.prepare_reference(filled, MM))
    invented = masks.compare(filled, masks.prepare_reference(empty, MM))
    neither = masks.compare(empty, masks.prepare_reference(empty, MM))
    assert [(f.prediction_empty, f.reference_empty, f.both_empty) for f in (missed, invented, neither)] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_a_tolerance_of_exactly_the_distance_counts_as_within():
    target = cube((12, 12, 12), 3, 9)
    mask = np.roll(target, 3, axis=1)
    # Three steps of a third of a millimetre are a millimetre, though not in binary.
    spacing = (1.0, 1.0 / 3.0, 1.0)
    assert masks.surface_dice(mask, target, spacing, tolerance_mm=1.0) == 1.0


def test_any_layout_in_memory_and_uint8_give_the_same():
    generator = np.random.default_rng(0)
    mask, target = generator.random((2, 9, 8, 7)) < 0.3
    expected = masks.compare(mask, masks.prepare_reference(target, MM))
    for change in (np.asfortranarray, lambda m: m.astype(np.uint8), lambda m: np.asfortranarray(m.astype(np.uint8))):
        found = masks.compare(change(mask), masks.prepare_reference(change(target), MM))
        assert (found.dice, found.hausdorff_95_mm) == (expected.dice, expected.hausdorff_95_mm)
    assert masks.dice(mask.astype(np.uint8), target) == expected.dice


def test_other_grids_are_refused():
    reference = masks.prepare_reference(cube((6, 6, 6), 1, 4), MM)
    with pytest.raises(GridMismatchError, match=r"\(6, 6, 7\).*\(6, 6, 6\)"):
        masks.compare(np.zeros((6, 6, 7), dtype=bool), reference)
    with pytest.raises(GridMismatchError):
        masks.dice(np.zeros((6, 6, 7), dtype=bool), np.zeros((6, 6, 6), dtype=bool))


@pytest.mark.parametrize("wrong", [np.full((4, 4, 4), 3, np.uint8), np.zeros((4, 4), bool)])
def test_what_is_no_mask_is_refused(wrong):
    with pytest.raises(ValueError, match="mask"):
        masks.prepare_reference(wrong, MM)


@pytest.mark.parametrize("wrong", [(1.0, 1.0, 0.0), (1.0, math.nan, 1.0), (-1.0, 1.0, 1.0)])
def test_a_spacing_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="spacing"):
        masks.prepare_reference(np.zeros((4, 4, 4), dtype=bool), wrong)
