"""The tumour of one patient, turned, scaled, deformed and recoloured, in the brain of another.

What is carried over is how far the tumour lies from its own surroundings, in each modality: it lies as far from the new ones, in
units of how much those vary. Nothing changes outside of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.generation.geometry import Matrix, between, coarse_size, drawn_matrix, placed, random_field, spread
from anymri.data.generation.settings import Generation
from anymri.data.patches import PatchDraw, Size
from anymri.data.patients import Patient
from anymri.volumes.volume import bounding_box

_ASTRAY_MM = 12.0  # How far from where it lay a tumour may come to lie, along each axis.
_AROUND = 4  # Voxels around a tumour that count as its surroundings.
_LEAST_VOXELS = 30  # Of surroundings.
_STEEPER = 1.5  # At most by this factor is contrast changed.
_NODES = 6


@dataclass(frozen=True, eq=False)
class TransplantDraw:
    """Parameters of one transplant.

    Attributes:
        donor: Index of the patient whose tumour it is.
        centre: Offset of the tumour's centre from that of the patch, in voxels.
        matrix: From offsets on the patch to offsets in the donor.
        deformation: Standard deviation of displacements, in voxels.
        seed: Of the displacements.
    """

    donor: int
    centre: NDArray[np.float64]
    matrix: Matrix
    deformation: float
    seed: int


def donors_of(patients: Sequence[Patient], recipient: int) -> list[int]:
    """Return who can give a tumour that is wholly known and seen in every modality of the recipient, who is wholly known, too."""
    taker = patients[recipient]
    return [
        index
        for index, giver in enumerate(patients)
        if index != recipient
        and taker.known.all()
        and giver.known.all()
        and giver.centres
        and not (taker.present & ~giver.present).any()
    ]


def draw_transplant(
    settings: Generation, patients: Sequence[Patient], recipient: int, size: Size, *, voxel_mm: float, rng: np.random.Generator
) -> tuple[PatchDraw, TransplantDraw] | None:
    """Draw a patch of a recipient and whose tumour it gets, near where that lay, or its mirror image; None if nobody can give one.

    Args:
        settings: How strongly tumours are changed.
        patients: Who gives, and who takes.
        recipient: Index of who takes.
        size: Of the patch, in voxels.
        voxel_mm: Their edge.
        rng: Source of chance.
    """
    able = donors_of(patients, recipient)
    if not able:
        return None
    donor = able[rng.integers(len(able))]
    theirs, ours = (np.array(patients[i].image.shape[1:]) for i in (donor, recipient))
    place = _middle(patients[donor]) - (theirs - 1) / 2
    matrix = drawn_matrix(rng, 45.0, settings.tumour_scaling)
    if rng.random() < 0.5:  # Axis D runs from side to side in every task.
        place[0] *= -1
        matrix[0] *= -1
    site = place + (ours - 1) / 2 + rng.uniform(-_ASTRAY_MM, _ASTRAY_MM, 3) / voxel_mm
    corner = np.rint(site - (np.array(size) - 1) / 2 + rng.uniform(-0.25, 0.25, 3) * np.array(size)).astype(int)
    slack = ours - np.array(size)
    corner = np.where(slack >= 0, np.clip(corner, 0, np.maximum(slack, 0)), slack // 2)
    centre = site - corner - (np.array(size) - 1) / 2
    draw = TransplantDraw(donor, centre, matrix, settings.tumour_deformation_mm / voxel_mm, int(rng.integers(2**31)))
    return PatchDraw(recipient, (int(corner[0]), int(corner[1]), int(corner[2]))), draw


def _middle(patient: Patient) -> NDArray[np.float64]:
    """Return the middle of the box around a tumour, in voxels of its patient."""
    return np.array([(s.start + s.stop - 1) / 2 for s in bounding_box(patient.shares[0] > 0)])


def transplanted(
    image_MDHW: Tensor, target_RDHW: Tensor, present_M: Tensor, draw: TransplantDraw, giver: Patient, *, stride: int
) -> tuple[Tensor, Tensor]:
    """Return image and target of a patch with the tumour in it; as they were if it has nothing around it to compare with.

    Args:
        image_MDHW: The recipient's patch; absent modalities stay as they are.
        target_RDHW: Its shares of regions.
        present_M: Its modalities at hand.
        draw: Where and how.
        giver: Whose tumour it is.
        stride: Edge of the model's voxels, in voxels of the prepared grid.
    """
    device, (d, h, w) = image_MDHW.device, image_MDHW.shape[1:]
    box = bounding_box(giver.shares[0] > 0, _AROUND)
    own, shares = (torch.from_numpy(a[(slice(None), *box)]).to(device).float() for a in (giver.image, giver.shares))
    shares = shares.div_(stride**3)
    moved = spread(random_field(3, coarse_size((d, h, w), _NODES), draw.seed, device) * draw.deformation, (d, h, w))
    middle = _middle(giver) - np.array([s.start for s in box])
    place = placed((d, h, w), draw.matrix, middle - draw.matrix @ draw.centre, moved)
    seen = (image_MDHW != 0) & present_M[:, None, None, None]
    found = between(torch.cat([shares, own[present_M]]), place)
    tumour = found[: len(shares)].clamp(0, 1) * seen.any(0)
    beside = _around(tumour[0] > 0) & (target_RDHW[0] == 0)
    theirs = _around(shares[0] > 0)
    images = list(image_MDHW)
    for m, value in zip(present_M.nonzero().flatten().tolist(), found[len(shares) :], strict=True):
        new, old = image_MDHW[m][beside & seen[m]].double(), own[m][theirs & (own[m] != 0)].double()
        if min(len(new), len(old)) < _LEAST_VOXELS:
            return image_MDHW, target_RDHW
        steeper = (new.std() / old.std().clamp(min=1e-3)).clamp(1 / _STEEPER, _STEEPER)
        coloured = (value - float(old.mean())) * float(steeper) + float(new.mean())
        images[m] = torch.where(seen[m] & (tumour[0] > 0), torch.lerp(image_MDHW[m], coloured, tumour[0]), image_MDHW[m])
    return torch.stack(images), target_RDHW * (1 - tumour[:1]) + tumour


def _around(mask_DHW: Tensor) -> Tensor:
    """Return what lies within a few voxels of a mask and not in it."""
    wide = mask_DHW.float()[None, None]
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * _AROUND + 1, _AROUND
        wide = F.max_pool3d(wide, kernel, 1, padding)
    return (wide[0, 0] > 0) & ~mask_DHW
