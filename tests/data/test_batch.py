"""A batch made coarser is the batch of the coarser grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from anymri.data.batch import coarser
from anymri.data.patches import PatchDraw, make_batch
from anymri.data.patients import Patient, pooled
from anymri.domain.task import GLIOMA

from ..material import made_patient


def on_grid(patient: Patient, stride: int) -> Patient:
    """Return a patient as it is read at a stride."""
    image = (pooled(patient.image.astype(np.float32), stride) / stride**3).astype(np.float16)
    return replace(patient, image=image, shares=pooled(patient.shares, stride))


def test_patches_made_coarser_are_those_of_the_coarser_grid() -> None:
    patients = [made_patient(GLIOMA, seed, extent=(32, 24, 40)) for seed in range(2)]
    corners = [(2, 0, 4), (0, 2, 6)]
    fine, coarse = (
        make_batch(
            [on_grid(p, stride) for p in patients],
            [PatchDraw(i, tuple(c * 2 // stride for c in corner)) for i, corner in enumerate(corners)],  # pyright: ignore[reportArgumentType]
            (16 // stride,) * 3,  # pyright: ignore[reportArgumentType]
            stride,
        )
        for stride in (2, 4)
    )
    made = coarser(fine)
    torch.testing.assert_close(made.image_BMDHW, coarse.image_BMDHW, atol=4e-3, rtol=0)  # float16 in memory, rounded once more
    assert torch.equal(made.target_BRDHW, coarse.target_BRDHW)
    assert torch.equal(made.origin_B3, coarse.origin_B3)
    assert (made.names, made.present_BM.tolist(), made.known_BR.tolist()) == (
        coarse.names,
        coarse.present_BM.tolist(),
        coarse.known_BR.tolist(),
    )
