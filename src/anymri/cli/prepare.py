"""anymri prepare."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import progress_bar
from anymri.errors import UsageError, one_line

if TYPE_CHECKING:
    from anymri.preparation.workers import Group


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder with the studies, or a table of their files.")],
    out: Annotated[Path, typer.Argument(help="Folder for the prepared cases.")],
    layout: Annotated[str, typer.Option(help="auto, brats, msd, nnunet, bids, table or phantom.")] = "auto",
    task: Annotated[str, typer.Option(help="What the cases are for.")] = "glioma",
    scheme: Annotated[str | None, typer.Option(help="Label scheme of the references, if not the one of the layout.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Bring the studies of a folder onto one grid and scale, one compressed case each. What is there already is kept."""
    from anymri.cohorts import find_cohort
    from anymri.domain.task import task_named
    from anymri.preparation.pipeline import prepare_cohort

    chosen = task_named(task)
    cohort = find_cohort(source, chosen, layout=layout, scheme=scheme)
    for line in _listing(source, cohort, chosen):
        print(one_line(line))
    with progress_bar("preparing", len(cohort.studies)) as advance, _group() as group:
        failures = prepare_cohort(
            cohort, chosen, out, workers=workers, progress=lambda done, total, name, s, error: advance(done, name), group=group
        )
    for failure in failures if group.leads else ():
        print(one_line(f"failed: {failure.case}: {failure.reason}"), file=sys.stderr)
    print(f"{len(cohort.studies) - len(failures)} cases prepared in {out}")
    if failures:
        raise UsageError(
            f"{len(failures)} of {len(cohort.studies)} cases could not be prepared; mend them and run the same command again"
        )


@contextmanager
def _group() -> Iterator[Group]:
    """Work together with the processes that torchrun has started, if it has; torch is not needed otherwise."""
    from anymri.preparation.workers import ALONE

    if "RANK" not in os.environ:
        yield ALONE
        return
    from anymri.engine.distributed import joined

    with joined(advice="the same command goes on") as group:
        yield group


def _listing(source: Path, cohort: Any, task: Any) -> list[str]:
    """Return what was found and what was not taken, before any work."""
    images = Counter(str(task.modalities.subset(s.images)) for s in cohort.studies)
    schemes = Counter(s.scheme for s in cohort.studies if s.labels is not None)
    without = sum(s.labels is None for s in cohort.studies)
    lines = [f"{len(cohort.studies)} cases found in {source}, layout {cohort.layout}"]
    lines += [f"  images: {count} with {subset}" for subset, count in images.most_common()]
    for name, count in schemes.most_common():
        if name is None:
            lines.append(f"  references: {count} whose label scheme nothing declares")
            continue
        known = task.scheme(name).known
        unknown = [r for r in task.region_names if r not in known]
        tail = f"; {', '.join(unknown)} unknown there" if unknown else ""
        lines.append(f"  references: {count} of scheme {name}, which tells {', '.join(known)}{tail}")
    lines += [f"  references: {without} have none"] if without else []
    if cohort.split is not None:
        sizes = "+".join(str(len(fold)) for fold in cohort.split.folds)
        lines.append(f"  folds that came with the data: {sizes} cases, and {len(cohort.split.train_only)} only to train on")
    lines += [f"note: {note}" for note in cohort.notes]
    return lines + [f"left out: {path}: {reason}" for path, reason in cohort.left_out]
