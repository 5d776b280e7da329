"""Modalities, ordered sets of them, and the subsets that a patient may have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anymri.errors import UsageError


@dataclass(frozen=True)
class Modality:
    """One kind of image, such as T1c.

    Attributes:
        name: The word used everywhere, "T1c".
        description: The same in full, for reports.
        option: The word on the command line, "t1c".
    """

    name: str
    description: str
    option: str


@dataclass(frozen=True)
class ModalitySet:
    """The ordered modalities of a task. Their order is the order of a tensor's axis M."""

    modalities: tuple[Modality, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(f"modality names must be distinct and at least one: {self.names}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in axis order."""
        return tuple(m.name for m in self.modalities)

    def __len__(self) -> int:
        return len(self.modalities)

    def __iter__(self) -> Iterator[Modality]:
        return iter(self.modalities)

    def __getitem__(self, name: str) -> Modality:
        return self.modalities[self.index(name)]

    def index(self, name: str) -> int:
        """Return the axis position of a modality.

        Raises:
            UsageError: If there is no such modality.
        """
        if name not in self.names:
            raise UsageError(f"modality '{name}' is unknown; expected one of {', '.join(self.names)}")
        return self.names.index(name)

    def subset(self, names: Iterable[str]) -> Subset:
        """Return the subset with these names, in axis order.

        Raises:
            UsageError: If a name is unknown.
        """
        wanted = {self.index(name) for name in names}
        return Subset(self, tuple(i in wanted for i in range(len(self))))

    @property
    def full(self) -> Subset:
        """The subset with every modality."""
        return Subset(self, (True,) * len(self))


@dataclass(frozen=True)
class Subset:
    """Which modalities of a set are at hand; prints as ``FLAIR+T1c``.

    Attributes:
        of: The set it is a part of.
        mask: One flag per modality, in axis order.
    """

    of: ModalitySet
    mask: tuple[bool, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities at hand, in axis order."""
        return tuple(n for n, kept in zip(self.of.names, self.mask, strict=True) if kept)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the modalities that are not at hand, in axis order."""
        return tuple(n for n, kept in zip(self.of.names, self.mask, strict=True) if not kept)

    def __len__(self) -> int:
        return sum(self.mask)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __le__(self, other: Subset) -> bool:
        return all(b or not a for a, b in zip(self.mask, other.mask, strict=True))

    def __str__(self) -> str:
        return "+".join(self.names)


def subsets(modalities: ModalitySet) -> tuple[Subset, ...]:
    """Return all 2^N − 1 non-empty subsets in the canonical order: by size, then in axis order."""
    chosen = (c for k in range(1, len(modalities) + 1) for c in itertools.combinations(modalities.names, k))
    return tuple(modalities.subset(names) for names in chosen)
