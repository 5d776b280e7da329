"""Options that several commands share, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.errors import UsageError

if TYPE_CHECKING:
    from anymri.engine.run import Run

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


def changed_run(content: dict[str, Any], chosen: dict[str, Any], settings: list[str]) -> Run:
    """Return a run with what the options say; a fold takes the place of listed cases.

    Args:
        content: The fields of a run; they are changed in place.
        chosen: Field → value, for options of their own; None where one was not given. One of steps and minutes.
        settings: What ``--set`` says.

    Raises:
        UsageError: If a setting does not exist or does not fit, or two budgets were given.
    """
    from anymri.engine.run import checked_run

    if chosen["steps"] is not None and chosen["minutes"] is not None:
        raise UsageError("give --steps or --minutes, not both")
    if chosen.get("init") is not None:
        content["init_sha256"] = None
    if chosen.get("fold") is not None:
        content["cases"] = None
    if chosen["steps"] is not None or chosen["minutes"] is not None:
        content |= {"steps": None, "minutes": None}
    content |= {field: value for field, value in chosen.items() if value is not None}
    put_settings(content, settings)
    return checked_run(content)


def put_settings(content: dict[str, Any], settings: list[str]) -> None:
    """Write into nested fields what ``--set`` says: FIELD=VALUE, a dot goes into a group, values are JSON or else text.

    Raises:
        UsageError: If a setting has another form, or goes into a group that is not there.
    """
    import json

    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals or not field:
            raise UsageError(f"--set {setting}: expected FIELD=VALUE, such as --set learning_rate=0.001")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        place = content
        *path, last = field.split(".")
        for step in path:
            place = place.get(step)
            if not isinstance(place, dict):
                raise UsageError(f"--set {setting}: there is no group '{step}'; fields are {', '.join(content)}")
        place[last] = value
