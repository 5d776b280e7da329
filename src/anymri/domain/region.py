"""Classes, nested regions, and the label schemes by which files write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Region:
    """A thing to segment: a union of classes.

    Attributes:
        name: The short name, "TC".
        description: The same in full, for reports.
        classes: Names of the classes it is made of.
    """

    name: str
    description: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class LabelScheme:
    """How one edition of a data set writes regions as voxel values. 0 is always background.

    Attributes:
        name: The word on the command line, "brats2021".
        description: Where it is used.
        regions: For each voxel value, the names of the regions that such a voxel belongs to.
        known: Names of the regions that this scheme can tell. The others are unknown everywhere, not absent.
        written: For writing: the value of each class, or None for a scheme that cannot write every class.
    """

    name: str
    description: str
    regions: Mapping[int, tuple[str, ...]]
    known: tuple[str, ...]
    written: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", MappingProxyType(dict(self.regions)))
        if self.written is not None:
            object.__setattr__(self, "written", MappingProxyType(dict(self.written)))
        unknown = {r for names in self.regions.values() for r in names} - set(self.known)
        if unknown or 0 in self.regions:
            raise ValueError(f"scheme {self.name}: regions {sorted(unknown)} are not among {self.known}, or 0 is given a region")

    @property
    def values(self) -> tuple[int, ...]:
        """Every value that a file may hold, with 0."""
        return (0, *sorted(self.regions))
