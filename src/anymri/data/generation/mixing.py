"""A region around the lesion of one patient takes the place of what lies there in another: image and reference with it.

After CarveMix (Zhang et al., MICCAI 2021): the region is what lies within a drawn distance of the lesion's surface, so that it has
the lesion's shape and is smaller than the lesion or larger. Other than there, both patients are aligned by the centres of their
brains' boxes, the region ends where either brain ends, and it lies within one patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from anymri.data.patches import PatchDraw, Size, cut, draw_patches
from anymri.data.patients import Patient
from anymri.volumes.volume import bounding_box


@dataclass(frozen=True)
class MixDraw:
    """What one patch takes over.

    Attributes:
        donor: Where it is cut from: the place in the donor that the patch has in the recipient.
        depth: Whether the region is smaller than the lesion (below 0) or larger, in shares of the lesion's depth: -0.5 to 1.
    """

    donor: PatchDraw
    depth: float


def draw_mix(
    patients: Sequence[Patient], recipient: int, size: Size, *, weights: Sequence[float], rng: np.random.Generator
) -> tuple[PatchDraw, MixDraw] | None:
    """Draw a patch of a recipient and what it takes over; None if nobody can give.

    Whoever gives has a lesion and every modality that the recipient has, and its reference tells all that the recipient's tells:
    what only one of both told would be unknown in the whole patch.

    Args:
        patients: Who gives, and who takes.
        recipient: Index of who takes.
        size: Of the patch, in voxels.
        weights: How often each patient is drawn, relative to the others.
        rng: Source of chance.
    """
    taker = patients[recipient]
    able = [
        weight if index != recipient and giver.centres and _covers(giver, taker) else 0.0
        for index, (giver, weight) in enumerate(zip(patients, weights, strict=True))
    ]
    if not sum(able):
        return None
    (there,) = draw_patches(patients, size, 1, tumour_share=1.0, weights=able, seed=rng.integers(2**31, size=2).tolist())
    extents = [np.array(patients[i].image.shape[1:]) for i in (recipient, there.patient)]
    offset = (extents[1] - extents[0]) // 2  # The boxes fit the brains, so that their centres are about the same place.
    slack = extents[0] - np.array(size)
    here = np.where(slack >= 0, np.clip(np.array(there.corner) - offset, 0, np.maximum(slack, 0)), slack // 2)
    depth = rng.uniform(-0.5, 0.0) if rng.random() < 0.5 else rng.uniform(0.0, 1.0)
    return _patch(recipient, here), MixDraw(_patch(there.patient, here + offset), float(depth))


def _covers(giver: Patient, taker: Patient) -> bool:
    """Return whether one patient shows and tells all that another one does."""
    return not (taker.present & ~giver.present).any() and not (taker.known & ~giver.known).any()


def _patch(patient: int, corner: NDArray[np.int64]) -> PatchDraw:
    return PatchDraw(patient, (int(corner[0]), int(corner[1]), int(corner[2])))


def carved(giver: Patient, draw: MixDraw, size: Size, stride: int) -> NDArray[np.bool_]:
    """Return the region that is taken over, (D, H, W) bool: around the outermost region that the donor's reference knows."""
    outermost = int(np.flatnonzero(giver.known)[0])
    lesion = cut(giver.shares[outermost], draw.donor.corner, size) * 2 >= stride**3
    if not lesion.any():
        return lesion
    box = bounding_box(lesion, 1)  # Beyond it nothing is nearer than within.
    within = np.asarray(ndimage.distance_transform_edt(lesion[box]))
    level, region = draw.depth * float(within.max()), np.zeros_like(lesion)
    if level <= 0:
        region[box] = within > -level
    else:
        box = bounding_box(lesion, math.ceil(level))
        region[box] = np.asarray(ndimage.distance_transform_edt(~lesion[box])) <= level
    return region & (cut(giver.image, draw.donor.corner, size) != 0).any(axis=0)


def mixed(
    image_MDHW: Tensor, target_RDHW: Tensor, present_M: Tensor, region_DHW: Tensor, donor: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return image and target with the donor's inside a region, where the recipient has brain; absent modalities stay as they are.

    Args:
        image_MDHW: The recipient's patch.
        target_RDHW: Its shares of regions.
        present_M: Its modalities at hand.
        region_DHW: What is taken over.
        donor: The donor's image and target at the same place.
    """
    region = region_DHW & (image_MDHW[present_M] != 0).any(0)
    return (
        torch.where(region & present_M[:, None, None, None], donor[0], image_MDHW),
        torch.where(region, donor[1], target_RDHW),
    )
