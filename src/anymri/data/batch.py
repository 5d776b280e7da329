"""What a training step sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Patches of B cases. Absent modalities hold unspecified values (NaN in tests): only ``present_BM`` says what may be read.

    Attributes:
        image_BMDHW: Normalised intensities, float.
        present_BM: Which modalities are at hand, bool.
        target_BRDHW: Share of each voxel that belongs to each region, 0 to 1 (a voxel of a coarser grid may be mixed).
        known_BR: Which regions the reference tells, bool. The target of an unknown region means nothing.
        names: Case of each patch.
        origin_B3: Corner of each patch on the case's grid, in voxels of the patch, int64.
    """

    image_BMDHW: Tensor
    present_BM: Tensor
    target_BRDHW: Tensor
    known_BR: Tensor
    names: tuple[str, ...]
    origin_B3: Tensor


def coarser(batch: Batch) -> Batch:
    """Return a batch on voxels of twice the edge: images averaged, as those of a case are, and shares with them.

    The edges of the patches must be even.
    """
    return replace(
        batch,
        image_BMDHW=F.avg_pool3d(batch.image_BMDHW, 2),
        target_BRDHW=F.avg_pool3d(batch.target_BRDHW, 2),
        origin_B3=batch.origin_B3 // 2,
    )
