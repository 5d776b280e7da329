"""Every measure of metrics/masks.py against loops over voxels and all pairs of surface points."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anymri.metrics import masks

QUICK = settings(max_examples=60, deadline=None)
shapes = st.tuples(*(st.integers(1, 7) for _ in range(3)))
spacings = st.tuples(*(st.sampled_from([1.0, 0.9, 0.3, 2.0, 5.5]) for _ in range(3)))


@st.composite
def pairs(draw):
    """Two masks on one grid: anything from empty to full, in pieces, touching the borders."""
    shape = draw(shapes)
    one = draw(hnp.arrays(np.bool_, shape))
    other = draw(st.one_of(hnp.arrays(np.bool_, shape), st.just(one), st.just(~one), st.just(np.zeros(shape, dtype=bool))))
    return one, other


def surface(mask):
    def outside(voxel):
        return any(not 0 <= i < n for i, n in zip(voxel, mask.shape, strict=True)) or not mask[voxel]

    steps = [step for axis in range(3) for step in (np.eye(3, dtype=int)[axis], -np.eye(3, dtype=int)[axis])]
    voxels = [tuple(map(int, v)) for v in np.argwhere(mask)]
    return [v for v in voxels if any(outside(tuple(int(x) for x in np.add(v, s))) for s in steps)]


def distances(here, there, spacing):
    def apart(a, b):
        return math.sqrt(sum(((i - j) * s) ** 2 for i, j, s in zip(a, b, spacing, strict=True)))

    return sorted(min(apart(a, b) for b in there) for a in here)


def percentile_95(values):
    place = 0.95 * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


@QUICK
@given(pairs(), spacings)
def test_distances_agree_with_all_pairs(pair, spacing):
    mask, target = pair
    found = masks.compare(mask, masks.prepare_reference(target, spacing))
    s, t = surface(mask), surface(target)
    if not s or not t:
        expected = 0.0 if not s and not t else math.inf
        assert found.hausdorff_95_mm == found.directed_hausdorff_95_mm == expected
        assert found.surface_dice(1.0) == 0.0 if s or t else math.isnan(found.surface_dice(1.0))
        return
    there, back = distances(s, t, spacing), distances(t, s, spacing)
    np.testing.assert_allclose(np.sort(found.to_reference_mm), there, rtol=1e-12)
    np.testing.assert_allclose(np.sort(found.to_prediction_mm), back, rtol=1e-12)
    assert found.hausdorff_95_mm == pytest.approx(percentile_95(sorted(there + back)))
    assert found.directed_hausdorff_95_mm == pytest.approx(max(percentile_95(there), percentile_95(back)))
    for tolerance in (0.0, 0.9, 1.0, 2.0):
        near = sum(d <= tolerance + 1e-6 for d in there + back)
        assert found.surface_dice(tolerance) == pytest.approx(near / len(there + back))


@QUICK
@given(pairs(), spacings)
def test_counts_agree_with_a_loop(pair, spacing):
    mask, target = pair
    found = masks.compare(mask, masks.prepare_reference(target, spacing))
    voxels = list(itertools.product(*map(range, mask.shape)))
    both = sum(bool(mask[v] and target[v]) for v in voxels)
    predicted, referred = sum(bool(mask[v]) for v in voxels), sum(bool(target[v]) for v in voxels)
    voxel_ml = spacing[0] * spacing[1] * spacing[2] / 1000
    expected = {
        "dice": 2 * both / (predicted + referred) if predicted + referred else math.nan,
        "sensitivity": both / referred if referred else math.nan,
        "precision": both / predicted if predicted else math.nan,
        "volume_ml": predicted * voxel_ml,
        "reference_volume_ml": referred * voxel_ml,
    }
    values = {
        "dice": found.dice,
        "sensitivity": found.sensitivity,
        "precision": found.precision,
        "volume_ml": found.volume_ml,
        "reference_volume_ml": found.reference_volume_ml,
    }
    assert values == pytest.approx(expected, nan_ok=True)
    assert masks.dice(mask, target) == pytest.approx(found.dice, nan_ok=True)
    assert masks.sensitivity(mask, target) == pytest.approx(found.sensitivity, nan_ok=True)
    assert masks.precision(mask, target) == pytest.approx(found.precision, nan_ok=True)
    assert masks.volume_ml(mask, spacing) == pytest.approx(found.volume_ml)


@QUICK
@given(pairs(), spacings)
def test_a_distance_map_says_what_the_tree_says(pair, spacing):
    mask, target = pair
    reference = masks.prepare_reference(target, spacing)
    found = masks.compare(mask, reference)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(masks, "_TREE_POINTS", 0)
        again = masks.compare(mask, reference)
    np.testing.assert_allclose(again.to_reference_mm, found.to_reference_mm, rtol=1e-12)


@QUICK
@given(pairs(), spacings)
def test_swapping_the_masks_swaps_the_directions(pair, spacing):
    mask, target = pair
    one = masks.compare(mask, masks.prepare_reference(target, spacing))
    other = masks.compare(target, masks.prepare_reference(mask, spacing))
    assert one.dice == pytest.approx(other.dice, nan_ok=True)
    assert one.sensitivity == pytest.approx(other.precision, nan_ok=True)
    assert one.hausdorff_95_mm == pytest.approx(other.hausdorff_95_mm)
    assert one.directed_hausdorff_95_mm == pytest.approx(other.directed_hausdorff_95_mm)
    assert one.surface_dice(1.0) == pytest.approx(other.surface_dice(1.0), nan_ok=True)


@QUICK
@given(pairs(), spacings, st.permutations(range(3)), st.floats(0.1, 10))
def test_axes_scale_and_place_do_not_matter(pair, spacing, order, scale):
    mask, target = pair
    found = masks.compare(mask, masks.prepare_reference(target, spacing))
    turned = masks.hausdorff_95_mm(mask.transpose(order), target.transpose(order), tuple(spacing[i] for i in order))
    assert turned == pytest.approx(found.hausdorff_95_mm)
    scaled = masks.hausdorff_95_mm(mask, target, tuple(scale * s for s in spacing))
    assert scaled == pytest.approx(scale * found.hausdorff_95_mm)
    moved = [np.pad(m, ((3, 0), (0, 2), (1, 4))) for m in (mask, target)]
    placed = masks.compare(moved[0], masks.prepare_reference(moved[1], spacing))
    assert placed.hausdorff_95_mm == pytest.approx(found.hausdorff_95_mm)
    assert placed.dice == pytest.approx(found.dice, nan_ok=True)
    assert placed.surface_dice(1.0) == pytest.approx(found.surface_dice(1.0), nan_ok=True)
