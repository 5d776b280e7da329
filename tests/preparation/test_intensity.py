"""Normalisation inside the foreground."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.errors import ImageContentError
from anymri.preparation.intensity import CLIP, foreground_of, normalised
from anymri.volumes.store import STEP


def image(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(500, 80, (20, 20, 20)).astype(np.float32)
    values[:6] = 0
    return values


def test_scores_have_mean_zero_and_deviation_one() -> None:
    array = image()
    out, record = normalised(array, foreground_of(array))
    inside = out[6:]
    assert out.dtype == np.float32
    assert inside.mean() == pytest.approx(0, abs=0.02)
    assert inside.std() == pytest.approx(1, abs=0.05)
    assert record["mean"] == pytest.approx(500, abs=5)
    assert record["std"] == pytest.approx(80, abs=4)
    assert record["voxels"] == inside.size


def test_values_are_whole_steps_within_the_clip_and_zero_means_background() -> None:
    array = image()
    array[10, 10, 10], array[11, 11, 11] = 1e6, -1e6
    out, _ = normalised(array, foreground_of(array))
    assert np.array_equal(out, np.rint(out / STEP) * np.float32(STEP))
    assert (out.max(), out.min()) == (CLIP, -CLIP)
    assert np.array_equal(out != 0, foreground_of(array))


def test_a_few_extreme_voxels_do_not_set_the_scale() -> None:
    plain, spiked = image(), image()
    spiked[10, 10, :5] = 1e5
    a, b = (normalised(x, foreground_of(x))[0] for x in (plain, spiked))
    ordinary = (spiked == plain) & (plain != 0)
    assert np.abs(a - b)[ordinary].max() < 0.1


@pytest.mark.parametrize(("slope", "offset"), [(0.001, 0.0), (7.0, 0.0), (1000.0, 0.0)])
def test_the_scanners_scale_does_not_matter(slope: float, offset: float) -> None:
    array = image()
    a, b = (normalised(x, foreground_of(x))[0] for x in (array, array * np.float32(slope)))
    assert np.abs(a - b).max() <= STEP


def test_dust_around_the_brain_is_background() -> None:
    array = image()
    dusty = array.copy()
    dusty[:6] = 1e-3
    assert np.array_equal(foreground_of(dusty), array != 0)
    assert np.array_equal(foreground_of(-dusty), array != 0)


def test_images_without_contrast_are_refused() -> None:
    with pytest.raises(ImageContentError, match=r"a\.nii: shows nothing"):
        normalised(np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), bool), file="a.nii")
    mask = image() > 0
    with pytest.raises(ImageContentError, match=r"a\.nii: is constant \(1\)"):
        normalised(mask.astype(np.float32), mask, file="a.nii")
