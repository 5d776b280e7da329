"""From a prepared image to region logits on its grid: once encoded, decoded for as many subsets as are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from anymri.data.patients import pooled, scaled
from anymri.engine.model import Model
from anymri.engine.run import Window
from anymri.errors import UsageError
from anymri.nn.processor import suited_to
from anymri.volumes.volume import Grid, Volume, exact_copy, resampled

Corner = tuple[int, int, int]
Array = NDArray[Any]
OUTSIDE = -30.0  # Logit where no model has looked: outside the box of the brain.


@dataclass(frozen=True)
class LeftOut:
    """Components of the outermost region that a model found and left out, since they were small beside its largest.

    Attributes:
        components: How many.
        voxels: What they hold, in voxels of the image's grid.
        largest: What the largest of them holds.
    """

    components: int = 0
    voxels: int = 0
    largest: int = 0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one subset.

    Attributes:
        logits_RDHW: On the grid of the image, float32.
        left_out: What is negative there because it was small.
    """

    logits_RDHW: Array
    left_out: LeftOut


def device_named(name: str) -> torch.device:
    """Return a device; ``auto`` is the GPU if there is one.

    Raises:
        UsageError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # A torch that was built without CUDA asserts.
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"device '{name}' cannot be used ({reason}); expected cpu, cuda or auto") from None
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context for a precision. ``auto``: float32 on a processor, so that two laptops give one answer; bf16 on a GPU."""
    if precision == "bf16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def window_corners(extent: Sequence[int], size: Sequence[int], overlap: float) -> list[Corner]:
    """Return the corners of windows that cover an extent, evenly spread, no further apart than the overlap allows."""
    axes = []
    for n, s in zip(extent, size, strict=True):
        count = 1 if n <= s else int(np.ceil((n - s) / (s * (1 - overlap)))) + 1
        axes.append(sorted({round(c) for c in np.linspace(0, max(n - s, 0), count)}))
    return [(d, h, w) for d, h, w in itertools.product(*axes)]


def blending_weights(size: Sequence[int]) -> Tensor:
    """Return a Gaussian over a window, 1 at its centre, σ an eighth of each edge, never below 1e-3."""
    axes = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in size]
    return (axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]).clamp(min=1e-3)


@torch.inference_mode()
def answers_of(
    model: Model,
    image_MDHW: Array,
    present: Sequence[bool],
    keeps: Sequence[Sequence[bool]],
    *,
    device: torch.device,
    precision: str = "auto",
) -> Iterator[Answer]:
    """Yield what a model says of each subset.

    Args:
        model: What predicts.
        image_MDHW: All modalities of the task; rows that are not present are never read.
        present: Which modalities are at hand.
        keeps: Subsets of what is present, one flag per modality.
        device: Where to compute.
        precision: float32, bf16 or auto.
    """
    window = model.header.window
    rows = [m for m, p in enumerate(present) if p]
    coarse = np.zeros((len(present), *(-(-n // window.stride) for n in image_MDHW.shape[1:])), np.float32)
    coarse[rows] = pooled(scaled(image_MDHW[rows], window.intensity), window.stride) / window.stride**3
    image = torch.from_numpy(coarse)[None].to(device)
    present_BM = torch.tensor([list(present)], device=device)
    keeps_SM = torch.tensor([list(k) for k in keeps], device=device)
    if model.other_engine is None:
        model.method.to(device)
    steps = _on_model_grid(model, image, present_BM, keeps_SM)
    while True:
        # Entered anew for every subset: what the caller does between two of them is not to be autocast.
        with autocast(device, precision), suited_to(device):
            logits = next(steps, None)
        if logits is None:
            return
        kept, left_out = without_small_components(logits, window.least_component)
        finer = window.stride**3  # Voxels of the image in one of the model's.
        left_out = LeftOut(left_out.components, left_out.voxels * finer, left_out.largest * finer)
        yield Answer(_at_full_size(kept, window, image_MDHW.shape[1:]), left_out)


def region_logits_of(
    model: Model,
    image_MDHW: Array,
    present: Sequence[bool],
    keeps: Sequence[Sequence[bool]],
    *,
    device: torch.device,
    precision: str = "auto",
) -> Iterator[Array]:
    """Yield, for each subset, the logits alone of what ``answers_of`` yields; the arguments are its own."""
    for answer in answers_of(model, image_MDHW, present, keeps, device=device, precision=precision):
        yield answer.logits_RDHW


def _on_model_grid(model: Model, image: Tensor, present_BM: Tensor, keeps_SM: Tensor) -> Iterator[Tensor]:
    """Yield logits (1, R, d, h, w) per subset on the model's grid."""
    extent, multiple = image.shape[2:], model.method.multiple
    # At least two voxels at the deepest level: normalisation needs more than one.
    size = [min(s, max(-(-n // multiple), 2) * multiple) for s, n in zip(model.header.window.size, extent, strict=True)]
    padded = F.pad(image, [p for n, s in zip(reversed(extent), reversed(size), strict=True) for p in (0, max(s - n, 0))])
    corners = window_corners(padded.shape[2:], size, model.header.window.overlap)
    engine = model.engine
    if len(corners) == 1:
        features = engine.encode(padded, present_BM, torch.zeros((1, 3), dtype=torch.int64))
        for keep in keeps_SM:
            decoded, note = engine.decode_window(features, keep[None])
            yield engine.finish(decoded.float(), [note])[..., : extent[0], : extent[1], : extent[2]]
        return
    weight = blending_weights(size).to(image.device)
    sums: list[Tensor] = []
    notes: list[list[Any]] = [[] for _ in keeps_SM]
    total = torch.zeros(padded.shape[2:], device=image.device)
    for corner in corners:
        box = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
        features = engine.encode(padded[(..., *box)], present_BM, torch.tensor([corner]))
        for s, keep in enumerate(keeps_SM):
            decoded, note = engine.decode_window(features, keep[None])
            if len(sums) == s:  # The first window tells how much a method blends.
                sums.append(torch.zeros((decoded.shape[1], *padded.shape[2:]), device=image.device))
            sums[s][(slice(None), *box)] += decoded[0].float() * weight
            notes[s].append(note)
        total[box] += weight
        del features  # Before those of the next window are made.
    for blended, noted in zip(sums, notes, strict=True):
        yield engine.finish((blended / total)[None], noted)[..., : extent[0], : extent[1], : extent[2]]


def without_small_components(logits_1RDHW: Tensor, share: float) -> tuple[Tensor, LeftOut]:
    """Return logits, (1, R, D, H, W), that are negative in components of the outermost region smaller than a share of its largest.

    What was left out is counted in voxels of these logits. There each logit keeps its size and loses its sign: what was taken for
    tumour becomes as sure not to be. Voxels that share a face are of one component.
    """
    if share == 0:
        return logits_1RDHW, LeftOut()
    labels = np.empty(logits_1RDHW.shape[2:], np.int32)
    ndimage.label((logits_1RDHW[0, 0] > 0).cpu().numpy(), output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0  # What lies outside is no component.
    small = (sizes > 0) & (sizes < share * sizes.max())
    inside = torch.from_numpy(small[labels]).to(logits_1RDHW.device)
    left_out = LeftOut(int(small.sum()), int(sizes[small].sum()), int(sizes[small].max(initial=0)))
    return torch.where(inside, -logits_1RDHW.abs(), logits_1RDHW), left_out


def _at_full_size(logits: Tensor, window: Window, shape: Sequence[int]) -> Array:
    if window.stride > 1:
        logits = F.interpolate(logits, scale_factor=window.stride, mode="trilinear", align_corners=False)
    return logits[0, :, : shape[0], : shape[1], : shape[2]].cpu().numpy()


def restored(logits_RDHW: Array, grid: Grid, native: Grid) -> Array:
    """Return logits on the patient's own grid, (R, D, H, W); an exact copy where the two lattices coincide."""
    return np.stack([resampled(Volume(logits, grid), native, order=1, fill=OUTSIDE).array for logits in logits_RDHW])


def native_masks(logits_RDHW: Array, grid: Grid, native: Grid) -> Array:
    """Return ``nested(restored(…))``; where the lattices coincide masks are copied, not logits, which have four times the bytes."""
    if not exact_copy(grid, native):
        return nested(restored(logits_RDHW, grid, native))
    return np.stack([resampled(Volume(mask, grid), native, order=0).array for mask in nested(logits_RDHW)])


def nested(logits_RDHW: Array) -> Array:
    """Return masks (R, D, H, W), bool: a voxel belongs to an inner region only if it does to every region around it."""
    return np.logical_and.accumulate(logits_RDHW > 0, axis=0)
