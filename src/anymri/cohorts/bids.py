"""BIDS: sub-01[/ses-01]/anat/sub-01[_ses-01]_T1w.nii.gz, raw data sets and derivatives.

A raw data set gives the images, its derivatives/PIPELINE/ the segmentations (_dseg); a derivative given by itself gives both. A
case is a subject, or one session of it. T1w with a contrast agent (ce-gadolinium) is another modality than without. A label table
(dseg.tsv, by the file or anywhere above it) declares the scheme.

Of several files for one modality none is taken: which is meant, the names do not say.
"""

from __future__ import annotations

import csv
import fnmatch
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from anymri.cohorts.folders import LeftOut, checked_folder, first_reason, read_object, split_beside, stem_of, walk
from anymri.cohorts.vocabulary import Declared, declared_scheme, modality_called
from anymri.domain.case import Cohort, Source, Study
from anymri.domain.task import Task
from anymri.errors import InputFileError
from anymri.volumes.images import unreadable

DESCRIPTION = "dataset_description.json"
_DATATYPES = ("anat", "dwi")  # dwi holds the maps that a scanner makes, such as ADC.
_SEGMENTATION = "dseg"
_HINT = "leave one, or name the files in a table (--layout table)"


@dataclass(frozen=True)
class _Name:
    """A file's name taken apart: sub-01_ce-gadolinium_T1w → {"sub": "01", "ce": "gadolinium"}, "T1w"."""

    entities: dict[str, str]
    suffix: str

    @property
    def case(self) -> str:
        session = f"_ses-{self.entities['ses']}" if "ses" in self.entities else ""
        return f"sub-{self.entities['sub']}{session}"


@dataclass
class _Found:
    """Candidates of one case."""

    images: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list[Path]))
    labels: list[Path] = field(default_factory=list[Path])


def find_bids(source: Path, task: Task, *, scheme: str | None = None) -> Cohort:
    """Return the cases of a BIDS data set, raw or derivative.

    Args:
        source: Its root, with sub-* folders in it; its splits.json, if it has one, gives the folds.
        task: What the cases are for.
        scheme: Label scheme of the segmentations, if their dseg.tsv does not declare it.

    Raises:
        InputFileError: If the folder is missing or holds no case, or its description is damaged.
        LabelSchemeError: If the task has no such scheme.
        CaseError: If its splits.json is damaged or names cases that are not there.
    """
    given = task.scheme(scheme).name if scheme else None
    checked_folder(source, "a BIDS folder with sub-* folders in it")
    content = read_object(source / DESCRIPTION) if (source / DESCRIPTION).is_file() else {}
    left_out: LeftOut = []
    cases = _gather(source, task, left_out)
    tables = {p: _read_table(p) for p in walk(source) if p.name.endswith(f"{_SEGMENTATION}.tsv")}
    notes: dict[str, None] = {}
    studies: list[Study] = []
    for name, found in sorted(cases.items()):
        images = {n: Source(paths[0]) for n, paths in found.images.items() if _alone(name, n, paths, left_out)}
        labels, declared = _chosen(found.labels, tables, source, task, left_out)
        if not images:
            left_out += [(p, f"{name} has no image that can be used") for p in found.labels]
            continue
        if labels is not None and declared.scheme is None and given is None:
            notes[f"{labels}: its labels are not understood ({declared.reason}); name their --scheme"] = None
        if labels is not None and declared.scheme is not None and given not in (None, declared.scheme.name):
            notes[f"{labels}: declares labels of scheme {declared.scheme.name}; {given} was named and is used"] = None
        chosen = given or (declared.scheme.name if declared.scheme else None)
        studies.append(Study(name, images, Source(labels) if labels else None, chosen if labels else None))
    if not studies:
        expected = "expected files such as sub-01/anat/sub-01_FLAIR.nii.gz"
        raise InputFileError(f"{source}: holds no BIDS case{first_reason(left_out)}; {expected}")
    split = split_beside(source, {s.name for s in studies})
    licence, citation = str(content.get("License") or ""), str(content.get("HowToAcknowledge") or content.get("DatasetDOI") or "")
    title = str(content.get("Name") or source.resolve().name)
    return Cohort(title, tuple(studies), tuple(left_out), licence, citation, split, "bids", tuple(notes))


def _gather(source: Path, task: Task, left_out: LeftOut) -> dict[str, _Found]:
    ignored = _ignored_patterns(source)
    cases: dict[str, _Found] = defaultdict(_Found)
    for path in walk(source):
        inner = path.relative_to(source)
        derived = inner.parts[0] == "derivatives"
        if inner.parts[0] in ("sourcedata", "code", "stimuli") or not any(p.startswith("sub-") for p in inner.parts[:-1]):
            continue
        stem = stem_of(path)
        if stem is None:
            if reason := unreadable(path.name):
                left_out.append((path, reason))
            continue
        if path.parent.name not in _DATATYPES:
            continue
        name = _taken_apart(stem)
        if any(fnmatch.fnmatch(inner.as_posix(), pattern) for pattern in ignored):
            left_out.append((path, ".bidsignore leaves it out"))
        elif name is None or not _lies_where_it_says(name, path):
            left_out.append((path, "its name is none of BIDS, or not that of the folders it lies in"))
        elif name.suffix == _SEGMENTATION:
            cases[name.case].labels.append(path)
        elif (modality := _modality(name, task)) is None:
            left_out.append((path, _no_modality(name, task)))
        elif derived:
            left_out.append((path, "an image of a derivative; to use it, give that derivative's folder by itself"))
        else:
            cases[name.case].images[modality].append(path)
    return cases


def _taken_apart(stem: str) -> _Name | None:
    *pairs, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for pair in pairs:
        key, dash, value = pair.partition("-")
        if not (key.isalnum() and dash and value) or key in entities:
            return None
        entities[key] = value
    return _Name(entities, suffix) if next(iter(entities), None) == "sub" and suffix.isalnum() else None


def _lies_where_it_says(name: _Name, path: Path) -> bool:
    folders = [f"sub-{name.entities['sub']}"] + ([f"ses-{name.entities['ses']}"] if "ses" in name.entities else [])
    return list(path.parts[-2 - len(folders) : -2]) == folders


def _modality(name: _Name, task: Task) -> str | None:
    """Return the modality that a file holds; a contrast agent makes another one of it."""
    if name.entities.get("part", "mag") != "mag":
        return None
    word = name.suffix + ("ce" if "ce" in name.entities else "")
    modality = modality_called(word, task)
    return modality.name if modality else None


def _no_modality(name: _Name, task: Task) -> str:
    agent = f" with ce-{name.entities['ce']}" if "ce" in name.entities else ""
    part = f" (part-{name.entities['part']})" if name.entities.get("part", "mag") != "mag" else ""
    return f"{name.suffix}{agent}{part} is no modality of task {task.name}"


def _alone(case: str, modality: str, paths: list[Path], left_out: LeftOut) -> bool:
    if len(paths) > 1:
        left_out += [(p, f"one of {len(paths)} files for {modality} of {case}; {_HINT}") for p in paths]
    return len(paths) == 1


def _chosen(
    paths: list[Path], tables: dict[Path, dict[int, str] | str], source: Path, task: Task, left_out: LeftOut
) -> tuple[Path | None, Declared]:
    """Return the segmentation of a case and what declares its labels: the only one, or the only one whose table fits the task."""
    declared = {p: _declared(p, tables, source, task) for p in paths}
    fitting = [p for p in paths if declared[p].scheme is not None] if len(paths) > 1 else paths
    if len(fitting) == 1:
        left_out += [(p, f"{fitting[0].name} is the segmentation for task {task.name}") for p in paths if p != fitting[0]]
        return fitting[0], declared[fitting[0]]
    left_out += [(p, f"one of {len(paths)} segmentations of a case; {_HINT}") for p in paths]
    return None, Declared(None)


def _declared(path: Path, tables: dict[Path, dict[int, str] | str], source: Path, task: Task) -> Declared:
    """Return what the nearest label table says: by the file or in a folder above, its entities among the file's."""
    stem = stem_of(path) or ""
    *pairs, _ = stem.split("_")
    for folder in (path.parent, *path.parent.parents):
        fitting = [t for t in tables if t.parent == folder and set(t.name.removesuffix(".tsv").split("_")[:-1]) <= set(pairs)]
        if fitting:
            table = tables[max(fitting, key=lambda t: (t.name.count("_"), t.name))]
            return Declared(None, table) if isinstance(table, str) else declared_scheme(table, task)
        if folder == source:
            break
    return Declared(None, "no dseg.tsv tells what its values mean")


def _read_table(path: Path) -> dict[int, str] | str:
    """Return value → name as a label table has them, or why it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        return f"{path.name} is no table with the columns index and name: {type(error).__name__}: {error}"


def _ignored_patterns(source: Path) -> list[str]:
    """Return the patterns of .bidsignore for ``fnmatch`` on paths from the root."""
    try:
        lines = (source / ".bidsignore").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    patterns: list[str] = []
    for line in (text.strip() for text in lines):
        if line and not line.startswith(("#", "!")):
            whole = f"{line.strip('/')}/*" if line.endswith("/") else line.lstrip("/")
            patterns += [whole, f"{whole}/*"] if line.startswith("/") else [whole, f"*/{whole}", f"{whole}/*", f"*/{whole}/*"]
    return patterns
