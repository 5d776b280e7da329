"""A bank of what was seen: entries first in, first out, and the ones most like a query."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Similarity = Literal["cosine", "centred"]

NOBODY = 0  # The case of an entry that was never filled, and of a row that is not to be entered.


def case_number(name: str) -> int:
    """Return a number for the name of a case: the same in every process and every year, 63 bits, never ``NOBODY``."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1 or 1


class Bank(nn.Module):
    """Entries of complete samples: the pooled features of every modality, and whose they are.

    All of it is buffers: it is saved and resumed like weights, but no gradient reaches it. The last ``widths[-1]`` features of a
    modality are its descriptor.

    Args:
        entries: Q; the oldest is overwritten.
        modalities: M.
        widths: Features per level and modality, F in all.
        nearest: How many entries answer a query.
        temperature: Of the softmax over their similarities.
        similarity: Of descriptors as they are, or of what is left of them without the mean of the bank.
    """

    features: Tensor
    cases: Tensor
    written: Tensor

    def __init__(
        self,
        entries: int,
        modalities: int,
        widths: Sequence[int],
        *,
        nearest: int,
        temperature: float,
        similarity: Similarity = "cosine",
    ) -> None:
        super().__init__()
        self.widths, self.nearest, self.temperature, self.measure = tuple(widths), nearest, temperature, similarity
        self.register_buffer("features", torch.zeros(entries, modalities, sum(widths)))
        self.register_buffer("cases", torch.full((entries,), NOBODY, dtype=torch.int64))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enter(self, features_EMF: Tensor, cases_E: Tensor) -> None:
        """Write rows over the oldest entries, in order; rows of ``NOBODY`` are left out."""
        rows = (cases_E != NOBODY).nonzero()[:, 0]
        first = int(self.written)
        self.written += len(rows)
        last = rows[-len(self.cases) :]
        places = (first + len(rows) - len(last) + torch.arange(len(last), device=rows.device)) % len(self.cases)
        self.features[places] = features_EMF[last].to(self.features.dtype)
        self.cases[places] = cases_E[last]

    def filled(self) -> bool:
        """Return whether there is an entry at all."""
        return bool((self.cases != NOBODY).any())

    def similarity(self, features_BMF: Tensor, keep_BM: Tensor) -> Tensor:
        """Return the cosine between queries and entries over the descriptors of what is kept, each of length 1; (B, Q).

        If it is centred, the mean of the entries there are is taken away first, modality by modality.
        """
        kept, width = keep_BM[:, :, None], self.widths[-1]
        query = torch.where(kept, features_BMF[..., -width:].float(), 1.0)
        entries = self.features[..., -width:]
        if self.measure == "centred":
            there = self.cases != NOBODY
            mean = torch.where(there[:, None, None], entries, 0.0).sum(0) / there.sum().clamp(min=1)
            query, entries = query - mean, entries - mean
        query, entries = F.normalize(query, dim=-1), F.normalize(entries, dim=-1)
        # Not a matrix product: under autocast it stays in single precision, and no query is rounded by its neighbours.
        cosine = (query[:, None] * entries).sum(-1)
        return torch.where(keep_BM[:, None], cosine, 0.0).sum(-1) / keep_BM.sum(1, keepdim=True)

    def answer(self, features_BMF: Tensor, keep_BM: Tensor, cases_B: Tensor | None = None) -> Tensor:
        """Return features for the modalities that are not kept, (B, M, F): the weighted mean of the entries most alike.

        Zero for those that are kept, and where no entry may answer.

        Args:
            features_BMF: Pooled features; those that are not kept are never read.
            keep_BM: Which modalities are kept, at least one a row.
            cases_B: Whose the rows are: a case does not answer itself. None if that cannot be.
        """
        may = (self.cases != NOBODY).expand(len(keep_BM), -1)
        if cases_B is not None:
            may = may & (self.cases != cases_B[:, None])
        similarity = self.similarity(features_BMF, keep_BM).masked_fill(~may, -torch.inf)
        best, which = similarity.topk(min(self.nearest, len(self.cases)), dim=1)
        there = best > -torch.inf
        weight = torch.where(there, (torch.where(there, best, -1e4) / self.temperature).softmax(1), 0.0)
        found = (weight[..., None, None] * self.features[which]).sum(1)
        return torch.where(keep_BM[:, :, None], 0.0, found)
