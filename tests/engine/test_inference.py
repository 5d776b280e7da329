"""From an image to logits on its grid: windows, blending, strides, the way back."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.engine.inference import (
    OUTSIDE,
    LeftOut,
    answers_of,
    blending_weights,
    device_named,
    native_masks,
    nested,
    region_logits_of,
    restored,
    window_corners,
    without_small_components,
)
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.errors import UsageError
from anymri.methods.method import Method
from anymri.volumes.volume import Grid, Volume, cropped_grid, reoriented_grid, resampled, respaced_grid

from ..doubles import Placed, PlacedConfig
from ..material import ALL_METHODS, tiny

CPU = torch.device("cpu")
ALL = (True,) * 4


def model_of(method: Method, **settings: Any) -> Model:
    window = Window.model_validate({"stride": 1, "size": (8, 8, 8), **settings})
    return Model(method.eval(), WeightsHeader(name="m", method="m", config={}, task="glioma", window=window))


def placed(slope: float = 1.0, **window: Any) -> Model:
    return model_of(PlacedConfig(slope=slope).build(GLIOMA), **window)


def image_of(*extent: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, *extent)).astype(np.float32)


def predicted(model: Model, image: np.ndarray, keeps: Sequence[Sequence[bool]] = (ALL,), **options: Any) -> list[np.ndarray]:
    present = options.pop("present", ALL)
    return list(region_logits_of(model, image, present, keeps, device=CPU, **options))


def test_weights_that_learnt_images_from_0_to_1_are_given_such() -> None:
    image = image_of(6, 6, 6)
    image[3] = np.nan  # not there: never read
    keep = (True, True, True, False)
    model = model_of(PlacedConfig(slope=0.0).build(GLIOMA))
    unit = Model(model.method, model.header.model_copy(update={"window": Window(stride=1, size=(8, 8, 8), intensity="min_max")}))
    (found,) = predicted(unit, image, [keep], present=keep)
    (again,) = predicted(unit, 4 * image + 100, [keep], present=keep)
    low, high = image[:3].min((1, 2, 3), keepdims=True), image[:3].max((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found[0], ((image[:3] - low) / (high - low)).mean(0), atol=1e-5)
    np.testing.assert_allclose(found, again, atol=1e-5)


def test_small_components_are_left_out_of_every_region() -> None:
    image = np.full((4, 6, 6, 12), -1.0, np.float32)
    image[..., 0:2, 0:2, 0:5] = 2.0  # 20 voxels
    image[..., 2, 2, 5] = 3.0  # Touches it by a corner alone.
    image[..., 4, 4, 8:10] = 1.0  # 2 voxels, a tenth
    (all_of_it,) = predicted(placed(0.0, size=(6, 6, 12)), image)
    (found,) = predicted(placed(0.0, size=(6, 6, 12), least_component=0.1), image)
    assert (all_of_it[0] == image[0]).all()
    expected = np.where(image[0] == 3.0, -3.0, image[0])
    assert np.array_equal(nested(found), np.broadcast_to(expected > 0, found.shape))
    assert np.array_equal(found[0], expected)
    (largest,) = predicted(placed(0.0, size=(6, 6, 12), least_component=1.0), image)
    assert nested(largest)[0].sum() == 20
    (nothing,) = predicted(placed(0.0, size=(6, 6, 12), least_component=1.0), np.full_like(image, -1.0))
    assert not nested(nothing).any()
    kept = torch.from_numpy(all_of_it)[None]
    counts = [without_small_components(kept, share)[1] for share in (0.0, 0.1, 1.0)]
    assert counts == [LeftOut(), LeftOut(1, 1, 1), LeftOut(2, 3, 2)]


def test_small_components_are_told_on_the_grid_of_the_model() -> None:
    image = np.full((4, 12, 12, 24), -1.0, np.float32)
    image[..., 0:4, 0:4, 0:10] = 2.0
    image[..., 8:10, 8:10, 16:18] = 2.0  # One voxel of 2 mm beside twenty.
    (found,) = predicted(placed(0.0, stride=2, size=(6, 6, 12), least_component=0.1), image)
    masks = nested(found)[0]
    assert masks[:5, :5, :11].sum() == masks.sum() > 100
    (answer,) = answers_of(placed(0.0, stride=2, size=(6, 6, 12), least_component=0.1), image, ALL, [ALL], device=CPU)
    assert np.array_equal(answer.logits_RDHW, found) and answer.left_out == LeftOut(1, 8, 8)  # Voxels of 1 mm.


@pytest.fixture
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the kernels that torch would: others add up in another order."""
    monkeypatch.setattr("anymri.engine.inference.suited_to", lambda device: nullcontext())


# Windows


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=3, max_size=3), st.floats(0, 0.9))
def test_windows_cover_everything_and_overlap_enough(axes: list[tuple[int, int]], overlap: float) -> None:
    extent, size = zip(*axes, strict=True)
    corners = window_corners(extent, size, overlap)
    assert len(set(corners)) == len(corners)
    for axis, (n, s) in enumerate(axes):
        starts = sorted({c[axis] for c in corners})
        assert starts[0] == 0 and starts[-1] == max(n - s, 0)
        steps = np.diff(starts)
        # Rounding to voxels may cost one; nothing is ever left out.
        assert (steps <= min(s, np.floor(s * (1 - overlap)) + 1)).all()


def test_windows_are_evenly_spread() -> None:
    assert window_corners((20, 8, 5), (8, 8, 8), 0.5) == [(0, 0, 0), (4, 0, 0), (8, 0, 0), (12, 0, 0)]
    assert window_corners((16, 8, 8), (8, 8, 8), 0.0) == [(0, 0, 0), (8, 0, 0)]


def test_blending_weights_are_a_gaussian() -> None:
    weights = blending_weights((9, 8, 16))
    assert weights.shape == (9, 8, 16) and weights.min() >= 1e-3
    line = weights[:, 4, 8] / weights[4, 4, 8]
    assert line[4] == 1 and line[5].item() == pytest.approx(np.exp(-0.5 * (8 / 9) ** 2), rel=1e-5)
    torch.testing.assert_close(weights, weights.flip(0, 1, 2))


@pytest.mark.usefixtures("plain_kernels")
@pytest.mark.parametrize("name", ALL_METHODS)
def test_one_window_is_a_plain_forward(name: str) -> None:
    method = tiny(name, GLIOMA)
    image = image_of(8, 8, 8)
    keeps = [s.mask for s in subsets(GLIOMA.modalities)]
    found = predicted(model_of(method), image, keeps)
    with torch.inference_mode():
        for keep, logits in zip(keeps, found, strict=True):
            there = torch.tensor([keep])
            expected = method(torch.from_numpy(image)[None], there, torch.zeros(1, 3, dtype=torch.int64))[0]
            assert np.array_equal(logits, expected.numpy())
            assert logits.dtype == np.float32


@pytest.mark.usefixtures("plain_kernels")
@pytest.mark.parametrize("extent", [(7, 8, 5), (3, 2, 1), (8, 4, 8)])
def test_a_small_case_is_taken_whole(extent: tuple[int, int, int]) -> None:
    """Filled up with zeros to what the network can halve, never less than two voxels at the bottom."""
    method = tiny("ccsd", GLIOMA)
    image = image_of(*extent)
    (logits,) = predicted(model_of(method, size=(16, 16, 16)), image)
    assert logits.shape == (3, *extent)
    full = [max(-(-n // 2), 2) * 2 for n in extent]
    padded = torch.from_numpy(np.pad(image, [(0, 0), *((0, f - n) for n, f in zip(extent, full, strict=True))]))[None]
    with torch.inference_mode():
        expected = method(padded, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64))[0]
    assert np.array_equal(logits, expected.numpy()[:, : extent[0], : extent[1], : extent[2]])


def test_windows_of_a_method_that_does_not_see_them_leave_no_trace() -> None:
    image = image_of(21, 9, 8)
    (logits,) = predicted(placed(slope=0.0), image)
    np.testing.assert_allclose(logits, np.broadcast_to(image.mean(0), (3, 21, 9, 8)), atol=1e-6)


def test_windows_tell_the_method_where_they_lie() -> None:
    model = placed()
    predicted(model, image_of(12, 8, 8))
    assert isinstance(model.method, Placed)
    assert model.method.windows == [((8, 8, 8), [0, 0, 0]), ((8, 8, 8), [4, 0, 0])]


def test_each_window_is_encoded_once_for_all_subsets() -> None:
    model = placed()
    predicted(model, image_of(12, 8, 8), [s.mask for s in subsets(GLIOMA.modalities)])
    assert isinstance(model.method, Placed) and len(model.method.windows) == 2


def test_blended_windows_are_monais() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Imports of other packages are not ours to mend.
        from monai.inferers.utils import sliding_window_inference

        model, image = placed(), image_of(16, 24, 12)
        expected = sliding_window_inference(
            torch.from_numpy(image)[None],
            roi_size=(8, 8, 8),
            sw_batch_size=1,
            predictor=lambda x: model.method(x, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64)),
            overlap=0.5,
            mode="gaussian",
            sigma_scale=0.125,
        )
    assert isinstance(expected, torch.Tensor)
    (logits,) = predicted(model, image)
    np.testing.assert_allclose(logits, expected[0].detach().numpy(), atol=1e-5)
    (flat,) = predicted(placed(slope=0.0), image)
    assert np.abs(logits - flat).max() > 0.1  # the ramp is there to be blended


# Strides


@pytest.mark.parametrize("extent", [(16, 12, 8), (15, 11, 7)])
def test_a_coarser_grid_is_averaged_and_interpolated_back(extent: tuple[int, int, int]) -> None:
    image = image_of(*extent)
    (logits,) = predicted(placed(slope=0.0, stride=2, size=(16, 16, 16)), image)
    odd = [p for n in reversed(extent) for p in (0, n % 2)]
    coarse = F.avg_pool3d(F.pad(torch.from_numpy(image)[None], odd), 2).mean(1, keepdim=True)
    fine = F.interpolate(coarse, scale_factor=2, mode="trilinear", align_corners=False)[0, 0].numpy()
    assert logits.shape == (3, *extent)
    np.testing.assert_allclose(logits[0], fine[: extent[0], : extent[1], : extent[2]], atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ALL_METHODS)
def test_what_is_absent_or_hidden_cannot_matter(name: str, stride: int) -> None:
    model = model_of(tiny(name, GLIOMA), stride=stride)
    image = image_of(17, 9, 8)
    keeps = [s.mask for s in subsets(GLIOMA.modalities) if "T1c" not in s]
    hidden = predicted(model, image, keeps)
    spoilt = image.copy()
    spoilt[2] = np.nan
    absent = predicted(model, spoilt, keeps, present=(True, True, False, True))
    again = predicted(model, spoilt, keeps)
    for a, b, c in zip(hidden, absent, again, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c) and np.isfinite(a).all()


# What the caller sees


def test_the_caller_is_left_alone_between_two_subsets() -> None:
    model = model_of(tiny("ccsd", GLIOMA))
    keeps = [s.mask for s in subsets(GLIOMA.modalities)]
    steps = region_logits_of(model, image_of(8, 8, 8), ALL, keeps, device=CPU, precision="bf16")
    for number, logits in enumerate(steps):
        assert logits.dtype == np.float32
        assert not torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()
        if number == 3:
            break
    assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_automatic_precision_of_a_processor_is_single() -> None:
    model = model_of(tiny("ccsd", GLIOMA))
    by = {p: predicted(model, image_of(8, 8, 8), precision=p)[0] for p in ("auto", "float32", "bf16")}
    assert np.array_equal(by["auto"], by["float32"])
    assert 0 < np.abs(by["bf16"] - by["float32"]).max() < 0.5


def test_devices_by_name() -> None:
    assert device_named("cpu") == CPU
    assert device_named("auto").type in ("cpu", "cuda")
    for name in ("toaster", "cuda:99", ""):
        with pytest.raises(UsageError, match=f"^device '{name}' cannot be used") as caught:
            device_named(name)
        assert "\n" not in str(caught.value)


# The way back


def test_masks_are_nested() -> None:
    logits = np.array([[1.0, 1.0, -1.0, 0.0], [1.0, -1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])[:, :, None, None]
    assert nested(logits)[:, :, 0, 0].tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [True, False, False, False],
    ]


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "ASL"])
def test_the_way_back_to_a_turned_grid_is_a_copy(codes: str) -> None:
    native = reoriented_grid(Grid((14, 12, 10), np.diag([-1.0, -1.0, 1.0, 1.0])), codes)
    prepared = cropped_grid(reoriented_grid(native, "LPS"), (slice(2, 9), slice(1, 12), slice(3, 9)))
    logits = np.random.default_rng(0).normal(size=(3, *prepared.shape)).astype(np.float32)
    back = restored(logits, prepared, native)
    assert back.shape == (3, *native.shape)
    assert np.array_equal(np.sort(back[back != OUTSIDE]), np.sort(logits.ravel()))
    forth = [resampled(Volume(x, native), prepared, order=0).array for x in back]
    assert np.array_equal(np.stack(forth), logits)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 1.0)])
def test_masks_are_brought_back_as_logits_would_be(spacing: tuple[float, float, float]) -> None:
    whole = Grid((14, 12, 10), np.diag([-1.0, -1.0, 1.0, 1.0]))
    prepared = cropped_grid(whole, (slice(2, 9), slice(1, 12), slice(3, 9)))
    native = reoriented_grid(respaced_grid(whole, spacing), "PIR")
    logits = np.random.default_rng(0).normal(size=(3, *prepared.shape)).astype(np.float32)
    found = native_masks(logits, prepared, native)
    assert found.dtype == bool and found.any()
    assert np.array_equal(found, nested(restored(logits, prepared, native)))


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.5, 0.5, 1.0), (1.0, 1.0, 3.0)])
def test_the_way_back_to_another_spacing_keeps_the_shape(spacing: tuple[float, float, float]) -> None:
    prepared = Grid((24, 24, 24), np.diag([-1.0, -1.0, 1.0, 1.0]))
    places = np.stack(np.meshgrid(*(np.arange(24) - 11.5,) * 3, indexing="ij"))
    logits = (7.0 - np.linalg.norm(places, axis=0)).astype(np.float32)[None]
    native = respaced_grid(prepared, spacing)
    found = restored(logits, prepared, native)[0] > 0
    there = np.stack(
        np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(native.shape, spacing, strict=True)), indexing="ij")
    )
    assert found.sum() == pytest.approx((np.linalg.norm(there, axis=0) < 7.0).sum(), rel=0.06)


def test_outside_of_the_prepared_box_nothing_is_found() -> None:
    prepared = Grid((4, 4, 4), np.diag([-1.0, -1.0, 1.0, 1.0]))
    native = Grid((8, 8, 8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    back = restored(np.full((1, 4, 4, 4), 5.0, np.float32), prepared, native)
    assert (back[0, :4, :4, :4] == 5).all() and (back > 0).sum() == 64
    assert set(np.unique(back)) == {OUTSIDE, 5.0}


def test_all_corners_of_a_grid_are_reached() -> None:
    extent = (13, 17, 9)
    seen = np.zeros(extent, bool)
    for corner in window_corners(extent, (8, 8, 8), 0.25):
        seen[tuple(slice(c, c + 8) for c in corner)] = True
    assert all(seen[c] for c in itertools.product(*((0, n - 1) for n in extent))) and seen.all()
