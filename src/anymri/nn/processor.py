"""Kernels that suit a processor, chosen while a network runs: channels last throughout, oneDNN, matrix products, exact means.

torch keeps small 3D convolutions, and on one thread all of 1×1×1, from oneDNN. Its own kernels unfold the image into a matrix
(27 times the memory) and return channels first, so that whatever follows is copied back. On the networks here the choice is wrong
nearly everywhere. Numbers are the same to rounding; no network knows of it.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Given = Mapping[str, Any]  # Arguments of a function of torch, by name.


def suited_to(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a network without gradients runs fastest on a device; it changes nothing but on a processor."""
    return _OnProcessor() if device.type == "cpu" and torch.backends.mkldnn.is_available() else nullcontext()


def channels_last(x: Tensor) -> Tensor:
    """Return the same (B, C, D, H, W) with channels last in memory; a copy unless it is so already."""
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last_3d)
    # Of a single channel both layouts are one, and torch would go on with channels first.
    return x.contiguous().view(x.shape[0], *x.shape[2:], 1).permute(0, 4, 1, 2, 3)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a 1×1×1 convolution as the matrix product that it is with channels last."""
    return F.linear(channels_last(x).permute(0, 2, 3, 4, 1), weight.flatten(1), bias).permute(0, 4, 1, 2, 3)


class _OnProcessor(TorchFunctionMode):
    """Replaces single-precision convolutions and instance norms; autocast to bf16 chooses oneDNN by itself."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what torch would, computed by another kernel if there is a better one."""
        if func in _INSTEAD and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
            names, other = _INSTEAD[func]
            found = other({**dict(zip(names, args, strict=False)), **(kwargs or {})})
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _convolved(given: Given) -> Tensor | None:
    x, weight, padding, groups = given["input"], given["weight"], given.get("padding", 0), given.get("groups", 1)
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or isinstance(padding, str) or x.dim() != 5:
        return None
    stride, dilation, bias = given.get("stride", 1), given.get("dilation", 1), given.get("bias")
    steps, pads, holes = _triple(stride), _triple(padding), _triple(dilation)
    if groups == 1 and weight.shape[2:] == (1, 1, 1) and steps == (1, 1, 1) and not any(pads):
        return pointwise(x, weight, bias)
    return torch.mkldnn_convolution(channels_last(x), weight, bias, pads, steps, holes, groups)


def _normed(given: Given) -> Tensor | None:
    x = given["input"]
    if not given.get("training") or given.get("running_mean") is not None or x.dtype != torch.float32 or x.dim() != 5:
        return None
    x = channels_last(x)
    return F.batch_norm(x, *moments(x), given.get("weight"), given.get("bias"), training=False, eps=given.get("eps", 1e-5))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel of (B, C, D, H, W), channels last.

    torch's own kernel for this layout adds up a whole image in one float32: at a million voxels the fourth digit is wrong, and it
    takes longer than a sum and a matrix product of some thousand voxels at a time.
    """
    voxels = x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])
    rest = len(voxels) % _BLOCK
    total, squares = voxels.new_zeros(x.shape[1], dtype=torch.float64), voxels.new_zeros(x.shape[1], dtype=torch.float64)
    for part in (voxels[: len(voxels) - rest].view(-1, _BLOCK, x.shape[1]), voxels[None, len(voxels) - rest :]):
        total += part.sum(1).double().sum(0)
        squares += (part.transpose(1, 2) @ part).diagonal(dim1=1, dim2=2).double().sum(0)
    mean = total / len(voxels)
    variance = squares / len(voxels) - mean**2
    if bool((variance < _CANCELLED * mean**2).any()):  # What is left of two large numbers says little: measured around the mean.
        variance = (voxels - mean.float()).square_().double().mean(0)
    return mean.float(), variance.clamp_(min=0).float()


def _triple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) * 3 if isinstance(value, int) else tuple(value)


_BLOCK = 4096  # Voxels that are added up in single precision.
_CANCELLED = 1e-3
# What is replaced, the names of what it is given, and by what: nothing comes back where torch is to do it.
_INSTEAD: dict[Callable[..., Any], tuple[tuple[str, ...], Callable[[Given], Tensor | None]]] = {
    torch.conv3d: (("input", "weight", "bias", "stride", "padding", "dilation", "groups"), _convolved),
    F.batch_norm: (("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"), _normed),
}


def keep_memory() -> None:
    """Have the C library keep large blocks that are freed for the next ones, in this whole process.

    By default every tensor above some megabytes is given back to the system and the next one fetched anew, page by page, which
    takes longer than what is computed on it. Only a program may decide so for its process, never a library. It has no effect but
    on glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        # Before 2.35 it refuses more than 32 MB. The other alone would leave this one at 128 KB, worse than nothing.
        if library.mallopt(_MMAP_THRESHOLD, 2**30) or library.mallopt(_MMAP_THRESHOLD, 2**25):
            library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # As malloc.h numbers them.
