"""Layouts of data on disk: one file each, one line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from anymri.cohorts import bids, msd, phantom
from anymri.cohorts.bids import find_bids
from anymri.cohorts.brats import find_brats
from anymri.cohorts.folders import read_object, stem_of, walk
from anymri.cohorts.msd import find_msd
from anymri.cohorts.nnunet import find_nnunet
from anymri.cohorts.phantom import find_phantom
from anymri.cohorts.table import ENDINGS_OF_TABLES, find_table, table_in
from anymri.domain.case import Cohort
from anymri.domain.task import GLIOMA, Task
from anymri.errors import AnymriError, InputFileError, UsageError


class Finder(Protocol):
    """What a layout provides: the cases of a folder, with the label scheme if it is not what the layout says."""

    def __call__(self, source: Path, task: Task, *, scheme: str | None = None) -> Cohort: ...


LAYOUTS: dict[str, Finder] = {
    "brats": find_brats,
    "msd": find_msd,
    "nnunet": find_nnunet,
    "bids": find_bids,
    "table": find_table,
    "phantom": find_phantom,
}
AUTO = "auto"


def find_cohort(source: Path, task: Task, *, layout: str = AUTO, scheme: str | None = None) -> Cohort:
    """Return the cases of a source in one of the layouts.

    Args:
        source: Folder, or a table of files.
        task: What the cases are for.
        layout: Name of a layout. "auto" looks for what marks one (a description, a table) and, where nothing does, for BraTS names.
        scheme: Label scheme of the references, if not what the layout says.

    Raises:
        UsageError: If there is no such layout.
        LabelSchemeError: If the task has no such scheme.
        InputFileError: If the source is missing, holds no case or fits no layout.
        CaseError: If folds that come with the data are damaged.
    """
    if layout not in (AUTO, *LAYOUTS):
        raise UsageError(f"layout '{layout}' is unknown; expected one of {', '.join((AUTO, *LAYOUTS))}")
    if layout != AUTO:
        return _found(layout, source, task, scheme)
    if scheme is not None:
        task.scheme(scheme)
    if source.is_file() and source.suffix.lower() in ENDINGS_OF_TABLES:
        return _found("table", source, task, scheme)
    if not source.is_dir():
        found = "is a file" if source.is_file() else "not found"
        raise InputFileError(f"{source}: {found}; expected a folder with cases in it, or a .csv or .tsv table of files")
    marked = [name for name, marks in _MARKS.items() if marks(source, task)]
    if not marked:
        return _by_name(source, task, scheme)
    cohort = _found(marked[0], source, task, scheme)
    others = marked[1:] + (["brats"] if marked[0] == "table" and _holds_brats(source, task) else [])
    if others:
        note = f"{source} could be read as {' or '.join(others)}, too; it is read as {marked[0]}; --layout takes another"
        cohort = dataclasses.replace(cohort, notes=(note, *cohort.notes))
    return cohort


def _found(layout: str, source: Path, task: Task, scheme: str | None) -> Cohort:
    return dataclasses.replace(LAYOUTS[layout](source, task, scheme=scheme), layout=layout)


def _is_phantom(source: Path, task: Task) -> bool:
    return (source / phantom.MARKER).is_file()  # Their names are those of BraTS; their licence is not.


def _is_nnunet(source: Path, task: Task) -> bool:
    path = source / msd.DESCRIPTION
    if not path.is_file():
        return False
    content = read_object(path)
    if "channel_names" in content:
        return True
    # Version 1 lists the files as the Decathlon does, but for the number of the channel, which its names leave out.
    return "modality" in content and any((source / "imagesTr").glob("*_0000.nii.gz")) and not _is_decathlon(source, content)


def _is_msd(source: Path, task: Task) -> bool:
    path = source / msd.DESCRIPTION
    return path.is_file() and not _is_nnunet(source, task) and "modality" in read_object(path)


def _is_decathlon(source: Path, content: dict[str, object]) -> bool:
    entries = content.get("training")
    first = entries[0] if isinstance(entries, list) and entries else None
    image = first.get("image") if isinstance(first, dict) else None
    return isinstance(image, list) or (isinstance(image, str) and (source / image).is_file())


def _is_bids(source: Path, task: Task) -> bool:
    return (source / bids.DESCRIPTION).is_file() or any(any(source.glob(p)) for p in ("sub-*/anat", "sub-*/ses-*/anat"))


def _is_table(source: Path, task: Task) -> bool:
    try:
        table_in(source, task)
    except InputFileError:
        return False
    return True


# In the order in which they count: the most explicit first.
_MARKS: dict[str, Callable[[Path, Task], bool]] = {
    "phantom": _is_phantom,
    "nnunet": _is_nnunet,
    "msd": _is_msd,
    "bids": _is_bids,
    "table": _is_table,
}


def _holds_brats(source: Path, task: Task) -> bool:
    try:
        return bool(find_brats(source, task).studies)
    except AnymriError:
        return False


def _by_name(source: Path, task: Task, scheme: str | None) -> Cohort:
    """Return the cases of a folder that nothing marks: BraTS names, or an error that says what each layout misses."""
    try:
        return _found("brats", source, task, scheme)
    except InputFileError:
        brats = "no BraTS names (brats)"
    except UsageError as error:
        brats = str(error).split(";", 1)[0]
    try:
        table_in(source, task)
    except InputFileError as error:
        table = str(error).removeprefix(f"{source}: ").split(";", 1)[0].replace("holds no", "no")
    else:
        table = "a table"
    missing = f"{brats}, no {msd.DESCRIPTION} (msd, nnunet), no {bids.DESCRIPTION} or sub-*/anat (bids), {table} (table)"
    raise InputFileError(f"{source}: fits no layout: {missing}, no {phantom.MARKER} (phantom); {_advice(source, task)}")


def _advice(source: Path, task: Task) -> str:
    marks = (msd.DESCRIPTION, bids.DESCRIPTION, phantom.MARKER)
    below = [p for p in sorted(source.iterdir()) if p.is_dir() and any((p / mark).is_file() for mark in marks)]
    if below:
        return f"{below[0].name} in it has a description: give that folder"
    images = [path for path in walk(source) if stem_of(path)]
    if not images:
        return "no image file lies in it: check the folder"
    columns = ",".join(("case", *(m.option for m in task.modalities)))
    first = next(iter(task.modalities))
    option = f"--{first.option} FILE" if task.modalities == GLIOMA.modalities else f"--image {first.name}=FILE"
    name = images[0].name if len(images[0].name) <= 40 else f"{images[0].name[:39]}…"
    return (
        f"its {len(images)} images, {name} the first, are not named by case and modality: write a table with the columns "
        f"{columns}, or segment one patient with 'anymri segment {option} …'"
    )


__all__ = [
    "AUTO",
    "LAYOUTS",
    "Finder",
    "find_bids",
    "find_brats",
    "find_cohort",
    "find_msd",
    "find_nnunet",
    "find_phantom",
    "find_table",
]
