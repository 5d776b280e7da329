"""The patches of a part of a step, some of them generated: parameters are drawn, then applied on the device of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from anymri.data.batch import Batch
from anymri.data.generation.mixing import MixDraw, carved, draw_mix, mixed
from anymri.data.generation.settings import Generation
from anymri.data.patches import PatchDraw, Size, cut
from anymri.data.patients import Patient

_OWN = 1  # Sets the chance of what is generated apart from that of what is cut, which the same numbers decide.


@dataclass(frozen=True, eq=False)
class Source:
    """What patches are generated from.

    Attributes:
        settings: What is generated.
        patients: Who is trained on.
        weights: How often each is drawn, relative to the others.
        size: Of a patch, in the model's voxels.
        stride: Edge of these, in voxels of the prepared grid.
    """

    settings: Generation
    patients: Sequence[Patient]
    weights: Sequence[float]
    size: Size
    stride: int


@dataclass(frozen=True)
class GenerationDraw:
    """Parameters for one batch.

    Attributes:
        patches: Where each patch is cut.
        changes: What is done to each; None leaves it as it is cut.
    """

    patches: tuple[PatchDraw, ...]
    changes: tuple[MixDraw | None, ...]


def draw_generation(source: Source, patches: Sequence[PatchDraw], *, seed: Sequence[int]) -> GenerationDraw:
    """Draw what becomes of the patches of a batch; the same numbers give the same."""
    rng = np.random.default_rng([*seed, _OWN])
    drawn = [_drawn(source, patch, rng) for patch in patches]
    return GenerationDraw(tuple(patch for patch, _ in drawn), tuple(change for _, change in drawn))


def _drawn(source: Source, patch: PatchDraw, rng: np.random.Generator) -> tuple[PatchDraw, MixDraw | None]:
    if rng.random() < source.settings.mix:
        found = draw_mix(source.patients, patch.patient, source.size, weights=source.weights, rng=rng)
        if found is not None:
            return found
    return patch, None


def apply_generation(batch: Batch, draw: GenerationDraw, source: Source) -> Batch:
    """Return the batch, cut where the draw says, with what is generated. What the draw leaves alone keeps its bits."""
    if not any(draw.changes):
        return batch
    images, targets, known = list(batch.image_BMDHW), list(batch.target_BRDHW), list(batch.known_BR)
    for b, change in enumerate(draw.changes):
        if change is None:
            continue
        giver = source.patients[change.donor.patient]
        region = torch.from_numpy(carved(giver, change, source.size, source.stride)).to(batch.image_BMDHW.device)
        donor = _cut(giver, change.donor, source, batch.image_BMDHW.device)
        images[b], targets[b] = mixed(images[b], targets[b], batch.present_BM[b], region, donor)
        known[b] = known[b] & torch.from_numpy(giver.known).to(known[b].device)
    return replace(batch, image_BMDHW=torch.stack(images), target_BRDHW=torch.stack(targets), known_BR=torch.stack(known))


def _cut(patient: Patient, patch: PatchDraw, source: Source, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return image and target of a patch."""
    image, shares = (torch.from_numpy(cut(a, patch.corner, source.size)).to(device) for a in (patient.image, patient.shares))
    return image.float(), shares.float() / source.stride**3
