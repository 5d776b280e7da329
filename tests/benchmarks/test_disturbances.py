"""Each disturbance does what it says: nothing at zero strength, and by hand what it does otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.volumes.volume import Grid, Volume, reoriented, reoriented_grid

from ..material import benchmark

script = benchmark("disturbances")
UPRIGHT = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS, voxels of 1 mm


def ball(edge: int = 28, radius: float = 9.0) -> Volume:
    places = np.stack(np.meshgrid(*(np.arange(edge),) * 3, indexing="ij"), -1)
    inside = np.linalg.norm(places - (edge - 1) / 2, axis=-1) < radius
    texture = np.random.default_rng(0).uniform(90, 110, inside.shape)
    array = np.where(inside, texture, 0).astype(np.float32)
    return Volume(array, Grid((edge,) * 3, UPRIGHT))


def bump(edge: int = 31, width: float = 3.0) -> Volume:
    """Return an image that has no rim: what is half of a voxel cannot move it."""
    places = np.stack(np.meshgrid(*(np.arange(edge),) * 3, indexing="ij"), -1)
    array = 100 * np.exp(-0.5 * (np.linalg.norm(places - edge // 2, axis=-1) / width) ** 2)
    return Volume(array.astype(np.float32), Grid((edge,) * 3, UPRIGHT))


def impulse(place: tuple[int, int, int], edge: int = 21) -> Volume:
    array = np.zeros((edge,) * 3, np.float32)
    array[place] = 1.0
    return Volume(array, Grid((edge,) * 3, UPRIGHT))


def centre(volume: Volume) -> np.ndarray:
    """Return where the mass of an image lies, in mm."""
    places = np.argwhere(volume.array != 0)
    weights = volume.array[tuple(places.T)]
    middle = (places * weights[:, None]).sum(axis=0) / weights.sum()
    return (volume.grid.affine @ [*middle, 1.0])[:3]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_averaging_keeps_means_and_the_place_of_things(axis: int) -> None:
    full = Volume(np.random.default_rng(0).uniform(1, 2, (12, 12, 12)).astype(np.float32), Grid((12, 12, 12), UPRIGHT))
    thick = script.thicker(full, axis, 3)
    assert thick.grid.shape[axis] == 4
    assert thick.grid.spacing_mm[axis] == pytest.approx(3)
    assert thick.array.mean() == pytest.approx(full.array.mean(), rel=1e-6)
    # The middle of the field of view stays where it was.
    for grid in (full.grid, thick.grid):
        middle = grid.affine @ [*((n - 1) / 2 for n in grid.shape), 1.0]
        np.testing.assert_allclose(middle, full.grid.affine @ [5.5, 5.5, 5.5, 1.0])


def test_a_slice_is_the_mean_of_its_foreground_and_empty_below_half() -> None:
    array = np.zeros((1, 1, 7), np.float32)
    array[0, 0] = [0, 0, 6, 4, 0, 2, 8]
    thick = script.thicker(Volume(array, Grid((1, 1, 7), UPRIGHT)), 2, 4)
    np.testing.assert_array_equal(thick.array[0, 0], [5.0, 5.0])  # the last is of three: (0, 2, 8), two of four shown
    np.testing.assert_array_equal(script.thicker(Volume(array, Grid((1, 1, 7), UPRIGHT)), 2, 3).array[0, 0], [0.0, 3.0, 0.0])


def test_one_slice_as_it_is() -> None:
    volume = ball()
    assert script.thicker(volume, 2, 1) is volume


def test_a_rotation_turns_about_its_centre_by_its_angle() -> None:
    motion = script.rotation(np.array([0, 0, 2.0]), 90, np.array([10.0, 0, 5]))
    np.testing.assert_allclose(motion @ [10, 0, 5, 1], [10, 0, 5, 1], atol=1e-12)
    np.testing.assert_allclose(motion @ [11, 0, 7, 1], [10, 1, 7, 1], atol=1e-12)
    np.testing.assert_allclose(script.inverse(motion) @ motion, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(script.rotation(np.array([1.0, 2, 3]), 0, np.ones(3)), np.eye(4))


@pytest.mark.parametrize("offset", [(3.0, 0.0, 0.0), (0.0, -2.0, 1.0)])
def test_an_impulse_moves_by_its_millimetres(offset: tuple[float, float, float]) -> None:
    volume = impulse((10, 11, 9))
    shifted = script.moved(volume, script.translation(np.array(offset)), volume.grid)
    np.testing.assert_allclose(centre(shifted) - centre(volume), offset)
    assert shifted.array.max() == 1.0  # whole voxels are copied


def test_a_moved_patient_is_whole_and_can_be_brought_back() -> None:
    images = {"a": ball(), "b": Volume(ball().array * 2, ball().grid)}
    rng = np.random.default_rng(3)
    found = script._patient_moved(images, rng, degrees=20, mm=15)
    for name, volume in found.images.items():
        assert not any(volume.array[face].any() for face in ((0,), (-1,), (..., 0), (..., -1)))
        assert np.count_nonzero(volume.array) == pytest.approx(np.count_nonzero(images[name].array), rel=0.02)
        moved = centre(volume)
        assert np.linalg.norm(moved - centre(images[name])) == pytest.approx(15, abs=0.2)
        np.testing.assert_allclose((found.back @ [*moved, 1])[:3], centre(images[name]), atol=0.1)
    np.testing.assert_allclose(found.images["b"].grid.affine, found.images["a"].grid.affine)


def test_in_the_header_alone_no_voxel_changes() -> None:
    volume = ball()
    found = script._header_moved({"a": volume}, np.random.default_rng(1), degrees=10, mm=10)
    assert found.images["a"].array is volume.array
    np.testing.assert_allclose(found.back @ found.images["a"].grid.affine, volume.grid.affine, atol=1e-9)
    assert np.linalg.norm(centre(found.images["a"]) - centre(volume)) == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_a_bias_field_is_smooth_bounded_and_nothing_at_zero(strength: float) -> None:
    volume, coefficients = ball(), script.draw_coefficients(np.random.default_rng(0))
    np.testing.assert_array_equal(script.uneven(volume, coefficients, 0.0).array, volume.array)
    inside = volume.array > 0
    field = np.ones_like(volume.array)
    field[inside] = script.uneven(volume, coefficients, strength).array[inside] / volume.array[inside]
    assert np.abs(np.log(field)).max() == pytest.approx(np.log1p(strength), rel=1e-4)
    step = np.abs(np.diff(np.log(np.where(inside, field, np.nan)), axis=0))
    assert np.nanmax(step) < 0.7 * np.log1p(strength)
    assert not script.uneven(volume, coefficients, strength).array[~inside].any()


def test_of_a_linear_field_each_voxel_is_known() -> None:
    coefficients = np.zeros((4, 4, 4))
    coefficients[1, 0, 0] = 2.0
    volume = Volume(np.ones((3, 2, 2), np.float32), Grid((3, 2, 2), UPRIGHT))
    np.testing.assert_allclose(script.uneven(volume, coefficients, 0.5).array[:, 0, 0], [1 / 1.5, 1, 1.5], rtol=1e-6)


def test_noise_is_rician_in_the_foreground_alone() -> None:
    volume = ball()
    voxels = np.count_nonzero(volume.array)
    grain = np.random.default_rng(0).standard_normal((2, voxels)).astype(np.float32)
    np.testing.assert_array_equal(script.noisy(volume, grain, 0.0).array, volume.array)
    found = script.noisy(volume, grain, 0.1).array
    inside = volume.array > 0
    assert not found[~inside].any()
    signal, sigma = volume.array[inside], 0.1 * volume.array[inside].mean()
    # The second moment of a Rician variable is its signal squared and twice the variance.
    assert (found[inside] ** 2 - signal**2).mean() == pytest.approx(2 * sigma**2, rel=0.5)
    one = script.noisy(Volume(np.full((1, 1, 1), 3.0), Grid((1, 1, 1), UPRIGHT)), np.array([[0.0], [1.0]]), 4 / 3)
    assert one.array.item() == pytest.approx(5.0)


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SAL", "PIR"])
@pytest.mark.parametrize(("missing", "left"), [("top", slice(0, 10)), ("bottom", slice(7, 20))])
def test_a_third_of_the_patient_goes_whatever_the_axes(codes: str, missing: str, left: slice) -> None:
    array = np.zeros((6, 6, 20), np.float32)
    array[2:5, 2:5, 4:13] = 1.0  # nine voxels high
    upright = Volume(array, Grid((6, 6, 20), UPRIGHT))
    turned = reoriented(upright, codes)
    assert script.heights_left({"a": turned}, missing) == left
    cut = script.zero_outside(turned, script.slab(turned.grid, left))
    kept = reoriented(cut, "LPS").array
    assert np.count_nonzero(kept) == 9 * 6
    np.testing.assert_array_equal(kept[:, :, left], array[:, :, left])
    assert reoriented_grid(cut.grid, "LPS").shape == (6, 6, 20)


def test_in_all_the_field_of_view_is_shorter_and_things_stay_where_they_were() -> None:
    images = {"a": ball(), "b": reoriented(ball(), "RAI")}
    found = script._cut(images, np.random.default_rng(0), missing="top")
    for name, volume in found.images.items():
        assert volume.grid.shape[2] == found.heights.stop
        assert centre(volume)[2] < centre(images[name])[2] - 1
    np.testing.assert_allclose(centre(found.images["a"]), centre(found.images["b"]), atol=1e-4)


@pytest.mark.parametrize("mm", [2, 4])
def test_a_misregistered_image_keeps_its_grid(mm: float) -> None:
    volume = bump()
    found = script._misregistered({"a": volume}, np.random.default_rng(0), mm=mm).images["a"]
    assert found.grid is volume.grid
    assert np.linalg.norm(centre(found) - centre(volume)) == pytest.approx(mm, abs=0.02)


def test_mixed_planes_come_back_to_one_grid() -> None:
    images = {name: ball() for name in "abcd"}
    found = script._thick(images, np.random.default_rng(0), mm=3, mixed=True).images
    assert all(v.grid is images[n].grid for n, v in found.items())
    rough = {n: [float(np.abs(np.diff(v.array[8:20, 8:20, 8:20], axis=a)).mean()) for a in range(3)] for n, v in found.items()}
    assert [int(np.argmin(rough[n])) for n in "abcd"] == [2, 0, 1, 2]  # axial, sagittal, coronal, axial


def test_every_disturbance_follows_from_its_seed_and_has_a_name_of_its_own() -> None:
    images = {"a": ball(), "b": ball()}
    names = [d.name for d in script.DISTURBANCES]
    assert len(set(names)) == len(names) == 23
    for disturbance in script.DISTURBANCES:
        given = {"a": images["a"]} if disturbance.single else images
        first, again = (disturbance.apply(given, np.random.default_rng(7)).images for _ in range(2))
        assert first.keys() == given.keys()
        for name in first:
            np.testing.assert_array_equal(first[name].array, again[name].array)
            assert np.isfinite(first[name].array).all()
