"""The one interface that every way of handling missing modalities implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, final

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.domain.modality import Subset, subsets
from anymri.domain.task import Task

Size = Literal["tiny", "small", "base", "paper"]
Features = Any  # What encode hands to decode belongs to the method alone.
Note = Any  # What a method remembers of a window until the case is finished.
MAIN = "main"  # The parameter group of everything that has no adversary.


@dataclass(frozen=True)
class Term:
    """One summand of a training objective.

    Attributes:
        name: For logs.
        value: Scalar with its graph.
        weight: Factor in the objective; logs show the weighted value.
        group: The parameter group it trains. Other groups take no gradient from it.
        measured: Whether its value says anything; a term that only carries gradients further does not.
    """

    name: str
    value: Tensor
    weight: float = 1.0
    group: str = MAIN
    measured: bool = True


@dataclass(frozen=True)
class Adam:
    """An optimiser of its own for a parameter group that the run's would not suit. Its rate follows the run's schedule.

    Attributes:
        learning_rate: At its peak.
        betas: Decay of the two moments.
        weight_decay: L2.
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0


class MethodConfig(BaseModel, ABC):
    """Frozen settings of a method, validated, written to disk with every run and every weights file.

    Attributes:
        sizes: Those it has.
        holds: What its weights hold of single patients beside what was learnt from all; empty if nothing. Whoever trains, imports
            or lists such weights is told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    sizes: ClassVar[tuple[Size, ...]]
    holds: ClassVar[str] = ""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """What spatial sizes must be multiples of; known without building anything."""

    @property
    def multiples(self) -> tuple[int, int, int]:
        """The same along D, H, W; another than ``multiple`` only where a network divides the axes differently."""
        return self.multiple, self.multiple, self.multiple

    @classmethod
    @abstractmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size."""

    @abstractmethod
    def build(self, task: Task) -> Method:
        """Return a freshly initialised network for a task (torch's global generator draws the weights)."""


class Method(nn.Module, ABC):
    """A network and its objective.

    It owns no optimiser, precision, file, schedule or device, and asks how many modalities, never which.

    Attributes:
        task: What it is built for.
        multiple: Spatial sizes that ``encode`` accepts are multiples of this.
        stages: What every training goes through, in order.
    """

    task: Task
    multiple: int
    stages: tuple[str, ...] = (MAIN,)

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    @abstractmethod
    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield the terms of the objective; the caller back-propagates each before it asks for the next.

        Args:
            batch: What to learn from.
            progress: Share of the stage that has passed, 0 to 1.
            generator: The only source of chance, on the CPU.
        """

    @abstractmethod
    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return all that does not depend on which of the present modalities are kept. Absent ones are not computed."""

    @abstractmethod
    def decode(self, features: Features, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW for what is kept; ``keep`` must be within ``present``. Never looks at what is not kept."""

    @final
    def forward(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Tensor:
        """Return logits_BRDHW from everything at hand."""
        return self.decode(self.encode(image_BMDHW, present_BM, origin_B3), present_BM)

    def enter_stage(self, stage: str) -> None:
        """Prepare for a stage of training (freeze what it does not train). Nothing by default."""

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return the trainable parameters by group; one optimiser each."""
        return {MAIN: [p for p in self.parameters() if p.requires_grad]}

    def own_optimisers(self) -> Mapping[str, Adam]:
        """Return the groups whose optimiser is not the run's. None by default."""
        return {}

    def observed(self) -> Mapping[str, Tensor]:
        """Return, and forget, what the last objective saw in its batch and is to be remembered; nothing by default.

        Each tensor has one row per sample, whether it is worth remembering or not, so that processes can put theirs together.
        """
        return {}

    def remember(self, observed: Mapping[str, Tensor]) -> None:
        """Take over what all parts of a step observed, in their order, once the step is made; nothing by default.

        Whichever process computed a part, all are given the same rows. What is kept of them belongs in buffers; no other state may
        change while an objective is computed, counters apart.
        """

    def strip(self) -> None:
        """Drop for good what only training uses, such as a teacher: weights files hold what is left. Nothing by default."""

    def decode_window(self, features: Features, keep_BM: Tensor) -> tuple[Tensor, Note]:
        """Return what windows are blended of, (B, any, D, H, W), and a note of this window for ``finish``.

        By default the logits that ``decode`` returns, and no note.
        """
        return self.decode(features, keep_BM), None

    def finish(self, blended: Tensor, notes: Sequence[Note]) -> Tensor:
        """Return logits_BRDHW of a case from what all its windows were blended to and what was noted of each.

        By default what was blended, as it is.
        """
        return blended

    def supports(self) -> tuple[Subset, ...]:
        """Return the subsets it can serve: all, unless it is made for some."""
        return subsets(self.task.modalities)
