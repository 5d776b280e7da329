"""Adapters: small residual branches that are chosen by what a sample has, and a bank of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymri.nn.residual_unet import Bottleneck, dropped


class Adapter(nn.Module):
    """The branch of a residual adapter: 1×1×1 convolution, GELU, 1×1×1 convolution that starts at zero.

    Args:
        channels: Channels of the map.
        width: Channels between the two.
        dropout: Share of the branch that is dropped in training.
    """

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.narrow = nn.Conv3d(channels, width, 1)
        self.widen = nn.Conv3d(width, channels, 1)
        nn.init.zeros_(self.widen.weight)
        if self.widen.bias is not None:
            nn.init.zeros_(self.widen.bias)

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return what is to be added to ``x``."""
        return dropped(self.widen(F.gelu(self.narrow(x))), self.dropout, generator)


@dataclass(frozen=True)
class AdapterShape:
    """How large a set of adapters is: the network's widths, the width of the branches, and their dropout."""

    widths: tuple[int, ...]
    width: int
    dropout: float


class AdapterSet(nn.Module):
    """The adapters of one subset of modalities (or of one modality that is absent).

    Attributes:
        entries: On the first map of every level but the topmost, in the main path.
        aside: On the last level before its last block, only for the combination-aware map.
        ups: In the decoder, coarsest first.
        bottleneck: The set's own two 1×1×1 convolutions.
    """

    def __init__(self, shape: AdapterShape) -> None:
        super().__init__()

        def of(channels: int) -> Adapter:
            return Adapter(channels, shape.width, shape.dropout)

        self.entries = nn.ModuleList(of(width) for width in shape.widths[1:])
        self.aside = of(shape.widths[-1])
        self.ups = nn.ModuleList(of(width) for width in reversed(shape.widths[:-1]))
        self.bottleneck = Bottleneck(shape.widths[-2:], shape.dropout)


@dataclass(frozen=True)
class Route:
    """Samples that go the same way: which rows of the batch, and through which sets; none for samples with everything."""

    rows: Tensor
    sets: tuple[AdapterSet, ...]


class AdapterBank(nn.Module):
    """A set for every subset but the full one, 2^N − 2 in all; or one for each modality, of which those absent add up.

    Args:
        modalities: N.
        shape: How large a set is.
        factored: One set per absent modality.
    """

    def __init__(self, modalities: int, shape: AdapterShape, *, factored: bool) -> None:
        super().__init__()
        patterns = [p for p in product((False, True), repeat=modalities) if any(p) and not all(p)]
        self.numbers: dict[tuple[bool, ...], tuple[int, ...]]
        if factored:
            self.numbers = {p: tuple(m for m, kept in enumerate(p) if not kept) for p in patterns}
        else:
            self.numbers = {p: (number,) for number, p in enumerate(patterns)}
        self.numbers[(True,) * modalities] = ()
        self.sets = nn.ModuleList(AdapterSet(shape) for _ in range(modalities if factored else len(patterns)))

    def sets_of(self, kept: Sequence[bool]) -> tuple[AdapterSet, ...]:
        """Return the sets of a subset, none for the full one.

        Raises:
            ValueError: If the bank has none for it, such as for the empty subset.
        """
        numbers = self.numbers.get(tuple(kept))
        if numbers is None:
            raise ValueError(
                f"there are no adapters for the subset {tuple(kept)}; at least one of {len(kept)} modalities must be kept"
            )
        chosen = [self.sets[n] for n in numbers]
        return tuple(s for s in chosen if isinstance(s, AdapterSet))

    def routes(self, keep_BM: Tensor) -> list[Route]:
        """Return which samples go through which sets, one route per distinct subset.

        Raises:
            ValueError: If a sample keeps nothing.
        """
        together: dict[tuple[bool, ...], list[int]] = {}
        for row, kept in enumerate(keep_BM.tolist()):
            together.setdefault(tuple(kept), []).append(row)
        return [Route(torch.tensor(rows, device=keep_BM.device), self.sets_of(kept)) for kept, rows in together.items()]


def routed(routes: Sequence[Route], change: Callable[[Route], Tensor]) -> Tensor:
    """Return what each route makes of its samples, in the order of the batch."""
    if len(routes) == 1:
        return change(routes[0])
    parts = [change(route) for route in routes]
    return torch.cat(parts)[torch.cat([route.rows for route in routes]).argsort()]


def adapted(x: Tensor, adapters: Sequence[nn.Module], generator: torch.Generator | None) -> Tensor:
    """Return the map with what each adapter makes of it added."""
    branches = [adapter(x, generator) for adapter in adapters]
    for branch in branches:
        x = x + branch
    return x


def taken(x: Tensor, route: Route) -> Tensor:
    """Return the rows of a route; the map itself if those are all."""
    return x if len(route.rows) == len(x) else x[route.rows]
