"""The patches of a part of a step, some of them generated: parameters are drawn, then applied on the device of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from anymri.data.batch import Batch
from anymri.data.generation.mixing import MixDraw, carved, draw_mix, mixed
from anymri.data.generation.settings import Generation, synthetic_name
from anymri.data.generation.synthesis import Models, SynthesisDraw, draw_synthesis, synthesised
from anymri.data.generation.transplant import TransplantDraw, draw_transplant, transplanted
from anymri.data.patches import PatchDraw, Size, cut
from anymri.data.patients import Patient

_OWN = 1  # Sets the chance of what is generated apart from that of what is cut, which the same numbers decide.

Change = MixDraw | TransplantDraw | SynthesisDraw


@dataclass(frozen=True, eq=False)
class Source:
    """What patches are generated from.

    Attributes:
        settings: What is generated.
        patients: Who is trained on.
        weights: How often each is drawn, relative to the others.
        size: Of a patch, in the model's voxels.
        stride: Edge of these, in voxels of the prepared grid.
        voxel_mm: The same in millimetres.
        tumour_share: Share of the synthetic patches that are centred near the tumour.
        models: What synthetic patients are made of; None if there are none.
    """

    settings: Generation
    patients: Sequence[Patient]
    weights: Sequence[float]
    size: Size
    stride: int
    voxel_mm: float
    tumour_share: float
    models: Models | None = None


@dataclass(frozen=True, eq=False)
class GenerationDraw:
    """Parameters for one batch.

    Attributes:
        patches: Where each patch is cut.
        changes: What is done to each; None leaves it as it is cut.
    """

    patches: tuple[PatchDraw, ...]
    changes: tuple[Change | None, ...]


@dataclass(frozen=True, eq=False)
class _Patch:
    """One patch of a batch, between being cut and being stacked again."""

    image: Tensor
    target: Tensor
    present: Tensor
    known: Tensor
    name: str
    origin: Tensor


def draw_generation(source: Source, patches: Sequence[PatchDraw], *, seed: Sequence[int]) -> GenerationDraw:
    """Draw what becomes of the patches of a batch; the same numbers give the same."""
    rng = np.random.default_rng([*seed, _OWN])
    drawn = [_drawn(source, patch, rng) for patch in patches]
    return GenerationDraw(tuple(patch for patch, _ in drawn), tuple(change for _, change in drawn))


def _drawn(source: Source, patch: PatchDraw, rng: np.random.Generator) -> tuple[PatchDraw, Change | None]:
    settings, found = source.settings, None
    synthetic, mix, transplant = rng.random(3) < (settings.synthetic, settings.mix, settings.transplant)
    if synthetic and source.models is not None:
        return patch, draw_synthesis(settings, source.models, source.size, tumour_share=source.tumour_share, rng=rng)
    if mix:
        found = draw_mix(source.patients, patch.patient, source.size, weights=source.weights, rng=rng)
    elif transplant:
        found = draw_transplant(settings, source.patients, patch.patient, source.size, voxel_mm=source.voxel_mm, rng=rng)
    return found or (patch, None)


def apply_generation(batch: Batch, draw: GenerationDraw, source: Source) -> Batch:
    """Return the batch, cut where the draw says, with what is generated. What the draw leaves alone keeps its bits."""
    if not any(draw.changes):
        return batch
    rows = zip(batch.image_BMDHW, batch.target_BRDHW, batch.present_BM, batch.known_BR, batch.names, batch.origin_B3, strict=True)
    patches = [_changed(_Patch(*row), change, source) for row, change in zip(rows, draw.changes, strict=True)]
    return Batch(
        torch.stack([p.image for p in patches]),
        torch.stack([p.present for p in patches]),
        torch.stack([p.target for p in patches]),
        torch.stack([p.known for p in patches]),
        tuple(p.name for p in patches),
        torch.stack([p.origin for p in patches]),
    )


def _changed(patch: _Patch, change: Change | None, source: Source) -> _Patch:
    device = patch.image.device
    if isinstance(change, SynthesisDraw) and source.models is not None:
        image, target = synthesised(change, source.models, source.size, device)
        every = torch.ones_like(patch.present), torch.ones_like(patch.known)
        name = synthetic_name(source.models.anatomies[change.anatomy].name)
        return _Patch(image, target, *every, name, torch.zeros_like(patch.origin))
    if isinstance(change, TransplantDraw):
        giver = source.patients[change.donor]
        image, target = transplanted(patch.image, patch.target, patch.present, change, giver, stride=source.stride)
        return replace(patch, image=image, target=target)
    if isinstance(change, MixDraw):
        giver = source.patients[change.donor.patient]
        region = torch.from_numpy(carved(giver, change, source.size, source.stride)).to(device)
        image, target = mixed(patch.image, patch.target, patch.present, region, _cut(giver, change.donor, source, device))
        return replace(patch, image=image, target=target)
    return patch


def _cut(patient: Patient, patch: PatchDraw, source: Source, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return image and target of a patch."""
    image, shares = (torch.from_numpy(cut(a, patch.corner, source.size)).to(device) for a in (patient.image, patient.shares))
    return image.float(), shares.float() / source.stride**3
