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
    2. Skips are the concatenated shared features reduced by 1×1 (as ShaSpec), or shared and specific ones (``skips="fused"``). The
       share of an absent modality is nothing, or that of a zero volume, as in 1.
    3. The segmentation loss, unnamed in the paper, is soft Dice over regions + cross-entropy, on a drawn and on the full set. The
       decoder has one output per class; a region is the sum of its classes' probabilities.
    4. τ is 2, without the factor τ²; σ is the softmax over the channels of Z at each voxel; a KL is summed over channels, its mean
       is over voxels and samples; the teacher of DMCD is detached as that of HMSD (the paper states none of these).
    5. Scores are computed once, over the full set, as algorithm 1 lists it; ``rescore`` does it among the remaining ones.
    6. k of HMSD is drawn for each sample of a batch, not once per batch. On an incomplete case the teacher is the set at hand.
    7. With ``distilled="shared"`` or ``"specific"`` Z is built of those features, zeros where absent, and HMSD compares softmax
       over channels of Z instead of decoded probabilities. The paper does not define it.
    8. ``paper`` has ShaSpec's encoders and decoder; their kernels are standardised, and C's too. All other sizes have the encoders
       of a U-Net, so that methods are compared at one size.
    9. C stands before the subset is combined, as sections 3.1 and 3.2 have it (the caption of figure 2 has it behind), and adds no
       shared feature unless ``residual`` (ShaSpec). ShaSpec's alignment and domain losses are no part of it.

With ``absent="zero"`` neighbours on the path of DMCD differ in one slot: its KL can teach only the view of nothing to imitate what
was removed. With ``"shared_mean"`` the slot is made of what remains, which can learn to make up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from anymri.data.batch import Batch
from anymri.data.draw import draw_subsets
from anymri.domain.task import Task
from anymri.losses.agreement import kl_divergence, kl_divergences
from anymri.losses.regions import region_logits
from anymri.losses.segmentation import segmentation_loss
from anymri.losses.subsets import cosine_criticality, descending, path, students_of
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.blocks import ConvNormAct
from anymri.nn.leaves import Leaves
from anymri.nn.shared_specific import (
    Backbone,
    ModalityEncoders,
    ModalityReduction,
    Pyramids,
    SumDecoder,
    added,
    backbone_of,
    chosen,
    one_by_one,
    spread,
)


@final
class CCSDConfig(MethodConfig):
    """Settings of CCSD; the defaults are those of the paper or of docs/decisions.

    Attributes:
        encoder: That of a 3D U-Net, or ShaSpec's: a ResNet of standardised kernels that ends in dilated convolutions.
        widths: Channels per level of every encoder, finest first; of ShaSpec's the planes of its stem and of its four stages.
        depths: Convolutions per level; bottlenecks per stage behind a stem of one convolution.
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

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")

    encoder: Literal["unet", "shaspec"] = "unet"
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
        backbone_of(self.encoder, self.widths, self.depths)
        return self

    @property
    def multiple(self) -> int:
        """What spatial sizes must be multiples of."""
        return max(self.multiples)

    @property
    def multiples(self) -> tuple[int, int, int]:
        """The same along D, H, W."""
        return self.backbone.multiples

    @property
    def backbone(self) -> Backbone:
        """The encoders, and what follows from them."""
        return backbone_of(self.encoder, self.widths, self.depths)

    @classmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size."""
        if size == "tiny":
            return cls(widths=(4, 6), depths=(1, 1))
        if size == "small":
            return cls(widths=(8, 16, 32, 64))
        if size == "paper":
            return cls(encoder="shaspec", widths=(64, 64, 128, 256, 320), depths=(1, 3, 4, 6, 3))
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
        nothing = None if self.nothing is None else change(self.nothing)
        return replace(self._per_sample(change), nothing=nothing, nothing_skips=_levels(self.nothing_skips, change))

    def samples(self, rows_B: Tensor) -> Features:
        """Return the features of some samples of the batch; what is known of nothing is everyone's."""
        return replace(self._per_sample(lambda t: t[rows_B]), present=self.present[rows_B])

    def _per_sample(self, change: Callable[[Tensor], Tensor]) -> Features:
        fused, shared, specific, *skips = _levels((self.fused, self.shared, self.specific, *self.skips), change)
        return replace(self, fused=fused, shared=shared, specific=specific, skips=tuple(skips))


def _levels(levels: Sequence[Sequence[Tensor]], change: Callable[[Tensor], Tensor]) -> tuple[tuple[Tensor, ...], ...]:
    return tuple(tuple(map(change, level)) for level in levels)


@final
class CCSD(Method):
    """The network and objective of CCSD."""

    def __init__(self, config: CCSDConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        n, backbone = len(task.modalities), config.backbone
        self.multiple = config.multiple
        fused_skips, plain = config.skips == "fused", backbone.standardised
        self.encoders = ModalityEncoders(n, backbone, every_level=fused_skips)
        self.compose = ConvNormAct(2 * backbone.bottleneck, backbone.bottleneck, standardised=plain)
        self.reductions = nn.ModuleList(
            ModalityReduction(n, wide * (1 + fused_skips), narrow, standardised=plain)
            for wide, narrow in zip(backbone.skips, backbone.decoder, strict=True)
        )
        self._kept: tuple[tuple[object, ...], Tensor, tuple[Tensor, tuple[tuple[Tensor, ...], ...]]] | None = None
        self.decoder = SumDecoder(
            n * backbone.bottleneck, backbone.decoder, len(task.classes), finest=backbone.finest, standardised=plain
        )

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return the features of each present modality."""
        found: list[list[Tensor | None]] = [[None] * present_BM.shape[1] for _ in range(3 + len(self.reductions))]
        # Gradients need every feature anyway. Without them a modality's own levels are reduced before the next one is encoded.
        for rows_BM in (present_BM,) if torch.is_grad_enabled() else one_by_one(present_BM):
            shared, specific = self.encoders(image_BMDHW, rows_BM)
            fused = [self._composed(s[-1], p[-1]) if s else None for s, p in zip(shared, specific, strict=True)]
            ends = ([levels[-1] if levels else None for levels in of] for of in (shared, specific))
            for row, values in zip(found, (fused, *ends, *self._skips(shared, specific)), strict=True):
                row[:] = [old if new is None else new for old, new in zip(row, values, strict=True)]
        nothing, nothing_skips = self._nothing(image_BMDHW) if self.config.absent == "zero" else (None, ())
        whole = [spread(row, present_BM) for row in found]
        return Features(whole[0], whole[1], whole[2], tuple(whole[3:]), present_BM, nothing, nothing_skips)

    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW of the kept subset of every sample."""
        return region_logits(self._class_logits(features, keep_BM), self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield L_seg of the set at hand and of a drawn subset, L_HMSD, L_DMCD, and what carries them to the encoders."""
        whole = self.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
        leaves = Leaves()
        features = whole.mapped(leaves.cut)
        full = self._class_logits(features, batch.present_BM)
        yield Term("seg_full", segmentation_loss(full, batch.target_BRDHW, batch.known_BR, self.task.membership))
        leaves.gather()
        teacher = full.detach()
        del full
        distil_path = self.config.dmcd > 0 and bool((batch.present_BM.sum(1) > 1).any())
        scores = self._gradient_scores(features, leaves) if distil_path and self.config.criticality == "gradient" else None
        drawn = draw_subsets(batch.present_BM, generator)
        subset = self._class_logits(features, drawn)
        yield Term("seg_subset", segmentation_loss(subset, batch.target_BRDHW, batch.known_BR, self.task.membership))
        leaves.gather()
        del subset
        if self.config.hmsd:
            for term in self._hmsd(features, teacher, generator):
                yield term
                leaves.gather()
        if distil_path:
            order = self.removal_order(features, scores, generator)
            yield Term("dmcd", self._dmcd(features, order), self.config.dmcd)
            leaves.gather()
        yield Term("encoders", leaves.carried(), measured=False)

    def combined(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return Z_S, (B, M·C, D', H', W')."""
        keep = keep_BM.t().tolist()
        filling = features.nothing
        if filling is None:
            total = added([chosen(f, rows, None) for f, rows in zip(features.shared, keep, strict=True)])
            filling = total / keep_BM.sum(1)[:, None, None, None, None].to(total.dtype)
        slots = [chosen(f, rows, filling) for f, rows in zip(features.fused, keep, strict=True)]
        return torch.cat([s for s in slots if s is not None], 1)

    def criticality(self, features: Features, keep_BM: Tensor, gradient_BM: Tensor | None) -> Tensor:
        """Return s(m) of every kept modality, −inf elsewhere, shape (B, M); ``most_critical`` removes the highest first.

        Args:
            features: Of the batch.
            keep_BM: Which modalities are scored, and against which.
            gradient_BM: The norm of what L_seg of the full set left at f_fused; needed for ``criticality="gradient"`` alone.
        """
        if self.config.criticality == "cosine":
            return cosine_criticality(torch.stack([f.flatten(1) for f in features.fused], 1), keep_BM)
        if gradient_BM is None:
            raise RuntimeError(
                "gradient criticality is read from the gradient that seg_full left; back-propagate each term as it comes"
            )
        return gradient_BM.masked_fill(~keep_BM, -torch.inf)

    def removal_order(self, features: Features, gradient_BM: Tensor | None, generator: torch.Generator) -> list[list[int]]:
        """Return, per sample, the present modalities in the order in which the path removes them."""
        if self.config.path == "random":
            noise = torch.rand(features.present.shape, generator=generator).to(features.present.device)
            return descending(noise, features.present)
        sign = 1.0 if self.config.path == "most_critical" else -1.0
        return path(
            lambda among: sign * self.criticality(features, among, gradient_BM), features.present, rescore=self.config.rescore
        )

    def _gradient_scores(self, features: Features, leaves: Leaves) -> Tensor | None:
        """Return ‖∂L_seg/∂f_fused‖₂ of each sample and modality (B, M) from what was gathered; None if nothing was."""
        found = [leaves.gathered(f) for f in features.fused]
        if all(g is None for g in found):
            return None
        nobody = features.present.new_zeros(len(features.present), dtype=torch.float32)
        return torch.stack([nobody if g is None else g.flatten(1).norm(dim=1) for g in found], 1)

    def _nothing(self, image_BMDHW: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        """Return f_shared of a zero volume and its share of the skips: constants of the weights for each size of window.

        Without gradients they are kept until the size or a weight changes. Weights are compared by value: what writes to
        ``p.data`` or puts another tensor in its place leaves no other trace.
        """
        if torch.is_grad_enabled():
            self._kept = None
            return self._view_of_nothing(image_BMDHW)
        kind = image_BMDHW.device.type
        cast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        weights = parameters_to_vector([*self.encoders.shared.parameters(), *self.reductions.parameters()])
        how = (image_BMDHW.shape[2:], image_BMDHW.device, image_BMDHW.dtype, cast, weights.dtype)
        if self._kept is None or self._kept[0] != how or not torch.equal(self._kept[1], weights):
            self._kept = how, weights, self._view_of_nothing(image_BMDHW)
        return self._kept[2]

    def _view_of_nothing(self, image_BMDHW: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        blank = self.encoders.of_nothing(image_BMDHW.shape[2:], image_BMDHW)
        n = len(self.encoders.specific)
        levels = self._skips([blank] * n, [[torch.zeros_like(f) for f in blank]] * n)
        everywhere = torch.ones((1, n), dtype=torch.bool)
        return blank[-1], tuple(spread(level, everywhere) for level in levels)

    def _composed(self, shared: Tensor, specific: Tensor) -> Tensor:
        composed = self.compose(torch.cat((shared, specific), 1))
        return composed + shared if self.config.residual else composed

    def _class_logits(self, features: Features, keep_BM: Tensor) -> Tensor:
        keep = keep_BM.t().tolist()
        return self.decoder(
            self.combined(features, keep_BM), [self._skip(features, level, keep) for level in range(len(features.skips))]
        )

    def _skip(self, features: Features, level: int, keep: list[list[bool]]) -> Tensor:
        """Return the reduced skip of the kept modalities: a sum, since the reduction is linear."""
        blank = features.nothing_skips[level] if features.nothing_skips else [None] * len(keep)
        return added([chosen(f, rows, b) for f, rows, b in zip(features.skips[level], keep, blank, strict=True)])

    def _skips(self, shared: Pyramids, specific: Pyramids) -> list[list[Tensor | None]]:
        """Return each modality's share of the reduced skips, [level][m]; None of a modality that no sample has."""

        def source(level: int, s: list[Tensor], p: list[Tensor]) -> Tensor | None:
            if not s:
                return None
            return torch.cat((s[level], p[level]), 1) if self.config.skips == "fused" else s[level]

        pairs = list(zip(shared, specific, strict=True))
        return [reduce([source(level, s, p) for s, p in pairs]) for level, reduce in enumerate(self.reductions)]

    def _hmsd(self, features: Features, teacher: Tensor, generator: torch.Generator) -> Iterator[Term]:
        """Yield KL(teacher ‖ student) for every subset of a drawn size; each sample's mean over its students counts alike."""
        students = students_of(features.present, generator)
        if not students:
            return
        if self.config.distilled != "fused":
            teacher = self._single(features, features.present)
        # Samples draw sizes of their own and so have different numbers of students.
        share = 1 / torch.stack([rows for _, rows in students]).sum(0).clamp(min=1) / len(features.present)
        for keep, rows in students:
            part = features if rows.all() else features.samples(rows)
            student = self._class_logits(part, keep) if self.config.distilled == "fused" else self._single(part, keep)
            apart = kl_divergences(teacher[rows], student, temperature=self.config.temperature)
            yield Term("hmsd", (apart * share[rows]).sum(), self.config.hmsd)

    def _dmcd(self, features: Features, order: list[list[int]]) -> Tensor:
        """Return Σ over the path of KL(σ(Z_larger/τ) ‖ σ(Z_smaller/τ)), mean over samples."""
        keep = features.present.clone()
        z_of = self.combined if self.config.distilled == "fused" else self._single
        larger = z_of(features, keep)
        total = larger.new_zeros((), dtype=torch.float32)
        for step in range(max(map(len, order)) - 1):
            rows = torch.tensor([len(o) > step + 1 for o in order], device=keep.device)
            for b, o in enumerate(order):
                if len(o) > step + 1:
                    keep[b, o[step]] = False
            smaller = z_of(features, keep)
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
