"""Grids of one study against each other, and images on a new grid."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.errors import GridMismatchError
from anymri.preparation.spatial import check_extent, check_grids, resampled_bits, resampled_inside
from anymri.volumes.volume import Grid, Volume, reoriented_grid, respaced_grid

GRID = Grid((24, 30, 20), np.diag([-1.0, -1.0, 1.5, 1.0]))


def moved(mm: float) -> Grid:
    affine = GRID.affine.copy()
    affine[1, 3] += mm
    return Grid(GRID.shape, affine)


def test_grids_that_agree_up_to_axes_and_rounding() -> None:
    check_grids({"a": GRID, "b": reoriented_grid(GRID, "PIR"), "c": moved(0.05)}, "LPS")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Grid((24, 30, 21), GRID.affine), r"^b\.nii: its shape is 24x30x21 but a\.nii has 24x30x20"),
        (Grid(GRID.shape, np.diag([-1.0, -1.0, 2.0, 1.0])), r"^b\.nii: its spacing is 1 x 1 x 2 mm but a\.nii has 1 x 1 x 1\.5 mm"),
        (moved(0.2), r"^b\.nii: its affine differs from that of a\.nii: voxels lie up to 0\.2 mm apart \(at most 0\.1 allowed\)"),
        (Grid(GRID.shape, np.diag([1.0, -1.0, 1.5, 1.0])), r"differs from that of a\.nii \(RPS against LPS\): voxels lie up to 23"),
    ],
)
def test_what_differs_and_how(other: Grid, message: str) -> None:
    with pytest.raises(GridMismatchError, match=message) as caught:
        check_grids({"a.nii": GRID, "same.nii": GRID, "b.nii": other}, "LPS")
    assert "\n" not in str(caught.value)


def test_a_field_of_view_beyond_any_patient() -> None:
    with pytest.raises(GridMismatchError, match="field of view is 1200 x 30 x 20 mm; expected at most 1000"):
        check_extent(Grid((24, 30, 20), np.diag([50.0, 1.0, 1.0, 1.0])), file="a.nii")


def test_the_background_does_not_bleed_into_the_rim() -> None:
    foreground = np.zeros(GRID.shape, bool)
    foreground[6:18, 8:22, 5:15] = True
    volume = Volume(np.where(foreground, np.float32(100), np.float32(0)), GRID)
    image, inside = resampled_inside(volume, foreground, respaced_grid(GRID, (1.0, 1.0, 1.0)))
    assert np.allclose(image[inside], 100)
    assert not image[~inside].any()
    assert inside.sum() == pytest.approx(foreground.sum() * 1.5, rel=0.08)


def test_the_same_grid_is_only_copied() -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(size=GRID.shape).astype(np.float32), GRID)
    image, inside = resampled_inside(volume, volume.array > 0, GRID)
    assert np.array_equal(image, volume.array)
    assert np.array_equal(inside, volume.array > 0)


def test_nested_regions_stay_nested() -> None:
    bits = np.zeros(GRID.shape, np.uint8)
    bits[4:20, 5:25, 4:16], bits[8:16, 9:21, 7:13], bits[10:14, 12:16, 9:11] = 1, 3, 7
    found = resampled_bits(Volume(bits, GRID), respaced_grid(GRID, (0.8, 0.8, 0.8)), 3)
    assert set(np.unique(found.array)) == {0, 1, 3, 7}
    for r in range(3):
        old, new = ((b >> r & 1).sum() for b in (bits, found.array))
        assert new * 0.8**3 == pytest.approx(old * 1.5, rel=0.1)
    back = resampled_bits(found, GRID, 3)
    assert (back.array != bits).mean() < 0.02
