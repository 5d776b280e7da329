"""anymri report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Device, Out
from anymri.errors import UsageError


def report(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SCORES_OR_RUN", help="Score tables (.csv), run folders, or folders that hold such."),
    ] = None,
    out: Out = Path("report"),
    published: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Published numbers to stand beside; see 'anymri list published'.")
    ] = None,
    case: Annotated[str | None, typer.Option(help="Draw this case of --data, with the weights of the run folders.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder made by 'anymri prepare', for --case.")] = None,
    subset: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="For --case: modalities to keep, such as FLAIR+T1c.")
    ] = None,
    across_protocols: Annotated[
        bool, typer.Option("--across-protocols", help="Set side by side what was scored by different rules, and say so.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Compare methods, measured and published, in one page, and in Markdown, LaTeX, CSV and figures."""
    from anymri.report.case_figure import CaseRequest
    from anymri.report.page import write_report

    if (case is None) != (data is None):
        raise UsageError("--case NAME and --data PREPARED belong together; give both or neither")
    if subset and case is None:
        raise UsageError("--subset chooses what --case shows; give --case and --data as well")
    request = CaseRequest(case, data, tuple(subset or ()), device) if case is not None and data is not None else None
    page = write_report(sources or [], out, published=published or [], case=request, across_protocols=across_protocols)
    print(f"report in {page}")
