"""anymri train."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import Data, Device, Out, progress_bar
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
    init: Annotated[str | None, typer.Option(help="Weights to start from: a file or a name.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    again: Annotated[Path | None, typer.Option("--from", help="Run folder whose record is repeated.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any field of the run, JSON values.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything.")] = None,
    device: Device = "auto",
) -> None:
    """Train a method or a recipe on prepared cases and leave weights, checkpoints, a log and a record."""
    from anymri.engine.inference import device_named
    from anymri.engine.training import train as train_run
    from anymri.weights import named

    if resume and name is None and again is None:
        again = out
    start = str(named(init).file) if init else None
    repeats = again is not None and again != out
    chosen = {"fold": fold, "steps": steps, "minutes": minutes, "seed": seed, "init": start}
    run = _run(name, again, chosen, settings or [], repeats=repeats)
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
    if repeats and again is not None:
        _compare_data(again, out)


def _compare_data(again: Path, out: Path) -> None:
    """Say so if a repeated run was trained on other data than the first."""
    from anymri.engine.run import RunFolder

    there, here = (RunFolder(folder).read_facts().get("data") or {} for folder in (again, out))
    other = [n for n, digest in here.items() if there.get(n, digest) != digest]
    if there and (other or there.keys() != here.keys()):
        print(f"note: the cases are not those of {again}, so its numbers are not repeated", file=sys.stderr)


def _as_recorded(again: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what a record knows beside the run and a repetition needs: the threads, and the hash of the weights to start from."""
    from anymri.engine.run import RunFolder

    facts = RunFolder(again).read_facts()
    return {
        "threads": content["threads"] or facts.get("machine", {}).get("threads"),
        "init_sha256": content["init_sha256"] or (facts.get("init") or {}).get("sha256"),
    }


def _run(name: str | None, again: Path | None, chosen: dict[str, Any], settings: list[str], *, repeats: bool) -> Run:
    """Return the run that was asked for: a recipe or a record, changed by options."""
    import json

    from anymri.engine.run import RunFolder, checked_run
    from anymri.recipes import run_named

    if (name is None) == (again is None):
        raise UsageError("give either a method or recipe, or --from RUN")
    if chosen["steps"] is not None and chosen["minutes"] is not None:
        raise UsageError("give --steps or --minutes, not both")
    content = (RunFolder(again).read_run() if again else run_named(name or "")).model_dump(mode="json")
    if again is not None and repeats:
        content |= _as_recorded(again, content)
    if chosen["init"] is not None:
        content["init_sha256"] = None
    if chosen["steps"] is not None or chosen["minutes"] is not None:
        content |= {"steps": None, "minutes": None}
    content |= {field: value for field, value in chosen.items() if value is not None}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: expected FIELD=VALUE, such as --set learning_rate=0.001")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        place = content
        *path, last = field.split(".")
        for step in path:
            place = place.get(step)
            if not isinstance(place, dict):
                raise UsageError(f"--set {setting}: there is no group '{step}'; fields are {', '.join(content)}")
        place[last] = value
    return checked_run(content)
