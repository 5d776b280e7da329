"""Features cut off from the network that made them, so that many terms can be back-propagated one at a time and end in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Leaves:
    """Leaves in place of features, and the sum of what terms have left at them.

    Sums are in single precision whatever the features are in: in bf16 the gradient of the sixth student would lose its last bits
    beside those of the five before it.
    """

    def __init__(self) -> None:
        self._features: list[Tensor] = []
        self._leaves: list[Tensor] = []
        self._sums: list[Tensor | None] = []

    def cut(self, feature: Tensor) -> Tensor:
        """Return a leaf with the values of a feature, and remember both."""
        leaf = feature.detach().requires_grad_()
        self._features.append(feature)
        self._leaves.append(leaf)
        self._sums.append(None)
        return leaf

    def gather(self) -> None:
        """Take over what the last back-propagation has left at the leaves; to be called after each term."""
        for i, leaf in enumerate(self._leaves):
            if leaf.grad is not None:
                total = self._sums[i]
                self._sums[i] = leaf.grad.float() if total is None else total.add_(leaf.grad)
                leaf.grad = None

    def gathered(self, leaf: Tensor) -> Tensor | None:
        """Return the sum so far at one of the leaves, None if no term has reached it. It is not a copy."""
        return self._sums[next(i for i, own in enumerate(self._leaves) if own is leaf)]

    def carried(self) -> Tensor:
        """Return a zero whose gradient at the features is what was gathered."""
        parts = [
            (feature, total)
            for feature, total in zip(self._features, self._sums, strict=True)
            if total is not None and feature.requires_grad
        ]
        return _Carried.apply([total for _, total in parts], *(feature for feature, _ in parts))  # type: ignore[no-any-return]


class _Carried(torch.autograd.Function):
    """Σ sum·feature without its value, which nobody reads: only its gradient is computed."""

    @staticmethod
    def forward(ctx: Any, sums: Sequence[Tensor], *features: Tensor) -> Tensor:
        ctx.sums = [(total, feature.dtype) for total, feature in zip(sums, features, strict=True)]
        return features[0].new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *((total * gradients[0]).to(dtype) for total, dtype in ctx.sums)
