"""synthesis: make the images that are absent, then segment as if they had always been there.

Idea: An encoder of each modality says the same latent map; the maximum over what is at hand is decoded to the image of every
modality. Once that is learnt it is frozen, and a U-Net is trained on real images where there are any and synthetic ones elsewhere
(data generation). It is not told which are which.

Paper: Chartsias et al., "Multimodal MR Synthesis via Modality-Invariant Latent Representation", IEEE Transactions on Medical
Imaging 37(3), 2018, doi:10.1109/TMI.2017.2764326. It stands here for the methods of data generation of the survey in
arXiv 2509.15017.

Here: z_m → ``LatentEncoder``, carried in ``Features``; fusion by max → ``largest``; output branches → ``ImageBranch``; L1 from the
fused latent → terms ``fused``, from single ones → ``single``; variance → ``variance``; real and synthetic channels → ``completed``.

Deviations:
    1. In three dimensions, with norms in the encoders. The last norm of z_m has no scale: else nothing lowers the variance more
       easily than making every z_m small.
    2. A drawn subset is fused, one for each sample; every modality at hand says its own z_m and is a target, dropped or not.
    3. The losses of a sample are divided by how many L1 there are, n + n² for n modalities at hand, so that an incomplete case
       counts as much as a complete one. The variance has the weight of a single L1.
    4. The brain is where any modality at hand is not zero. What is made is zero outside, as real images are; there the brain is
       where a kept modality is not zero, since nothing else may be looked at.
    5. Segmentation is not part of the paper: U-Net, loss and draw of subsets are those of ``dropout_unet`` of the same size,
       without presence channels.
    6. Encoders have the published widths, 16 to 64, at ``base`` and ``paper``; half of that at ``small``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_subsets
from anymri.domain.task import Task
from anymri.losses.deep_supervision import deep_segmentation_loss, level_weights
from anymri.losses.regions import region_logits
from anymri.losses.synthesis import absolute_errors, latent_variances
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.latents import ImageBranch, LatentEncoder, largest
from anymri.nn.leaves import Leaves
from anymri.nn.shared_specific import placed, spread
from anymri.nn.unet import PlainUNet

SYNTHESIS, SEGMENTATION = "synthesis", "segmentation"


@final
class SynthesisConfig(MethodConfig):
    """Settings of synthesis and of the U-Net behind it.

    Attributes:
        widths: Channels per stage of the U-Net, finest first.
        latent_widths: Channels per level of every encoder, finest first; a latent map has as many as the first.
        latent_depths: Convolutions per level.
        variance: Weight of the variance of latent maps, relative to one L1; 0 leaves it out.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128, 256), min_length=2)
    latent_widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64), min_length=2)
    latent_depths: tuple[PositiveInt, ...] = (2, 2, 2)
    variance: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if len(self.latent_depths) != len(self.latent_widths):
            raise ValueError(f"latent_depths {self.latent_depths} must be as many as latent_widths {self.latent_widths}")
        return self

    @property
    def multiple(self) -> int:
        """What spatial sizes must be multiples of."""
        return 2 ** (max(len(self.widths), len(self.latent_widths)) - 1)

    @classmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size."""
        if size == "tiny":
            return cls(widths=(4, 8), latent_widths=(4, 6), latent_depths=(1, 1))
        if size == "small":
            return cls(widths=(8, 16, 32, 64, 128), latent_widths=(8, 16, 32))
        return cls(widths=(32, 64, 128, 256, 320, 320)) if size == "paper" else cls()

    def build(self, task: Task) -> Synthesis:
        """Return a freshly initialised network."""
        return Synthesis(self, task)


@dataclass(frozen=True)
class Features:
    """What each modality says, and the images themselves. Rows of absent modalities hold zeros in the maps, anything in the images.

    Attributes:
        image_BMDHW: As it was given.
        latents: z_m, one (B, C, D, H, W) per modality.
    """

    image_BMDHW: Tensor
    latents: tuple[Tensor, ...]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Return the same with every latent map changed."""
        return replace(self, latents=tuple(map(change, self.latents)))

    def brain(self, keep_BM: Tensor) -> Tensor:
        """Return where any kept image shows something, (B, D, H, W), bool."""
        return (torch.where(keep_BM[:, :, None, None, None], self.image_BMDHW, 0.0) != 0).any(1)


@final
class Synthesis(Method):
    """The networks and objectives of synthesis and of segmentation."""

    def __init__(self, config: SynthesisConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.multiple = config.multiple
        self.stages = SYNTHESIS, SEGMENTATION
        modalities = range(len(task.modalities))
        self.encoders = nn.ModuleList(LatentEncoder(config.latent_widths, config.latent_depths) for _ in modalities)
        self.branches = nn.ModuleList(ImageBranch(config.latent_widths[0]) for _ in modalities)
        self.network = PlainUNet(len(task.modalities), config.widths, len(task.classes))
        self.enter_stage(SYNTHESIS)

    def enter_stage(self, stage: str) -> None:
        """Freeze what the stage does not train."""
        self.stage = stage
        for part in (self.encoders, self.branches):
            part.requires_grad_(stage == SYNTHESIS)
        self.network.requires_grad_(stage == SEGMENTATION)
        for head, weight in zip(reversed(self.network.heads), level_weights(len(self.network.heads)), strict=True):
            head.requires_grad_(stage == SEGMENTATION and weight > 0)

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return what each present modality says."""
        latents: list[Tensor | None] = []
        for m, encoder in enumerate(self.encoders):
            image = image_BMDHW[present_BM[:, m], m].unsqueeze(1)
            latents.append(encoder(image) if len(image) else None)
        return Features(image_BMDHW, spread(latents, present_BM))

    def completed(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return the images that are kept and synthetic ones of all the others, (B, M, D, H, W)."""
        image = features.image_BMDHW
        if keep_BM.all():
            return image
        fused = largest(features.latents, keep_BM)
        brain = features.brain(keep_BM).unsqueeze(1)
        channels = []
        for m, branch in enumerate(self.branches):
            channel, lacking = image[:, m : m + 1], ~keep_BM[:, m]
            if lacking.any():
                made = torch.where(brain[lacking], branch(fused[lacking]).to(image.dtype), 0.0)
                channel = torch.where(lacking[:, None, None, None, None], placed(made, lacking), channel)
            channels.append(channel)
        return torch.cat(channels, 1)

    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW of the U-Net on what is kept, completed."""
        logits = self.network(self.completed(features, keep_BM))[0]
        return region_logits(logits, self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield what the stage learns, with one drawn subset per sample."""
        keep = draw_subsets(batch.present_BM, generator)
        if self.stage == SYNTHESIS:
            yield from self._synthesis(batch, keep)
            return
        with torch.no_grad():
            image = self.completed(self.encode(batch.image_BMDHW, keep, batch.origin_B3), keep)
        yield Term("seg", deep_segmentation_loss(self.network(image), batch.target_BRDHW, batch.known_BR, self.task.membership))

    def _synthesis(self, batch: Batch, keep_BM: Tensor) -> Iterator[Term]:
        """Yield L1 from the fused latent and from single ones, one image at a time, the variance, and what carries them on."""
        said, joint = Leaves(), Leaves()
        features = self.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3).mapped(said.cut)
        everyone = torch.ones_like(batch.present_BM[:, 0])
        for value in self._errors(joint.cut(largest(features.latents, keep_BM)), features, everyone, batch.present_BM):
            yield Term("fused", value)
            joint.gather()
        yield Term("fusion", joint.carried(), measured=False)
        said.gather()
        del joint
        for latent, rows in zip(features.latents, batch.present_BM.unbind(1), strict=True):
            for value in self._errors(latent, features, rows, batch.present_BM):
                yield Term("single", value)
                said.gather()
        if self.config.variance and (batch.present_BM.sum(1) > 1).any():
            apart = latent_variances(features.latents, batch.present_BM, features.brain(batch.present_BM))
            yield Term("variance", (apart * _shares(batch.present_BM)).sum(), self.config.variance)
            said.gather()
        yield Term("encoders", said.carried(), measured=False)

    def _errors(self, latent: Tensor, features: Features, rows_B: Tensor, present_BM: Tensor) -> Iterator[Tensor]:
        """Yield L1 to each modality at hand of the samples in question, made from their latent map, as shares of the loss."""
        brain, shares = features.brain(present_BM), _shares(present_BM)
        for m, branch in enumerate(self.branches):
            rows = rows_B & present_BM[:, m]
            if rows.any():
                made = branch(latent if rows.all() else latent[rows])[:, 0]
                yield (absolute_errors(made, features.image_BMDHW[rows, m], brain[rows]) * shares[rows]).sum()


def _shares(present_BM: Tensor) -> Tensor:
    """Return what one L1 of each sample counts: all samples alike, all of a sample's n + n² alike; shape (B,)."""
    at_hand = present_BM.sum(1)
    return 1 / (at_hand * (at_hand + 1) * len(present_BM))
