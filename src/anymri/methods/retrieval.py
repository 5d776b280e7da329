"""retrieval: what an absent modality would have shown is asked of the patients most alike.

Idea: Every modality has an encoder of its own, and one decoder sees the features of all. A bank holds pooled features of complete
windows of training patients. Those whose features are most like the ones at hand lend theirs in place of what is absent: one vector
per level, the same at every voxel.

Paper: the retrieval of similar patients in "M3Care: Learning with Missing Modalities in Multimodal Healthcare Data", KDD 2022. It
stands here for the methods of sample retrieval of the survey in arXiv 2509.15017, with the U-Net of the other methods.

Here: v_m, descriptor → the last features of ``Features.pooled``; bank, Q → ``Bank``, ``entries``; best 5 → ``nearest``; 0.1 →
``temperature``; the U-Net's halves → ``Encoder`` and ``StreamDecoder``.

Deviations:
    1. Entries are written after a step, of all its patches at once, so that several processes keep the bank that one keeps.
    2. Entries are not renewed: the oldest of them come from weights as they were Q complete patches ago. The bank is not averaged
       as weights are.
    3. Gradients pass through the query, not into entries: encoders learn what to be alike in.
    4. An incomplete case is a query but never an entry, nor is a synthetic patient: what is lent was seen in a patient. A case does
       not answer itself in training; afterwards whose a window is remains unknown, so on a case it was trained on it may answer
       itself.
    5. Training pools over a patch, inference over a window, which may be larger.
    6. Soft Dice over regions + cross-entropy at every level of the decoder, weights halved from level to level: the loss of
       ``dropout_unet``, so that what differs is the retrieval.
    7. ``base`` has four levels, ending at 128 channels: with a fifth four encoders would be twice as large as the other methods.
       M3Care has no such network; ``paper`` has encoders with the channels of nnU-Net.
    8. Pooled after a norm, descriptors are nearly parallel, so that at this temperature those that answer weigh about alike
       (measured: docs/decisions/0012). ``similarity="centred"`` compares what is left of them without the mean of the bank, by
       which they differ; what is lent stays as it is. The description has the plain cosine, which is the default.
    9. As weights files hold the bank, they hold features of training patients: ``RetrievalConfig.holds``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_subsets
from anymri.data.generation.settings import is_synthetic
from anymri.domain.task import Task
from anymri.losses.deep_supervision import deep_segmentation_loss, level_weights
from anymri.losses.regions import region_logits
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.bank import NOBODY, Bank, Similarity, case_number
from anymri.nn.blocks import Encoder
from anymri.nn.shared_specific import added, chosen, placed, spread
from anymri.nn.unet import StreamDecoder


@final
class RetrievalConfig(MethodConfig):
    """Settings of the retrieval.

    Attributes:
        widths: Channels per level of every encoder and of the decoder, finest first.
        entries: Of the bank.
        nearest: Entries that answer a query.
        temperature: Of the softmax over their similarities.
        similarity: Compare descriptors as they are, or without the mean of the bank, which is most of them.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")
    holds: ClassVar[str] = "pooled features of the training patients, by which they could be recognised"

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=2)
    entries: PositiveInt = 512
    nearest: PositiveInt = 5
    temperature: float = Field(default=0.1, gt=0)
    similarity: Similarity = "cosine"

    @property
    def multiple(self) -> int:
        """What spatial sizes must be multiples of."""
        return 2 ** (len(self.widths) - 1)

    @classmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size."""
        if size == "tiny":
            return cls(widths=(4, 6), entries=4, nearest=2)
        widths = {"small": (8, 16, 32, 64), "base": (16, 32, 64, 128), "paper": (32, 64, 128, 256, 320, 320)}
        return cls(widths=widths[size])

    def build(self, task: Task) -> Retrieval:
        """Return a freshly initialised network with an empty bank."""
        return Retrieval(self, task)


@dataclass(frozen=True)
class Features:
    """What does not depend on the subset. Rows of absent modalities are zero.

    Attributes:
        shares: What each modality contributes to the decoder's levels, [level][m] (B, C, D, H, W), finest first.
        pooled: Mean of the features of all levels, finest first, (B, M, F).
        cases: Whose they are, (B,); None if that is not known.
    """

    shares: tuple[tuple[Tensor, ...], ...]
    pooled: Tensor
    cases: Tensor | None = None


@final
class Retrieval(Method):
    """Encoders, bank and decoder."""

    def __init__(self, config: RetrievalConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.multiple = config.multiple
        modalities, widths = len(task.modalities), config.widths
        self.encoders = nn.ModuleList(Encoder(1, widths, [2] * len(widths), bias=True) for _ in range(modalities))
        self.decoder = StreamDecoder(modalities, widths, len(task.classes))
        self.bank = Bank(
            config.entries,
            modalities,
            widths,
            nearest=config.nearest,
            temperature=config.temperature,
            similarity=config.similarity,
        )
        for head, weight in zip(reversed(self.decoder.heads), level_weights(len(self.decoder.heads)), strict=True):
            head.requires_grad_(weight > 0)  # A head whose level has no weight is not trained: declared here.
        self._observed: dict[str, Tensor] = {}

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return what each present modality contributes to the decoder, and its pooled features."""
        levels: list[list[Tensor | None]] = [[] for _ in self.config.widths]
        pooled = []
        for m, encoder in enumerate(self.encoders):
            rows = present_BM[:, m]
            image = image_BMDHW[rows, m].unsqueeze(1)
            features = encoder(image) if len(image) else None
            for level, shares in enumerate(levels):
                shares.append(None if features is None else self.decoder.share(level, m, features[level]))
            if features is None:
                pooled.append(image_BMDHW.new_zeros((len(rows), sum(self.config.widths)), dtype=torch.float32))
            else:
                pooled.append(placed(torch.cat([f.mean((2, 3, 4), dtype=torch.float32) for f in features], 1), rows))
        return Features(tuple(spread(shares, present_BM) for shares in levels), torch.stack(pooled, 1))

    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW from what is kept and, in place of the rest, what the bank answers."""
        return region_logits(self._decoded(features, keep_BM)[0], self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield the loss of every decoder level for one drawn subset per sample; complete windows of patients are observed."""
        keep = draw_subsets(batch.present_BM, generator)
        cases = torch.tensor([case_number(name) for name in batch.names], device=keep.device)
        features = replace(self.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3), cases=cases)
        real = torch.tensor([not is_synthetic(name) for name in batch.names], device=keep.device)
        entered = torch.where(batch.present_BM.all(1) & real, cases, NOBODY)
        self._observed = {"features": features.pooled.detach(), "cases": entered}
        levels = self._decoded(features, keep)
        yield Term("seg", deep_segmentation_loss(levels, batch.target_BRDHW, batch.known_BR, self.task.membership))

    def observed(self) -> Mapping[str, Tensor]:
        """Return the pooled features of each sample of the last batch, and its case if that is real and complete."""
        found, self._observed = self._observed, {}
        return found

    def remember(self, observed: Mapping[str, Tensor]) -> None:
        """Enter the complete samples into the bank."""
        self.bank.enter(observed["features"], observed["cases"])

    def _decoded(self, features: Features, keep_BM: Tensor) -> list[Tensor]:
        """Return class logits per level, finest first."""
        rows = keep_BM.T.tolist()
        sums = [added([chosen(share, kept, None) for share, kept in zip(level, rows, strict=True)]) for level in features.shares]
        if not keep_BM.all() and self.bank.filled():
            lent = self.bank.answer(features.pooled, keep_BM, features.cases).split(self.config.widths, -1)
            sums = [
                total + self.decoder.share_of_constants(level, vectors, total.shape[2:])
                for level, (total, vectors) in enumerate(zip(sums, lent, strict=True))
            ]
        return self.decoder(sums)
