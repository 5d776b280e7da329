"""ShaSpec: shared and specific features.

Idea: An encoder that all modalities share finds what they have in common, one of its own for each finds what they have not; both
are fused by a residual composition, and one decoder reads the fused features of all. Two losses keep the parts apart: a patient's
shared features are to be alike, specific ones are to tell their modality. Shared features also stand for absent modalities.

Paper: "Multi-modal Learning with Missing Modality via Shared-Specific Feature Modelling", CVPR 2023, arXiv 2307.14126. Where it is
silent, what the authors' public program ("Code") does was read; nothing of it is copied.

Here: shared and specific encoders → ``encoders``; f_shared → ``Features.shared``; u_spec → ``Features.summary``; composition g →
``compose``; Z and its first upsampling → ``SlotDecoder``; alignment → ``alignment_loss``, term ``alignment``; domain classification
→ ``origin``, ``origin_loss``, term ``domain``; dropout of modalities → ``complete``.

Deviations:
    1. The slot of an absent modality in Z is the mean of the kept modalities' shared features (``absent="shared_mean"``).
       ``"first"``, as Code: the shared feature of the first kept one, so that a name's place in a list decides what is seen.
    2. What is absent or not kept goes through no encoder, adds nothing to the skips and is in no loss. Code sends a zero image
       through both encoders, and uses its skips and both auxiliary losses.
    3. Alignment is N times the mean over all pairs of kept modalities, 0 for a single one; Code sums over the N neighbours on a
       circle of four. On a complete case both have the same scale, and here no order of modalities matters.
    4. The pooled branch of the dilated pyramid has no norm: of one voxel an instance norm returns its bias, a constant.
    5. Softmax over background and classes, regions by summation; the published losses are then those of the regions' probabilities.
       ``outputs="sigmoid"``: one sigmoid per region, as Code.
    6. Subsets are drawn for each sample; Dice sums over one sample at a time.
    7. Regions that a reference does not know cost nothing.
    8. ``paper`` has the published network; all other sizes have the encoders of a U-Net, without pyramid and standardised kernels,
       so that methods are compared at one size.
    9. The optimiser is the run's (published: SGD with momentum 0.99).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_by_size
from anymri.domain.task import Task
from anymri.losses.regions import region_logits
from anymri.losses.regionwise import region_cross_entropy, region_dice_loss
from anymri.losses.shared_specific import alignment_loss, origin_loss
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.blocks import StandardisedConv
from anymri.nn.leaves import Leaves
from anymri.nn.shared_specific import Backbone, ModalityEncoders, ModalityReduction, added, backbone_of, chosen, spread
from anymri.nn.slots import SlotDecoder, with_summary


@final
class ShaSpecConfig(MethodConfig):
    """Settings of ShaSpec; the defaults are those of the paper.

    Attributes:
        encoder: That of a 3D U-Net, or ShaSpec's own: a ResNet of standardised kernels that ends in dilated convolutions.
        widths: Channels per level of every encoder, finest first; of ShaSpec's the planes of its stem and of its four stages.
        depths: Convolutions per level; bottlenecks per stage behind a stem of one convolution.
        absent: What stands in Z for a modality that is not kept.
        outputs: What the last convolution says.
        alignment: Weight of the loss that brings shared features together; 0 leaves it out.
        domain: Weight of the loss that tells specific features apart; 0 leaves it out.
        complete: Share of the training, from its start, in which nothing is dropped. Published: 80 000 of 180 000 steps.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")

    encoder: Literal["unet", "shaspec"] = "unet"
    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=2)
    depths: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    absent: Literal["shared_mean", "first"] = "shared_mean"
    outputs: Literal["softmax", "sigmoid"] = "softmax"
    alignment: float = Field(default=0.1, ge=0)
    domain: float = Field(default=0.02, ge=0)
    complete: float = Field(default=4 / 9, ge=0, le=1)

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

    def build(self, task: Task) -> ShaSpec:
        """Return a freshly initialised network."""
        return ShaSpec(self, task)


@dataclass(frozen=True)
class Features:
    """What is known of each modality before any subset is chosen. Rows of absent modalities are zero and never read.

    Attributes:
        shared: f_shared of each modality, M × (B, C, D', H', W').
        summary: u_spec of each, M × (B, C).
        shares: What a modality adds to the first upsampling, [slot][source] (B, C', 2D', 2H', 2W'): its fused feature in its own
            slot, its shared one in those of others.
        skips: Each modality's share of the reduced skips, [level][m] (B, C_l, D_l, H_l, W_l), finest first.
    """

    shared: tuple[Tensor, ...]
    summary: tuple[Tensor, ...]
    shares: tuple[tuple[Tensor, ...], ...]
    skips: tuple[tuple[Tensor, ...], ...]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Return the same with every feature changed."""

        def each(level: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(map(change, level))

        return Features(each(self.shared), each(self.summary), tuple(map(each, self.shares)), tuple(map(each, self.skips)))


@dataclass(frozen=True)
class _Part:
    """One modality: shared features above the bottleneck, f_shared, g, u_spec, of the samples that have it."""

    finer: list[Tensor]
    shared: Tensor
    fused: Tensor
    summary: Tensor


@final
class ShaSpec(Method):
    """The network and objective of ShaSpec. What tells modalities apart is dropped after training."""

    def __init__(self, config: ShaSpecConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.multiple = config.multiple
        n, backbone = len(task.modalities), config.backbone
        wide, plain = backbone.bottleneck, backbone.standardised
        self.encoders = ModalityEncoders(n, backbone, every_level=False)
        self.compose = StandardisedConv(2 * wide, wide, 3) if plain else nn.Conv3d(2 * wide, wide, 3, padding=1, bias=False)
        self.reductions = nn.ModuleList(
            ModalityReduction(n, fine, narrow, standardised=plain)
            for fine, narrow in zip(backbone.skips, backbone.decoder, strict=True)
        )
        outputs = len(task.classes) if config.outputs == "softmax" else len(task.regions)
        self.decoder = SlotDecoder(n, backbone, outputs)
        self.origin = nn.Linear(wide, n) if config.domain else None

    def strip(self) -> None:
        """Drop what tells modalities apart."""
        self.origin = None

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return the features of each present modality."""
        parts = [
            self._encoded(encoder, image_BMDHW[present_BM[:, m], m].unsqueeze(1))
            for m, encoder in enumerate(self.encoders.specific)
        ]

        def everywhere(features: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
            return spread(features, present_BM)

        shares = tuple(
            everywhere([p and self.decoder.share(slot, p.fused if m == slot else p.shared) for m, p in enumerate(parts)])
            for slot in range(len(parts))
        )
        skips = tuple(everywhere(reduce([p and p.finer[level] for p in parts])) for level, reduce in enumerate(self.reductions))
        return Features(everywhere([p and p.shared for p in parts]), everywhere([p and p.summary for p in parts]), shares, skips)

    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW of the kept subset of every sample."""
        keep = keep_BM.t().tolist()
        skips = [added([chosen(f, rows, None) for f, rows in zip(level, keep, strict=True)]) for level in features.skips]
        logits = self.decoder(self.upsampled(features, keep_BM), skips).float()
        return region_logits(logits, self.task.membership) if self.config.outputs == "softmax" else logits

    def upsampled(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return the first transposed convolution of Z, (B, C', 2D', 2H', 2W')."""
        lender_BM = keep_BM
        if self.config.absent == "first":
            lender_BM = keep_BM & (keep_BM.cumsum(1) == 1)
        own: list[Tensor | None] = []
        lent: list[Tensor | None] = []
        for slot, shares in enumerate(features.shares):
            for m, share in enumerate(shares):
                if m == slot:
                    own.append(chosen(share, keep_BM[:, m].tolist(), None))
                else:
                    lent.append(chosen(share, (lender_BM[:, m] & ~keep_BM[:, slot]).tolist(), None))
        total = added(own)
        if all(part is None for part in lent):
            return total
        return total + added(lent) / lender_BM.sum(1)[:, None, None, None, None].to(total.dtype)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield segmentation, alignment and domain classification of what is kept, and what carries them to the encoders.

        Raises:
            RuntimeError: If the method was stripped.
        """
        if self.config.domain and self.origin is None:
            raise RuntimeError("a stripped method cannot be trained: what tells modalities apart is gone")
        keep = batch.present_BM if progress < self.config.complete else draw_by_size(batch.present_BM, generator)
        # What is dropped here is dropped from everything, so that it need not be encoded.
        whole = self.encode(batch.image_BMDHW, keep, batch.origin_B3)
        leaves = Leaves()
        features = whole.mapped(leaves.cut)
        logits = self.decode(features, keep)
        dice = region_dice_loss(logits, batch.target_BRDHW, batch.known_BR)
        yield Term("seg", dice + region_cross_entropy(logits, batch.target_BRDHW, batch.known_BR))
        leaves.gather()
        del logits, dice
        apart = alignment_loss(features.shared, keep) if self.config.alignment else None
        if apart is not None:
            yield Term("alignment", apart, self.config.alignment)
            leaves.gather()
        if self.origin is not None:
            yield Term("domain", origin_loss([self.origin(u) for u in features.summary], keep), self.config.domain)
            leaves.gather()
        yield Term("encoders", leaves.carried(), measured=False)

    def _encoded(self, encoder: nn.Module, image: Tensor) -> _Part | None:
        """Return what is known of one modality from the images of those samples that have it; nothing if none has."""
        if not len(image):
            return None
        *finer, shared = self.encoders.shared(image)
        specific, summary = with_summary(encoder, image)
        return _Part(finer, shared, shared + self.compose(torch.cat((shared, specific[-1]), 1)), summary)
