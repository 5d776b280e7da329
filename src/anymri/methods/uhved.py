"""U-HVED: one latent map, of which every modality says something, explains all images and the segmentation.

Idea: At every level of a U-Net each modality's encoder says a Gaussian over a common latent map; what a subset knows is the product
of its members' Gaussians and a prior. Decoders turn that map into the segmentation and into every modality's image, so that the map
has to hold what all of them show (multi-task learning). A divergence brings what a subset says to what all say together.

Paper: "Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and Segmentation", MICCAI 2019, arXiv 1907.11150. It
stands here for the multi-task methods of the survey in arXiv 2509.15017.

Here: μ_m, σ_m → ``GaussianEncoder``, carried as 1/σ² and μ/σ² in ``Features``; q_S with Λ and μ_S → ``product``; KL →
``subset_divergences``, terms ``divergence``; MSE of reconstructions → terms ``reconstruction``.

Deviations:
    1. q_full is detached: small subsets come to it, it does not come to them.
    2. Log-variances are clamped to [−8, 8].
    3. Subsets are drawn uniformly by size, for each sample. All divergences are in every step, one level at a time.
    4. KL is the mean over channels and voxels of a level, not their sum, so that its weight does not depend on the crop.
    5. MSE is the mean over voxels and over the modalities at hand, those that the subset lacks included.
    6. On an incomplete case q_full is of what is at hand, and subsets are those of it.
    7. Softmax over background and classes, regions by summation; soft Dice over regions + cross-entropy.
    8. Encoders and decoders are those of the other methods here, skips are added. ``small`` and ``paper`` have the published
       widths, 8 to 64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_by_size, generator_on
from anymri.domain.task import Task
from anymri.losses.gaussians import subset_divergences
from anymri.losses.regions import region_logits
from anymri.losses.segmentation import segmentation_loss
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.gaussians import GaussianEncoder, drawn, product
from anymri.nn.leaves import Leaves
from anymri.nn.shared_specific import SumDecoder, spread


@final
class UHVEDConfig(MethodConfig):
    """Settings of U-HVED.

    Attributes:
        widths: Channels per level of every encoder and of the latent maps, finest first.
        depths: Convolutions per level.
        divergence: Weight of the divergences; 0 leaves them out.
        reconstruction: Weight of the reconstructions; 0 leaves them and their decoders out.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=2)
    depths: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    divergence: float = Field(default=0.1, ge=0)
    reconstruction: float = Field(default=0.1, ge=0)

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
        return cls() if size == "base" else cls(widths=(8, 16, 32, 64))

    def build(self, task: Task) -> UHVED:
        """Return a freshly initialised network."""
        return UHVED(self, task)


@dataclass(frozen=True)
class Features:
    """What each modality says of the latent map, at each level, finest first. Rows of absent modalities are zero: they say nothing.

    Attributes:
        precisions: 1/σ², [level][m] (B, C, D, H, W).
        weighted: μ/σ², likewise.
        present: (B, M).
    """

    precisions: tuple[tuple[Tensor, ...], ...]
    weighted: tuple[tuple[Tensor, ...], ...]
    present: Tensor

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Return the same with every map changed; ``present`` stays."""
        precisions, weighted = (tuple(tuple(map(change, level)) for level in of) for of in (self.precisions, self.weighted))
        return replace(self, precisions=precisions, weighted=weighted)

    def of(self, keep_BM: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return mean and precision of q_S of what is kept, at each level."""
        return [product(p, w, keep_BM) for p, w in zip(self.precisions, self.weighted, strict=True)]


@final
class UHVED(Method):
    """The network and objective of U-HVED. Reconstructions are dropped after training."""

    def __init__(self, config: UHVEDConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.multiple = config.multiple
        *finer, last = config.widths
        modalities = range(len(task.modalities))
        self.encoders = nn.ModuleList(GaussianEncoder(config.widths, config.depths) for _ in modalities)
        self.segmenter = SumDecoder(last, finer, len(task.classes))
        self.painters = nn.ModuleList(SumDecoder(last, finer, 1) for _ in modalities) if config.reconstruction else None

    def strip(self) -> None:
        """Drop the decoders of images."""
        self.painters = None

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return what each present modality says."""
        said: list[list[tuple[Tensor, Tensor]]] = []
        for m, encoder in enumerate(self.encoders):
            image = image_BMDHW[present_BM[:, m], m].unsqueeze(1)
            said.append(encoder(image) if len(image) else [])
        precisions, weighted = (
            tuple(
                spread([levels[level][part] if levels else None for levels in said], present_BM)
                for level in range(len(self.config.widths))
            )
            for part in (0, 1)
        )
        return Features(precisions, weighted, present_BM)

    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW from the mean of the latent maps."""
        logits = _decoded(self.segmenter, [mean for mean, _ in features.of(keep_BM)])
        return region_logits(logits, self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield segmentation and reconstructions from a sample of a drawn subset's product, divergences, and what carries them on.

        Raises:
            RuntimeError: If the method was stripped.
        """
        if self.config.reconstruction and self.painters is None:
            raise RuntimeError("a stripped method cannot be trained: the decoders of images are gone")
        keep = draw_by_size(batch.present_BM, generator)
        chance = generator_on(batch.image_BMDHW.device, generator)
        said, maps = Leaves(), Leaves()
        features = self.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3).mapped(said.cut)
        latent = [maps.cut(drawn(mean, precision, chance)) for mean, precision in features.of(keep)]
        logits = _decoded(self.segmenter, latent)
        yield Term("seg", segmentation_loss(logits, batch.target_BRDHW, batch.known_BR, self.task.membership))
        maps.gather()
        del logits
        for term in self._reconstructions(latent, batch):
            yield term
            maps.gather()
        yield Term("latent", maps.carried(), measured=False)
        said.gather()
        del maps, latent
        if self.config.divergence:
            for term in self._divergences(features):
                yield term
                said.gather()
        yield Term("encoders", said.carried(), measured=False)

    def _reconstructions(self, latent: list[Tensor], batch: Batch) -> Iterator[Term]:
        """Yield the mean squared difference from each modality at hand; all modalities of a sample together count as one."""
        share = 1 / batch.present_BM.sum(1) / len(batch.present_BM)
        for m, painter in enumerate(self.painters or ()):
            rows = batch.present_BM[:, m]
            if rows.any():
                image = _decoded(painter, [z if rows.all() else z[rows] for z in latent])[:, 0]
                apart = (image.float() - batch.image_BMDHW[rows, m].float()).square().flatten(1).mean(1)
                yield Term("reconstruction", (apart * share[rows]).sum(), self.config.reconstruction)

    def _divergences(self, features: Features) -> Iterator[Term]:
        """Yield, level by level, the mean over subsets of KL to the prior and of KL from the whole."""
        for precisions, weighted in zip(features.precisions, features.weighted, strict=True):
            value = subset_divergences(precisions, weighted, features.present) / len(features.precisions)
            yield Term("divergence", value, self.config.divergence)


def _decoded(decoder: nn.Module, latent: list[Tensor]) -> Tensor:
    """Return what a decoder makes of latent maps, finest first."""
    *skips, last = latent
    return decoder(last, skips)
