"""Augmentation on the device that holds the batch: parameters are drawn, then applied."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from anymri.data.artefacts import Artefacts, ArtefactsDraw, draw_artefacts, with_artefacts
from anymri.data.batch import Batch
from anymri.data.degradation import (
    Degradation,
    DegradationDraw,
    Range,
    check_range,
    degraded,
    draw_degradation,
    within_range,
)

Probability = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """How strongly training patches are changed. Probabilities are per patch; for intensities, per patch and modality.

    Attributes:
        flip: Probability of a flip along D, H, W.
        spatial: Probability of a rotation with scaling.
        rotation_degrees: Largest angle about each axis.
        scaling: Largest relative change of size.
        intensity: Probability of a linear change of intensities.
        shift: Largest shift in standard deviations of the brain.
        gain: Largest relative change of contrast.
        gamma: Probability of a gamma curve.
        gamma_log: Largest |log γ|.
        noise: Probability of added Gaussian noise.
        noise_level: Largest standard deviation of the noise, in standard deviations of the brain.
        resize: Probability of a scaling by itself.
        sizes: Between which it lies; either side of 1 is drawn equally often. Above 1 a patch shows more, each thing smaller.
        degradation: How images are made worse beyond that; None leaves them alone.
        artefacts: What goes wrong while they are taken; None leaves them alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: tuple[Probability, Probability, Probability] = (0.5, 0.0, 0.0)
    spatial: float = Field(default=0.3, ge=0, le=1)
    rotation_degrees: float = Field(default=15.0, ge=0)
    scaling: float = Field(default=0.15, ge=0, lt=1)
    intensity: float = Field(default=0.5, ge=0, le=1)
    shift: float = Field(default=0.2, ge=0)
    gain: float = Field(default=0.2, ge=0, lt=1)
    gamma: float = Field(default=0.2, ge=0, le=1)
    gamma_log: float = Field(default=0.35, ge=0)
    noise: float = Field(default=0.15, ge=0, le=1)
    noise_level: float = Field(default=0.15, ge=0)
    resize: float = Field(default=0.0, ge=0, le=1)
    sizes: Range = (0.7, 1.4)
    degradation: Degradation | None = None
    artefacts: Artefacts | None = None

    @field_validator("sizes")
    @classmethod
    def _in_order(cls, value: Range) -> Range:
        check_range(value, 0.0, above=True)
        return value

    @property
    def recolours(self) -> bool:
        """Whether it may change intensities."""
        return any((self.intensity, self.gamma, self.noise, self.degradation, self.artefacts))

    @classmethod
    def none(cls) -> Augmentation:
        """Return settings that change nothing."""
        return cls(flip=(0.0, 0.0, 0.0), spatial=0.0, intensity=0.0, gamma=0.0, noise=0.0)

    @classmethod
    def nnunet(cls) -> Augmentation:
        """Return what nnU-Net does to patches of three dimensions.

        Other than there, a patch is cut before it is turned, so that what comes in from outside is zero; noise is drawn for each
        modality; statistics are of the brain; a coarser image is interpolated back linearly.
        """
        return cls(
            flip=(0.5, 0.5, 0.5),
            spatial=0.2,
            rotation_degrees=30.0,
            scaling=0.0,
            resize=0.2,
            intensity=0.0,
            gamma=0.0,
            noise=0.1,
            noise_level=0.1,
            degradation=Degradation(),
        )


@dataclass(frozen=True)
class AugmentationDraw:
    """Parameters for one batch; identity values where nothing happens.

    Attributes:
        flip_B3: Which axes are flipped.
        matrix_B33: Rotation with scaling in (D, H, W) coordinates.
        moved_B: Which patches the matrix changes.
        gain_BM, shift_BM, gamma_BM, noise_BM: Per patch and modality.
        noise_seed: Of the noise itself.
        degradation: What is made worse; None if nothing is.
        artefacts: What goes wrong; None if nothing does.
    """

    flip_B3: Tensor
    matrix_B33: Tensor
    moved_B: Tensor
    gain_BM: Tensor
    shift_BM: Tensor
    gamma_BM: Tensor
    noise_BM: Tensor
    noise_seed: int
    degradation: DegradationDraw | None = None
    artefacts: ArtefactsDraw | None = None


def draw_augmentation(settings: Augmentation, batch: int, modalities: int, generator: torch.Generator) -> AugmentationDraw:
    """Draw the parameters for one batch from a CPU generator."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    def happens(probability: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < probability

    moved = happens(settings.spatial, batch)
    angles = uniform(batch, 3) * math.radians(settings.rotation_degrees)
    scale = 1 + uniform(batch) * settings.scaling
    matrix = torch.stack([_rotation(a) for a in angles]) * scale[:, None, None]
    linear = happens(settings.intensity, batch, modalities)
    curved = happens(settings.gamma, batch, modalities)
    noisy = happens(settings.noise, batch, modalities)
    draw = AugmentationDraw(
        torch.rand((batch, 3), generator=generator) < torch.tensor(settings.flip),
        torch.where(moved[:, None, None], matrix, torch.eye(3)),
        moved,
        torch.where(linear, 1 + uniform(batch, modalities) * settings.gain, 1.0),
        torch.where(linear, uniform(batch, modalities) * settings.shift, 0.0),
        torch.where(curved, (uniform(batch, modalities) * settings.gamma_log).exp(), 1.0),
        torch.where(noisy, uniform(batch, modalities).abs() * settings.noise_level, 0.0),
        int(torch.randint(2**31, (), generator=generator)),
    )
    # Drawn last and only if asked for, so that all else is drawn as it was before there was this.
    if settings.resize:
        resized = happens(settings.resize, batch)
        factor = torch.where(resized, within_range(settings.sizes, (batch,), generator), 1.0)
        draw = replace(draw, matrix_B33=draw.matrix_B33 * factor[:, None, None], moved_B=draw.moved_B | resized)
    if settings.degradation is not None:
        draw = replace(draw, degradation=draw_degradation(settings.degradation, batch, modalities, generator))
    if settings.artefacts is not None:
        draw = replace(draw, artefacts=draw_artefacts(settings.artefacts, batch, modalities, generator))
    return draw


def apply_augmentation(batch: Batch, draw: AugmentationDraw) -> Batch:
    """Return the changed batch. Background (exact zero) stays zero; modalities do not mix, so an absent one cannot matter."""
    images, targets = [], []
    for b in range(len(batch.names)):
        image, target = batch.image_BMDHW[b], batch.target_BRDHW[b]
        axes = [a + 1 for a in range(3) if draw.flip_B3[b, a]]
        if axes:
            image, target = image.flip(axes), target.flip(axes)
        if draw.moved_B[b]:
            image, target = _moved(image, draw.matrix_B33[b]), _moved(target, draw.matrix_B33[b])
        image = _recoloured(image, draw, b)
        image = image if draw.degradation is None else degraded(image, draw.degradation, b)
        if draw.artefacts is not None:
            image, target = with_artefacts(image, target, batch.present_BM[b], draw.artefacts, b)
        images.append(image)
        targets.append(target)
    return replace(batch, image_BMDHW=torch.stack(images), target_BRDHW=torch.stack(targets))


def _recoloured(image_MDHW: Tensor, draw: AugmentationDraw, b: int) -> Tensor:
    channels = []
    for m, channel in enumerate(image_MDHW):
        gain, shift, gamma, noise = (float(t[b, m]) for t in (draw.gain_BM, draw.shift_BM, draw.gamma_BM, draw.noise_BM))
        if (gain, shift, gamma, noise) == (1.0, 0.0, 1.0, 0.0):
            channels.append(channel)
            continue
        brain = channel != 0
        changed = channel * gain + shift
        if gamma != 1.0:
            low, high = -3.0, 5.0  # The range of z-scores that matters; the curve bends between its ends.
            unit = ((changed - low) / (high - low)).clamp(0, 1)
            changed = unit**gamma * (high - low) + low
        if noise:
            source = torch.Generator(channel.device).manual_seed(draw.noise_seed + len(image_MDHW) * b + m)
            changed = changed + noise * torch.randn(channel.shape, generator=source, device=channel.device)
        channels.append(torch.where(brain, changed, 0.0))
    return torch.stack(channels)


def _moved(image: Tensor, matrix: Tensor) -> Tensor:
    """Return the image rotated and scaled about its centre, linear, zero from outside; (C, D, H, W)."""
    extent = torch.tensor(image.shape[1:], dtype=torch.float32)
    # grid_sample counts axes backwards and in half-extents; the rotation is in voxels, so boxes that are not cubes do not shear.
    theta = (matrix * extent[None, :] / extent[:, None]).flip(0, 1)
    theta = torch.cat((theta, torch.zeros(3, 1)), 1)[None].to(image.device)
    grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def _rotation(angles: Tensor) -> Tensor:
    """Return the rotation by three angles about the axes D, H, W."""
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        i, j = [a for a in range(3) if a != axis]
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix
