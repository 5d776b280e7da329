"""Patches: drawn by seed alone, filled with zeros outside, as often on tumour as is asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from anymri.data.patches import PatchDraw, cut, draw_patches, make_batch
from anymri.data.patients import Patient
from anymri.domain.task import GLIOMA

from ..material import made_patient

SIZE = (8, 8, 8)


def far_tumour(extent: int = 40) -> Patient:
    """Return a patient whose tumour is a few voxels in one corner."""
    patient = made_patient(GLIOMA, 0, extent=(extent,) * 3)
    rings = tuple(np.array([[4 + r, 4, 4]]) for r in range(3))
    return replace(patient, centres=rings)


def test_the_same_seed_draws_the_same_patches() -> None:
    patients = [made_patient(GLIOMA, s, extent=(20, 24, 16)) for s in range(3)]

    def drawn(*seed: int) -> list[PatchDraw]:
        return draw_patches(patients, SIZE, 50, tumour_share=0.5, weights=[1.0, 1.0, 1.0], seed=seed)

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3) != drawn(2, 2)
    for draw in drawn(7):
        assert all(0 <= c <= n - s for c, n, s in zip(draw.corner, (20, 24, 16), SIZE, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_as_many_patches_lie_on_tumour_as_are_asked_for(share: float) -> None:
    draws = draw_patches([far_tumour()], SIZE, 1000, tumour_share=share, weights=[1.0], seed=(0,))
    # Centred within two voxels of the tumour; by chance a patch falls there once in 300 times.
    near = sum(all(c <= 5 for c in d.corner) for d in draws) / 1000
    assert near == pytest.approx(share, abs=0.05)


def test_every_ring_is_drawn_equally_often() -> None:
    patient = made_patient(GLIOMA, 0, extent=(60, 20, 20))
    # One voxel of the first ring, a thousand of the last: as often.
    rings = (np.array([[10, 10, 10]]), np.array([[30, 10, 10]]), np.tile([[50, 10, 10]], (1000, 1)))
    draws = draw_patches([replace(patient, centres=rings)], SIZE, 900, tumour_share=1.0, weights=[1.0], seed=(0,))
    found = Counter(round((d.corner[0] + 4 - 10) / 20) for d in draws)
    assert all(found[ring] == pytest.approx(300, abs=60) for ring in range(3))


def test_patients_are_drawn_by_weight() -> None:
    patients = [made_patient(GLIOMA, s) for s in range(3)]
    draws = draw_patches(patients, SIZE, 1000, tumour_share=0.5, weights=[1.0, 3.0, 0.0], seed=(0,))
    found = Counter(d.patient for d in draws)
    assert found[2] == 0 and found[1] == pytest.approx(750, abs=50)


def test_a_patient_without_tumour_is_drawn_from_anywhere() -> None:
    patient = replace(made_patient(GLIOMA, 0), centres=())
    assert len(draw_patches([patient], SIZE, 10, tumour_share=1.0, weights=[1.0], seed=(0,))) == 10


def test_a_patch_larger_than_the_patient_holds_all_of_it_in_zeros() -> None:
    patient = made_patient(GLIOMA, 0, extent=(6, 20, 7))
    (draw,) = draw_patches([patient], SIZE, 1, tumour_share=0.0, weights=[1.0], seed=(0,))
    assert (draw.corner[0], draw.corner[2]) == (-1, -1)
    batch = make_batch([patient], [draw], SIZE, 1)
    inside = batch.image_BMDHW[0, :, 1:7, :, 1:8].numpy()
    assert np.array_equal(inside, patient.image[:, :, draw.corner[1] : draw.corner[1] + 8])
    assert not batch.image_BMDHW[0, :, 0].any() and not batch.image_BMDHW[0, :, 7].any() and not batch.image_BMDHW[..., 0].any()
    assert np.count_nonzero(batch.image_BMDHW) == np.count_nonzero(inside)


@pytest.mark.parametrize("corner", [(0, 0, 0), (-3, 2, 4), (5, -1, 9), (-9, 0, 0), (12, 0, 0)])
def test_a_cut_is_what_padding_would_give(corner: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).normal(size=(2, 10, 9, 12))
    padded = np.pad(array, [(0, 0), (20, 20), (20, 20), (20, 20)])
    box = tuple(slice(c + 20, c + 28) for c in corner)
    assert np.array_equal(cut(array, corner, SIZE), padded[(slice(None), *box)])


def test_a_batch_says_what_it_holds() -> None:
    present = (True, False, True, True)
    patients = [made_patient(GLIOMA, 0), replace(made_patient(GLIOMA, 1, present=present), known=np.array([True, False, False]))]
    draws = [PatchDraw(1, (2, 3, 4)), PatchDraw(0, (0, 0, 0)), PatchDraw(1, (0, 0, 0))]
    batch = make_batch(patients, draws, SIZE, 1)
    assert batch.names == ("case_1", "case_0", "case_1")
    assert batch.present_BM.tolist() == [list(present), [True] * 4, list(present)]
    assert batch.known_BR.tolist() == [[True, False, False], [True] * 3, [True, False, False]]
    assert batch.origin_B3.tolist() == [[2, 3, 4], [0, 0, 0], [0, 0, 0]]
    assert (batch.image_BMDHW.dtype, batch.target_BRDHW.dtype) == (torch.float32, torch.float32)
    assert np.array_equal(batch.target_BRDHW[0].numpy(), patients[1].shares[:, 2:10, 3:11, 4:12])


def test_targets_of_a_coarser_grid_are_shares() -> None:
    patient = replace(made_patient(GLIOMA, 0), shares=np.full((3, 12, 12, 12), 6, np.uint8))
    batch = make_batch([patient], [PatchDraw(0, (0, 0, 0))], SIZE, 2)
    assert (batch.target_BRDHW == 0.75).all()


def test_a_batch_holds_what_is_cut_whatever_lies_in_it() -> None:
    patients = [made_patient(GLIOMA, s, extent=(12, 9, 10)) for s in range(2)]
    patients[1].image[0] = np.nan
    draws = [PatchDraw(1, (-3, 0, 1)), PatchDraw(0, (4, 1, 2)), PatchDraw(1, (30, 0, 0))]
    batch = make_batch(patients, draws, SIZE, 2)
    for b, draw in enumerate(draws):
        patient = patients[draw.patient]
        image, shares = (cut(a, draw.corner, SIZE).astype(np.float32) for a in (patient.image, patient.shares))
        assert np.array_equal(batch.image_BMDHW[b].numpy(), image, equal_nan=True)
        assert np.array_equal(batch.target_BRDHW[b].numpy(), shares / np.float32(8))
