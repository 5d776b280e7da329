"""anymri prepare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import progress_bar
from anymri.errors import UsageError, one_line


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder with the studies.")],
    out: Annotated[Path, typer.Argument(help="Folder for the prepared cases.")],
    layout: Annotated[str, typer.Option(help="auto, brats or phantom.")] = "auto",
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
    print(f"{len(cohort.studies)} cases found in {source}")
    for path, reason in cohort.left_out:
        print(one_line(f"left out: {path}: {reason}"))
    with progress_bar("preparing", len(cohort.studies)) as advance:
        failures = prepare_cohort(
            cohort, chosen, out, workers=workers, progress=lambda done, total, name, s, error: advance(done, name)
        )
    for failure in failures:
        print(one_line(f"failed: {failure.case}: {failure.reason}"), file=sys.stderr)
    print(f"{len(cohort.studies) - len(failures)} cases prepared in {out}")
    if failures:
        raise UsageError(
            f"{len(failures)} of {len(cohort.studies)} cases could not be prepared; mend them and run the same command again"
        )
