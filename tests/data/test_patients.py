"""Prepared cases as they lie in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anymri.data.patients import CENTRES_PER_RING, load_patient, load_patients, pooled, scaled
from anymri.domain.case import Case, Lattice
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import CaseError
from anymri.volumes.store import STEP, write_case

SHAPE = (13, 16, 11)
GRID = Lattice(SHAPE, ((-1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)))


def written(
    folder: Path, *, modalities: tuple[str, ...] = GLIOMA.modalities.names, known: tuple[str, ...] = GLIOMA.region_names
) -> tuple[np.ndarray, np.ndarray]:
    """Write a small prepared case; return its image and its region bits."""
    rng = np.random.default_rng(len(modalities))
    image = np.rint(rng.normal(0, 1, (len(modalities), *SHAPE)) / STEP).astype(np.float32) * np.float32(STEP)
    bits = np.zeros(SHAPE, np.uint8)
    bits[2:10, 3:13, 2:9] = 1
    bits[4:9, 5:11, 3:8] = 3
    bits[5:8, 6:9, 4:7] = 7
    case = Case(folder.name, GLIOMA.name, modalities, known, GRID, GRID)
    write_case(folder, case, image, bits if known else None, bits if known else None)
    return image, bits


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_pooling_is_torchs_average_of_what_zeros_complete(stride: int) -> None:
    array = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    pads = [p for n in reversed(SHAPE) for p in (0, -n % stride)]
    expected = F.avg_pool3d(F.pad(torch.from_numpy(array), pads)[None], stride)[0].numpy()
    np.testing.assert_allclose(pooled(array, stride) / stride**3, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_case_comes_to_memory_as_it_lies_on_disk(stride: int, tmp_path: Path) -> None:
    image, bits = written(tmp_path / "a")
    patient = load_patient(tmp_path / "a", GLIOMA, stride)
    assert patient.name == "a" and patient.present.all() and patient.known.all()
    np.testing.assert_allclose(patient.image, pooled(image, stride) / stride**3, atol=2e-3)
    for r in range(3):
        expected = pooled((bits >> r & 1).astype(np.float32), stride)
        assert np.array_equal(patient.shares[r], expected)
    assert (patient.shares[:-1] >= patient.shares[1:]).all()


def test_absent_modalities_are_zero_and_not_present(tmp_path: Path) -> None:
    image, _ = written(tmp_path / "a", modalities=("T1", "T2"))
    patient = load_patient(tmp_path / "a", GLIOMA, 1)
    assert patient.present.tolist() == [False, True, False, True]
    np.testing.assert_allclose(patient.image[[1, 3]], image, atol=2e-3)
    assert not patient.image[[0, 2]].any()


def test_centres_lie_in_the_rings_of_known_regions(tmp_path: Path) -> None:
    _, bits = written(tmp_path / "a")
    patient = load_patient(tmp_path / "a", GLIOMA, 1)
    assert len(patient.centres) == 3
    for ring, value in zip(patient.centres, (1, 3, 7), strict=True):
        assert len(ring) == (bits == value).sum() and (bits[tuple(ring.T)] == value).all()
    written(tmp_path / "b", known=("WT",))
    (whole,) = load_patient(tmp_path / "b", GLIOMA, 1).centres
    assert len(whole) == (bits > 0).sum() <= CENTRES_PER_RING
    assert load_patient(tmp_path / "b", GLIOMA, 1).known.tolist() == [True, False, False]


def test_centres_on_a_coarser_grid_are_mostly_inside(tmp_path: Path) -> None:
    written(tmp_path / "a")
    patient = load_patient(tmp_path / "a", GLIOMA, 2)
    half = patient.shares >= 4  # of the eight fine voxels in a coarse one
    for r, ring in enumerate(patient.centres):
        expected = half[r] & ~half[r + 1] if r < 2 else half[r]
        assert np.array_equal(ring, np.argwhere(expected))


def test_many_cases_come_in_the_order_asked_for(tmp_path: Path) -> None:
    for name in "cab":
        written(tmp_path / name)
    assert [p.name for p in load_patients([tmp_path / n for n in "bca"], GLIOMA, 2)] == ["b", "c", "a"]


def test_what_cannot_be_trained_on_is_refused_in_one_line(tmp_path: Path) -> None:
    written(tmp_path / "a")
    with pytest.raises(CaseError, match=r"a: prepared for task glioma, expected prostate; prepare it again"):
        load_patient(tmp_path / "a", PROSTATE, 1)
    written(tmp_path / "b", known=())
    with pytest.raises(CaseError, match=r"b: has no reference segmentation"):
        load_patient(tmp_path / "b", GLIOMA, 1)


def test_a_foreground_goes_from_0_to_1_whatever_linear_change_came_before(tmp_path: Path) -> None:
    image, _ = written(tmp_path / "a")
    image[:, :3] = 0.0  # background
    unit = scaled(image, "min_max")
    assert scaled(image, "z_score") is image
    assert (unit[:, :3] == 0).all() and unit.min() == 0 and unit.reshape(len(unit), -1).max(1).tolist() == [1.0] * len(unit)
    changed = np.where(image != 0, 3 * image + 7, 0)
    np.testing.assert_allclose(scaled(changed, "min_max"), unit, atol=1e-6)
    assert not scaled(np.zeros_like(image), "min_max").any() and not scaled(np.full_like(image, 2.0), "min_max").any()


def test_a_patient_is_scaled_before_voxels_are_averaged(tmp_path: Path) -> None:
    image, _ = written(tmp_path / "a")
    patient = load_patient(tmp_path / "a", GLIOMA, 2, intensity="min_max")
    np.testing.assert_allclose(patient.image, pooled(scaled(image, "min_max"), 2) / 8, atol=1e-3)
