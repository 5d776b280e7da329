"""anymri compare."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import Data, Device, Out, changed_run, progress_bar
from anymri.errors import UsageError

if TYPE_CHECKING:
    from anymri.compare import Outcome
    from anymri.engine.run import Run
    from anymri.metrics.protocol import Protocol


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD", help="Methods such as ccsd or ccsd.base, recipes, sets such as six_categories."),
    ] = None,
    data: Data = Path("prepared"),
    out: Out = Path("comparison"),
    folds: Annotated[
        int | None, typer.Option(help="Leave the first N folds out in turn; the first alone if none is given.", min=1)
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Leave this fold out, and no other.", min=0)] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of each run in optimiser steps.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget of each run in minutes spent on steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything, the same for all.")] = None,
    size: Annotated[str | None, typer.Option(help="Of methods whose name says none; small if none is given.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any field of all runs, JSON values.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Rules of scoring; see 'anymri list protocols'; anymri if none is given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the comparison in --out.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Go on without listed cases that are not there.")] = False,
    device: Device = "auto",
) -> None:
    """Train and score methods side by side: the same patches of the same cases, budget, seed and rules; then report on them."""
    from anymri.compare import begun_protocol, begun_runs, check_alike, conclude, on_folds
    from anymri.metrics.protocol import ANYMRI, protocol_named
    from anymri.recipes import RECIPES, runs_named

    chosen = {"steps": steps, "minutes": minutes, "seed": seed}
    if names:
        if size is not None and all(name in RECIPES or "." in name for name in names):
            raise UsageError(f"--size {size}: every name says its size or is a recipe; leave --size out")
        runs = runs_named(names, size=size or "small")
        left_out = _folds(runs, folds, fold)
        changed = {name: _changed(run, chosen, settings or [], alone=not left_out) for name, run in runs.items()}
        check_alike(changed)
        runs = on_folds(changed, left_out) if left_out else with_cases(changed, data, allow_missing)
        rules = protocol_named(protocol or ANYMRI.name)
    else:
        given = (*chosen.values(), folds, fold, size, protocol)
        if not resume or any(v is not None for v in given) or settings or allow_missing:
            raise UsageError(
                "name the methods to compare; without them --resume goes on with --out as it was begun, and takes no settings"
            )
        runs, rules = begun_runs(out), begun_protocol(out)
    _check_new(out, runs, resume=resume)
    outcomes = carried_out(runs, data, out, device=device, protocol=rules)
    if any(not outcome.reason for outcome in outcomes):
        print(f"report in {conclude(outcomes, out)}")
    all_done(outcomes)


def with_cases(runs: Mapping[str, Run], data: Path, allow_missing: bool) -> dict[str, Run]:
    """Return the runs without the listed cases that are not there, if that is allowed; else name each of them and refuse.

    Raises:
        UsageError: It counts the cases.
    """
    from anymri.engine.parts import missing_cases, without_missing
    from anymri.volumes.store import read_cohort

    split = read_cohort(data)[1]
    missing = {name: missing_cases(run, split) for name, run in runs.items()}
    each = sorted({case for cases in missing.values() for case in cases})
    if each and not allow_missing:
        for case in each:
            print(f"missing: {case}", file=sys.stderr)
        raise UsageError(
            f"{data}: {len(each)} cases that the run lists are not among the prepared ones with a reference (named above); "
            "prepare them, add --allow-missing to go on without them, or choose a fold of your own with --fold"
        )
    if each:
        print(f"{len(each)} listed cases are not there and are left out", file=sys.stderr)
    return {
        name: run if run.cases is None else run.model_copy(update={"cases": without_missing(run.cases, missing[name])})
        for name, run in runs.items()
    }


def carried_out(
    runs: Mapping[str, Run], data: Path, out: Path, *, device: str, protocol: Protocol | None = None
) -> tuple[Outcome, ...]:
    """Train and score runs, by the project's own protocol if none is given, with a bar; say what became of each."""
    from anymri.compare import SCORES, Means, compare
    from anymri.engine.inference import device_named
    from anymri.metrics.protocol import ANYMRI
    from anymri.nn.processor import keep_memory
    from anymri.weights import caution

    keep_memory()
    with progress_bar("comparing", 1000 * len(runs)) as advance:
        place = {name: 1000 * i for i, name in enumerate(runs)}
        means = Means(
            protocol or ANYMRI,
            device_named(device),
            lambda n, what, share: advance(place[n] + int(1000 * share), f"{n}: {what}"),
        )
        outcomes = compare(runs, data, out, means=means)
    for outcome in outcomes:
        print(f"failed: {outcome.name}: {outcome.reason}" if outcome.reason else f"scores in {outcome.folder / SCORES}")
        if not outcome.reason and (told := caution(runs[outcome.name].method_config.holds)):
            print(f"note: {outcome.name}: {told}", file=sys.stderr)
    return outcomes


def all_done(outcomes: Sequence[Outcome]) -> None:
    """Refuse if some failed.

    Raises:
        UsageError: It counts them.
    """
    failed = sum(bool(outcome.reason) for outcome in outcomes)
    if failed:
        raise UsageError(
            f"{failed} of {len(outcomes)} runs failed, for the reasons above; mend them, then add --resume to try again"
        )


def _folds(runs: Mapping[str, Run], folds: int | None, fold: int | None) -> tuple[int, ...]:
    """Return the folds to leave out; none if all runs list their cases themselves and no fold was asked for."""
    if folds is not None and fold is not None:
        raise UsageError("give --folds N for the first N folds or --fold K for one of them, not both")
    own = {run.fold for run in runs.values() if run.fold is not None}
    if len(own) > 1:
        raise UsageError(
            f"a set whose runs leave out folds of their own ({', '.join(map(str, sorted(own)))}) is for 'anymri train'"
        )
    if fold is not None or folds is not None:
        return tuple(range(folds)) if folds is not None else (fold or 0,)
    if any(run.cases is not None for run in runs.values()):
        return ()  # Whether all list the same is checked with all else.
    return (0,)


def _changed(run: Run, chosen: dict[str, Any], settings: list[str], *, alone: bool) -> Run:
    """Return a run with what the options say; unless it stands alone, its fold and its cases are given to it later."""
    content = run.model_dump(mode="json")
    if alone:
        return changed_run(content, chosen, settings)
    changed = changed_run({**content, "fold": None, "cases": None}, chosen, settings)
    if changed.fold is not None or changed.cases is not None:
        raise UsageError("which cases are left out is said by --fold or --folds, not by --set")
    return changed


def _check_new(out: Path, runs: Mapping[str, Run], *, resume: bool) -> None:
    """Refuse a folder that holds runs already, unless it is to be gone on with."""
    from anymri.engine.interruption import leads
    from anymri.engine.run import RunFolder
    from anymri.engine.training import begun_here
    from anymri.report.measured import ORDER

    begun = [RunFolder(out / name) for name in runs if RunFolder(out / name).record.exists()]
    restarted = bool(begun) and all(map(begun_here, begun))
    # Of several processes the one that leads may have begun while another still looks.
    if leads() and not resume and not restarted and (begun or (out / ORDER).exists()):
        raise UsageError(f"{out}: holds a comparison already; add --resume to go on with it, or choose another folder")
