"""The code that the package is measured against: CCSD in plain PyTorch, with the weights of a module of the package.

Every subset is a full forward pass in single precision, channels first, with nothing kept from one pass to the next: what programs
published in this field do. Nothing here is meant to be fast. Only the layers themselves are the module's own; what is computed
when, and what is shared, does not follow when the package changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA
from anymri.losses.regions import region_logits
from anymri.methods.ccsd import CCSD
from anymri.nn.shared_specific import ModalityReduction


def logits_of_all_encoders(method: CCSD, image_BMDHW: Tensor, keep_BM: Tensor) -> Tensor:
    """Return logits_BRDHW of a subset; absent images are zero volumes, and every encoder runs on them too."""
    return region_logits(class_logits(method, image_BMDHW, keep_BM, skip_absent=False), method.task.membership)


def logits_of_kept_encoders(method: CCSD, image_BMDHW: Tensor, keep_BM: Tensor) -> Tensor:
    """Return logits_BRDHW of a subset; the encoders of absent modalities do not run."""
    return region_logits(class_logits(method, image_BMDHW, keep_BM, skip_absent=True), method.task.membership)


def class_logits(method: CCSD, image_BMDHW: Tensor, keep_BM: Tensor, *, skip_absent: bool) -> Tensor:
    """Return class logits_BKDHW of a full forward pass with the encoders of a 3D U-Net, one sample after the other."""
    if method.config.encoder != "unet":
        raise ValueError("the reference has the encoders of a 3D U-Net alone")
    samples = zip(image_BMDHW.split(1), keep_BM.tolist(), strict=True)
    return torch.cat([_sample_logits(method, image, keep, skip_absent) for image, keep in samples])


Encoded = tuple[list[list[Tensor]], list[list[Tensor]], list[Tensor]]


def encoded(method: CCSD, image_BMDHW: Tensor) -> Encoded:
    """Return shared and specific features of every modality of one sample, and those of nothing, by level."""
    volumes = image_BMDHW.split(1, 1)
    shared = [method.encoders.shared(volume) for volume in volumes]
    specific = [encoder(volume) for encoder, volume in zip(method.encoders.specific, volumes, strict=True)]
    return shared, specific, method.encoders.shared(torch.zeros_like(volumes[0])) if method.config.absent == "zero" else []


def slots(method: CCSD, features: Encoded, keep: Sequence[bool]) -> list[Tensor]:
    """Return the M parts of Z_S."""
    shared, specific, of_nothing = features
    return _slots(method, shared, specific, keep, of_nothing)


def decoded(method: CCSD, features: Encoded, keep: Sequence[bool]) -> Tensor:
    """Return class logits_BKDHW of a subset of what was encoded."""
    shared, specific, of_nothing = features
    skips = [_skip(method, level, shared, specific, keep, of_nothing) for level in range(len(method.reductions))]
    return _decoded(method, torch.cat(slots(method, features, keep), 1), skips)


def noise_batch(edge: int) -> Batch:
    """Return one patch of noise with all modalities at hand and all regions known."""
    generator = torch.Generator().manual_seed(0)
    modalities, regions = len(GLIOMA.modalities), len(GLIOMA.regions)
    return Batch(
        torch.randn((1, modalities, edge, edge, edge), generator=generator),
        torch.ones((1, modalities), dtype=torch.bool),
        (torch.rand((1, regions, edge, edge, edge), generator=generator) < 0.2).float(),
        torch.ones((1, regions), dtype=torch.bool),
        ("noise",),
        torch.zeros((1, 3), dtype=torch.int64),
    )


def _sample_logits(method: CCSD, image: Tensor, keep: Sequence[bool], skip_absent: bool) -> Tensor:
    shared: list[list[Tensor]] = []
    specific: list[list[Tensor]] = []
    for m, kept in enumerate(keep):
        volume = image[:, m : m + 1] if kept else torch.zeros_like(image[:, :1])
        runs = kept or not skip_absent
        shared.append(method.encoders.shared(volume) if runs else [])
        specific.append(method.encoders.specific[m](volume) if runs else [])
    of_nothing: list[Tensor] = []
    if method.config.absent == "zero" and not all(keep):
        absent = list(keep).index(False)
        of_nothing = shared[absent] or method.encoders.shared(torch.zeros_like(image[:, :1]))
    return decoded(method, (shared, specific, of_nothing), keep)


def _slots(
    method: CCSD, shared: list[list[Tensor]], specific: list[list[Tensor]], keep: Sequence[bool], of_nothing: list[Tensor]
) -> list[Tensor]:
    """Return the M parts of Z_S."""
    present = [m for m, kept in enumerate(keep) if kept]
    filling = of_nothing[-1] if of_nothing else torch.stack([shared[m][-1] for m in present]).mean(0)
    slots = [filling] * len(keep)
    for m in present:
        slots[m] = method.compose(torch.cat((shared[m][-1], specific[m][-1]), 1))
        if method.config.residual:
            slots[m] = slots[m] + shared[m][-1]
    return slots


def _skip(
    method: CCSD,
    level: int,
    shared: list[list[Tensor]],
    specific: list[list[Tensor]],
    keep: Sequence[bool],
    of_nothing: list[Tensor],
) -> Tensor:
    """Return one 1×1×1 convolution over the concatenation of all modalities."""
    fused = method.config.skips == "fused"
    like = next(levels[level] for levels, kept in zip(shared, keep, strict=True) if kept)
    parts: list[Tensor] = []
    for m, kept in enumerate(keep):
        zero = torch.zeros_like(like)
        parts.append(shared[m][level] if kept else of_nothing[level] if of_nothing else zero)
        if fused:
            parts.append(specific[m][level] if kept else zero)
    reduction = cast(ModalityReduction, method.reductions[level])
    kernel = torch.cat([next(share.parameters()) for share in reduction.shares], 1)
    return F.conv3d(torch.cat(parts, 1), kernel)


def _decoded(method: CCSD, bottleneck: Tensor, skips: Sequence[Tensor]) -> Tensor:
    """Return class logits: upsampling, the normalised skip added, one residual block a level, a 1×1×1 head."""
    decoder, x = method.decoder, bottleneck
    for up, norm, block, skip in zip(decoder.ups, decoder.norms, decoder.blocks, reversed(skips), strict=True):
        x = block(up(x) + norm(skip))
    return decoder.head(x)
