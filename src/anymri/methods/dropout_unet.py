"""dropout_unet: one 3D U-Net with modality dropout, the yardstick.

Idea: Concatenate what is at hand, zero for what is not, say which is which in constant presence channels, and drop modalities at
random in training. No mechanism beyond that; strong when trained like nnU-Net (recipe ``dropout_unet.nnunet``).

Paper: the baseline of arXiv 2602.20218 and of Ruffle et al., "Brain tumour segmentation with incomplete imaging data", 2023.

Here: the U-Net of nnU-Net → ``PlainUNet``; modality dropout → ``drawing``; targeted dropout → ``drawing="targeted"``, ``targets``;
deep supervision → ``deep_segmentation_loss``.

Deviations:
    1. The zeroing is a selection, not a product: content of what is not kept cannot matter, even NaN.
    2. Dice runs over the task's nested regions, which are what is scored; ``dice="classes"`` is nnU-Net's, over classes without
       background. Its sums run over one sample, as nnU-Net's do where there is no cascade. ``smooth`` is 1 voxel, nnU-Net's 1e-5.
    3. Convolutions begin as torch has them; ``initialisation="he"`` is nnU-Net's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_bernoulli, draw_by_size, draw_subsets, draw_weighted
from anymri.domain.task import Task
from anymri.errors import UsageError
from anymri.losses.deep_supervision import deep_segmentation_loss, level_weights
from anymri.losses.regions import region_logits
from anymri.losses.segmentation import Dice
from anymri.methods.method import Method, MethodConfig, Size, Term
from anymri.nn.blocks import LEAK
from anymri.nn.unet import PlainUNet


@final
class DropoutUNetConfig(MethodConfig):
    """Settings of the baseline.

    Attributes:
        widths: Channels per stage, finest first.
        presence: Add one constant channel per modality that says whether it is kept.
        drawing: How modalities are dropped.
        keep_probability: Of each modality, for ``drawing="bernoulli"``.
        targets: Subsets, their names joined with +, each with how often it is drawn, relative to the others; for
            ``drawing="targeted"``. No other subset is drawn, but of a case that has none of them all is kept.
        dice: What Dice runs over: the task's regions, or its classes without background.
        smooth: Voxels added to its numerator and denominator; nnU-Net's 1e-5 leaves an empty class next to no gradient.
        initialisation: Of convolutions: torch's own, or He et al.'s normal one with biases of zero.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128, 256), min_length=2)
    presence: bool = True
    drawing: Literal["uniform_subset", "uniform_size", "bernoulli", "targeted"] = "uniform_subset"
    keep_probability: float = Field(default=0.5, gt=0, le=1)
    targets: tuple[tuple[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], ...] = ()
    dice: Dice = "regions"
    smooth: float = Field(default=1.0, gt=0)
    initialisation: Literal["torch", "he"] = "torch"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.drawing == "targeted") != bool(self.targets):
            raise ValueError(f"drawing '{self.drawing}' with {len(self.targets)} targets; targets are for drawing 'targeted' alone")
        return self

    @property
    def multiple(self) -> int:
        """What spatial sizes must be multiples of."""
        return 2 ** (len(self.widths) - 1)

    @classmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size."""
        widths = {
            "tiny": (4, 8),
            "small": (8, 16, 32, 64, 128),
            "base": (16, 32, 64, 128, 256),
            "paper": (32, 64, 128, 256, 320, 320),
        }
        return cls(widths=widths[size])

    def build(self, task: Task) -> DropoutUNet:
        """Return a freshly initialised network."""
        return DropoutUNet(self, task)


@dataclass(frozen=True)
class Identity:
    """Early fusion: nothing can be computed before the subset is known."""

    image_BMDHW: Tensor


@final
class DropoutUNet(Method):
    """The network and objective of the baseline."""

    def __init__(self, config: DropoutUNetConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.multiple = config.multiple
        self.network = PlainUNet(len(task.modalities) * (1 + config.presence), config.widths, len(task.classes))
        for head, weight in zip(reversed(self.network.heads), level_weights(len(self.network.heads)), strict=True):
            head.requires_grad_(weight > 0)  # A head whose level has no weight is not trained: declared here.
        if config.initialisation == "he":
            _begin_as_he(self.network)
        self._targets = {task.modalities.subset(names.split("+")).mask: w for names, w in config.targets}
        if len(self._targets) < len(config.targets):
            raise UsageError(
                f"targets {', '.join(names for names, _ in config.targets)} name a subset more than once; give each one weight"
            )

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Identity:
        """Return the image itself."""
        return Identity(image_BMDHW)

    def decode(self, features: Identity, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW from one pass of the network."""
        logits = self.network(self._input(features.image_BMDHW, keep_BM))[0]
        return region_logits(logits, self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield the loss of every decoder level for one drawn subset per sample."""
        keep = self._draw(batch.present_BM, generator)
        levels = self.network(self._input(batch.image_BMDHW, keep))
        membership, dice, smooth = self.task.membership, self.config.dice, self.config.smooth
        loss = deep_segmentation_loss(levels, batch.target_BRDHW, batch.known_BR, membership, dice=dice, smooth=smooth)
        yield Term("seg", loss)

    def _draw(self, present_BM: Tensor, generator: torch.Generator) -> Tensor:
        if self.config.drawing == "targeted":
            return draw_weighted(present_BM, generator, weights=self._targets)
        if self.config.drawing == "bernoulli":
            return draw_bernoulli(present_BM, generator, keep_probability=self.config.keep_probability)
        return (draw_subsets if self.config.drawing == "uniform_subset" else draw_by_size)(present_BM, generator)

    def _input(self, image_BMDHW: Tensor, keep_BM: Tensor) -> Tensor:
        keep = keep_BM[:, :, None, None, None]
        image = torch.where(keep, image_BMDHW, 0.0)
        return torch.cat((image, keep.expand_as(image).to(image.dtype)), 1) if self.config.presence else image


def _begin_as_he(network: nn.Module) -> None:
    """Draw the kernels of all convolutions from He et al.'s normal distribution for a leaky ReLU, and set biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=LEAK)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
