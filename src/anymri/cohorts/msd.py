"""The layout of the Medical Segmentation Decathlon: dataset.json lists the files, an image is 4-D with a channel for each modality.

    dataset.json   "modality": {"0": "FLAIR", …}   "labels": {"0": "background", "1": "edema", …}
                   "training": [{"image": "./imagesTr/X.nii.gz", "label": "./labelsTr/X.nii.gz"}, …]
                   "test": ["./imagesTs/Y.nii.gz", …]

An "image" may be a list with one file for each modality, and there may be a "validation" list, as MONAI writes them. What stands in
"test" has no reference. Paths must stay inside the folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anymri.cohorts.folders import LeftOut, checked_folder, distinct, first_reason, inside, read_object, split_beside, stem_of, walk
from anymri.cohorts.vocabulary import Declared, declared_scheme, modality_called
from anymri.domain.case import Cohort, Source, Study
from anymri.domain.task import Task
from anymri.errors import InputFileError, UsageError

DESCRIPTION = "dataset.json"
_FOLDERS = ("imagesTr", "imagesTs", "labelsTr")


@dataclass
class _Reading:
    """What reading one dataset.json gathers."""

    source: Path
    channels: dict[int, str]
    channel_count: int
    scheme: str | None
    left_out: LeftOut = field(default_factory=list[tuple[Path, str]])
    listed: set[Path] = field(default_factory=set[Path])

    @property
    def description(self) -> Path:
        return self.source / DESCRIPTION


def find_msd(source: Path, task: Task, *, scheme: str | None = None) -> Cohort:
    """Return the cases that a dataset.json of the Medical Segmentation Decathlon lists.

    Args:
        source: Folder of the data set; its splits.json, if it has one, gives the folds.
        task: What the cases are for.
        scheme: Label scheme of the references, if not the one that the description declares.

    Raises:
        InputFileError: If there is no such description, it cannot be understood or no case of it is there.
        UsageError: If it holds no modality of the task.
        LabelSchemeError: If the task has no such scheme.
        CaseError: If its splits.json is damaged or names cases that are not there.
    """
    given = task.scheme(scheme).name if scheme else None
    checked_folder(source, f"a folder with {DESCRIPTION} in it")
    path = source / DESCRIPTION
    content = read_object(path)
    names = numbered_words(path, content, "modality")
    channels, notes = known_channels(path, names, task)
    declared = _declared(path, content, task)
    reading = _Reading(source, channels, len(names), given or (declared.scheme.name if declared.scheme else None))
    entries = [entry for part in ("training", "validation", "test") for entry in _entries(path, content, part)]
    found = [study for entry in entries if (study := _study(entry, reading))]
    studies = distinct(_without_repeats(found, reading), reading.left_out)
    if not studies:
        raise InputFileError(f"{path}: lists no case that is there{first_reason(reading.left_out)}; check the folder")
    notes += scheme_notes(path, declared, given)
    notes += count_notes(path, content, len(_entries(path, content, "training")), sum(s.labels is not None for s in studies))
    reading.left_out += [(p, f"does not stand in {DESCRIPTION}") for p in _images(source) if p not in reading.listed]
    split = split_beside(source, {s.name for s in studies})
    licence, reference = str(content.get("licence") or content.get("license") or ""), str(content.get("reference") or "")
    left_out = tuple(reading.left_out)
    return Cohort(source.resolve().name, tuple(studies), left_out, licence, reference, split, "msd", tuple(notes))


def numbered_words(path: Path, content: dict[str, Any], key: str) -> list[str]:
    """Return the words of a table {"0": word, …} in the order of its numbers, which must begin at 0 and leave none out.

    Raises:
        InputFileError: If it is missing or is no such table.
    """
    table = content.get(key)
    words = [table.get(str(n)) for n in range(len(table))] if isinstance(table, dict) else []
    if not words or not all(isinstance(word, str) for word in words):
        raise InputFileError(f'{path}: gives no names of channels; expected "{key}": {{"0": "FLAIR", "1": …}}; correct it')
    return [str(word) for word in words]


def known_channels(path: Path, names: list[str], task: Task) -> tuple[dict[int, str], list[str]]:
    """Return channel → modality of the task, and a note for each channel that is none.

    Raises:
        InputFileError: If two channels are one modality.
        UsageError: If no channel is a modality of the task.
    """
    channels: dict[int, str] = {}
    notes: list[str] = []
    for number, text in enumerate(names):
        modality = modality_called(text, task)
        if modality is None:
            notes.append(f"{path}: channel {number} is '{text}', no modality of task {task.name} that is known; it is not used")
        elif modality.name in channels.values():
            raise InputFileError(f"{path}: two channels are {modality.name} ({', '.join(names)}); correct it")
        else:
            channels[number] = modality.name
    if not channels:
        expected = ", ".join(task.modalities.names)
        raise UsageError(f"{path}: its channels are {', '.join(names)}; task {task.name} needs {expected}; name another --task")
    return channels, notes


def scheme_notes(path: Path, declared: Declared, given: str | None) -> list[str]:
    """Return what should be said of a declared scheme and the one that was given."""
    if declared.scheme is None:
        return [] if given else [f"{path}: its labels are not understood ({declared.reason}); name their --scheme"]
    if given is not None and given != declared.scheme.name:
        return [f"{path}: declares labels of scheme {declared.scheme.name}; {given} was named and is used"]
    return []


def count_notes(path: Path, content: dict[str, Any], listed: int, used: int) -> list[str]:
    """Return what should be said where "numTraining" is another number than that of the cases with a reference."""
    count = content.get("numTraining")
    if not isinstance(count, int) or count == listed == used:
        return []
    return [f"{path}: numTraining is {count}; {listed} training cases were found, {used} of them can be used with their labels"]


def _declared(path: Path, content: dict[str, Any], task: Task) -> Declared:
    table = content.get("labels")
    if not isinstance(table, dict) or not all(str(k).isdecimal() and isinstance(w, str) for k, w in table.items()):
        return Declared(None, 'there is no "labels": {"0": "background", "1": …}')
    return declared_scheme({int(k): w for k, w in table.items()}, task)


def _entries(path: Path, content: dict[str, Any], key: str) -> list[Any]:
    entries = content.get(key, [])
    if not isinstance(entries, list):
        raise InputFileError(f'{path}: "{key}" is {type(entries).__name__}; expected a list of files; correct it')
    return entries


def _study(entry: Any, reading: _Reading) -> Study | None:
    images = entry.get("image") if isinstance(entry, dict) else entry
    label = entry.get("label") if isinstance(entry, dict) else None
    texts = [t for t in (images if isinstance(images, list) else [images]) if isinstance(t, str)]
    if not texts or (isinstance(images, list) and len(texts) < len(images)) or not isinstance(label, str | None):
        reading.left_out.append((reading.description, f"an entry names no image: {str(entry)[:80]}"))
        return None
    if isinstance(images, list) and len(texts) != reading.channel_count:
        shown = f"{texts[0]} and {len(texts) - 1} more for {reading.channel_count} channels"
        reading.left_out.append((reading.description, f"an entry lists another number of images than there are channels: {shown}"))
        return None
    files = [_file(t, reading) for t in texts]
    labels = _file(label, reading) if label is not None else None
    paths = [f for f in files if f is not None]
    if len(paths) < len(files) or (label is not None and labels is None):
        return None
    if isinstance(images, list):
        sources = {name: Source(paths[number]) for number, name in reading.channels.items()}
    else:
        alone = reading.channel_count == 1
        sources = {name: Source(paths[0], None if alone else number) for number, name in reading.channels.items()}
    name = _common_name([stem_of(p) or p.name for p in (paths if labels is None or len(paths) == 1 else [labels])])
    return Study(name, sources, Source(labels) if labels else None, reading.scheme if labels else None)


def _common_name(stems: list[str]) -> str:
    """Return the name of a case from those of its images: what they begin with alike."""
    start = stems[0]
    for stem in stems:
        while not stem.startswith(start):
            start = start[:-1]
    return start.rstrip("_-. ") or stems[0]


def _file(text: str, reading: _Reading) -> Path | None:
    """Return the file that an entry means, or say why it cannot be used."""
    path = inside(reading.source, text)
    if path is None:
        reading.left_out.append(
            (reading.description, f"'{text}' leads out of the folder; expected ./imagesTr/X.nii.gz or the like")
        )
        return None
    reading.listed.add(path)
    if path.name.startswith("."):
        reason = "a hidden file, such as macOS leaves beside the real one"
    elif not path.is_file():
        split = path.with_name(f"{stem_of(path)}_0000.nii.gz")
        reason = "is not there"
        if split.is_file():
            reason += f", but {split.name} is: this is the layout of nnU-Net, name it with --layout nnunet"
    elif stem_of(path) is None:
        reason = "is no image that can be read; convert it to .nii.gz"
    else:
        return path
    reading.left_out.append((path, reason))
    return None


def _without_repeats(studies: list[Study], reading: _Reading) -> list[Study]:
    """Return the studies without those that say the same once more."""
    kept: list[Study] = []
    for study in studies:
        if study in kept:
            reading.left_out.append((reading.description, f"{study.name} stands in it twice; it is taken once"))
        else:
            kept.append(study)
    return kept


def _images(source: Path) -> list[Path]:
    folders = [source / name for name in _FOLDERS if (source / name).is_dir()]
    return [p for folder in folders for p in walk(folder) if stem_of(p)]
