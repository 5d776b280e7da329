"""Layouts of data on disk: one file each, one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from anymri.cohorts.brats import find_brats
from anymri.cohorts.phantom import MARKER, find_phantom
from anymri.domain.case import Cohort
from anymri.domain.task import Task
from anymri.errors import AnymriError, InputFileError, UsageError


class Finder(Protocol):
    """What a layout provides: the cases of a folder, with the label scheme if it is not what the layout says."""

    def __call__(self, source: Path, task: Task, *, scheme: str | None = None) -> Cohort: ...


# In the order in which "auto" tries them.
LAYOUTS: dict[str, Finder] = {"brats": find_brats, "phantom": find_phantom}
AUTO = "auto"


def find_cohort(source: Path, task: Task, *, layout: str = AUTO, scheme: str | None = None) -> Cohort:
    """Return the cases of a folder in one of the layouts.

    Args:
        source: Folder.
        task: What the cases are for.
        layout: Name of a layout, or "auto" for the first that finds a case.
        scheme: Label scheme of the references, if not what the layout says.

    Raises:
        UsageError: If there is no such layout.
        LabelSchemeError: If the task has no such scheme.
        InputFileError: If the folder is missing or holds no case.
    """
    if layout not in (AUTO, *LAYOUTS):
        raise UsageError(f"layout '{layout}' is unknown; expected one of {', '.join((AUTO, *LAYOUTS))}")
    if layout != AUTO:
        return LAYOUTS[layout](source, task, scheme=scheme)
    if (source / MARKER).is_file():  # Their names are those of BraTS; their licence is not.
        return find_phantom(source, task, scheme=scheme)
    if not source.is_dir():
        raise InputFileError(f"{source}: is not a folder; expected one with cases in it")
    reasons: list[str] = []
    for name, find in LAYOUTS.items():
        try:
            return find(source, task, scheme=scheme)
        except (InputFileError, UsageError) as error:
            reasons.append(f"{name}: {_reason(error, source)}")
    raise InputFileError(f"{source}: fits none of the layouts ({'; '.join(reasons)}); name one, or check the folder")


def _reason(error: AnymriError, source: Path) -> str:
    return str(error).removeprefix(f"{source}: ").split(";", 1)[0]


__all__ = ["AUTO", "LAYOUTS", "Finder", "find_brats", "find_cohort", "find_phantom"]
