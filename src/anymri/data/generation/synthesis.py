"""Synthetic patients: an anatomy, deformed; a tumour in it that pushes the rest away; images of both. Made for one patch alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.artefacts import ArtefactsDraw, draw_artefacts, with_artefacts
from anymri.data.generation.geometry import (
    Matrix,
    at_nearest,
    between,
    coarse_size,
    drawn_matrix,
    placed,
    random_field,
    spread,
)
from anymri.data.generation.material import Anatomy, Tumour
from anymri.data.generation.painting import Palette, draw_palette, looked_up, painted
from anymri.data.generation.settings import Generation
from anymri.data.patches import Size
from anymri.domain.appearance import TISSUES, Appearance
from anymri.domain.task import Task

_NODES = 4  # Voxels of a patch between the nodes at which displacements are worked out.
_SMOOTH = (0.25, 0.5, 0.25)
_REACH = 6  # How often a core is smoothed, before its slope says whereto it pushes.
_RIGID_MM = 16.0  # Nearer to the skull than this, less and less moves.


@dataclass(frozen=True, eq=False)
class SynthesisDraw:
    """Parameters of one synthetic patch.

    Attributes:
        anatomy, tumour: Which ones; no tumour is None.
        origin: Voxel of the anatomy at the centre of the patch.
        matrix: From offsets on the patch to offsets in the anatomy, in voxels.
        tumour_centre: Offset of the tumour's centre from that of the patch, in voxels of the patch.
        tumour_matrix: From offsets on the patch to offsets in the tumour.
        deformation, tumour_deformation: Standard deviation of displacements, in voxels of the patch.
        push: Largest displacement away from the core, in voxels of the patch.
        cortex: How much of the edema that lies in cortex is kept.
        palette: How tissues look.
        artefacts: What goes wrong; None if nothing does.
        seed: Of the displacements.
    """

    anatomy: int
    tumour: int | None
    origin: NDArray[np.float64]
    matrix: Matrix
    tumour_centre: NDArray[np.float64]
    tumour_matrix: Matrix
    deformation: float
    tumour_deformation: float
    push: float
    cortex: float
    palette: Palette
    artefacts: ArtefactsDraw | None
    seed: int


@dataclass(frozen=True, eq=False)
class Models:
    """What synthetic patients are made of.

    Attributes:
        task: What they are for.
        appearance: How they may look.
        anatomies: Healthy brains.
        tumours: Of the material.
        own_tumours: Of the training cases.
        stride: Edge of the model's voxels, in voxels of the anatomies.
    """

    task: Task
    appearance: Appearance
    anatomies: tuple[Anatomy, ...]
    tumours: tuple[Tumour, ...]
    own_tumours: tuple[Tumour, ...]
    stride: int

    @property
    def all_tumours(self) -> tuple[Tumour, ...]:
        """Those of the material, then those of the training cases."""
        return self.tumours + self.own_tumours


def draw_synthesis(
    settings: Generation, models: Models, size: Size, *, tumour_share: float, rng: np.random.Generator
) -> SynthesisDraw:
    """Draw one patch of a synthetic patient.

    Args:
        settings: How strongly it is changed.
        models: What it is made of.
        size: Of the patch, in the model's voxels.
        tumour_share: Probability that it shows the tumour; otherwise it lies anywhere in the brain.
        rng: Source of chance.
    """
    which = int(rng.integers(len(models.anatomies)))
    anatomy = models.anatomies[which]
    matrix = drawn_matrix(rng, settings.rotation_degrees, settings.scaling) * models.stride
    if rng.random() < settings.flip:
        matrix[:, next(axis for axis, code in enumerate(models.task.orientation) if code in "LR")] *= -1
    tumour = _drawn_tumour(settings, models, rng)
    site = anatomy.sites[rng.integers(len(anatomy.sites))].astype(np.float64)
    if tumour is not None and rng.random() < tumour_share:
        origin = site - matrix @ (rng.uniform(-0.25, 0.25, 3) * np.array(size))
    else:
        origin = anatomy.places[rng.integers(len(anatomy.places))].astype(np.float64)
    # As patches of real patients lie within the box of their brain, as far as it is larger.
    reach = np.minimum(np.array(size) * models.stride, anatomy.codes.shape) / 2
    origin = np.clip(origin, reach, np.array(anatomy.codes.shape) - reach)
    centre = np.linalg.solve(matrix, site - origin)
    millimetres = models.stride * float(np.mean(models.task.spacing_mm))
    pushes, push = rng.random() < settings.mass_effect, float(rng.uniform(*settings.mass_effect_mm))
    draw = SynthesisDraw(
        which,
        tumour,
        origin,
        matrix,
        centre,
        drawn_matrix(rng, 180.0, settings.tumour_scaling),
        settings.deformation_mm / millimetres,
        settings.tumour_deformation_mm / millimetres,
        push / millimetres if pushes else 0.0,
        float(rng.uniform()) if rng.random() < 0.5 else 1.0,
        draw_palette(settings, models.appearance, models.task, rng),
        None,
        int(rng.integers(2**31)),
    )
    if settings.artefacts is None:
        return draw
    source = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return replace(draw, artefacts=draw_artefacts(settings.artefacts, 1, len(models.task.modalities), source))


def _drawn_tumour(settings: Generation, models: Models, rng: np.random.Generator) -> int | None:
    """Return the index of a tumour, or None for a healthy brain."""
    healthy, own = rng.random() < settings.healthy, rng.random() < settings.own_tumours
    count, owned = len(models.tumours), len(models.own_tumours)
    if healthy or not count + owned:
        return None
    if (own and owned) or not count:
        return count + int(rng.integers(owned))
    return int(rng.integers(count))


def synthesised(draw: SynthesisDraw, models: Models, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the image (M, D, H, W) and target (R, D, H, W) of a synthetic patch."""
    anatomy, tissue_count = models.anatomies[draw.anatomy], len(TISSUES)
    coarse = coarse_size(size, _NODES)
    tumour = None if draw.tumour is None else models.all_tumours[draw.tumour]
    target = torch.zeros((len(models.task.regions), *size), device=device)
    if tumour is not None:
        target = _grown(tumour, draw, models.stride, size, device)
    moved = random_field(3, coarse, draw.seed + 1, device) * draw.deformation
    moved = moved - _pushed(target, draw, anatomy, coarse)
    place = placed(size, draw.matrix, draw.origin, spread(moved, size))
    codes = torch.from_numpy(anatomy.codes).to(device)
    aside = np.full(3, models.stride / 4)
    pairs = at_nearest(codes, place, aside).mul_(tissue_count + 1).add_(at_nearest(codes, place, -aside))

    def share_of(flags: list[bool]) -> Tensor:
        return looked_up(torch.tensor([False, *flags], device=device, dtype=torch.float32), pairs)

    brain = share_of([True] * tissue_count)
    if tumour is not None:  # Edema spares fluid and, here and there, cortex; a core displaces what it meets. Regions stay nested.
        kept = share_of([not t.fluid for t in TISSUES]) - share_of([t.cortical for t in TISSUES]) * (1 - draw.cortex)
        inner = target[1] if len(target) > 1 else torch.zeros_like(brain)
        target = torch.cat([(inner + (target[0] - inner) * kept)[None], target[1:]]) * brain
    image = painted(draw.palette, pairs, target, brain, _shares(draw, models, anatomy, tumour))
    if draw.artefacts is None:
        return image, target
    return with_artefacts(image, target, torch.ones(len(image), dtype=torch.bool), draw.artefacts, 0)


def _grown(tumour: Tumour, draw: SynthesisDraw, stride: int, size: Size, device: torch.device) -> Tensor:
    """Return the share of each voxel of the patch in each region of a tumour, turned, scaled and deformed."""
    moved = spread(random_field(3, coarse_size(size, _NODES), draw.seed, device) * draw.tumour_deformation, size)
    middle = (np.array(tumour.shares.shape[1:]) - 1) / 2
    place = placed(size, draw.tumour_matrix, middle - draw.tumour_matrix @ draw.tumour_centre, moved)
    return between(torch.from_numpy(tumour.shares).to(device).float(), place).div_(stride**3).clamp_(0, 1)


def _pushed(target_RDHW: Tensor, draw: SynthesisDraw, anatomy: Anatomy, coarse: Size) -> Tensor:
    """Return the displacement away from the core of a tumour at nodes, (3, d, h, w), in voxels of the patch."""
    out = torch.zeros((3, *coarse), device=target_RDHW.device)
    core = target_RDHW[min(1, len(target_RDHW) - 1)] * 0.7 + target_RDHW[0] * 0.3
    if not draw.push or not core.any():
        return out
    mass = F.adaptive_avg_pool3d(core[None, None], coarse)
    kernel = torch.tensor(_SMOOTH, device=mass.device)
    for _ in range(_REACH):
        for axis in range(3):
            shape = [1, 1, 1, 1, 1]
            shape[2 + axis] = 3
            mass = F.conv3d(mass, kernel.view(shape), padding=[int(axis == a) for a in range(3)])
    slope = torch.stack(torch.gradient(mass[0, 0]))
    away = slope * (-draw.push / slope.norm(dim=0).max().clamp(min=1e-6))
    # Offsets of the nodes, to where they lie in the anatomy: its depth is kept at every second voxel.
    scale = [(t - 1) / (c - 1) for t, c in zip(target_RDHW.shape[1:], coarse, strict=True)]
    place = placed(coarse, draw.matrix @ np.diag(scale), draw.origin, out)
    depth = at_nearest(torch.from_numpy(anatomy.depth_mm).to(mass.device), place / 2, np.zeros(3))
    return away * (depth.float() / _RIGID_MM).clamp(0, 1)


def _shares(draw: SynthesisDraw, models: Models, anatomy: Anatomy, tumour: Tumour | None) -> NDArray[np.float64]:
    """Return what share of the whole brain tissues and rings of the tumour take."""
    rings = np.zeros(len(models.task.regions))
    if tumour is not None:
        brain = anatomy.voxels / abs(np.linalg.det(draw.matrix))
        rings = (tumour.volumes - np.append(tumour.volumes[1:], 0)) / abs(np.linalg.det(draw.tumour_matrix)) / brain
    return np.concatenate([anatomy.shares * max(1 - rings.sum(), 0.0), rings])
