"""A residual U-Net with adapters for every subset of its input channels, a refined bottleneck and a presence head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymri.nn.adapters import AdapterBank, Route, adapted, routed, taken
from anymri.nn.graph_refinement import GraphRefinement
from anymri.nn.heads import PresenceHead
from anymri.nn.residual_unet import Encoded, ResidualUNet, unchanged


@dataclass(frozen=True)
class Said:
    """What a network says of a batch.

    Attributes:
        logits: Class logits (B, K, D, H, W).
        style: On the grid of the bottleneck, as the next three.
        content: The last level of the encoder.
        z: What the decoder starts from.
        decoded: The first map of the decoder.
        presence: Logits (B, K − 1); None without such a head.
    """

    logits: Tensor
    style: Tensor
    content: Tensor
    z: Tensor
    decoded: Tensor
    presence: Tensor | None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Said:
        """Return the same with everything changed."""
        presence = None if self.presence is None else change(self.presence)
        return Said(change(self.logits), change(self.style), change(self.content), change(self.z), change(self.decoded), presence)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return everything in a fixed order."""
        told = (self.logits, self.style, self.content, self.z, self.decoded, self.presence)
        return tuple(t for t in told if t is not None)


class AdaptiveUNet(nn.Module):
    """A residual U-Net that may fit itself to what it is given, and may say which classes there are.

    Args:
        unet: The network itself.
        bank: Adapters for every subset of its channels; None for none.
        refinement: What makes one bottleneck of the general and the combination-aware map; None takes their mean.
        presence: Says which classes there are; None for nothing.
    """

    def __init__(
        self,
        unet: ResidualUNet,
        *,
        bank: AdapterBank | None = None,
        refinement: GraphRefinement | None = None,
        presence: PresenceHead | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.bank, self.refinement, self.presence = unet, bank, refinement, presence

    def forward(self, image_BMDHW: Tensor, keep_BM: Tensor, generator: torch.Generator | None) -> Said:
        """Return what it says of what is kept; without a generator nothing is dropped out.

        Raises:
            ValueError: If a sample keeps nothing.
        """
        image = torch.where(keep_BM[:, :, None, None, None], image_BMDHW, 0.0)
        routes = [] if self.bank is None else self.bank.routes(keep_BM)

        def on_entry(level: int, x: Tensor) -> Tensor:
            return routed(routes, lambda r: adapted(taken(x, r), [s.entries[level - 1] for s in r.sets], generator))

        def on_up(step: int, x: Tensor) -> Tensor:
            return routed(routes, lambda r: adapted(taken(x, r), [s.ups[step] for s in r.sets], generator))

        encoded = self.unet.encoder(image, on_entry if routes else unchanged)
        style, general = self.unet.bottleneck(encoded.entered, encoded.content, generator)
        z = self._refined(general, encoded, routes, generator) if any(r.sets for r in routes) else general
        decoded = self.unet.decoder(z, encoded.skips, on_up if routes else unchanged)
        presence = None if self.presence is None else self.presence(decoded.last)
        return Said(decoded.logits, style, encoded.content, z, decoded.first, presence)

    def _refined(self, general: Tensor, encoded: Encoded, routes: Sequence[Route], generator: torch.Generator | None) -> Tensor:
        """Return z: refined for samples that lack something, the general map for the others."""
        lacking = torch.cat([r.rows for r in routes if r.sets]).sort().values
        if len(lacking) == len(general):
            lacking = slice(None)
        aware = routed([r for r in routes if r.sets], lambda r: _combination_aware(encoded, r, generator))
        part = general[lacking]
        refined = (aware + part) / 2 if self.refinement is None else self.refinement(aware, part)
        return refined if isinstance(lacking, slice) else general.index_copy(0, lacking, refined.to(general.dtype))


def _combination_aware(encoded: Encoded, route: Route, generator: torch.Generator | None) -> Tensor:
    """Return a route's combination-aware maps: the sets' own bottlenecks on what their adapters made, the mean over sets."""
    maps = taken(encoded.changed[0], route), taken(encoded.changed[1], route)
    aside = adapted(taken(encoded.inner, route), [s.aside for s in route.sets], generator)
    fused = [s.bottleneck(maps, aside, generator)[1] for s in route.sets]
    return torch.stack(fused).mean(0) if len(fused) > 1 else fused[0]
