"""What goes wrong while an image is taken: uneven coils, thick slices, motion, noise, a field of view that ends too soon.

Parameters are drawn, then applied, on the device of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from anymri.data.degradation import Range, check_range


class Artefacts(BaseModel):
    """How often and how strongly. Probabilities are per patch and modality, where nothing else is said.

    A range is its lower end and its upper one.

    Attributes:
        bias: Probability of a bias field.
        bias_log: Largest logarithm of it at its nodes.
        thick: Probability of thick slices.
        thickness: Of a slice, in voxels; at least 1.
        motion: Probability of ghosts.
        ghosts: Into how many a patch is split, at least and at most; two or more.
        ghost: Largest share of the signal that goes astray.
        noise: Probability of noise.
        noise_level: Its largest standard deviation, in standard deviations of the brain.
        slab: Probability, per patch, that images end too soon.
        slab_extent: How much of the patch is not seen, as a share of its edge.
        slab_all: Share of such patches in which all images end there; nothing is to be segmented in what none of them shows.
        black: z-score of air: what is bright by nothing. Of the images of BraTS it is -2.4 (T2) to -4 (T1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bias: float = Field(default=0.5, ge=0, le=1)
    bias_log: float = Field(default=0.25, ge=0)
    thick: float = Field(default=0.15, ge=0, le=1)
    thickness: Range = (1.5, 3.0)
    motion: float = Field(default=0.1, ge=0, le=1)
    ghosts: tuple[int, int] = (2, 6)
    ghost: float = Field(default=0.2, ge=0, lt=1)
    noise: float = Field(default=0.5, ge=0, le=1)
    noise_level: float = Field(default=0.15, ge=0)
    slab: float = Field(default=0.1, ge=0, le=1)
    slab_extent: Range = (0.1, 0.5)
    slab_all: float = Field(default=0.5, ge=0, le=1)
    black: float = -3.0

    @field_validator("thickness", "ghosts", "slab_extent")
    @classmethod
    def _in_order(cls, value: Range | tuple[int, int], which: Any) -> Range | tuple[int, int]:
        least = {"thickness": 1.0, "ghosts": 2.0, "slab_extent": 0.0}[which.field_name]
        check_range(value, least, most=1.0 if which.field_name == "slab_extent" else math.inf)
        return value


@dataclass(frozen=True, eq=False)
class ArtefactsDraw:
    """Parameters for one batch.

    Attributes:
        bias_BMN: Logarithms of the bias field at 4³ nodes; all 0 where there is none.
        thickness_BM: Of slices, in voxels; 1 where they are not thick.
        ghosts_BM: How many; 0 where nothing moves.
        ghost_BM: Share of the signal that goes astray.
        noise_BM: Standard deviation; 0 where there is none.
        axis_BM: Along which slices are thick and ghosts lie.
        slab_B: Share of the patch's edge that is not seen; 0 where all is.
        cut_BM: Whose field of view ends there, but for that of the greatest ``spared_BM`` at hand, where not all end.
        spared_BM: Tells whose does not end.
        all_B: Whether all end.
        end_B: At which end it lies: twice the axis, one more at its far end.
        noise_seed: Of the noise itself.
        black: z-score of air.
    """

    bias_BMN: Tensor
    thickness_BM: Tensor
    ghosts_BM: Tensor
    ghost_BM: Tensor
    noise_BM: Tensor
    axis_BM: Tensor
    slab_B: Tensor
    cut_BM: Tensor
    spared_BM: Tensor
    all_B: Tensor
    end_B: Tensor
    noise_seed: int
    black: float


def draw_artefacts(settings: Artefacts, batch: int, modalities: int, generator: torch.Generator) -> ArtefactsDraw:
    """Draw the parameters for one batch from a CPU generator."""
    shape = (batch, modalities)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator)

    def drawn(probability: float, within: Range, still: float) -> Tensor:
        happens = uniform(*shape) < probability
        return torch.where(happens, within[0] + uniform(*shape) * (within[1] - within[0]), still)

    biased = uniform(*shape) < settings.bias
    nodes = (uniform(*shape, 64) * 2 - 1) * settings.bias_log
    thickness = drawn(settings.thick, settings.thickness, 1.0)
    moved = uniform(*shape) < settings.motion
    ghosts = torch.randint(settings.ghosts[0], settings.ghosts[1] + 1, shape, generator=generator)
    ends = uniform(batch) < settings.slab
    extent = settings.slab_extent[0] + uniform(batch) * (settings.slab_extent[1] - settings.slab_extent[0])
    return ArtefactsDraw(
        torch.where(biased[..., None], nodes, 0.0),
        thickness,
        torch.where(moved, ghosts, 0),
        uniform(*shape) * settings.ghost,
        drawn(settings.noise, (0.0, settings.noise_level), 0.0),
        torch.randint(3, shape, generator=generator),
        torch.where(ends, extent, 0.0),
        uniform(*shape) < 0.5,
        uniform(*shape),
        uniform(batch) < settings.slab_all,
        torch.randint(6, (batch,), generator=generator),
        int(torch.randint(2**31, (), generator=generator)),
        settings.black,
    )


def with_artefacts(
    image_MDHW: Tensor, target_RDHW: Tensor, present_M: Tensor, draw: ArtefactsDraw, b: int
) -> tuple[Tensor, Tensor]:
    """Return image and target of sample ``b`` with the artefacts.

    Background (exact zero) stays zero, modalities do not mix, absent ones stay as they are.
    """
    at_hand = present_M.tolist()
    channels = [_channel(channel, draw, b, m) if at_hand[m] else channel for m, channel in enumerate(image_MDHW)]
    share, end = float(draw.slab_B[b]), int(draw.end_B[b])
    if share:
        spared = int(torch.where(present_M.cpu(), draw.spared_BM[b], -1.0).argmax())
        for m, there in enumerate(at_hand):
            if there and (draw.all_B[b] or (draw.cut_BM[b, m] and m != spared)):
                channels[m] = _without_slab(channels[m], share, end)
        if draw.all_B[b]:  # No image shows what lies there.
            target_RDHW = _without_slab(target_RDHW, share, end)
    return torch.stack(channels), target_RDHW


def _channel(channel: Tensor, draw: ArtefactsDraw, b: int, m: int) -> Tensor:
    """Return one modality with what goes wrong with it, in the order in which it happens: coil, slices, motion, noise."""
    brain, axis, found = channel != 0, int(draw.axis_BM[b, m]), channel
    if draw.bias_BMN[b, m].any():
        nodes = draw.bias_BMN[b, m].view(1, 1, 4, 4, 4).to(channel.device)
        factor = F.interpolate(nodes, size=list(channel.shape), mode="trilinear", align_corners=True)[0, 0].exp_()
        found = (found - draw.black) * factor + draw.black
    if (thickness := float(draw.thickness_BM[b, m])) > 1:
        found = _thick(torch.where(brain, found, 0.0), thickness, axis)
    if ghosts := int(draw.ghosts_BM[b, m]):
        found = _ghosted(torch.where(brain, found - draw.black, 0.0), ghosts, float(draw.ghost_BM[b, m]), axis) + draw.black
    if noise := float(draw.noise_BM[b, m]):
        source = torch.Generator(channel.device).manual_seed(draw.noise_seed + len(draw.noise_BM[b]) * b + m)
        found = found + noise * torch.randn(channel.shape, generator=source, device=channel.device)
    return channel if found is channel else torch.where(brain, found, 0.0)


def _thick(image: Tensor, thickness: float, axis: int) -> Tensor:
    """Return the image averaged over thick slices along an axis, linear between their centres."""
    d, h, w = (max(2, round(n / thickness)) if a == axis else n for a, n in enumerate(image.shape))
    slices = F.adaptive_avg_pool3d(image[None, None], (d, h, w))
    return F.interpolate(slices, size=list(image.shape), mode="trilinear", align_corners=False)[0, 0]


def _ghosted(signal: Tensor, ghosts: int, share: float, axis: int) -> Tensor:
    """Return the signal with a share of it displaced either way along an axis, by as much as periodic motion displaces it."""
    shift = signal.shape[axis] // ghosts
    astray = signal.roll(shift, axis) + signal.roll(-shift, axis)
    return signal * (1 - share) + astray * (share / 2)


def _without_slab(image: Tensor, share: float, end: int) -> Tensor:
    """Return the image with zeros in a slab at one end of one of its last three axes."""
    axis, far = image.ndim - 3 + end // 2, end % 2
    count = round(image.shape[axis] * share)
    out = image.clone()
    out.narrow(axis, image.shape[axis] - count if far else 0, count).zero_()
    return out
