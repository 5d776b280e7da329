"""anymri list."""

from __future__ import annotations

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

        lines = []
        for entry in METHODS:
            sizes = []
            for size in entry.config.sizes:
                with torch.device("meta"):  # counts without memory
                    method = entry.config.sized(size).build(GLIOMA)
                    method.strip()  # What a weights file holds.
                sizes.append(f"{size} {sum(p.numel() for p in method.parameters()) / 1e6:.2f} M")
            lines.append(f"{entry.name:<16}{entry.category:<26}{', '.join(sizes):<56}{entry.paper}")
        return lines
    if what == "cohorts":
        from anymri.cohorts import LAYOUTS

        return [f"{name:<12}{_purpose(find)}" for name, find in LAYOUTS.items()]
    if what == "tasks":
        from anymri.domain.task import TASKS

        return [
            f"{t.name:<12}{'+'.join(t.modalities.names):<20}{' > '.join(t.region_names):<16}"
            f"labels: {', '.join(s.name for s in t.schemes)}"
            for t in TASKS
        ]
    if what == "recipes":
        from anymri.recipes import RECIPES

        return [f"{name:<32}{_purpose(recipe)}" for name, recipe in RECIPES.items()]
    if what == "protocols":
        from anymri.metrics.protocol import PROTOCOLS, caveats, rules

        return [
            line for p in PROTOCOLS for line in (f"{p.name:<28}{p.description}", *(f"    {s}" for s in (*rules(p), *caveats(p))))
        ]
    if what == "published":
        from anymri.published.reading import published_tables

        return [f"{t.data_name:<12}{t.name:<26}{t.title}; {t.protocol}" for t in published_tables()]
    raise UsageError(f"'{what}' cannot be listed; expected methods, cohorts, tasks, recipes, protocols or published")


def _purpose(function: Any) -> str:
    """Return what a docstring's first line says is returned."""
    return (function.__doc__ or "").splitlines()[0].removeprefix("Return ").replace("``", "")
