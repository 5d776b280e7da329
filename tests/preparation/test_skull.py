"""Heads are refused, brains are not, whatever the sequence, the scale and the field of view."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anymri.errors import ImageContentError
from anymri.preparation.intensity import foreground_of
from anymri.preparation.skull import check_stripped, median_dip
from anymri.volumes.volume import Grid, Volume, cropped, reoriented, resampled, respaced_grid

MM = 1.5
SHAPE = (120, 140, 110)
# Brightness of scalp, bone, fluid, grey and white matter.
SEQUENCES = {
    "T1": (0.9, 0.06, 0.25, 0.65, 0.95),
    "T1 fat-suppressed": (0.45, 0.05, 0.25, 0.65, 0.95),
    "T2": (0.7, 0.05, 1.4, 0.75, 0.55),
    "FLAIR": (0.8, 0.05, 0.15, 0.8, 0.65),
}


def shells(seed: int = 0) -> dict[str, np.ndarray]:
    """Return masks of a head from outside in: scalp 7 mm, bone 7 mm, fluid 2 mm, folded grey matter, white matter."""
    centre = [(n - 1) / 2 for n in SHAPE]
    axes = [(np.arange(n) - c) * MM for n, c in zip(SHAPE, centre, strict=True)]
    x, y, z = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    noise = ndimage.zoom(np.random.default_rng(seed).normal(size=[n // 5 for n in SHAPE]), 5.0, order=1)
    folds = np.zeros(SHAPE)
    folds[tuple(slice(0, n) for n in noise.shape)] = noise[tuple(slice(0, n) for n in SHAPE)]
    depth = 1.0 - np.sqrt((x / 80) ** 2 + (y / 98) ** 2 + (z / 76) ** 2)
    depth_mm = depth * 80
    return {
        "head": depth_mm > 0,
        "bone": (depth_mm > 7) & (depth_mm <= 14),
        "fluid": (depth_mm > 14) & (depth_mm <= 16 + 2 * np.maximum(folds, 0)),
        "grey": (depth_mm > 16 + 2 * np.maximum(folds, 0)) & (depth_mm <= 20 + 4 * folds),
        "white": depth_mm > np.maximum(20 + 4 * folds, 16 + 2 * np.maximum(folds, 0)),
        "brain": depth_mm > 14,
    }


@pytest.fixture(scope="module")
def anatomy() -> dict[str, np.ndarray]:
    return shells()


def scan(anatomy: dict[str, np.ndarray], sequence: str, *, noise: float = 0.03) -> Volume:
    scalp, bone, fluid, grey, white = SEQUENCES[sequence]
    rng = np.random.default_rng(1)
    array = np.where(anatomy["head"], scalp, 0.0)
    for name, value in (("bone", bone), ("fluid", fluid), ("grey", grey), ("white", white)):
        array[anatomy[name]] = value
    array = ndimage.gaussian_filter(array, 0.5)
    array = np.hypot(array + rng.normal(0, noise, SHAPE), rng.normal(0, noise, SHAPE))
    return Volume((array * 700).astype(np.float32), Grid(SHAPE, np.diag([-MM, -MM, MM, 1.0])))


def masked(volume: Volume, mask: np.ndarray) -> Volume:
    return Volume(np.where(mask, volume.array, np.float32(0)), volume.grid)


def check(volume: Volume) -> None:
    check_stripped(volume, foreground_of(volume.array), file="a.nii.gz")


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_raw_head_is_refused(anatomy: dict[str, np.ndarray], sequence: str) -> None:
    with pytest.raises(ImageContentError, match=r"^a\.nii\.gz: still has its skull \(only") as caught:
        check(scan(anatomy, sequence))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_head_in_zeroed_air_is_refused(anatomy: dict[str, np.ndarray], sequence: str) -> None:
    head = masked(scan(anatomy, sequence), anatomy["head"])
    with pytest.raises(ImageContentError, match=r"still has its skull \(a ring of bone"):
        check(head)
    with pytest.raises(ImageContentError, match="a ring of bone"):
        check(reoriented(head, "PIR"))
    slab = cropped(head, (slice(0, 120), slice(0, 140), slice(50, 62)))
    with pytest.raises(ImageContentError, match="a ring of bone"):
        check(slab)
    thick = resampled(head, respaced_grid(head.grid, (MM, MM, 6.0)), order=1)
    with pytest.raises(ImageContentError, match="a ring of bone"):
        check(thick)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_stripped_brain_is_not(anatomy: dict[str, np.ndarray], sequence: str) -> None:
    brain = masked(scan(anatomy, sequence), anatomy["brain"])
    dip = median_dip(brain)
    assert dip is not None
    assert dip > 0.5
    check(brain)
    check(reoriented(brain, "ASL"))
    check(Volume(brain.array * 1e-3, brain.grid))
    check(cropped(brain, (slice(14, 106), slice(14, 126), slice(14, 96))))
    check(cropped(brain, (slice(0, 120), slice(0, 140), slice(48, 60))))
    check(cropped(brain, (slice(0, 60), slice(0, 140), slice(0, 110))))
    check(resampled(brain, respaced_grid(brain.grid, (MM, MM, 6.0)), order=1))


def test_a_brain_seen_in_part_is_not_refused(anatomy: dict[str, np.ndarray]) -> None:
    brain = masked(scan(anatomy, "FLAIR"), anatomy["brain"])
    part = brain.array.copy()
    part[:, :, 70:] = 0
    part[:, :, :30] = 0
    check(Volume(part, brain.grid))


def test_an_image_that_was_normalised_before_is_not_refused(anatomy: dict[str, np.ndarray]) -> None:
    brain = masked(scan(anatomy, "T1"), anatomy["brain"])
    inside = brain.array != 0
    scores = (brain.array - brain.array[inside].mean()) / brain.array[inside].std()
    check(Volume(np.where(inside, scores, np.float32(0)), brain.grid))


def test_a_background_that_is_not_zero_is_named(anatomy: dict[str, np.ndarray]) -> None:
    brain = masked(scan(anatomy, "T1"), anatomy["brain"])
    with pytest.raises(ImageContentError, match="its background is -1; expected 0"):
        check(Volume(np.where(brain.array == 0, np.float32(-1), brain.array), brain.grid))


def test_what_is_smaller_than_a_head_is_not_judged() -> None:
    array = np.random.default_rng(0).uniform(0, 1, (40, 40, 40)).astype(np.float32)
    array[:4], array[-4:] = 0, 0
    assert median_dip(Volume(array, Grid((40, 40, 40), np.eye(4)))) is None
