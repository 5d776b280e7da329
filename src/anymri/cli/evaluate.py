"""anymri evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Data, Device, Out, progress_bar
from anymri.errors import UsageError


def evaluate(
    model: Annotated[str, typer.Argument(metavar="WEIGHTS_OR_RUN", help="File, run folder or name of weights.")],
    data: Data = Path("prepared"),
    out: Out = Path("scores.csv"),
    protocol: Annotated[str, typer.Option(help="Rules of scoring; see 'anymri list protocols'.")] = "anymri",
    fold: Annotated[
        int | None, typer.Option(help="Fold to score; the one that the weights were not trained on if none is given.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score weights on every subset of the modalities of prepared cases, on the patients' own grids."""
    from anymri.engine.evaluation import evaluate as evaluate_model
    from anymri.engine.inference import device_named
    from anymri.metrics.protocol import protocol_named
    from anymri.metrics.tables import markdown, plain, summaries
    from anymri.volumes.store import case_folder, read_cohort
    from anymri.volumes.writing import write_bytes
    from anymri.weights import load_model

    if out.suffix != ".csv":
        raise UsageError(f"--out {out}: expected a file that ends in .csv; the tables go beside it as .md")
    loaded, rules, (record, split) = load_model(model), protocol_named(protocol), read_cohort(data)
    trained = loaded.header.training
    left_out = trained.fold if record.name == trained.cohort.get("name") else None
    chosen = left_out if fold is None else fold
    cases = split.test(chosen) if chosen is not None else tuple(n for names in split.folds for n in names)
    seen = [n for n in cases if n in trained.cases]
    if not trained.cases:
        print("note: these weights do not say which cases they were trained on; the scores may be of some of them", file=sys.stderr)
    elif seen:
        print(f"note: {len(seen)} of these {len(cases)} cases were in the training of these weights", file=sys.stderr)
    with progress_bar("scoring", len(cases)) as advance:
        table = evaluate_model(
            loaded,
            [case_folder(data, n) for n in cases],
            out,
            protocol=rules,
            device=device_named(device),
            report=lambda done, total, name: advance(done, name),
        )
    tables = summaries(table)
    print("\n\n".join(plain(t) for t in tables))
    write_bytes(out.with_suffix(".md"), "\n".join(markdown(t) for t in tables).encode())
    print(f"\n{len(table)} scores in {out}, tables in {out.with_suffix('.md')}")
