"""Methods made for tests: two stages with an adversary, and one that only looks at a voxel and its place in the window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.domain.task import Task
from anymri.losses.regions import region_logits
from anymri.losses.segmentation import segmentation_loss
from anymri.methods import Entry
from anymri.methods.method import MAIN, Method, MethodConfig, Size, Term

CRITIC = "critic"


@final
class DuelConfig(MethodConfig):
    """Settings of the two-stage double."""

    sizes: ClassVar[tuple[Size, ...]] = ("tiny",)
    width: int = 4

    @classmethod
    def sized(cls, size: Size) -> Self:
        return cls()

    @property
    def multiple(self) -> int:
        return 1

    def build(self, task: Task) -> Duel:
        return Duel(self, task)


@final
class Duel(Method):
    """First a segmenter alone; then a critic that tells its output from the truth, and the segmenter against it.

    The critic's loss reaches the segmenter and the segmenter's loss reaches the critic: nothing is detached here, so that only the
    engine can keep the groups apart.
    """

    stages: ClassVar[tuple[str, ...]] = ("alone", "duel")

    def __init__(self, config: DuelConfig, task: Task) -> None:
        super().__init__(task)
        self.multiple = config.multiple
        k = len(task.classes)
        self.segmenter = nn.Sequential(
            nn.Conv3d(len(task.modalities), config.width, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv3d(config.width, k, 1)
        )
        self.critic = nn.Conv3d(len(task.regions), 1, 3, padding=1)
        self.drawn: Tensor
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))  # state that is no weight
        self.stage = "alone"
        self.progress: list[tuple[str, float]] = []  # what the engine said, for tests

    def enter_stage(self, stage: str) -> None:
        self.stage = stage
        self.critic.requires_grad_(stage == "duel")

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        groups = {MAIN: list(self.segmenter.parameters())}
        return groups | {CRITIC: list(self.critic.parameters())} if self.stage == "duel" else groups

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Tensor:
        return image_BMDHW

    def decode(self, features: Any, keep_BM: Tensor) -> Tensor:
        image = torch.where(keep_BM[:, :, None, None, None], features, 0.0)
        return region_logits(self.segmenter(image), self.task.membership)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        self.progress.append((self.stage, progress))
        self.drawn += 1
        image = torch.where(batch.present_BM[:, :, None, None, None], batch.image_BMDHW, 0.0)
        logits = self.segmenter(image + 0.1 * torch.randn(image.shape, generator=generator))
        yield Term("seg", segmentation_loss(logits, batch.target_BRDHW, batch.known_BR, self.task.membership))
        if self.stage == "duel":
            image = torch.where(batch.present_BM[:, :, None, None, None], batch.image_BMDHW, 0.0)
            said = torch.sigmoid(region_logits(self.segmenter(image), self.task.membership))
            yield Term("judge", self.critic(said).sigmoid().mean() - self.critic(batch.target_BRDHW).sigmoid().mean(), group=CRITIC)
            said = torch.sigmoid(region_logits(self.segmenter(image), self.task.membership))
            yield Term("fool", -self.critic(said).sigmoid().mean(), 0.5)


DUEL = Entry("duel", DuelConfig, "test double", "none")


@final
class PlacedConfig(MethodConfig):
    """Settings of the elementwise double: how steep its ramp is, and whether its loss has a cusp where it starts."""

    sizes: ClassVar[tuple[Size, ...]] = ("tiny",)
    slope: float = 1.0
    cusp: bool = False

    @classmethod
    def sized(cls, size: Size) -> Self:
        return cls()

    @property
    def multiple(self) -> int:
        return 1

    def build(self, task: Task) -> Placed:
        return Placed(self, task)


@dataclass(frozen=True)
class Looked:
    """An image and the corner of the window it was cut at."""

    image_BMDHW: Tensor
    origin_B3: Tensor


@final
class Placed(Method):
    """Logits are the mean of the kept modalities plus a ramp over the window: what blends windows must show in them."""

    def __init__(self, config: PlacedConfig, task: Task) -> None:
        super().__init__(task)
        self.multiple, self.slope, self.cusp = config.multiple, config.slope, config.cusp
        self.bias = nn.Parameter(torch.zeros(len(task.regions)))
        self.windows: list[tuple[tuple[int, ...], list[int]]] = []

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Looked:
        self.windows.append((tuple(image_BMDHW.shape[2:]), origin_B3[0].tolist()))
        return Looked(image_BMDHW, origin_B3)

    def decode(self, features: Any, keep_BM: Tensor) -> Tensor:
        keep = keep_BM[:, :, None, None, None]
        mean = torch.where(keep, features.image_BMDHW, 0.0).sum(1, keepdim=True) / keep.sum(1, keepdim=True)
        ramp = sum(torch.linspace(-1, 1, n).reshape([-1 if a == b else 1 for b in range(3)]) for a, n in enumerate(mean.shape[2:]))
        return mean + self.slope * ramp + self.bias[None, :, None, None, None]

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        distance = ((self.bias - (0.0 if self.cusp else 1.0)) ** 2).sum()
        yield Term("bias", distance.sqrt() if self.cusp else distance)


PLACED = Entry("placed", PlacedConfig, "test double", "none")
