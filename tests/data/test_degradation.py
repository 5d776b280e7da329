"""Images made worse: each way against another computation, how often and how much, and that background and absence stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from anymri.data.augment import Augmentation, apply_augmentation, draw_augmentation
from anymri.data.degradation import Degradation, DegradationDraw, degraded, draw_degradation, within_range
from anymri.domain.task import GLIOMA
from anymri.engine.run import Run
from anymri.errors import UsageError

from ..material import made_batch, with_absent

ALWAYS = Degradation(blur=1, brightness=1, contrast=1, low_resolution=1, inverted_gamma=1, gamma=1, blurred_share=1)
NEVER = Degradation(blur=0, brightness=0, contrast=0, low_resolution=0, inverted_gamma=0, gamma=0)


def one(**strengths: float) -> DegradationDraw:
    """Return a draw for one image of one modality that does these things alone."""
    still = draw_degradation(NEVER, 1, 1, torch.Generator())
    return replace(still, **{name: torch.tensor([[value]]) for name, value in strengths.items()})


def image(shape: tuple[int, int, int] = (7, 9, 8), *, seed: int = 0) -> Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def test_nothing_drawn_changes_nothing() -> None:
    assert torch.equal(degraded(image(), one(), 0), image())


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_a_blur_is_scipys(sigma: float) -> None:
    found = degraded(image(), one(sigma_BM=sigma), 0)[0]
    np.testing.assert_allclose(
        found, ndimage.gaussian_filter(image()[0].numpy(), sigma, mode="nearest", radius=int(4 * sigma)), atol=1e-5
    )


def test_brightness_and_contrast_by_hand() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0, 0.0, 0.0]).reshape(1, 1, 2, 3)
    assert degraded(values, one(brightness_BM=1.25), 0).flatten().tolist() == [1.25, 2.5, 3.75, 7.5, 0, 0]
    # The mean of what is no background is 3; the range stays 1 to 6.
    assert degraded(values, one(contrast_BM=1.25), 0).flatten().tolist() == [1, 1.75, 3, 6, 0, 0]
    assert degraded(values, one(contrast_BM=0.5), 0).flatten().tolist() == [2, 2.5, 3, 4.5, 0, 0]


def test_a_coarser_image_is_interpolated_back() -> None:
    ramp = torch.arange(1.0, 9.0)[None, :, None, None].expand(1, 8, 4, 4)
    found = degraded(ramp, one(zoom_BM=0.5), 0)[0, :, 0, 0]
    assert found.tolist() == [2, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8]  # Of 2, 4, 6, 8, the nearest of each two, halves taken up.
    assert degraded(torch.full((1, 3, 5, 2), 2.0), one(zoom_BM=0.5), 0).eq(2).all()


def test_a_curve_keeps_mean_and_deviation() -> None:
    values = image((6, 6, 6))
    values[0, :2] = 0
    inside = values[values != 0]
    for draw, sign in ((one(gamma_BM=1.5), 1), (one(inverted_BM=1.5), -1)):
        found = degraded(values, draw, 0)
        assert (found[values == 0] == 0).all()
        after = found[values != 0]
        torch.testing.assert_close(after.mean(), inside.mean(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after.std(), inside.std(), rtol=1e-4, atol=1e-5)
        unit = (sign * inside - (sign * inside).min()) / (inside.max() - inside.min())
        expected = sign * unit**1.5
        expected = (expected - expected.mean()) / expected.std() * inside.std() + inside.mean()
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)
    flat = torch.full((1, 2, 2, 2), 3.0)
    assert torch.equal(degraded(flat, one(gamma_BM=1.5, inverted_BM=0.7), 0), flat)


def test_background_and_absence_stay() -> None:
    batch = made_batch(GLIOMA, size=2, present=((True, False, True, True), (False, True, True, False)))
    settings = Augmentation.none().model_copy(update={"degradation": ALWAYS})
    draw = draw_augmentation(settings, 2, 4, torch.Generator().manual_seed(0))
    zero, spoilt = (apply_augmentation(with_absent(batch, value), draw) for value in (0.0, torch.nan))
    at_hand = batch.present_BM
    assert torch.equal(zero.image_BMDHW[at_hand], spoilt.image_BMDHW[at_hand]) and torch.isfinite(zero.image_BMDHW).all()
    before = batch.image_BMDHW[at_hand]
    assert (zero.image_BMDHW[at_hand][before == 0] == 0).all() and not torch.equal(zero.image_BMDHW[at_hand], before)
    assert torch.equal(zero.target_BRDHW, batch.target_BRDHW)


def test_how_often_and_how_much() -> None:
    settings = Degradation()
    draw = draw_degradation(settings, 4000, 4, torch.Generator().manual_seed(0))
    for values, still, probability, share, (low, high) in (
        (draw.sigma_BM, 0.0, 0.2, 0.5, (0.5, 1.0)),
        (draw.brightness_BM, 1.0, 0.15, 1.0, (0.75, 1.25)),
        (draw.contrast_BM, 1.0, 0.15, 1.0, (0.75, 1.25)),
        (draw.zoom_BM, 1.0, 0.25, 0.5, (0.5, 1.0)),
        (draw.inverted_BM, 1.0, 0.1, 1.0, (0.7, 1.5)),
        (draw.gamma_BM, 1.0, 0.3, 1.0, (0.7, 1.5)),
    ):
        happens = values != still
        assert happens.any(1).float().mean().item() == pytest.approx(probability * (1 - (1 - share) ** 4), abs=0.02)
        assert happens.float().mean().item() == pytest.approx(probability * share, abs=0.02)
        drawn = values[happens]
        assert low <= drawn.min() < low + 0.05 and high - 0.05 < drawn.max() <= high
        if low < 1 < high:
            assert (drawn < 1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_either_side_of_one_is_drawn_equally_often() -> None:
    drawn = within_range((0.9, 3.0), (4000,), torch.Generator().manual_seed(0))
    assert (drawn < 1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.min() >= 0.9 and drawn.max() <= 3
    assert (drawn[drawn > 1].mean().item(), drawn[drawn < 1].mean().item()) == pytest.approx((2.0, 0.95), abs=0.05)


def test_what_nnunet_does() -> None:
    settings = Augmentation.nnunet()
    draw = draw_augmentation(settings, 4000, 2, torch.Generator().manual_seed(0))
    assert draw.flip_B3.float().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.03)
    scale = draw.matrix_B33.det().abs() ** (1 / 3)
    resized = (scale - 1).abs() > 1e-4
    turned = (draw.matrix_B33 / scale[:, None, None] - torch.eye(3)).flatten(1).abs().amax(1) > 1e-4
    assert resized.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert turned.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (resized & turned).float().mean().item() == pytest.approx(0.04, abs=0.01)  # Independent of each other.
    assert torch.equal(draw.moved_B, resized | turned) or (draw.moved_B & ~(resized | turned)).float().mean() < 1e-3
    assert 0.7 <= scale.min() < 0.73 and 1.37 < scale.max() <= 1.4001
    assert (draw.noise_BM > 0).float().mean().item() == pytest.approx(0.1, abs=0.02) and draw.noise_BM.max() <= 0.1
    assert (draw.gain_BM == 1).all() and (draw.shift_BM == 0).all() and (draw.gamma_BM == 1).all()
    assert draw.degradation is not None and settings.degradation == Degradation()
    assert Augmentation.model_validate_json(settings.model_dump_json()) == settings and settings.recolours


def test_what_is_not_asked_for_leaves_the_generator_alone() -> None:
    # Runs from before there was this are repeated to the last bit.
    plain, more = (torch.Generator().manual_seed(0) for _ in range(2))
    usual = draw_augmentation(Augmentation(), 3, 4, plain)
    extended = Augmentation(resize=0.5, degradation=Degradation())
    found = draw_augmentation(extended, 3, 4, more)
    assert usual.degradation is None and found.degradation is not None
    assert torch.equal(usual.gain_BM, found.gain_BM) and usual.noise_seed == found.noise_seed
    assert not torch.equal(torch.rand(1, generator=plain), torch.rand(1, generator=more))


@pytest.mark.parametrize(
    ("field", "values", "said"),
    [
        ("blur_sigma", (1.0, 0.5), "a range from 1 to 0.5; expected the lower end first, both at least 0"),
        ("blur_sigma", (-0.5, 0.5), "from -0.5 to 0.5; expected the lower end first, both at least 0"),
        ("brightness_factor", (0.0, 1.25), "from 0 to 1.25; expected the lower end first, both above 0"),
        ("contrast_factor", (1.25, 0.75), "from 1.25 to 0.75; expected the lower end first, both above 0"),
        ("zoom", (0.5, 1.5), "from 0.5 to 1.5; expected the lower end first, both above 0 and at most 1"),
        ("gamma_power", (-1.0, 1.5), "from -1 to 1.5; expected the lower end first, both above 0"),
    ],
)
def test_a_range_that_is_none_is_one_line(field: str, values: tuple[float, float], said: str) -> None:
    augmentation = {"degradation": {field: values}}
    with pytest.raises(UsageError, match=f"^setting 'augmentation.degradation.{field}': .*{said}$") as caught:
        Run.of("dropout_unet", "tiny", {"steps": 1, "augmentation": augmentation})
    assert "\n" not in str(caught.value)


def test_a_range_may_be_one_value() -> None:
    settings = Degradation(blur=1, blurred_share=1, blur_sigma=(0.0, 0.0), zoom=(1.0, 1.0), gamma_power=(2.0, 2.0), gamma=1)
    draw = draw_degradation(settings, 3, 2, torch.Generator().manual_seed(0))
    assert draw.sigma_BM.eq(0).all() and draw.zoom_BM.eq(1).all() and draw.gamma_BM.eq(2).all()
