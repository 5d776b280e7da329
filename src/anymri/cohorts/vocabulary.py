"""The words by which data sets call modalities and labels. A word is known or it is not: nothing is guessed from a part of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anymri.domain.modality import Modality
from anymri.domain.region import LabelScheme
from anymri.domain.task import BACKGROUND, Task

# As ``folded`` leaves them.
_T2 = ("t2", "t2w", "t2wi", "t2weighted", "t2weightedimage")
_MODALITIES: dict[str, tuple[str, ...]] = {
    "FLAIR": (
        *("flair", "t2flair", "flairt2", "t2wflair", "t2weightedflair", "t2f", "fluidattenuatedinversionrecovery"),
        *("t2fluidattenuatedinversionrecovery", "t2weightedfluidattenuatedinversionrecovery"),
    ),
    "T1": (
        *("t1", "t1w", "t1wi", "t1n", "t1native", "nativet1", "t1weighted", "t1weightedimage", "nativet1weighted", "t1pre"),
        *("t1precontrast", "precontrastt1", "t1weightedprecontrast", "precontrastt1weighted", "t1withoutcontrast"),
        *("t1weightedwithoutcontrast", "nativet1w", "t1wnative", "t1wpre", "pret1"),
    ),
    "T1c": (
        *("t1c", "t1ce", "t1cew", "t1gd", "t1wce", "cet1", "cet1w", "t1wc", "t1wgd", "t1gado", "t1gadolinium", "t1wgadolinium"),
        *("t1contrast", "t1post", "t1wpost", "postt1", "t1pc", "t1km", "t1postgad", "t1postgd", "t1withcontrast"),
        *("t1weightedwithcontrast", "t1wwithcontrast"),
        *("t1postcontrast", "postcontrastt1", "t1weightedpostcontrast", "postcontrastt1weighted", "t1contrastenhanced"),
        *("contrastenhancedt1", "contrastenhancedt1w", "t1weightedcontrastenhanced", "contrastenhancedt1weighted"),
        *("t1weightedgadolinium", "t1weightedce", "t1weightedgd", "gadoliniumenhancedt1", "gadoliniumenhancedt1weighted"),
    ),
    "T2": _T2,
    "T2w": _T2,
    "ADC": ("adc", "adcmap", "apparentdiffusioncoefficient", "apparentdiffusioncoefficientmap"),
    "DWI": ("dwi", "hbv", "highb", "highbvalue", "dwihighb", "highbdwi", "diffusionweighted", "diffusionweightedimage"),
}

_NECROSIS = (
    *("ncr", "net", "ncrnet", "netc", "necrosis", "necrotic", "necroticcore", "necrotictumorcore", "nonenhancing"),
    *("nonenhancingtumor", "nonenhancingtumorcore", "nonenhancingcore", "necroticandnonenhancing", "nonenhancingandnecrosis"),
    *("necroticandnonenhancingtumor", "necroticandnonenhancingtumorcore", "necrosisandnonenhancing"),
    *("necrosisandnonenhancingtumor", "necroticnonenhancingtumorcore", "necroticnonenhancing", "necroticcoreandnonenhancingtumor"),
)
_EDEMA = (
    *("ed", "edema", "oedema", "peritumoraledema", "peritumouraledema", "peritumoraloedema", "peritumouraloedema", "snfh"),
    *("peritumoraledematous", "peritumoraledematousinvadedtissue", "surroundingnonenhancingflairhyperintensity"),
)
_ENHANCING = (
    *("et", "enhancing", "enhancingtumor", "enhancingcore", "gdenhancingtumor", "gdenhancing", "enhancingtissue"),
    *("gadoliniumenhancingtumor", "contrastenhancingtumor", "activetumor", "enh"),
)
# Word → the parts of the outermost region that a voxel so called may be. Parts are the classes of the task, or finer.
_Parts = frozenset[str]
_ZONES = frozenset({"peripheral", "transition"})
_FINER = {"prostate": {"gland": _ZONES}}
_TUMOUR: dict[str, _Parts] = {
    **dict.fromkeys(_NECROSIS, frozenset({"NCR"})),
    **dict.fromkeys(_EDEMA, frozenset({"ED"})),
    **dict.fromkeys(_ENHANCING, frozenset({"ET"})),
    **dict.fromkeys(("tc", "tumorcore", "core"), frozenset({"NCR", "ET"})),
    **dict.fromkeys(("wt", "wholetumor", "completetumor"), frozenset({"NCR", "ED", "ET"})),
    **dict.fromkeys(("rc", "resectioncavity"), frozenset[str]()),
}
_LABELS: dict[str, dict[str, _Parts]] = {
    "glioma": _TUMOUR,
    "metastasis": _TUMOUR,
    "prostate": {
        **dict.fromkeys(("pz", "peripheral", "peripheralzone"), frozenset({"peripheral", "lesion"})),
        **dict.fromkeys(("tz", "transition", "transitionzone", "transitionalzone"), frozenset({"transition", "lesion"})),
        **dict.fromkeys(("pg", "gland", "prostate", "prostategland", "wholegland", "wholeprostate"), _ZONES | {"lesion"}),
        **dict.fromkeys(("les", "lesion", "cancer", "prostatecancer", "cspca"), frozenset({"lesion"})),
    },
}
_BACKGROUND = (BACKGROUND, "bg", "unlabeled", "unlabelled", "none", "clearlabel")
IGNORE = "ignore"


def folded(text: str) -> str:
    """Return a word in lower case with nothing but letters and digits, in the spelling "tumor"."""
    return "".join(c for c in text.casefold() if c.isalnum()).replace("tumour", "tumor")


def modality_called(text: str, task: Task) -> Modality | None:
    """Return the modality of a task that a word stands for; None if the word is not known."""
    # Signs that change what the letters say: "T1 C-" is without contrast, "T2*" another weighting.
    if "*" in text or text.strip().rstrip(")]} ").endswith("-"):
        return None
    word = folded(text)
    for modality in task.modalities:
        if word in (folded(modality.name), folded(modality.option)):
            return modality
    return next((m for m in task.modalities if word in _MODALITIES.get(m.name, ())), None)


@dataclass(frozen=True)
class Declared:
    """What a data set's own table of labels says.

    Attributes:
        scheme: The one scheme of the task that it equals, if there is one.
        reason: Why there is none.
    """

    scheme: LabelScheme | None
    reason: str = ""


# Value → the word for its voxels, or word → the values that make up the region it stands for.
Table = Mapping[int, str]
RegionTable = Mapping[str, tuple[int, ...]]


def declared_scheme(labels: Table, task: Task) -> Declared:
    """Return the scheme that a table of exclusive labels declares, such as {1: "edema", 2: "non-enhancing tumor", 3: …}.

    A word for a region and one for a smaller region inside it, side by side, leave the first what is outside the second.
    """
    words = _words(task)
    meant: dict[int, _Parts] = {}
    for value, text in labels.items():
        word = folded(text)
        if value == 0 and word in _BACKGROUND:
            continue
        if word == IGNORE:
            return Declared(None, f"{value} marks voxels to ignore, which no scheme can leave out")
        if word not in words:
            return Declared(None, f"'{text}' ({value}) is no label of task {task.name} that is known")
        meant[value] = words[word]
    own = {v: parts.difference(*(p for p in meant.values() if p < parts)) for v, parts in meant.items()}
    covered = frozenset[str]().union(*own.values())
    regions = {r.name: _finer(r.classes, task) for r in task.regions}
    # A region is told if all of it is drawn and no label lies half in it.
    known = [n for n, r in regions.items() if r <= covered and all(p <= r or not p & r for p in own.values())]
    return _equal({v: tuple(n for n in known if p and p <= regions[n]) for v, p in own.items()}, known, task)


def declared_by_regions(labels: RegionTable, task: Task) -> Declared:
    """Return the scheme that a table of regions declares, such as {"whole tumor": (1, 2, 3), "tumor core": (2, 3), …}."""
    words = _words(task)
    regions = {_finer(r.classes, task): r.name for r in task.regions}
    found: dict[str, tuple[int, ...]] = {}
    for text, values in labels.items():
        word = folded(text)
        if values == (0,) and word in _BACKGROUND:
            continue
        if word == IGNORE:
            return Declared(None, f"{values[0] if values else '?'} marks voxels to ignore, which no scheme can leave out")
        region = regions.get(words.get(word, frozenset()))
        if region is None:
            return Declared(None, f"'{text}' is no region of task {task.name} that is known")
        if region in found:
            return Declared(None, f"region {region} stands in it twice")
        found[region] = values
    known = [n for n in task.region_names if n in found]
    values = sorted({v for numbers in found.values() for v in numbers})
    return _equal({v: tuple(n for n in known if v in found[n]) for v in values}, known, task)


def _equal(table: dict[int, tuple[str, ...]], known: list[str], task: Task) -> Declared:
    same = [s for s in task.schemes if dict(s.regions) == table and list(s.known) == known]
    if len(same) == 1:
        return Declared(same[0])
    shown = ", ".join(f"{v} {'+'.join(regions) or 'nothing that is told'}" for v, regions in sorted(table.items())) or "no label"
    return Declared(None, f"it says {shown}, which is no scheme of task {task.name}")


def _finer(classes: tuple[str, ...], task: Task) -> _Parts:
    finer = _FINER.get(task.name, {})
    return frozenset(part for c in classes for part in finer.get(c, (c,)))


def _words(task: Task) -> dict[str, _Parts]:
    own = {folded(c): _finer((c,), task) for c in task.classes if c != BACKGROUND}
    regions = {folded(word): _finer(r.classes, task) for r in task.regions for word in (r.name, r.description)}
    return {**own, **regions, **_LABELS.get(task.name, {})}
