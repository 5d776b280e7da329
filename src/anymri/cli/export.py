"""anymri export."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from anymri.cli.options import Out


def export(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="Name or file of weights, or a run folder.")],
    format: Annotated[str, typer.Option(help="onnx: graphs for any runtime; bundle: a MONAI bundle.")],
    out: Out,
) -> None:
    """Write weights for use elsewhere into a new folder."""
    from anymri.export import export as export_weights
    from anymri.methods import method_named
    from anymri.weights import caution, load_model, named

    model = load_model(weights)  # Weights that come with the package are held against their known hash.
    export_weights(named(weights).file, format, out)
    print(f"written to {out}; {'README.md' if format == 'onnx' else 'docs/README.md'} there says how to use it")
    if told := caution(method_named(model.header.method).config.holds):
        print(f"note: {told}", file=sys.stderr)
