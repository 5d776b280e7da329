"""The command line: parse, call, print. Everything heavy is imported inside a command, so that ``--help`` is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.errors import AnymriError, UsageError

if TYPE_CHECKING:
    from anymri.engine.run import Run

app = typer.Typer(
    help="Brain tumour segmentation from whichever MRI sequences a patient has. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Weights that come with the package or were imported.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

Out = Annotated[Path, typer.Option(help="Where to write.")]
Data = Annotated[Path, typer.Option(help="Folder made by 'anymri prepare'.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="Folder with the studies.")],
    out: Annotated[Path, typer.Argument(help="Folder for the prepared cases.")],
    layout: Annotated[str, typer.Option(help="auto, brats or phantom.")] = "auto",
    task: Annotated[str, typer.Option(help="What the cases are for.")] = "glioma",
    scheme: Annotated[str | None, typer.Option(help="Label scheme of the references, if not the one of the layout.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Bring the studies of a folder onto one grid and scale, one compressed case each. What is there already is kept."""
    from anymri.cohorts import find_cohort
    from anymri.domain.task import task_named
    from anymri.preparation.pipeline import prepare_cohort

    chosen = task_named(task)
    cohort = find_cohort(source, chosen, layout=layout, scheme=scheme)
    print(f"{len(cohort.studies)} cases found in {source}")
    for path, reason in cohort.left_out:
        print(f"left out: {path}: {reason}")
    with _bar("preparing", len(cohort.studies)) as advance:
        failures = prepare_cohort(
            cohort, chosen, out, workers=workers, progress=lambda done, total, name, s, error: advance(done, name)
        )
    for failure in failures:
        print(f"failed: {failure.case}: {failure.reason}", file=sys.stderr)
    print(f"{len(cohort.studies) - len(failures)} cases prepared in {out}")
    if failures:
        raise UsageError(
            f"{len(failures)} of {len(cohort.studies)} cases could not be prepared; mend them and run the same command again"
        )


@app.command()
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
    run = _run(name, again, {"fold": fold, "steps": steps, "minutes": minutes, "seed": seed, "init": start}, settings or [])
    print(
        f"training {run.method} on {data}: {run.steps or run.minutes} {'steps' if run.steps else 'minutes'}, "
        f"fold {run.fold}, seed {run.seed}"
    )
    with _bar("training", 1000) as advance:
        model = train_run(
            run,
            data,
            out,
            resume=resume,
            device=device_named(device),
            report=lambda p: advance(int(1000 * min(p.share, 1)), f"step {p.step}, loss {p.loss:.3f}"),
        )
    print(f"weights in {out / 'weights.safetensors'}, SHA-256 {model.sha256}")


@app.command()
def segment(
    study: Annotated[list[Path] | None, typer.Argument(help="Folders of patients with BraTS names.")] = None,
    flair: Annotated[list[Path] | None, typer.Option(help="FLAIR image.")] = None,
    t1: Annotated[list[Path] | None, typer.Option(help="Native T1 image.")] = None,
    t1c: Annotated[list[Path] | None, typer.Option(help="Contrast-enhanced T1 image.")] = None,
    t2: Annotated[list[Path] | None, typer.Option(help="T2 image.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Any modality of the weights' task.")] = None,
    out: Out = Path("segmentation"),
    weights: Annotated[str | None, typer.Option(help="Name or file; the default ones if none are given.")] = None,
    labels: Annotated[str | None, typer.Option(help="Label scheme of the mask, such as brats2021 or brats2023.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write the probability of each region too.")] = False,
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = "auto",
    device: Device = "auto",
) -> None:
    """Segment patients from the images at hand: mask on the patient's own grid, volumes, picture, page."""
    from anymri.segment import check_writable, checked_options
    from anymri.weights import load_model

    options = checked_options(labels, probabilities, precision, device)
    given = [*(("FLAIR", p) for p in flair or []), *(("T1", p) for p in t1 or []), *(("T1c", p) for p in t1c or [])]
    given += [*(("T2", p) for p in t2 or []), *(_named_file(text) for text in image or [])]
    if bool(given) == bool(study):
        raise UsageError("give either images of one patient (--flair, --t1, --t1c, --t2, --image NAME=FILE) or folders of patients")
    _check_once(given)
    model = load_model(weights)
    patients, failures = _patients(given, study or [], model.method.task, out)
    asked = len(patients) + len(failures)
    for name, images, folder in patients:
        try:
            check_writable(folder)
            _segment_one(name, images, folder, model, options)
        except (AnymriError, OSError, RuntimeError) as error:  # One patient, even one too large for the memory, stops no other.
            with suppress(OSError):  # Of a patient that failed not even an empty folder is left.
                folder.rmdir()
            if asked == 1:
                raise
            failures.append((name, str(error).splitlines()[0]))
    for name, reason in failures:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    print("Research use only. Not a medical device.")
    if failures:
        raise UsageError(f"{len(failures)} of {asked} patients could not be segmented")


@app.command()
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
    from anymri.report.files import write_atomically
    from anymri.volumes.store import case_folder, read_cohort
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
    with _bar("scoring", len(cases)) as advance:
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
    write_atomically(out.with_suffix(".md"), "\n".join(markdown(t) for t in tables).encode())
    print(f"\n{len(table)} scores in {out}, tables in {out.with_suffix('.md')}")


@app.command("list")
def list_command(what: Annotated[str, typer.Argument(help="methods, cohorts, tasks, recipes or protocols.")]) -> None:
    """List what there is."""
    for line in _listing(what):
        print(line)


@weights_app.command("list")
def weights_list() -> None:
    """List the weights that can be named."""
    from anymri.weights import known

    for line in known():
        print(
            f"{line.name:<24}{line.task:<12}{line.file.stat().st_size / 1e6:6.1f} MB  {'default' if line.default else ''}".rstrip()
        )


@weights_app.command("where")
def weights_where(name: Annotated[str, typer.Argument(help="Name of weights.")]) -> None:
    """Print the file of named weights."""
    from anymri.weights import named

    print(named(name).file)


@weights_app.command("verify")
def weights_verify() -> None:
    """Check every file against its hash."""
    from anymri.weights import known, load_model

    for line in known():
        load_model(line.name)
        print(f"{line.name}: {line.sha256} as it should be")


@weights_app.command("import")
def weights_import(file: Annotated[Path, typer.Argument(help="A .safetensors file made by 'anymri train'.")]) -> None:
    """Check a weights file and keep it under its own name."""
    from anymri.weights import import_file

    print(f"imported as {import_file(file).name}")


def _run(name: str | None, again: Path | None, chosen: dict[str, Any], settings: list[str]) -> Run:
    """Return the run that was asked for: a recipe or a record, changed by options."""
    import json

    from anymri.engine.run import RunFolder, checked_run
    from anymri.recipes import run_named

    if (name is None) == (again is None):
        raise UsageError("give either a method or recipe, or --from RUN")
    if chosen["steps"] is not None and chosen["minutes"] is not None:
        raise UsageError("give --steps or --minutes, not both")
    content = (RunFolder(again).read_run() if again else run_named(name or "")).model_dump(mode="json")
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


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise UsageError(f"--image {text}: expected NAME=FILE, such as --image T2w=t2.nii.gz")
    return name, Path(path)


def _check_once(given: list[tuple[str, Path]]) -> None:
    for name, _ in given:
        files = [str(p) for n, p in given if n == name]
        if len(files) > 1:
            raise UsageError(f"{name} was given {len(files)} times ({' and '.join(files)}); give each modality once")


_Patient = tuple[str, dict[str, Path], Path]


def _patients(
    given: list[tuple[str, Path]], studies: list[Path], task: Any, out: Path
) -> tuple[list[_Patient], list[tuple[str, str]]]:
    """Return name, images and output folder of every patient asked for, and folders that cannot be used with the reason."""
    if given:
        return [(out.resolve().name, dict(given), out)], []
    from anymri.cohorts import find_cohort

    patients: list[_Patient] = []
    unusable: list[tuple[str, str]] = []
    for folder in studies:
        try:
            cohort = find_cohort(folder, task)
        except AnymriError as error:
            if len(studies) == 1:
                raise
            unusable.append((str(folder), str(error)))
            continue
        for path, reason in cohort.left_out:
            print(f"left out: {path}: {reason}", file=sys.stderr)
        patients += [(s.name, {n: source.path for n, source in s.images.items()}, out / s.name) for s in cohort.studies]
    names = [name for name, _, _ in patients]
    if twice := [n for n in names if names.count(n) > 1]:
        raise UsageError(f"patient {twice[0]} was given more than once; give each folder once")
    return patients, unusable


def _segment_one(name: str, images: dict[str, Path], folder: Path, model: Any, options: Any) -> None:
    from anymri.segment import segment as segment_patient
    from anymri.segment import write_segmentation

    result = segment_patient(images, name=name, weights=model, options=options)
    write_segmentation(result, folder)
    volumes = "  ".join(f"{region} {ml:.1f} ml" for region, ml in result.summary["volumes_ml"].items())
    print(
        f"{name}: {volumes}  ({sum(result.summary['seconds'].values()):.1f} s, "
        f"from {'+'.join(result.summary['modalities_used'])}) in {folder}"
    )
    for warning in result.summary["warnings"]:
        print(f"  {warning}")


def _listing(what: str) -> list[str]:
    """Return the lines of a list."""
    if what == "methods":
        from anymri.domain.task import GLIOMA
        from anymri.methods import METHODS

        lines = []
        for entry in METHODS:
            counts = {s: sum(p.numel() for p in entry.config.sized(s).build(GLIOMA).parameters()) for s in entry.config.sizes}
            sizes = ", ".join(f"{size} {count / 1e6:.2f} M" for size, count in counts.items())
            lines.append(f"{entry.name:<16}{entry.category:<26}{sizes:<54}{entry.paper}")
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
        from anymri.metrics.protocol import PROTOCOLS

        return [f"{p.name:<12}{p.description}" for p in PROTOCOLS]
    raise UsageError(f"'{what}' cannot be listed; expected methods, cohorts, tasks, recipes or protocols")


def _purpose(function: Any) -> str:
    """Return what a docstring's first line says is returned."""
    return (function.__doc__ or "").splitlines()[0].removeprefix("Return ").replace("``", "")


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar with the time left, where there is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(what, total=total, now="")
        yield lambda done, now: progress.update(task, completed=done, now=now)


def main() -> None:
    """Run a command; a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except AnymriError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # What no check foresaw: a disk that fills up, a folder that vanishes.
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}; nothing more was done", file=sys.stderr)
        raise SystemExit(2) from None
