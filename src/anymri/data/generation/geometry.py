"""Places on a patch and in what it is made from: rotations, smooth random fields, sampling."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.patches import Size

Matrix = NDArray[np.float64]


def drawn_matrix(rng: np.random.Generator, degrees: float, scaling: float) -> Matrix:
    """Return a random rotation by at most so many degrees about each axis, with a relative change of size, (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(rng.uniform(-degrees, degrees, 3))):
        turn = np.eye(3)
        i, j = (a for a in range(3) if a != axis)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix * math.exp(rng.uniform(-1, 1) * math.log1p(scaling))


def coarse_size(size: Size, spacing: int) -> Size:
    """Return how many nodes, ``spacing`` voxels apart, span a patch; at least two along each axis."""
    d, h, w = (max(2, round((n - 1) / spacing) + 1) for n in size)
    return d, h, w


def random_field(channels: int, size: Size, seed: int, device: torch.device) -> Tensor:
    """Return independent standard normal numbers, (C, D, H, W)."""
    return torch.randn((channels, *size), generator=torch.Generator(device).manual_seed(seed), device=device)


def spread(field_CDHW: Tensor, size: Size) -> Tensor:
    """Return a field on nodes that span a patch, linearly between them, (C, D, H, W).

    Three products with small matrices take a tenth of the time of torch's own interpolation.
    """
    d, h, w = (_weights(nodes, count, field_CDHW.device) for nodes, count in zip(field_CDHW.shape[1:], size, strict=True))
    found = torch.matmul(h, torch.matmul(field_CDHW, w.T))
    return torch.matmul(d, found.flatten(2)).view(len(found), *size)


def _weights(nodes: int, count: int, device: torch.device) -> Tensor:
    """Return the matrix (count, nodes) that interpolates linearly between nodes, the first and the last on the ends."""
    place = torch.arange(count, device=device) * ((nodes - 1) / max(count - 1, 1))
    return (1 - (place[:, None] - torch.arange(nodes, device=device)).abs()).clamp(min=0)


def offsets(size: Size, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far voxels lie from the centre of their patch along each axis, in voxels; they broadcast to (D, H, W)."""
    d, h, w = (torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in size)
    return d[:, None, None], h[None, :, None], w[None, None, :]


def placed(size: Size, matrix: Matrix, origin: NDArray[np.float64], moved_3DHW: Tensor) -> Tensor:
    """Return where the voxels of a patch lie elsewhere: ``origin`` + ``matrix`` · (offset from the centre + displacement).

    Returns:
        (3, D, H, W), in voxels of what is sampled.
    """
    d, h, w = offsets(size, moved_3DHW.device)
    place = moved_3DHW.clone()
    for axis, offset in enumerate((d, h, w)):
        place[axis] += offset
    out = torch.einsum("ij,jn->in", torch.as_tensor(matrix, dtype=torch.float32, device=place.device), place.flatten(1))
    return (out + torch.as_tensor(origin, dtype=torch.float32, device=place.device)[:, None]).view(3, *size)


def at_nearest(volume_DHW: Tensor, place_3DHW: Tensor, shift: NDArray[np.float64]) -> Tensor:
    """Return the values of the nearest voxels, int32; beyond the volume its border goes on."""
    flat = torch.zeros(place_3DHW.shape[1:], dtype=torch.int32, device=place_3DHW.device)
    for axis, count in enumerate(volume_DHW.shape):
        index = (place_3DHW[axis] + float(shift[axis] + 0.5)).clamp_(0, count - 1).int()  # Cut off: nearest, thanks to the half.
        flat = flat.mul_(count).add_(index)
    return volume_DHW.flatten().index_select(0, flat.flatten()).int().view(flat.shape)


def between(volume_CDHW: Tensor, place_3DHW: Tensor) -> Tensor:
    """Return the values between voxels, linearly; zero beyond the volume; (C, D, H, W)."""
    last = torch.tensor([n - 1 for n in volume_CDHW.shape[1:]], device=place_3DHW.device, dtype=torch.float32)
    out = torch.zeros((len(volume_CDHW), *place_3DHW.shape[1:]), device=place_3DHW.device)
    box = _box(((place_3DHW > -1) & (place_3DHW < last[:, None, None, None] + 1)).all(0))
    if box is not None:  # Only there: sampling is the dearest of all that is done to a patch.
        place = place_3DHW[(slice(None), *box)]
        grid = (place * (2 / last)[:, None, None, None] - 1).flip(0).permute(1, 2, 3, 0)[None]
        out[(slice(None), *box)] = F.grid_sample(volume_CDHW[None], grid, padding_mode="zeros", align_corners=True)[0]
    return out


def _box(mask_DHW: Tensor) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around what is set; None if nothing is."""
    lines = [mask_DHW.any(a).any(b).nonzero().flatten().tolist() for a, b in ((2, 1), (2, 0), (0, 0))]
    if not lines[0]:
        return None
    d, h, w = (slice(line[0], line[-1] + 1) for line in lines)
    return d, h, w
