"""Folders of BraTS, of every edition whose files are named by case and modality.

    2017 to 2021    CASE/CASE_flair.nii.gz  CASE_t1  CASE_t1ce  CASE_t2  CASE_seg     labels: brats2021
    2023 and later  CASE/CASE-t2f.nii.gz    CASE-t1n CASE-t1c   CASE-t2w CASE-seg     labels: brats2023
    any             CASE_wt.nii.gz          the whole tumour alone is drawn           labels: wt

Any format that is read will do, .nii or .mha as well. Folders may lie at any depth (HGG/, LGG/, institutions). A case is what
shares a folder and the part of the name before the suffix.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from anymri.cohorts.folders import LeftOut, checked_folder, distinct, first_reason, split_beside, stem_of, walk
from anymri.domain.case import Cohort, Source, Study
from anymri.domain.task import Task
from anymri.errors import InputFileError, UsageError
from anymri.volumes.images import unreadable

CITATION = (
    "Menze et al., IEEE TMI 34(10), 2015, doi:10.1109/TMI.2014.2377694; Bakas et al., Scientific Data 4:170117, 2017, "
    "doi:10.1038/sdata.2017.117; Bakas et al., arXiv:1811.02629, 2018; Baid et al., arXiv:2107.02314, 2021"
)
LICENCE = "terms of the BraTS edition that the images come from"

_UNDERSCORE = {"_flair": "FLAIR", "_t1": "T1", "_t1ce": "T1c", "_t2": "T2"}
_DASH = {"-t2f": "FLAIR", "-t1n": "T1", "-t1c": "T1c", "-t2w": "T2"}
_IMAGES = {**_UNDERSCORE, **_DASH}
# Suffix of a label file → the scheme of the editions that use it.
_LABELS = {"_seg": "brats2021", "-seg": "brats2023", "_wt": "wt"}
_STRAY_LABEL = "_segm"  # BraTS 2020, training case 355: W39_1998.09.19_Segm.nii beside images that are named as usual.
_SUFFIXES = (*_IMAGES, *_LABELS)


@dataclass
class _Found:
    """What was seen of one case so far."""

    folder: Path
    name: str
    images: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))


def find_brats(source: Path, task: Task, *, scheme: str | None = None) -> Cohort:
    """Return the cases of a BraTS folder.

    Cases that lack modalities or labels are normal; what is not used is listed with the reason.

    Args:
        source: Folder; its splits.json, if it has one, gives the folds.
        task: What the cases are for; its modalities must be those of BraTS.
        scheme: Label scheme of the _seg files, if not the one of their edition.

    Raises:
        InputFileError: If the folder is missing or holds no case.
        CaseError: If its splits.json is damaged or names cases that are not there.
        UsageError: If the task has other modalities.
        LabelSchemeError: If the task has no such scheme.
    """
    strange = [n for n in task.modalities.names if n not in _IMAGES.values()]
    if strange:
        raise UsageError(f"BraTS folders hold no {', '.join(strange)}; task {task.name} needs another layout")
    if scheme is not None:
        task.scheme(scheme)
    checked_folder(source, "a folder with BraTS cases in it")
    left_out: LeftOut = []
    found = _related(_gather(source, left_out), left_out)
    studies = distinct((s for f in found if (s := _study(f, scheme, left_out)) is not None), left_out)
    if not studies:
        expected = "expected files such as CASE_flair.nii.gz or CASE-t2f.nii.gz at any depth"
        raise InputFileError(f"{source}: holds no BraTS case{first_reason(left_out)}; {expected}")
    split = split_beside(source, {s.name for s in studies})
    notes = _scheme_notes(found, scheme)
    return Cohort(source.resolve().name, tuple(studies), tuple(left_out), LICENCE, CITATION, split, "brats", notes)


def _scheme_notes(found: list[_Found], scheme: str | None) -> tuple[str, ...]:
    """Return what is to be said if the scheme that was named is not that of the files' edition."""
    editions = Counter(_LABELS[suffix] for f in found for suffix in f.labels if suffix != "_wt")
    others = [(edition, count) for edition, count in sorted(editions.items()) if scheme not in (None, edition)]
    return tuple(
        f"{count} references are called as those of {edition}; {scheme} was named and is used" for edition, count in others
    )


def _gather(source: Path, left_out: LeftOut) -> list[_Found]:
    found: dict[tuple[Path, str], _Found] = {}
    strays: list[Path] = []
    for path in walk(source):
        stem = stem_of(path)
        if stem is None:
            if reason := unreadable(path.name):
                left_out.append((path, reason))
            continue
        suffix = next((s for s in _SUFFIXES if stem.lower().endswith(s) and len(stem) > len(s)), None)
        if suffix is None:
            if stem.lower().endswith(_STRAY_LABEL):
                strays.append(path)
            else:
                left_out.append((path, f"its name ends in none of {', '.join(_SUFFIXES)}"))
            continue
        name = stem[: -len(suffix)]
        case = found.setdefault((path.parent, name), _Found(path.parent, name))
        if suffix in _IMAGES:
            case.images[_IMAGES[suffix]].append(path)
        else:
            case.labels[suffix].append(path)
    for path in strays:
        beside = [f for f in found.values() if f.folder == path.parent]
        if len(beside) == 1 and not beside[0].labels:
            beside[0].labels["_seg"].append(path)
        else:
            left_out.append((path, "a label map whose case cannot be told from its name"))
    return list(found.values())


def _study(found: _Found, scheme: str | None, left_out: LeftOut) -> Study | None:
    where = found.folder / found.name
    twice = [(n, p) for n, p in (*found.images.items(), *found.labels.items()) if len(p) > 1]
    if twice:
        name, paths = twice[0]
        left_out.append((where, f"{name.strip('_-')} is there twice: {' and '.join(p.name for p in paths)}; remove one"))
        return None
    if not found.images:
        left_out.append((where, "has labels but no image"))
        return None
    labels = dict(found.labels)
    drawn = [s for s in ("_seg", "-seg", "_wt") if s in labels]
    if "_seg" in labels and "-seg" in labels:
        left_out.append((where, f"has two label maps: {labels['_seg'][0].name} and {labels['-seg'][0].name}; remove one"))
        return None
    for spare in drawn[1:]:
        left_out.append((labels[spare][0], f"{labels[drawn[0]][0].name} tells more"))
    images = {n: Source(p[0]) for n, p in found.images.items()}
    if not drawn:
        return Study(found.name, images)
    edition = _LABELS[drawn[0]]
    return Study(found.name, images, Source(labels[drawn[0]][0]), edition if drawn[0] == "_wt" else scheme or edition)


def _related(found: list[_Found], left_out: LeftOut) -> list[_Found]:
    """Return the cases without those whose names merely happen to end as those of BraTS do.

    Names that a scanner gave end in _t1 and _t2, too, and would make a patient of each image. Such a case is a single image in a
    folder of another name, where no case has a second file, and where the images are of several kinds or some belong to no case.
    """
    by_folder: dict[Path, list[_Found]] = defaultdict(list)
    for case in found:
        by_folder[case.folder].append(case)
    sound: list[_Found] = []
    for folder, cases in by_folder.items():
        lonely = all(f.name != folder.name and not f.labels and sum(map(len, f.images.values())) == 1 for f in cases)
        names = tuple(f.name for f in cases)
        alien = any(p.parent == folder and stem_of(p) and not p.name.startswith(names) for p, _ in left_out)
        if lonely and (alien or len({n for f in cases for n in f.images}) > 1):
            reason = "stands alone: a BraTS case is a folder of its name, or several files whose names begin alike"
            left_out += [(next(iter(f.images.values()))[0], reason) for f in cases]
        else:
            sound += cases
    return sound
