"""anymri evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import Data, Device, Out, progress_bar, put_settings
from anymri.errors import UsageError, one_line

if TYPE_CHECKING:
    from anymri.engine.model import Model

_SHOWN = 10  # Of what is left out; the rest is counted.


def evaluate(
    model: Annotated[str | None, typer.Argument(metavar="WEIGHTS_OR_RUN", help="File, run folder or name of weights.")] = None,
    data: Data = Path("prepared"),
    out: Out = Path("scores.csv"),
    protocol: Annotated[str, typer.Option(help="Rules of scoring; see 'anymri list protocols'.")] = "anymri",
    fold: Annotated[
        int | None, typer.Option(help="Fold to score; the one that the weights were not trained on if none is given.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="DIR", help="Masks made by anyone, in place of weights.")] = None,
    scheme: Annotated[str | None, typer.Option(help="Label scheme of these masks; the task's first if none is given.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="config.FIELD=VALUE", help="Setting of the method that changes no parameter, JSON values."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Score weights on every subset of the modalities of prepared cases, or anyone's masks, on the patients' own grids."""
    from anymri.metrics.protocol import protocol_named
    from anymri.metrics.tables import markdown, plain, summaries
    from anymri.volumes.writing import write_bytes

    if out.suffix != ".csv":
        raise UsageError(f"--out {out}: expected a file that ends in .csv; the tables go beside it as .md")
    if (model is None) == (masks is None):
        raise UsageError("give either weights (a file, a run folder or a name of 'anymri weights list') or masks (--masks DIR)")
    if scheme is not None and masks is None:
        raise UsageError("--scheme says how masks are to be read; give them by --masks DIR")
    if settings and masks is not None:
        raise UsageError("--set changes settings of weights; masks (--masks DIR) have none")
    rules = protocol_named(protocol)
    if masks is not None:
        table, notes = _of_masks(masks, data, out, (rules, scheme, fold))
    else:
        table, notes = _of_weights(_loaded(str(model), settings or []), data, out, (rules, fold, device))
    tables = summaries(table)
    print("\n\n".join(plain(t) for t in tables))
    write_bytes(out.with_suffix(".md"), "\n".join([*(markdown(t) for t in tables), *(f"* {n}\n" for n in notes)]).encode())
    print(f"\n{len(table)} scores in {out}, tables in {out.with_suffix('.md')}")


def _loaded(model: str, settings: list[str]) -> Model:
    """Return a model, under the settings that ``--set`` names."""
    from anymri.engine.model import with_settings
    from anymri.weights import load_model

    loaded = load_model(model)
    content = {"config": loaded.header.model_dump(mode="json")["config"]}
    for setting in settings:
        if not setting.startswith("config."):
            raise UsageError(f"--set {setting}: finished weights take settings of their method alone, config.FIELD=VALUE")
    put_settings(content, settings)
    return with_settings(loaded, content["config"]) if settings else loaded


def _of_weights(loaded: Model, data: Path, out: Path, how: tuple[Any, int | None, str]) -> tuple[Any, list[str]]:
    """Return the scores of weights, and what must be known to read them."""
    from anymri.engine.evaluation import evaluate as evaluate_model
    from anymri.engine.inference import device_named
    from anymri.engine.parts import left_out_by
    from anymri.nn.processor import keep_memory
    from anymri.volumes.store import case_folder, read_cohort

    keep_memory()
    rules, fold, device = how
    _, split = read_cohort(data)
    trained = loaded.header.training
    left_out = left_out_by(trained.cases, trained.fold, split) if fold is None else None
    cases = _cases(split, left_out if fold is None else fold)
    seen = [n for n in cases if n in trained.cases]
    notes = [f"scored as {loaded.called}: not the settings that these weights were trained with"] if loaded.changed else []
    if left_out is not None:
        notes.append(f"fold {left_out} is scored, which these weights left out of their training; --fold scores another")
    if not trained.cases:
        notes.append("these weights do not say which cases they were trained on; the scores may be of some of them")
    elif fold is None and 0 < len(seen) < len(cases):
        cases = tuple(n for n in cases if n not in trained.cases)
        notes.append(f"{len(seen)} cases that were in the training of these weights are left out; --fold scores a whole fold")
    elif seen:
        notes.append(f"{len(seen)} of these {len(cases)} cases were in the training of these weights")
    for note in notes:
        print(one_line(f"note: {note}"), file=sys.stderr)
    with progress_bar("scoring", len(cases)) as advance:
        table = evaluate_model(
            loaded,
            [case_folder(data, n) for n in cases],
            out,
            protocol=rules,
            device=device_named(device),
            report=lambda done, total, name: advance(done, name),
        )
    return table, notes


def _of_masks(masks: Path, data: Path, out: Path, how: tuple[Any, str | None, int | None]) -> tuple[Any, list[str]]:
    """Return the scores of masks, and what must be known to read them."""
    from anymri.domain.task import task_named
    from anymri.engine.foreign_masks import Reading, evaluate_masks, find_masks
    from anymri.volumes.store import case_folder, read_cohort

    rules, scheme, fold = how
    record, split = read_cohort(data)
    task = task_named(record.task)
    reading = Reading(task, task.scheme(scheme), rules)
    cases = _cases(split, fold)
    found = find_masks(masks, [case_folder(data, n) for n in cases], task)
    for path, reason in found.unmatched[:_SHOWN]:
        print(one_line(f"left out: {path}: {reason}"), file=sys.stderr)
    if len(found.unmatched) > _SHOWN:
        print(f"left out: {len(found.unmatched) - _SHOWN} more files", file=sys.stderr)
    chosen = "" if scheme else " (the task's first; --scheme names another)"
    count = sum(map(len, found.masks.values()))
    notes = [f"{count} masks of {len(found.masks)} cases in {masks}, read by scheme {reading.scheme.name}{chosen}"]
    if found.without:
        shown = ", ".join(found.without[:_SHOWN]) + (" …" if len(found.without) > _SHOWN else "")
        notes.append(f"{len(found.without)} of {len(cases)} cases have no mask and are in no mean: {shown}")
    if len({tuple(map(str, made)) for made in found.masks.values()}) > 1:
        notes.append("not every case has a mask for every subset: each mean is over the cases that do")
    for note in notes:
        print(one_line(f"note: {note}"), file=sys.stderr)
    with progress_bar("scoring", len(found.masks)) as advance:
        table = evaluate_masks(
            found,
            (record.name, case_folder(data, cases[0]).parent),
            out,
            reading=reading,
            report=lambda done, total, name: advance(done, name),
        )
    return table, notes


def _cases(split: Any, fold: int | None) -> tuple[str, ...]:
    """Return the names of the cases of a fold, or of all."""
    return split.test(fold) if fold is not None else tuple(n for names in split.folds for n in names)
