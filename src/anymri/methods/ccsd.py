"""CCSD: cross-modal compositional self-distillation.

Idea: A shared encoder and one specific encoder per modality are composed into one feature per modality; the features of any subset
are concatenated and decoded. In training the full set teaches every subset of a drawn size (HMSD), and each set on a path that
loses one modality after the other, most critical first, teaches the next (DMCD).

Paper: "CCSD: Cross-Modal Compositional Self-Distillation for Robust Brain Tumor Segmentation with Missing Modalities",
arXiv 2511.14599.

Here: E_shared, E_spec → ``encoders``; C → ``compose``; f_fused → ``Features.fused``; Z_S → ``combined``; D → ``decoder``; s(m) →
``criticality``; P → ``removal_order``; L_seg, L_HMSD, L_DMCD → terms of the same names.

Deviations:
    1. An absent slot of Z is the mean of the kept modalities' shared features (``absent="shared_mean"``), or the shared encoder's
       view of a zero volume (``absent="zero"``, the text of the paper). docs/decisions/0003 has the comparison.
    2. Skips are the concatenated shared features reduced by 1×1 (as ShaSpec), or shared and specific ones (``skips="fused"``).
    3. The segmentation loss, unnamed in the paper, is soft Dice over regions + cross-entropy, on a drawn and on the full set.
    4. τ is 2, without the factor τ²; the teacher of every KL is detached (the paper states neither).
    5. Scores are computed once, over the full set, as algorithm 1 lists it; ``rescore`` does it among the remaining ones.
    6. k of HMSD is drawn for each sample of a batch, not once per batch.
    7. With ``distilled="shared"`` or ``"specific"`` Z is built of those features, zeros where absent, and HMSD compares softmax
       over channels of Z instead of decoded probabilities. The paper does not define it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_subsets
from anymri.domain.task import Task
from anymri.losses.agreement import cosine_scores, kl_divergence, kl_divergences
from anymri.losses.regions import region_logits
from anymri.losses.segmentation import segmentation_loss
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.blocks import ConvNormAct
from anymri.nn.shared_specific import ModalityEncoders, ModalityReduction, Pyramids, SumDecoder, chosen, placed


@final
class CCSDConfig(MethodConfig):
    """Settings of CCSD; the defaults are those of the paper or of docs/decisions.

    Attributes:
        widths: Channels per level of every encoder, finest first.
        depths: Convolutions per level.
        absent: What stands in Z for a modality that is not kept.
        skips: Which features reach the decoder sideways.
        residual: Add the shared feature to the composed one (ShaSpec).
        hmsd: Weight of the hierarchical self-distillation; 0 leaves it out.
        dmcd: Weight of the decremental distillation; 0 leaves it out.
        distilled: Features that both compare.
        path: Which modality the decremental path removes first.
        criticality: How a modality's score is measured.
        rescore: Score anew among the modalities that remain.
        temperature: τ of both distillations.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base")

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=2)
    depths: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    absent: Literal["shared_mean", "zero"] = "shared_mean"
    skips: Literal["shared", "fused"] = "shared"
    residual: bool = False
    hmsd: float = Field(default=1.0, ge=0)
    dmcd: float = Field(default=1.0, ge=0)
    distilled: Literal["fused", "shared", "specific"] = "fused"
    path: Literal["most_critical", "least_critical", "random"] = "most_critical"
    criticality: Literal["cosine", "gradient"] = "cosine"
    rescore: bool = False
    temperature: float = Field(default=2.0, gt=0)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths {self.depths} must be as many as widths {self.widths}")
        return self

    @property
    def multiple(self) -> int:
        """What spatial sizes must be multiples of."""
        return 2 ** (len(self.widths) - 1)

    @classmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size."""
        if size == "tiny":
            return cls(widths=(4, 6), depths=(1, 1))
        if size == "small":
            return cls(widths=(8, 16, 32, 64))
        return cls()

    def build(self, task: Task) -> CCSD:
        """Return a freshly initialised network."""
        return CCSD(self, task)


@dataclass(frozen=True)
class Features:
    """What is known of each modality before any subset is chosen. Rows of absent modalities are zero and never read.

    Attributes:
        fused: f_fused of each modality, M × (B, C, D', H', W').
        shared: f_shared at the bottleneck, likewise.
        specific: f_spec at the bottleneck, likewise.
        skips: Each modality's share of the reduced skips, [level][m] (B, C_l, D_l, H_l, W_l), finest first.
        present: (B, M).
        nothing: f_shared of a zero volume (1, C, D', H', W'), None unless ``absent="zero"``.
        nothing_skips: Its share of the skips in each modality's place, as ``skips``; empty unless ``absent="zero"``.
    """

    fused: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]
    specific: tuple[Tensor, ...]
    skips: tuple[tuple[Tensor, ...], ...]
    present: Tensor
    nothing: Tensor | None = None
    nothing_skips: tuple[tuple[Tensor, ...], ...] = ()

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Return the same with every feature changed; ``present`` stays."""

        def all_of(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(map(change, tensors))

        return Features(
            all_of(self.fused),
            all_of(self.shared),
            all_of(self.specific),
            tuple(map(all_of, self.skips)),
            self.present,
            None if self.nothing is None else change(self.nothing),
            tuple(map(all_of, self.nothing_skips)),
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield every feature in a fixed order."""
        yield from (*self.fused, *self.shared, *self.specific, *(t for level in (*self.skips, *self.nothing_skips) for t in level))
        if self.nothing is not None:
            yield self.nothing


@final
class CCSD(Method):
    """The network and objective of CCSD."""

    def __init__(self, config: CCSDConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        n, width = len(task.modalities), config.widths[-1]
        self.multiple = config.multiple
        fused_skips = config.skips == "fused"
        self.encoders = ModalityEncoders(n, config.widths, config.depths, every_level=fused_skips)
        self.compose = ConvNormAct(2 * width, width)
        self.reductions = nn.ModuleList(ModalityReduction(n, c * (1 + fused_skips), c) for c in config.widths[:-1])
        self.decoder = SumDecoder(n * width, config.widths[:-1], len(task.classes))

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return the features of each present modality."""
        shared, specific = self.encoders(image_BMDHW, present_BM)
        fused = []
        for s, p, rows in zip(shared, specific, present_BM.unbind(1), strict=True):
            pair = torch.cat((s[-1], p[-1]), 1)[rows]
            composed = self.compose(pair) if len(pair) else pair[:, : s[-1].shape[1]]
            fused.append(placed(composed + s[-1][rows] if self.config.residual else composed, rows))
        nothing, nothing_skips = None, ()
        if self.config.absent == "zero":
            blank = self.encoders.of_nothing(image_BMDHW.shape[2:], image_BMDHW)
            nothing = blank[-1]
            nothing_skips = self._skips([blank] * len(shared), [[torch.zeros_like(f) for f in blank]] * len(shared))
        bottoms = (tuple(fused), tuple(f[-1] for f in shared), tuple(f[-1] for f in specific))
        return Features(*bottoms, self._skips(shared, specific), present_BM, nothing, nothing_skips)

    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW of the kept subset of every sample."""
        return region_logits(self._class_logits(features, keep_BM), self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield L_seg of the set at hand and of a drawn subset, L_HMSD, L_DMCD, and what carries them to the encoders."""
        features = self.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
        leaves = features.mapped(lambda t: t.detach().requires_grad_())
        full = self._class_logits(leaves, batch.present_BM)
        yield Term("seg_full", segmentation_loss(full, batch.target_BRDHW, batch.known_BR, self.task.membership))
        teacher = full.detach()
        del full
        gradient = [_gradient(f) for f in leaves.fused] if self.config.criticality == "gradient" else None
        drawn = draw_subsets(batch.present_BM, generator)
        subset = self._class_logits(leaves, drawn)
        yield Term("seg_subset", segmentation_loss(subset, batch.target_BRDHW, batch.known_BR, self.task.membership))
        del subset
        if self.config.hmsd:
            yield from self._hmsd(leaves, teacher, generator)
        if self.config.dmcd and (batch.present_BM.sum(1) > 1).any():
            order = self.removal_order(leaves, gradient, generator)
            yield Term("dmcd", self._dmcd(leaves, order), self.config.dmcd)
        # Σ leaf.grad · feature: its gradient at the features is what the terms have left at the leaves.
        pairs = zip(features.tensors(), leaves.tensors(), strict=True)
        carried = [
            (leaf.grad * feature).sum(dtype=torch.float32)
            for feature, leaf in pairs
            if leaf.grad is not None and feature.requires_grad
        ]
        yield Term("encoders", torch.stack(carried).sum(), measured=False)

    def combined(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return Z_S, (B, M·C, D', H', W')."""
        keep = keep_BM.t().tolist()
        filling = features.nothing
        if filling is None:
            total = _sum([chosen(f, rows, None) for f, rows in zip(features.shared, keep, strict=True)])
            filling = total / keep_BM.sum(1)[:, None, None, None, None].to(total.dtype)
        slots = [chosen(f, rows, filling) for f, rows in zip(features.fused, keep, strict=True)]
        return torch.cat([s for s in slots if s is not None], 1)

    def criticality(self, features: Features, keep_BM: Tensor, gradient: Sequence[Tensor] | None) -> Tensor:
        """Return s(m) of every kept modality, −inf elsewhere, shape (B, M); ``most_critical`` removes the highest first."""
        if self.config.criticality == "gradient":
            if gradient is None:
                raise RuntimeError(
                    "gradient criticality is read from the gradient that seg_full left; back-propagate each term as it comes"
                )
            score = torch.stack([g.float().flatten(1).norm(dim=1) for g in gradient], 1)
        else:
            cosine = cosine_scores(torch.stack([f.detach().flatten(1) for f in features.fused], 1))
            cosine = cosine.masked_fill(~keep_BM[:, None, :], 0.0)
            score = -(cosine.sum(2) - cosine.diagonal(dim1=1, dim2=2))
        return score.masked_fill(~keep_BM, -torch.inf)

    def removal_order(self, features: Features, gradient: Sequence[Tensor] | None, generator: torch.Generator) -> list[list[int]]:
        """Return, per sample, the present modalities in the order in which the path removes them."""
        if self.config.path == "random":
            noise = torch.rand(features.present.shape, generator=generator).to(features.present.device)
            return _descending(noise, features.present)
        sign = 1.0 if self.config.path == "most_critical" else -1.0
        full = sign * self.criticality(features, features.present, gradient)
        if not self.config.rescore:
            return _descending(full, features.present)
        orders: list[list[int]] = [[] for _ in full]
        remaining = features.present.clone()
        for _ in range(full.shape[1]):
            # Among two, s(a) = s(b): the score over the full set decides.
            tied = remaining.sum(1, keepdim=True) == 2
            score = torch.where(tied, full, sign * self.criticality(features, remaining, gradient))
            for b, order in enumerate(_descending(score, remaining)):
                if order:
                    orders[b].append(order[0])
                    remaining[b, order[0]] = False
        return orders

    def _class_logits(self, features: Features, keep_BM: Tensor) -> Tensor:
        keep = keep_BM.t().tolist()
        return self.decoder(
            self.combined(features, keep_BM), [self._skip(features, level, keep) for level in range(len(features.skips))]
        )

    def _skip(self, features: Features, level: int, keep: list[list[bool]]) -> Tensor:
        """Return the reduced skip of the kept modalities: a sum, since the reduction is linear."""
        blank = features.nothing_skips[level] if features.nothing_skips else [None] * len(keep)
        return _sum([chosen(f, rows, b) for f, rows, b in zip(features.skips[level], keep, blank, strict=True)])

    def _skips(self, shared: Pyramids, specific: Pyramids) -> tuple[tuple[Tensor, ...], ...]:
        """Return each modality's share of the reduced skips, [level][m]."""
        levels = []
        for level, reduce in enumerate(self.reductions):
            sources = [s[level] for s in shared]
            if self.config.skips == "fused":
                sources = [torch.cat((s, p[level]), 1) for s, p in zip(sources, specific, strict=True)]
            levels.append(tuple(reduce(sources)))
        return tuple(levels)

    def _hmsd(self, leaves: Features, teacher: Tensor, generator: torch.Generator) -> Iterator[Term]:
        """Yield KL(teacher ‖ student) for every subset of a drawn size; each sample's mean over its students counts alike."""
        students = _students(leaves.present, generator)
        if not students:
            return
        if self.config.distilled != "fused":
            teacher = self._single(leaves, leaves.present)
        # Samples draw sizes of their own and so have different numbers of students.
        share = 1 / torch.stack([rows for _, rows in students]).sum(0).clamp(min=1) / len(leaves.present)
        for keep, rows in students:
            part = (
                leaves
                if rows.all()
                else replace(leaves.mapped(lambda t, r=rows: t[r] if len(t) == len(r) else t), present=leaves.present[rows])
            )
            student = self._class_logits(part, keep) if self.config.distilled == "fused" else self._single(part, keep)
            apart = kl_divergences(teacher[rows], student, temperature=self.config.temperature)
            yield Term("hmsd", (apart * share[rows]).sum(), self.config.hmsd)

    def _dmcd(self, leaves: Features, order: list[list[int]]) -> Tensor:
        """Return Σ over the path of KL(σ(Z_larger/τ) ‖ σ(Z_smaller/τ)), mean over samples."""
        keep = leaves.present.clone()
        z_of = self.combined if self.config.distilled == "fused" else self._single
        larger = z_of(leaves, keep)
        total = larger.new_zeros((), dtype=torch.float32)
        for step in range(max(map(len, order)) - 1):
            rows = torch.tensor([len(o) > step + 1 for o in order], device=keep.device)
            for b, o in enumerate(order):
                if len(o) > step + 1:
                    keep[b, o[step]] = False
            smaller = z_of(leaves, keep)
            share = rows.sum() / len(rows)
            total = total + share * kl_divergence(larger[rows], smaller[rows], temperature=self.config.temperature)
            larger = smaller
        return total

    def _single(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return Z built of the shared or the specific features of what is kept, zeros elsewhere."""
        source = features.shared if self.config.distilled == "shared" else features.specific
        zero = source[0].new_zeros(())
        slots = [chosen(f, rows, zero) for f, rows in zip(source, keep_BM.t().tolist(), strict=True)]
        return torch.cat([s for s in slots if s is not None], 1)


def _gradient(leaf: Tensor) -> Tensor:
    """Return a copy of what has been left at a leaf so far; zeros if nothing was."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.detach().clone()


def _sum(parts: Sequence[Tensor | None]) -> Tensor:
    """Return the sum of what is there, added in axis order."""
    first, *rest = [p for p in parts if p is not None]
    for part in rest:
        first = first + part
    return first


def _students(present_BM: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Draw k for every sample, uniform on 1..present − 1, and return its C(present, k) subsets, sample by sample in parallel.

    Returns:
        Pairs (keep of the samples in question, which samples those are). A sample with one modality has no student.
    """
    per_sample: list[list[tuple[int, ...]]] = []
    for row in present_BM.tolist():
        at_hand = [m for m, p in enumerate(row) if p]
        if len(at_hand) < 2:
            per_sample.append([])
            continue
        k = int(torch.randint(1, len(at_hand), (), generator=generator))
        per_sample.append(list(combinations(at_hand, k)))
    students = []
    for i in range(max(map(len, per_sample))):
        rows = torch.tensor([len(s) > i for s in per_sample])
        keep = torch.zeros_like(present_BM)
        for b, subsets in enumerate(per_sample):
            if len(subsets) > i:
                keep[b, list(subsets[i])] = True
        rows = rows.to(present_BM.device)
        students.append((keep[rows], rows))
    return students


def _descending(score_BM: Tensor, among_BM: Tensor) -> list[list[int]]:
    """Return, per sample, the indices that are ``among``, by falling score; ties in axis order."""
    orders = score_BM.argsort(dim=1, descending=True, stable=True).tolist()
    allowed = among_BM.tolist()
    return [[m for m in order if allowed[b][m]] for b, order in enumerate(orders)]
