"""anymri weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(help="Weights that come with the package or were imported.", no_args_is_help=True)


@weights_app.command("list")
def weights_list() -> None:
    """List the weights that can be named."""
    from anymri.weights import known

    for line in known():
        size = f"{line.file.stat().st_size / 1e6:6.1f} MB" if line.file.is_file() else "  missing"
        print(f"{line.name:<24}{line.task:<12}{size}  {'default' if line.default else ''}".rstrip())
        if line.caution:
            print(f"  note: {line.caution}")


@weights_app.command("where")
def weights_where(name: Annotated[str, typer.Argument(help="Name of weights.")]) -> None:
    """Print the file of named weights."""
    from anymri.weights import named

    print(named(name).file)


@weights_app.command("verify")
def weights_verify() -> None:
    """Check every file against its hash."""
    from anymri.weights import known, verify

    for line in known():
        verify(line)
        print(f"{line.name}: {line.sha256} as it should be")


@weights_app.command("import")
def weights_import(file: Annotated[Path, typer.Argument(help="A .safetensors file made by 'anymri train'.")]) -> None:
    """Check a weights file and keep it under its own name."""
    from anymri.weights import import_file

    line = import_file(file)
    print(f"imported as {line.name}")
    if line.caution:
        print(f"note: {line.caution}", file=sys.stderr)
