"""anymri train."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.compare import all_done, carried_out, with_cases
from anymri.cli.options import Data, Device, Out, changed_run, progress_bar
from anymri.errors import UsageError

if TYPE_CHECKING:
    from anymri.engine.run import Run


def train(
    name: Annotated[
        str | None,
        typer.Argument(metavar="METHOD_OR_RECIPE", help="Such as ccsd or ccsd.small; see 'anymri list'."),
    ] = None,
    data: Data = Path("prepared"),
    out: Out = Path("run"),
    fold: Annotated[
        int | None, typer.Option(help="Fold that is left out for testing; all cases are trained on if none is given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in optimiser steps.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes spent on steps.")] = None,
    material: Annotated[
        Path | None, typer.Option(help="Folder with anatomies/ and tumours/, label maps that synthetic patients are made from.")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Weights to start from: a file or a name.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    again: Annotated[Path | None, typer.Option("--from", help="Run folder whose record is repeated.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any field of the run, JSON values.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Go on without listed cases that are not there.")] = False,
    device: Device = "auto",
) -> None:
    """Train a method or a recipe on prepared cases and leave weights, checkpoints, a log and a record.

    A recipe that is a set of runs trains and scores them one after the other, each in a folder of its own.
    """
    from anymri.engine.inference import device_named
    from anymri.engine.run import Run
    from anymri.engine.training import train as train_run
    from anymri.nn.processor import keep_memory
    from anymri.weights import caution, named

    keep_memory()
    if resume and name is None and again is None:
        again = out
    start = named(init) if init else None
    repeats = again is not None and again != out
    maps = str(material) if material else None
    chosen = {"fold": fold, "steps": steps, "minutes": minutes, "seed": seed, "material": maps}
    chosen |= {"init": str(start.file), "init_sha256": start.sha256 or None} if start else {}
    run = _run(name, again, chosen, settings or [], repeats=repeats)
    if not isinstance(run, Run):
        _train_all(with_cases(run, data, allow_missing), data, out, resume=resume, device=device)
        return
    (run,) = with_cases({name or "": run}, data, allow_missing).values()
    print(
        f"training {run.method} on {data}: {run.steps or run.minutes} {'steps' if run.steps else 'minutes'}, "
        f"fold {run.fold}, seed {run.seed}"
    )
    with progress_bar("training", 1000) as advance:
        model = train_run(
            run,
            data,
            out,
            resume=resume,
            device=device_named(device),
            report=lambda p: advance(int(1000 * min(p.share, 1)), f"step {p.step}, loss {p.loss:.3f}"),
        )
    print(f"weights in {out / 'weights.safetensors'}, SHA-256 {model.sha256}")
    if told := caution(run.method_config.holds):
        print(f"note: {told}", file=sys.stderr)
    if repeats and again is not None:
        _compare_data(again, out)


def _compare_data(again: Path, out: Path) -> None:
    """Say so if a repeated run was trained on other data than the first."""
    from anymri.engine.run import RunFolder

    before, now = (RunFolder(folder).read_facts() for folder in (again, out))
    for field, what in (("data", "the cases are not those"), ("material", "the material is not that")):
        there, here = before.get(field) or {}, now.get(field) or {}
        other = [n for n, digest in here.items() if there.get(n, digest) != digest]
        if there and (other or there.keys() != here.keys()):
            print(f"note: {what} of {again}, so its numbers are not repeated", file=sys.stderr)


def _as_recorded(again: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what a record knows beside the run and a repetition needs: the threads, and the hash of the weights to start from."""
    from anymri.engine.run import RunFolder

    facts = RunFolder(again).read_facts()
    return {
        "threads": content["threads"] or facts.get("machine", {}).get("threads"),
        "init_sha256": content["init_sha256"] or (facts.get("init") or {}).get("sha256"),
    }


def _train_all(runs: Mapping[str, Run], data: Path, out: Path, *, resume: bool, device: str) -> None:
    """Train and score the runs of a set; say which failed."""
    from anymri.engine.run import RunFolder
    from anymri.engine.training import begun_here

    begun = [n for n in runs if RunFolder(out / n).record.exists()]
    if begun and not (resume or all(begun_here(RunFolder(out / n)) for n in begun)):
        raise UsageError(f"{out}: holds runs already ({begun[0]}); add --resume to go on with them, or choose another folder")
    outcomes = carried_out(runs, data, out, device=device)
    # In the order of the set: the first is what the others are compared with.
    if scored := [str(o.folder) for o in outcomes if not o.reason]:
        print(f"tables and figures of them: {shlex.join(['anymri', 'report', *scored, '--out', 'DIR'])}")
    all_done(outcomes)


def _run(
    name: str | None, again: Path | None, chosen: dict[str, Any], settings: list[str], *, repeats: bool
) -> Run | Mapping[str, Run]:
    """Return the run that was asked for, or the runs of a set: a recipe or a record, changed by options."""
    from anymri.engine.run import Run, RunFolder
    from anymri.recipes import check_apart, run_named

    if (name is None) == (again is None):
        raise UsageError("give either a method or recipe, or --from RUN")
    if again is not None:
        content = RunFolder(again).read_run().model_dump(mode="json")
        return changed_run(content | (_as_recorded(again, content) if repeats else {}), chosen, settings)
    found = run_named(name or "")
    if isinstance(found, Run):
        return changed_run(found.model_dump(mode="json"), chosen, settings)
    runs = {n: changed_run(r.model_dump(mode="json"), chosen, settings) for n, r in found.items()}
    check_apart(runs)
    return runs
