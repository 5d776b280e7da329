"""What ShaSpec asks of its features: shared ones are to be alike, specific ones are to tell which modality they are of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment_loss(features: Sequence[Tensor], keep_BM: Tensor) -> Tensor | None:
    """Return M times the mean over pairs of kept modalities of the mean absolute difference of their features, mean over samples.

    A sample with one modality costs nothing; None if there is no other sample. Features that are not kept are not looked at.

    Args:
        features: One (B, C, D, H, W) per modality.
        keep_BM: Which count.
    """
    kept = keep_BM.sum(1)
    pairs = (kept * (kept - 1) / 2).clamp(min=1)
    losses = []
    for a, b in combinations(range(len(features)), 2):
        rows = keep_BM[:, a] & keep_BM[:, b]
        if rows.any():
            apart = (features[a][rows].float() - features[b][rows].float()).abs().flatten(1).mean(1)
            losses.append((apart / pairs[rows]).sum())
    return len(features) * torch.stack(losses).sum() / len(keep_BM) if losses else None


def origin_loss(logits: Sequence[Tensor], keep_BM: Tensor) -> Tensor:
    """Return the cross-entropy of guesses which modality a feature is of, mean over a sample's kept modalities, then over samples.

    Args:
        logits: One (B, M) per modality; those of what is not kept are not looked at.
        keep_BM: Which count.
    """
    share = 1 / keep_BM.sum(1)
    losses = []
    for m, guess in enumerate(logits):
        rows = keep_BM[:, m]
        if rows.any():
            truth = torch.full((int(rows.sum()),), m, device=guess.device)
            losses.append((F.cross_entropy(guess[rows].float(), truth, reduction="none") * share[rows]).sum())
    return torch.stack(losses).sum() / len(keep_BM)
