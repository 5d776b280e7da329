"""Studies as they lie on disk, cases as they are prepared, cohorts and their splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anymri.errors import UsageError

Affine = tuple[tuple[float, float, float, float], ...]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """One 3-D image on disk: a file and, for a 4-D file, which channel of it."""

    path: Path
    channel: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.channel is None else f"{self.path}[{self.channel}]"


@dataclass(frozen=True)
class Study:
    """The raw files of one visit. Modalities that are not at hand are simply not among ``images``.

    Attributes:
        name: Unique within its cohort.
        images: Modality name → where its voxels are.
        labels: The reference segmentation, if there is one.
        scheme: Name of the label scheme of ``labels``; None if nothing declares it, which no preparation accepts.
    """

    name: str
    images: dict[str, Source]
    labels: Source | None = None
    scheme: str | None = None


@dataclass(frozen=True)
class Lattice:
    """Shape and affine of a voxel grid in plain numbers, as case.json holds them; the affine maps indices to RAS+ mm."""

    shape: Shape
    affine: Affine


@dataclass(frozen=True)
class Case:
    """What case.json says of one prepared visit; the arrays lie beside it.

    Attributes:
        name: As in the study.
        task: Name of the task it was prepared for.
        modalities: Names of the modalities at hand, in the task's order; axis M of the stored image.
        known_regions: Regions that the reference tells, outermost first; empty without a reference.
        grid: The prepared grid.
        native: The patient's own grid.
        scheme: Label scheme of the reference file, if there is one.
        sources: Modality (or "labels") → {"file", "channel", "sha256"}.
        intensity: Modality → what its normalisation was, {"mean", "std", …}.
        steps: What was done, in order, each a name with its settings.
        version: Version of anymri that made it.
    """

    name: str
    task: str
    modalities: tuple[str, ...]
    known_regions: tuple[str, ...]
    grid: Lattice
    native: Lattice
    scheme: str | None = None
    sources: dict[str, dict[str, str | int | None]] = field(default_factory=dict[str, dict[str, str | int | None]])
    intensity: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    steps: tuple[dict[str, object], ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Split:
    """Folds of a cohort by case name.

    Attributes:
        folds: Case names of each test fold.
        train_only: Cases that join every training set and are never tested on (partly labelled ones, say).
    """

    folds: tuple[tuple[str, ...], ...]
    train_only: tuple[str, ...] = ()

    def test(self, fold: int) -> tuple[str, ...]:
        """Return the cases of a fold.

        Raises:
            UsageError: If there is no such fold.
        """
        if not 0 <= fold < len(self.folds):
            raise UsageError(f"fold {fold} does not exist; this cohort has folds 0 to {len(self.folds) - 1}")
        return self.folds[fold]

    def train(self, fold: int) -> tuple[str, ...]:
        """Return every case outside a fold, with those that are only ever trained on."""
        test = set(self.test(fold))
        return tuple(n for names in self.folds for n in names if n not in test) + self.train_only


@dataclass(frozen=True)
class Cohort:
    """A named collection of studies.

    Attributes:
        name: For tables.
        studies: In a fixed order.
        left_out: What was found and not used: (path, reason).
        licence: Terms under which the images may be used, if known.
        citation: What to cite, if known.
        split: Folds that come with the data, if any.
        layout: Name of the layout in which it was found.
        notes: What else should be known of how it was read, one line each.
    """

    name: str
    studies: tuple[Study, ...]
    left_out: tuple[tuple[Path, str], ...] = ()
    licence: str = ""
    citation: str = ""
    split: Split | None = None
    layout: str = ""
    notes: tuple[str, ...] = ()
