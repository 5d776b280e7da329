"""Images made worse, as nnU-Net does in training: blurred, coarser, darker or brighter, flatter or steeper, along a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

Range = tuple[float, float]


def check_range(value: Range | tuple[int, int], least: float, *, above: bool = False, most: float = math.inf) -> None:
    """Refuse a range whose lower end is not first, or whose ends lie beyond what they may be.

    Args:
        value: Both ends.
        least: What they must be at least.
        above: Whether that is too little itself.
        most: What they may be at most.

    Raises:
        ValueError: One line with both ends and what they may be.
    """
    low, high = value
    if not (low > least if above else low >= least) or not low <= high <= most:
        ends = f"{'above' if above else 'at least'} {least:g}" + (f" and at most {most:g}" if most < math.inf else "")
        raise ValueError(f"a range from {low:g} to {high:g}; expected the lower end first, both {ends}")


class Degradation(BaseModel):
    """How often and how strongly. Probabilities are per patch; every modality of a patch then draws its own strength.

    The defaults are nnU-Net's. Of a range that 1 lies in, either side of 1 is drawn equally often. A range is its lower end and
    its upper one, which are positive; that of ``blur_sigma`` may begin at 0.

    Attributes:
        blur: Probability of a Gaussian blur.
        blur_sigma: Its standard deviation, in voxels.
        brightness: Probability that intensities are multiplied.
        brightness_factor: By what.
        contrast: Probability that distances from the mean are multiplied; the range of intensities stays what it was.
        contrast_factor: By what.
        low_resolution: Probability that an image is sampled more coarsely and interpolated back.
        zoom: Edge of the coarser image, relative to the patch; at most 1.
        inverted_gamma: Probability of a gamma curve of the inverted image; mean and standard deviation stay what they were.
        gamma: Probability of one of the image as it is, likewise.
        gamma_power: Of both curves.
        blurred_share: Probability that a modality takes part where its patch is blurred, or sampled more coarsely.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    blur: float = Field(default=0.2, ge=0, le=1)
    blur_sigma: Range = (0.5, 1.0)
    brightness: float = Field(default=0.15, ge=0, le=1)
    brightness_factor: Range = (0.75, 1.25)
    contrast: float = Field(default=0.15, ge=0, le=1)
    contrast_factor: Range = (0.75, 1.25)
    low_resolution: float = Field(default=0.25, ge=0, le=1)
    zoom: Range = (0.5, 1.0)
    inverted_gamma: float = Field(default=0.1, ge=0, le=1)
    gamma: float = Field(default=0.3, ge=0, le=1)
    gamma_power: Range = (0.7, 1.5)
    blurred_share: float = Field(default=0.5, ge=0, le=1)

    @field_validator("blur_sigma", "brightness_factor", "contrast_factor", "zoom", "gamma_power")
    @classmethod
    def _in_order(cls, value: Range, which: Any) -> Range:
        name = which.field_name
        check_range(value, 0.0, above=name != "blur_sigma", most=1.0 if name == "zoom" else math.inf)
        return value


@dataclass(frozen=True)
class DegradationDraw:
    """Parameters for one batch, (B, M) each; identity values where nothing happens.

    Attributes:
        sigma_BM: Of the blur; 0 where there is none.
        brightness_BM, contrast_BM, zoom_BM, inverted_BM, gamma_BM: Factors and powers; 1 where nothing happens.
    """

    sigma_BM: Tensor
    brightness_BM: Tensor
    contrast_BM: Tensor
    zoom_BM: Tensor
    inverted_BM: Tensor
    gamma_BM: Tensor


def draw_degradation(settings: Degradation, batch: int, modalities: int, generator: torch.Generator) -> DegradationDraw:
    """Draw the parameters for one batch from a CPU generator."""

    def drawn(probability: float, within: Range, *, still: float = 1.0, share: float = 1.0) -> Tensor:
        happens = torch.rand((batch, 1), generator=generator) < probability
        takes_part = torch.rand((batch, modalities), generator=generator) < share
        return torch.where(happens & takes_part, within_range(within, (batch, modalities), generator), still)

    share = settings.blurred_share
    return DegradationDraw(
        drawn(settings.blur, settings.blur_sigma, still=0.0, share=share),
        drawn(settings.brightness, settings.brightness_factor),
        drawn(settings.contrast, settings.contrast_factor),
        drawn(settings.low_resolution, settings.zoom, share=share),
        drawn(settings.inverted_gamma, settings.gamma_power),
        drawn(settings.gamma, settings.gamma_power),
    )


def within_range(within: Range, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return uniform numbers; where 1 lies within the range, either side of it equally often."""
    low, high = within
    if low < 1 < high:
        below = torch.rand(shape, generator=generator) < 0.5
        low, high = torch.where(below, low, 1.0), torch.where(below, 1.0, high)
    return low + torch.rand(shape, generator=generator) * (high - low)


def degraded(image_MDHW: Tensor, draw: DegradationDraw, b: int) -> Tensor:
    """Return the image of sample ``b`` made worse. Background (exact zero) stays zero, and modalities do not mix."""
    steps = [
        (_blurred, draw.sigma_BM, 0.0),
        (_brightened, draw.brightness_BM, 1.0),
        (_contrasted, draw.contrast_BM, 1.0),
        (_coarsened, draw.zoom_BM, 1.0),
        (_inverted_curve, draw.inverted_BM, 1.0),
        (_curved, draw.gamma_BM, 1.0),
    ]
    channels = []
    for m, channel in enumerate(image_MDHW):
        brain, changed = channel != 0, channel
        for step, strengths, still in steps:
            strength = float(strengths[b, m])
            if strength != still and brain.any():
                changed = torch.where(brain, step(changed, brain, strength), 0.0)
        channels.append(changed)
    return torch.stack(channels)


def _blurred(image: Tensor, brain: Tensor, sigma: float) -> Tensor:
    """Return the image under a Gaussian; what lies outside the patch is like its border."""
    radius = math.ceil(4 * sigma)
    places = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    found = F.pad(image[None, None], (radius,) * 6, mode="replicate")
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        found = F.conv3d(found, kernel.reshape(shape))
    return found[0, 0]


def _brightened(image: Tensor, brain: Tensor, factor: float) -> Tensor:
    return image * factor


def _contrasted(image: Tensor, brain: Tensor, factor: float) -> Tensor:
    inside = image[brain]
    mean = inside.mean()
    return ((image - mean) * factor + mean).clamp(inside.min(), inside.max())


def _coarsened(image: Tensor, brain: Tensor, zoom: float) -> Tensor:
    """Return the image sampled at the nearest voxels of a coarser grid and interpolated back."""
    size = [max(1, round(n * zoom)) for n in image.shape]
    coarse = F.interpolate(image[None, None], size=size, mode="nearest-exact")
    return F.interpolate(coarse, size=list(image.shape), mode="trilinear", align_corners=False)[0, 0]


def _curved(image: Tensor, brain: Tensor, power: float) -> Tensor:
    """Return the image along a gamma curve between its least and greatest value, with the mean and deviation it had."""
    inside = image[brain]
    low, extent = inside.min(), inside.max() - inside.min()
    if extent == 0:
        return image
    found = ((image - low) / extent).clamp(0, 1) ** power * extent + low
    deviation, mean = torch.std_mean(inside, correction=0)
    new_deviation, new_mean = torch.std_mean(found[brain], correction=0)
    return (found - new_mean) / new_deviation.clamp(min=1e-8) * deviation + mean


def _inverted_curve(image: Tensor, brain: Tensor, power: float) -> Tensor:
    return -_curved(-image, brain, power)
