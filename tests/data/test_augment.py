"""Augmentation: identity is identity, background stays, what is absent stays where it is, geometry is right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from anymri.data.augment import Augmentation, AugmentationDraw, apply_augmentation, draw_augmentation
from anymri.domain.task import GLIOMA

from ..material import made_batch, with_absent

STRONG = Augmentation(flip=(0.5, 0.5, 0.5), spatial=0.7, intensity=0.7, gamma=0.7, noise=0.7)


def identity(batch: int, modalities: int = 4) -> AugmentationDraw:
    return draw_augmentation(Augmentation.none(), batch, modalities, torch.Generator().manual_seed(0))


def test_nothing_drawn_changes_nothing() -> None:
    batch = made_batch(GLIOMA)
    found = apply_augmentation(batch, identity(2))
    assert torch.equal(found.image_BMDHW, batch.image_BMDHW) and torch.equal(found.target_BRDHW, batch.target_BRDHW)
    assert found.names == batch.names and torch.equal(found.present_BM, batch.present_BM)


def test_the_same_draw_gives_the_same_batch() -> None:
    batch = made_batch(GLIOMA)
    draws = [draw_augmentation(STRONG, 2, 4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, again, other = (apply_augmentation(batch, d).image_BMDHW for d in draws)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_was_given_is_left_as_it_was() -> None:
    batch = made_batch(GLIOMA)
    image, target = batch.image_BMDHW.clone(), batch.target_BRDHW.clone()
    apply_augmentation(batch, draw_augmentation(STRONG, 2, 4, torch.Generator().manual_seed(1)))
    assert torch.equal(image, batch.image_BMDHW) and torch.equal(target, batch.target_BRDHW)


def test_background_stays_zero() -> None:
    batch = made_batch(GLIOMA, size=3)
    batch.image_BMDHW[..., :3] = 0
    colours = STRONG.model_copy(update={"flip": (0.0, 0.0, 0.0), "spatial": 0.0, "intensity": 1.0, "gamma": 1.0, "noise": 1.0})
    for seed in range(5):
        found = apply_augmentation(batch, draw_augmentation(colours, 3, 4, torch.Generator().manual_seed(seed))).image_BMDHW
        assert (found[batch.image_BMDHW == 0] == 0).all()
        assert (found != batch.image_BMDHW)[batch.image_BMDHW != 0].float().mean() > 0.99


def test_what_is_absent_does_not_spread() -> None:
    batch = made_batch(GLIOMA, present=((True, False, True, True), (False, True, True, False)))
    for seed in range(8):
        draw = draw_augmentation(STRONG, 2, 4, torch.Generator().manual_seed(seed))
        zero, spoilt = (apply_augmentation(with_absent(batch, v), draw) for v in (0.0, torch.nan))
        at_hand = batch.present_BM
        assert torch.equal(zero.image_BMDHW[at_hand], spoilt.image_BMDHW[at_hand])
        assert torch.isfinite(zero.image_BMDHW).all()
        assert torch.equal(zero.target_BRDHW, spoilt.target_BRDHW)


def test_an_unknown_region_does_not_spread() -> None:
    batch = made_batch(GLIOMA)
    target = batch.target_BRDHW.clone()
    target[:, 1] = torch.nan
    draw = draw_augmentation(STRONG, 2, 4, torch.Generator().manual_seed(1))
    whole, spoilt = (apply_augmentation(b, draw).target_BRDHW for b in (batch, replace(batch, target_BRDHW=target)))
    assert torch.equal(whole[:, [0, 2]], spoilt[:, [0, 2]])


def test_targets_stay_nested_shares() -> None:
    batch = made_batch(GLIOMA)
    for seed in range(5):
        target = apply_augmentation(batch, draw_augmentation(STRONG, 2, 4, torch.Generator().manual_seed(seed))).target_BRDHW
        assert target.min() >= 0 and target.max() <= 1 + 1e-6
        assert (target[:, :-1] >= target[:, 1:] - 1e-6).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_are_exact(axis: int) -> None:
    batch = made_batch(GLIOMA)
    flip = torch.tensor([[a == axis for a in range(3)], [False] * 3])
    found = apply_augmentation(batch, replace(identity(2), flip_B3=flip))
    assert torch.equal(found.image_BMDHW[0], batch.image_BMDHW[0].flip(axis + 1))
    assert torch.equal(found.target_BRDHW[0], batch.target_BRDHW[0].flip(axis + 1))
    assert torch.equal(found.image_BMDHW[1], batch.image_BMDHW[1])


def turn(axis: int, degrees: float) -> torch.Tensor:
    matrix = torch.eye(3)
    i, j = [a for a in range(3) if a != axis]
    matrix[i, i] = matrix[j, j] = math.cos(math.radians(degrees))
    matrix[i, j], matrix[j, i] = -math.sin(math.radians(degrees)), math.sin(math.radians(degrees))
    return matrix


@pytest.mark.parametrize("shape", [(9, 9, 9), (8, 12, 10)])
@pytest.mark.parametrize(("axis", "degrees", "scale"), [(0, 90, 1.0), (1, 20, 1.0), (2, -33, 1.2), (0, 0, 0.8)])
def test_rotation_is_scipys(shape: tuple[int, int, int], axis: int, degrees: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=shape), 1).astype(np.float32)
    matrix = turn(axis, degrees) * scale
    batch = made_batch(GLIOMA, size=1)
    batch = replace(
        batch,
        image_BMDHW=torch.from_numpy(image).expand(1, 4, *shape).clone(),
        target_BRDHW=torch.from_numpy(image > 0).float().expand(1, 3, *shape).clone(),
    )
    draw = replace(identity(1), matrix_B33=matrix[None], moved_B=torch.tensor([True]))
    found = apply_augmentation(batch, draw)
    centre = (np.array(shape) - 1) / 2
    for got, source in ((found.image_BMDHW[0, 2], image), (found.target_BRDHW[0, 1], (image > 0).astype(np.float32))):
        # Output voxel o shows what lies at matrix · (o − centre) + centre.
        expected = ndimage.affine_transform(
            source, matrix.numpy(), offset=centre - matrix.numpy() @ centre, order=1, mode="grid-constant", cval=0.0
        )
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


def test_matrices_are_rotations_with_scaling() -> None:
    settings = Augmentation(spatial=1.0, rotation_degrees=15.0, scaling=0.15)
    draw = draw_augmentation(settings, 200, 4, torch.Generator().manual_seed(0))
    assert draw.moved_B.all()
    square = draw.matrix_B33 @ draw.matrix_B33.transpose(1, 2)
    scale = square[:, 0, 0].sqrt()
    torch.testing.assert_close(square, scale[:, None, None] ** 2 * torch.eye(3), rtol=1e-5, atol=1e-5)
    assert 0.85 <= scale.min() < 0.9 < 1.1 < scale.max() <= 1.15
    angle = ((draw.matrix_B33 / scale[:, None, None]).diagonal(dim1=1, dim2=2).sum(1) - 1).div(2).clamp(-1, 1).acos().rad2deg()
    assert angle.max() <= 15 * 3**0.5 + 1 and angle.max() > 10


def test_how_often_and_how_much() -> None:
    settings = Augmentation()
    draw = draw_augmentation(settings, 2000, 4, torch.Generator().manual_seed(0))
    assert draw.flip_B3.float().mean(0).tolist() == pytest.approx(settings.flip, abs=0.04)
    assert draw.moved_B.float().mean().item() == pytest.approx(settings.spatial, abs=0.04)
    for values, still, probability, most in (
        (draw.gain_BM, 1.0, settings.intensity, settings.gain),
        (draw.shift_BM, 0.0, settings.intensity, settings.shift),
        (draw.gamma_BM.log(), 0.0, settings.gamma, settings.gamma_log),
        (draw.noise_BM, 0.0, settings.noise, settings.noise_level),
    ):
        assert (values != still).float().mean().item() == pytest.approx(probability, abs=0.03)
        apart = (values - still).abs().max().item()
        assert 0.95 * most < apart <= most + 1e-6


def test_noise_differs_between_modalities_and_has_its_level() -> None:
    batch = made_batch(GLIOMA, size=1, edge=16)
    draw = replace(identity(1), noise_BM=torch.tensor([[0.5, 0.5, 0.0, 0.1]]), noise_seed=5)
    brain = batch.image_BMDHW[0, 0] != 0
    noise = (apply_augmentation(batch, draw).image_BMDHW - batch.image_BMDHW)[0][:, brain]
    assert noise.std(1).tolist() == pytest.approx([0.5, 0.5, 0.0, 0.1], abs=0.02)
    assert abs(torch.corrcoef(noise[:2])[0, 1]) < 0.05
