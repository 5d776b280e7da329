"""The layout of nnU-Net's raw data sets: a file for each channel, numbered as dataset.json says.

    dataset.json   "channel_names": {"0": "FLAIR", …}   "labels": {"background": 0, "edema": 1, …}   "file_ending": ".nii.gz"
    imagesTr/CASE_0000.nii.gz  CASE_0001 …   labelsTr/CASE.nii.gz   imagesTs/CASE_0000.nii.gz …

Labels may be regions ("whole tumor": [1, 2, 3]). With "dataset": {"CASE": {"images": […], "label": …}} the files lie where it says,
anywhere. Cases of imagesTs have no reference. Version 1 ("modality", {"1": "edema"}) is read as well. A channel whose file is not
there is absent, which nnU-Net itself does not allow.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from anymri.cohorts.folders import LeftOut, checked_folder, distinct, first_reason, read_object, split_beside, stem_of, walk
from anymri.cohorts.msd import DESCRIPTION, count_notes, known_channels, numbered_words, scheme_notes
from anymri.cohorts.vocabulary import Declared, declared_by_regions, declared_scheme
from anymri.domain.case import Cohort, Source, Study
from anymri.domain.task import Task
from anymri.errors import InputFileError
from anymri.volumes.images import ENDINGS

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
_Files = dict[str, dict[int, Path]]


def find_nnunet(source: Path, task: Task, *, scheme: str | None = None) -> Cohort:
    """Return the cases of a raw data set of nnU-Net.

    Args:
        source: Folder of the data set (Dataset001_NAME); its splits.json, if it has one, gives the folds.
        task: What the cases are for.
        scheme: Label scheme of the references, if not the one that the description declares.

    Raises:
        InputFileError: If there is no dataset.json, it cannot be understood or no case of it is there.
        UsageError: If it holds no modality of the task.
        LabelSchemeError: If the task has no such scheme.
        CaseError: If its splits.json is damaged or names cases that are not there.
    """
    given = task.scheme(scheme).name if scheme else None
    checked_folder(source, f"a folder with {DESCRIPTION} in it")
    path = source / DESCRIPTION
    content = read_object(path)
    names = numbered_words(path, content, "channel_names" if "channel_names" in content else "modality")
    channels, notes = known_channels(path, names, task)
    declared = _declared(content, task)
    left_out: LeftOut = []
    if "dataset" in content:
        images, labels = _listed(path, content["dataset"], len(names), left_out)
    else:
        images, labels = _found(source, _ending(path, content), len(names), left_out)
    chosen = given or (declared.scheme.name if declared.scheme else None)
    studies: list[Study] = []
    for (part, name), files in images.items():
        used = {channels[n]: Source(file) for n, file in sorted(files.items()) if n in channels}
        label = labels.get(name) if part == "Tr" else None
        if used:
            studies.append(Study(name, used, Source(label) if label else None, chosen if label else None))
        else:
            left_out.append((next(iter(files.values())).parent / name, "has none of the modalities that the task knows"))
    orphans = labels.keys() - {name for part, name in images if part == "Tr"}
    left_out += [(labels[name], "labels of a case that has no image") for name in sorted(orphans)]
    studies = distinct(studies, left_out)
    if not studies:
        raise InputFileError(f"{path}: no case of it is there{first_reason(left_out)}; expected imagesTr/CASE_0000.nii.gz")
    trained = sum(part == "Tr" for part, _ in images)
    notes += scheme_notes(path, declared, given)
    notes += count_notes(path, content, trained, sum(s.labels is not None for s in studies))
    split = split_beside(source, {s.name for s in studies})
    licence = str(content.get("licence") or content.get("license") or "")
    reference = str(content.get("reference") or "")
    return Cohort(source.resolve().name, tuple(studies), tuple(left_out), licence, reference, split, "nnunet", tuple(notes))


def _ending(path: Path, content: dict[str, Any]) -> str:
    if "channel_names" in content and "file_ending" not in content:
        raise InputFileError(f'{path}: lacks "file_ending"; expected one of {", ".join(ENDINGS)}; correct it')
    ending = content.get("file_ending", ".nii.gz")  # The only one that version 1 knew.
    if ending not in ENDINGS:
        raise InputFileError(f"{path}: its files end in '{ending}'; {', '.join(ENDINGS)} are read; convert them")
    return str(ending)


def _declared(content: dict[str, Any], task: Task) -> Declared:
    table = content.get("labels")
    if not isinstance(table, dict) or not table:
        return Declared(None, 'there is no "labels": {"background": 0, …}')
    if all(isinstance(w, str) for w in table.values()) and all(str(k).isdecimal() for k in table):
        return declared_scheme({int(k): w for k, w in table.items()}, task)
    lists = {w: tuple(v) if isinstance(v, list) else (v,) for w, v in table.items()}
    if not all(type(n) is int and n >= 0 for values in lists.values() for n in values):
        return Declared(None, 'its "labels" are no whole numbers')
    if any(isinstance(v, list) for v in table.values()):
        return declared_by_regions(lists, task)
    by_value = {n: w for w, (n,) in lists.items()}
    if len(by_value) < len(lists):
        return Declared(None, "two of its labels have one value")
    return declared_scheme(by_value, task)


def _found(
    source: Path, ending: str, channel_count: int, left_out: LeftOut
) -> tuple[dict[tuple[str, str], dict[int, Path]], dict[str, Path]]:
    """Return the files of each (part, case) by channel, and the label map of each training case."""
    images: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    labels: dict[str, Path] = {}
    for path in walk(source):
        folder = path.relative_to(source).parts[0]
        if stem_of(path) is None and not path.name.endswith(ending):
            continue
        if not path.name.endswith(ending):
            left_out.append((path, f"its name does not end in {ending}, as dataset.json says"))
        elif path.parent != source / folder or folder not in ("imagesTr", "imagesTs", "labelsTr"):
            left_out.append((path, "lies in none of imagesTr, imagesTs, labelsTr"))
        elif folder == "labelsTr":
            labels[path.name[: -len(ending)]] = path
        elif not (match := _CHANNEL.fullmatch(path.name[: -len(ending)])):
            left_out.append((path, f"its name does not end in the number of a channel, such as _0000{ending}"))
        elif int(match["number"]) >= channel_count:
            left_out.append((path, f"is channel {int(match['number'])}; {DESCRIPTION} names {channel_count}, counted from 0"))
        else:
            images[folder.removeprefix("images"), match["case"]][int(match["number"])] = path
    return images, labels


def _listed(
    path: Path, cases: Any, channel_count: int, left_out: LeftOut
) -> tuple[dict[tuple[str, str], dict[int, Path]], dict[str, Path]]:
    """Return the same from explicit paths, relative to the folder or absolute."""
    if not isinstance(cases, dict):
        expected = '{"CASE": {"images": […], "label": …}}'
        raise InputFileError(f'{path}: "dataset" is {type(cases).__name__}; expected {expected}; correct it')
    images: dict[tuple[str, str], dict[int, Path]] = {}
    labels: dict[str, Path] = {}
    for name, entry in cases.items():
        files, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        texts = [f for f in (*files, label) if isinstance(f, str) and f] if isinstance(files, list) else []
        if not isinstance(files, list) or len(texts) != channel_count + 1 or len(files) != channel_count:
            left_out.append((path, f"{name} lists no label and {channel_count} images, one for each channel"))
            continue
        there = [path.parent / text for text in texts]
        missing = [p for p in there if not p.is_file() or stem_of(p) is None]
        if missing:
            reason = "is no image that can be read" if missing[0].is_file() else "is not there"
            reason += "; variables are not replaced: write the path out" if "$" in str(missing[0]) else ""
            left_out.append((missing[0], f"{reason} (case {name})"))
            continue
        images["Tr", name] = dict(enumerate(there[:-1]))
        labels[name] = there[-1]
    return images, labels
