"""What is segmented from what, on which grid. Every task of the project is here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from anymri.domain.modality import Modality, ModalitySet
from anymri.domain.region import LabelScheme, Region
from anymri.errors import LabelSchemeError, UsageError

BACKGROUND = "background"


@dataclass(frozen=True)
class Task:
    """Modalities, classes, nested regions, label schemes, and the grid that cases are prepared on.

    Attributes:
        name: The word on the command line.
        description: One line for people.
        modalities: What a patient may have; its order is the axis M.
        classes: Mutually exclusive classes, background first; axis K of a network's output.
        regions: Nested regions, outermost first; axis R of targets and of ``Method.decode``.
        schemes: Label schemes that files of this task use; the first is the default.
        spacing_mm: Spacing of the prepared grid.
        orientation: Axis codes of the prepared grid.
        foreground: "brain": skull-stripped, zero outside; "image": every voxel counts.
        colours: Region name → RGB hex of its own class (the region without the ones nested inside), for pictures.
    """

    name: str
    description: str
    modalities: ModalitySet
    classes: tuple[str, ...]
    regions: tuple[Region, ...]
    schemes: tuple[LabelScheme, ...]
    spacing_mm: tuple[float, float, float]
    orientation: str
    foreground: Literal["brain", "image"]
    colours: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.classes[0] != BACKGROUND:
            raise ValueError(f"task {self.name}: the first class must be {BACKGROUND}")
        for outer, inner in zip(self.regions, self.regions[1:], strict=False):
            if not set(inner.classes) < set(outer.classes):
                raise ValueError(f"task {self.name}: region {inner.name} is not inside {outer.name}")

    @property
    def region_names(self) -> tuple[str, ...]:
        """Names of the regions, outermost first."""
        return tuple(r.name for r in self.regions)

    @property
    def membership(self) -> tuple[tuple[bool, ...], ...]:
        """Table R × K: does class k belong to region r."""
        return tuple(tuple(c in r.classes for c in self.classes) for r in self.regions)

    def scheme(self, name: str | None = None) -> LabelScheme:
        """Return a label scheme by name; the task's first one if no name is given.

        Raises:
            LabelSchemeError: If the task has no such scheme.
        """
        if name is None:
            return self.schemes[0]
        for scheme in self.schemes:
            if scheme.name == name:
                return scheme
        raise LabelSchemeError(
            f"label scheme '{name}' is unknown for task {self.name}; expected one of {', '.join(s.name for s in self.schemes)}"
        )


_WT, _TC, _ET = ("WT",), ("WT", "TC"), ("WT", "TC", "ET")
_GLIOMA_REGIONS = ("WT", "TC", "ET")

GLIOMA = Task(
    name="glioma",
    description="Glioma in adults: whole tumour, tumour core, enhancing tumour",
    modalities=ModalitySet(
        (
            Modality("FLAIR", "fluid-attenuated inversion recovery (T2-FLAIR)", "flair"),
            Modality("T1", "native T1-weighted", "t1"),
            Modality("T1c", "contrast-enhanced T1-weighted", "t1c"),
            Modality("T2", "T2-weighted", "t2"),
        )
    ),
    classes=(BACKGROUND, "NCR", "ED", "ET"),
    regions=(
        Region("WT", "whole tumour", ("NCR", "ED", "ET")),
        Region("TC", "tumour core", ("NCR", "ET")),
        Region("ET", "enhancing tumour", ("ET",)),
    ),
    schemes=(
        LabelScheme(
            "brats2021",
            "BraTS 2017 to 2021: 1 necrotic and non-enhancing core, 2 edema, 4 enhancing",
            {1: _TC, 2: _WT, 4: _ET},
            _GLIOMA_REGIONS,
            {"NCR": 1, "ED": 2, "ET": 4},
        ),
        LabelScheme(
            "brats2023",
            "BraTS 2023 and later, adult glioma before treatment: 1 necrotic core, 2 edema, 3 enhancing",
            {1: _TC, 2: _WT, 3: _ET},
            _GLIOMA_REGIONS,
            {"NCR": 1, "ED": 2, "ET": 3},
        ),
        LabelScheme(
            "brats2013",
            "BRATS 2012 to 2015: 1 necrosis, 2 edema, 3 non-enhancing, 4 enhancing",
            {1: _TC, 2: _WT, 3: _TC, 4: _ET},
            _GLIOMA_REGIONS,
            {"NCR": 1, "ED": 2, "ET": 4},
        ),
        LabelScheme(
            "msd",
            "Medical Segmentation Decathlon Task01: 1 edema, 2 non-enhancing, 3 enhancing",
            {1: _WT, 2: _TC, 3: _ET},
            _GLIOMA_REGIONS,
            {"ED": 1, "NCR": 2, "ET": 3},
        ),
        LabelScheme(
            "brats2024",
            "BraTS 2024 and later, adult glioma after treatment: as brats2023, with 4 resection cavity, no part of the tumour",
            {1: _TC, 2: _WT, 3: _ET, 4: ()},
            _GLIOMA_REGIONS,
        ),
        LabelScheme("wt", "whole tumour alone: 1; what lies inside is unknown", {1: _WT}, ("WT",)),
    ),
    spacing_mm=(1.0, 1.0, 1.0),
    orientation="LPS",
    foreground="brain",
    # What the pictures of the field use: green edema, red necrotic core, yellow enhancing.
    colours=("#2ca02c", "#d62728", "#ffd92f"),
)

# The challenge's annotation protocol (synapse.org, syn64153130, wiki 631053): 1 non-enhancing core, 2 surrounding FLAIR
# hyperintensity, 3 enhancing tumour, 4 resection cavity. Pretreat-MetsToBrain-Masks (The Cancer Imaging Archive,
# doi:10.7937/6be1-r748, 200 patients before treatment) names its files as the challenge does, BraTS-MET-00086-000-seg.nii.gz, and
# they hold 0 to 3. That the values mean the same there follows from the names: a page that says so was not found.
METASTASIS = replace(
    GLIOMA,
    name="metastasis",
    description="Metastases in the brain: all lesions with their edema, tumour core, enhancing tumour",
    schemes=tuple(
        replace(GLIOMA.scheme(name), description=description)
        for name, description in (
            ("brats2023", "BraTS-METS 2023, metastases before treatment: 1 non-enhancing core, 2 edema, 3 enhancing"),
            ("brats2021", "the same with the values of earlier editions: 1 non-enhancing core, 2 edema, 4 enhancing"),
            ("brats2024", "metastases after treatment: as brats2023, with 4 resection cavity, no part of the tumour"),
            ("wt", "all lesions with their edema: 1; what lies inside is unknown"),
        )
    ),
)

PROSTATE = Task(
    name="prostate",
    description="Prostate gland and lesion from bi-parametric MRI",
    modalities=ModalitySet(
        (
            Modality("T2w", "T2-weighted", "t2w"),
            Modality("ADC", "apparent diffusion coefficient", "adc"),
            Modality("DWI", "diffusion-weighted, high b-value", "dwi"),
        )
    ),
    classes=(BACKGROUND, "gland", "lesion"),
    regions=(
        Region("PG", "prostate gland", ("gland", "lesion")),
        Region("LES", "lesion", ("lesion",)),
    ),
    schemes=(
        LabelScheme("gland_lesion", "1 gland, 2 lesion", {1: ("PG",), 2: ("PG", "LES")}, ("PG", "LES"), {"gland": 1, "lesion": 2}),
        LabelScheme("lesion", "1 lesion; the gland is unknown", {1: ("LES",)}, ("LES",)),
        LabelScheme(
            "zones",
            "Medical Segmentation Decathlon Task05: 1 peripheral zone, 2 transition zone; the lesion is unknown",
            {1: ("PG",), 2: ("PG",)},
            ("PG",),
        ),
    ),
    spacing_mm=(1.0, 1.0, 1.0),
    orientation="LPS",
    foreground="image",
    colours=("#2ca02c", "#ffd92f"),
)

TASKS = (GLIOMA, METASTASIS, PROSTATE)


def task_named(name: str) -> Task:
    """Return a task by name.

    Raises:
        UsageError: If there is no such task.
    """
    for task in TASKS:
        if task.name == name:
            return task
    raise UsageError(f"task '{name}' is unknown; expected one of {', '.join(t.name for t in TASKS)}")
