"""anymri list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from anymri.errors import UsageError


def list_command(what: Annotated[str, typer.Argument(help="methods, cohorts, tasks, recipes, protocols or published.")]) -> None:
    """List what there is."""
    for line in _listing(what):
        print(line)


def _listing(what: str) -> list[str]:
    """Return the lines of a list."""
    if what == "methods":
        import torch

        from anymri.domain.task import GLIOMA
        from anymri.methods import METHODS

        rows = []
        for entry in METHODS:
            sizes = []
            for size in entry.config.sizes:
                with torch.device("meta"):  # counts without memory
                    method = entry.config.sized(size).build(GLIOMA)
                    method.strip()  # What a weights file holds.
                sizes.append(f"{size} {sum(p.numel() for p in method.parameters()) / 1e6:.2f} M")
            rows.append((entry.name, entry.category, ", ".join(sizes), entry.paper))
        return _columns(rows)
    if what == "cohorts":
        from anymri.cohorts import LAYOUTS

        return _columns([(name, _purpose(find)) for name, find in LAYOUTS.items()])
    if what == "tasks":
        from anymri.domain.task import TASKS

        return _columns(
            [
                (
                    t.name,
                    "+".join(t.modalities.names),
                    " > ".join(t.region_names),
                    f"labels: {', '.join(s.name for s in t.schemes)}",
                )
                for t in TASKS
            ]
        )
    if what == "recipes":
        from anymri.recipes import RECIPES

        return _columns([(name, _purpose(recipe)) for name, recipe in RECIPES.items()])
    if what == "protocols":
        from anymri.metrics.protocol import PROTOCOLS, caveats, rules

        return [
            line for p in PROTOCOLS for line in (f"{p.name:<28}{p.description}", *(f"    {s}" for s in (*rules(p), *caveats(p))))
        ]
    if what == "published":
        from anymri.published.reading import published_tables

        return _columns([(t.data_name, t.name, f"{t.title}; {t.protocol}") for t in published_tables()])
    raise UsageError(f"'{what}' cannot be listed; expected methods, cohorts, tasks, recipes, protocols or published")


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return lines whose columns are as wide as what stands in them, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _purpose(function: Any) -> str:
    """Return what a docstring's first line says is returned."""
    return (function.__doc__ or "").splitlines()[0].removeprefix("Return ").replace("``", "")
