"""The measures of metrics/masks.py against the libraries that the field uses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from anymri.metrics import masks

# Anisotropic on purpose: an axis taken for another shows.
SPACING = (1.0, 0.8, 2.5)


def lumps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two overlapping lumps of several pieces, one of them at the border of the grid."""
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.standard_normal((40, 44, 30)), 4)
    other = field + 0.5 * ndimage.gaussian_filter(generator.standard_normal(field.shape), 3)
    return other > 0.8 * other.std(), field > 0.8 * field.std()


@pytest.fixture(params=range(3))
def pair(request) -> tuple[np.ndarray, np.ndarray]:
    return lumps(request.param)


@pytest.mark.filterwarnings("ignore")  # What MONAI and torch say to each other is not ours to mend.
def test_monai_agrees():
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    for seed in range(3):
        mask, target = lumps(seed)
        here, there = (torch.from_numpy(m)[None, None] for m in (mask, target))
        found = masks.compare(mask, masks.prepare_reference(target, SPACING))
        distance = compute_hausdorff_distance(here, there, include_background=True, percentile=95, spacing=SPACING)
        assert found.directed_hausdorff_95_mm == pytest.approx(float(distance), rel=1e-6)
        assert found.dice == pytest.approx(float(compute_dice(here, there)), rel=1e-6)
        for tolerance in (1.0, 2.0):
            share = compute_surface_dice(here, there, [tolerance], include_background=True, spacing=SPACING)
            assert found.surface_dice(tolerance) == pytest.approx(float(share), rel=1e-6)


@st.composite
def masks_and_spacing(draw):
    """Two masks, anything from empty or one voxel to full, and an anisotropic spacing."""
    shape = draw(st.tuples(*(st.integers(2, 9) for _ in range(3))))
    single = np.zeros(shape, dtype=bool)
    single[tuple(draw(st.integers(0, n - 1)) for n in shape)] = True
    kinds = st.one_of(hnp.arrays(np.bool_, shape), st.just(single), st.just(np.zeros(shape, dtype=bool)))
    return draw(kinds), draw(kinds), draw(st.tuples(*(st.sampled_from([1.0, 0.9, 0.3, 2.0, 5.5]) for _ in range(3))))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(masks_and_spacing())
def test_monai_agrees_on_anything(given_):
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
    from monai.metrics.utils import get_edge_surface_distance

    mask, target, spacing = given_
    found = masks.compare(mask, masks.prepare_reference(target, spacing))
    here, there = (torch.from_numpy(m)[None, None] for m in (mask, target))
    for tolerance in (0.0, 1.0, 2.0):
        # One millionth more than is asked for, as here, lest the last bit of a float32 decides.
        theirs = float(compute_surface_dice(here, there, [tolerance + 1e-6], include_background=True, spacing=list(spacing)))
        assert found.surface_dice(tolerance) == pytest.approx(theirs, abs=1e-6, nan_ok=True)
    # Without a voxel in either, MONAI says 1 if it is asked not to leave such pairs out; here the protocol says what it is worth.
    overlap = float(compute_dice(here, there, ignore_empty=False))
    assert found.dice == pytest.approx(math.nan if found.both_empty else overlap, abs=1e-6, nan_ok=True)
    whole = float(compute_hausdorff_distance(here, there, include_background=True, percentile=95, spacing=list(spacing)))
    if not mask.any() or not target.any():
        # MONAI says NaN or infinity, and leaves what it is worth to the caller; here it is 0 or infinity.
        assert not math.isfinite(whole)
        assert found.directed_hausdorff_95_mm == (math.inf if mask.any() or target.any() else 0.0)
        return
    _, distances, _ = get_edge_surface_distance(here[0, 0], there[0, 0], spacing=list(spacing), symmetric=True)
    for ours, monais in zip((found.to_reference_mm, found.to_prediction_mm), distances, strict=True):
        np.testing.assert_allclose(np.sort(ours), np.sort(monais.numpy()), rtol=1e-6)
    # MONAI takes the percentile in float32: of its own distances, in full precision, it is ours to 1e-6. The rank among up to 729
    # is a float32, too, off by up to 5e-5, and so is what is interpolated there, of the gap between two distances.
    expected = max(float(np.percentile(d.double().numpy(), 95)) for d in distances)
    assert found.directed_hausdorff_95_mm == pytest.approx(expected, rel=1e-6)
    assert found.directed_hausdorff_95_mm == pytest.approx(whole, rel=1e-4)


def test_simpleitk_agrees(pair):
    sitk = pytest.importorskip("SimpleITK")

    def image(array):
        # SimpleITK counts axes from the last; one voxel of margin lets the border of the grid be a surface.
        made = sitk.GetImageFromArray(np.pad(array, 1).astype(np.uint8))
        made.SetSpacing(SPACING[::-1])
        return made

    def distances(a, b):
        contour_a, contour_b = sitk.LabelContour(image(a), False), sitk.LabelContour(image(b), False)
        away = np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(contour_b, squaredDistance=False, useImageSpacing=True)))
        on_b = sitk.GetArrayFromImage(contour_b) > 0
        away[on_b] = 0.0
        return away[sitk.GetArrayFromImage(contour_a) > 0]

    mask, target = pair
    found = masks.compare(mask, masks.prepare_reference(target, SPACING))
    there, back = distances(mask, target), distances(target, mask)
    # SimpleITK adds up squares in float32 and takes the root of that: 4e-6 of a distance.
    np.testing.assert_allclose(np.sort(found.to_reference_mm), np.sort(there), rtol=5e-6)
    np.testing.assert_allclose(np.sort(found.to_prediction_mm), np.sort(back), rtol=5e-6)
    # As medpy.metric.hd95 pools them.
    assert found.hausdorff_95_mm == pytest.approx(np.percentile(np.hstack((there, back)), 95), rel=5e-6)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(image(mask), image(target))
    assert found.dice == pytest.approx(overlap.GetDiceCoefficient(1))
    assert found.precision == pytest.approx(1 - overlap.GetFalseDiscoveryRate(1))
    assert found.sensitivity == pytest.approx(1 - overlap.GetFalseNegativeError(1))


def test_scikit_image_agrees_on_the_largest_distance(pair):
    metrics = pytest.importorskip("skimage.metrics")
    mask, target = pair
    found = masks.compare(mask, masks.prepare_reference(target, (1.0, 1.0, 1.0)))
    footprint = ndimage.generate_binary_structure(3, 1)
    edges = [m & ~ndimage.binary_erosion(m, footprint) for m in pair]
    assert [len(found.to_reference_mm), len(found.to_prediction_mm)] == [int(e.sum()) for e in edges]
    assert max(found.to_reference_mm.max(), found.to_prediction_mm.max()) == pytest.approx(metrics.hausdorff_distance(*edges))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # surface-distance asks scipy for names that have moved.
def test_surface_elements_by_area_differ_by_hundredths(pair):
    library = pytest.importorskip("surface_distance")
    mask, target = pair
    found = masks.compare(mask, masks.prepare_reference(target, SPACING))
    theirs = library.compute_surface_distances(target, mask, SPACING)
    # Another definition: surfaces between voxels, weighted by area, and nothing beyond the border of the grid.
    assert found.surface_dice(1.0) == pytest.approx(library.compute_surface_dice_at_tolerance(theirs, 1.0), abs=0.08)
    assert found.directed_hausdorff_95_mm == pytest.approx(library.compute_robust_hausdorff(theirs, 95), abs=max(SPACING))
