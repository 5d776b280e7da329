"""Options that several commands share, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Where to write.")]
Data = Annotated[Path, typer.Option(help="Folder made by 'anymri prepare'.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar with the time left, where there is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(what, total=total, now="")
        yield lambda done, now: progress.update(task, completed=done, now=now)
