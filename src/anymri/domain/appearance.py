"""How tissues look in each modality, for synthetic patients: plausible means, and how far patients lie apart.

Numbers are about z-scores inside the brain, as prepared images have them; whoever makes an image of them scales it anew. They were
chosen so that tumours then look as they did, on average, in 21 patients of BraTS 2018 to 2021, and that quantiles of healthy tissue
lie near those of these patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anymri.domain.region import LabelScheme
from anymri.domain.task import GLIOMA, METASTASIS, Task


@dataclass(frozen=True)
class Tissue:
    """A tissue of the healthy brain.

    Attributes:
        name: What ``Appearance`` calls it.
        labels: Numbers of FreeSurfer and SynthSeg that it has in maps of anatomies, left and right.
        site: Tumours may be centred in it.
        fluid: Tumours do not grow into it.
        cortical: Edema may spare it, with what lies in its sulci.
    """

    name: str
    labels: tuple[int, ...]
    site: bool = False
    fluid: bool = False
    cortical: bool = False


TISSUES = (
    Tissue("white", (2, 41, 25, 57, 77, 78, 79, 85, 251, 252, 253, 254, 255), site=True),
    Tissue("cortex", (3, 42), site=True, cortical=True),
    Tissue("deep grey", (9, 48, 10, 49, 11, 50, 12, 51, 17, 53, 18, 54, 26, 58, 28, 60, 80, 81, 82), site=True),
    Tissue("pallidum", (13, 52), site=True),
    Tissue("cerebellar white", (7, 46)),
    Tissue("cerebellar grey", (8, 47), cortical=True),
    Tissue("brainstem", (16,)),
    Tissue("ventricle", (4, 43, 5, 44, 14, 15, 72), fluid=True),
    Tissue("vessel", (30, 62, 31, 63), cortical=True),
    Tissue("sulcus", (24,), cortical=True),
)
# Skull, skin, eyes, sinuses and the like: taken away, as from prepared images. SynthSeg numbers them from 501.
OUTSIDE = frozenset({0, 136, 137, 163, 164, 165, 258, 259, *range(500, 560)})


@dataclass(frozen=True)
class Look:
    """How a tissue looks in one modality.

    Attributes:
        mean: Of all patients.
        between: Standard deviation of the means of patients.
        within: Standard deviation inside the tissue of one patient.
    """

    mean: float
    between: float = 0.25
    within: float = 0.12


@dataclass(frozen=True)
class Appearance:
    """What a generator of synthetic patients knows of a task.

    Attributes:
        scheme: How label maps of tumours are to be read.
        looks: Modality → name of a tissue or a class → how it looks. What is not told looks any way.
    """

    scheme: LabelScheme
    looks: Mapping[str, Mapping[str, Look]]


_FLAIR = {
    "white": Look(-0.15, 0.15, 0.12),
    "cortex": Look(0.4, 0.2, 0.35),
    "deep grey": Look(0.2, 0.2, 0.12),
    "pallidum": Look(-0.3, 0.25, 0.12),
    "cerebellar white": Look(-0.1, 0.25),
    "cerebellar grey": Look(0.1, 0.25, 0.15),
    "brainstem": Look(0.0, 0.3),
    "ventricle": Look(-2.7, 0.3, 0.3),
    "vessel": Look(0.0, 0.6, 0.3),
    "sulcus": Look(-1.3, 0.4, 0.8),
    "ED": Look(2.4, 0.4, 0.75),
    "NCR": Look(2.2, 0.9, 0.9),
    "ET": Look(2.7, 0.8, 0.8),
}
_T1 = {
    "white": Look(1.05, 0.12, 0.15),
    "cortex": Look(-0.25, 0.15, 0.18),
    "deep grey": Look(0.2, 0.2, 0.12),
    "pallidum": Look(0.7, 0.2, 0.1),
    "cerebellar white": Look(0.75, 0.2),
    "cerebellar grey": Look(-0.3, 0.2, 0.18),
    "brainstem": Look(0.7, 0.2),
    "ventricle": Look(-3.3, 0.3, 0.2),
    "vessel": Look(-1.0, 0.5, 0.3),
    "sulcus": Look(-1.5, 0.3, 0.9),
    "ED": Look(0.1, 0.3, 0.4),
    "NCR": Look(-0.55, 0.45, 0.4),
    "ET": Look(-0.15, 0.45, 0.4),
}
_T1C = {
    "white": Look(0.45, 0.15, 0.12),
    "cortex": Look(-0.1, 0.15, 0.18),
    "deep grey": Look(0.1, 0.2, 0.12),
    "pallidum": Look(0.3, 0.2, 0.1),
    "cerebellar white": Look(0.4, 0.2),
    "cerebellar grey": Look(0.0, 0.2, 0.18),
    "brainstem": Look(0.4, 0.2),
    "ventricle": Look(-2.7, 0.3, 0.2),
    "vessel": Look(3.0, 1.0, 0.7),
    "sulcus": Look(-0.9, 0.4, 1.5),
    "ED": Look(-0.1, 0.3, 0.4),
    "NCR": Look(-0.4, 0.5, 0.5),
    "ET": Look(2.7, 0.7, 0.9),
}
_T2 = {
    "white": Look(-0.6, 0.1, 0.1),
    "cortex": Look(0.0, 0.15, 0.18),
    "deep grey": Look(-0.25, 0.2, 0.1),
    "pallidum": Look(-0.8, 0.2, 0.1),
    "cerebellar white": Look(-0.5, 0.2),
    "cerebellar grey": Look(-0.1, 0.2, 0.15),
    "brainstem": Look(-0.4, 0.2),
    "ventricle": Look(4.2, 0.6, 0.4),
    "vessel": Look(0.5, 0.8, 0.5),
    "sulcus": Look(1.5, 0.5, 1.2),
    "ED": Look(0.8, 0.45, 0.55),
    "NCR": Look(1.6, 0.7, 0.7),
    "ET": Look(1.0, 0.6, 0.5),
}
_GLIOMA = {"FLAIR": _FLAIR, "T1": _T1, "T1c": _T1C, "T2": _T2}


def appearance_of(task: Task) -> Appearance | None:
    """Return what is known of a task; None if its patients show more than a brain, of which there are no label maps."""
    if task.foreground != "brain":
        return None
    if task.name in (GLIOMA.name, METASTASIS.name):
        return Appearance(GLIOMA.scheme("msd"), _GLIOMA)
    return Appearance(task.scheme(), {})


def ring_classes(task: Task) -> tuple[str, ...]:
    """Return, for each region, a class that is in it and not in the next one inside."""
    inner = [set(r.classes) for r in task.regions[1:]] + [set[str]()]
    return tuple(next(c for c in r.classes if c not in within) for r, within in zip(task.regions, inner, strict=True))
