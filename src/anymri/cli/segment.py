"""anymri segment."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from anymri.cli.options import Device, Out
from anymri.errors import AnymriError, UsageError, one_line

USE = "Research use only. Not a medical device."


def segment(
    study: Annotated[list[Path] | None, typer.Argument(help="Folders of patients, in a layout of 'anymri list cohorts'.")] = None,
    flair: Annotated[list[Path] | None, typer.Option(help="FLAIR image.")] = None,
    t1: Annotated[list[Path] | None, typer.Option(help="Native T1 image.")] = None,
    t1c: Annotated[list[Path] | None, typer.Option(help="Contrast-enhanced T1 image.")] = None,
    t2: Annotated[list[Path] | None, typer.Option(help="T2 image.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Any modality of the weights' task.")] = None,
    cohort: Annotated[
        Path | None, typer.Option(metavar="TABLE_OR_PREPARED", help="All patients of a prepared folder, a folder or a table.")
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Every N-th patient, beginning with the I-th, from 1.")] = None,
    workers: Annotated[int, typer.Option(help="Ray actors, each with a model; 1: this process alone.", min=1)] = 1,
    out: Out = Path("segmentation"),
    weights: Annotated[str | None, typer.Option(help="Name or file; the default ones if none are given.")] = None,
    labels: Annotated[str | None, typer.Option(help="Label scheme of the mask, such as brats2021 or brats2023.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write the probability of each region too.")] = False,
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = "auto",
    backend: Annotated[str, typer.Option(help="torch, onnx or openvino: what computes.")] = "torch",
    device: Device = "auto",
) -> None:
    """Segment patients from the images at hand: mask on the patient's own grid, volumes, picture, page."""
    given = [*(("FLAIR", p) for p in flair or []), *(("T1", p) for p in t1 or []), *(("T1c", p) for p in t1c or [])]
    given += [*(("T2", p) for p in t2 or []), *(_named_file(text) for text in image or [])]
    if [bool(given), bool(study), cohort is not None].count(True) != 1:
        raise UsageError(
            "give either images of one patient (--flair, --t1, --t1c, --t2, --image NAME=FILE) or folders of patients or --cohort"
        )
    _check_once(given)
    if given and (shard is not None or workers > 1):
        raise UsageError("--shard and --workers divide many patients; images of one patient were given")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("torchrun would have every process segment every patient; divide them by --shard or --workers instead")
    from anymri.nn.processor import keep_memory
    from anymri.segment import checked_options, ready
    from anymri.weights import load_model, load_trust, named

    options = checked_options(labels, probabilities, precision, device, backend)
    part = _part(shard)
    keep_memory()
    model = ready(load_model(weights), options, exported=named(weights).file.parent)
    options = replace(options, trust=load_trust(weights, model))
    if given or workers == 1:  # Pages come last: what makes them is loaded while the network works.
        threading.Thread(target=_load_pages, daemon=True).start()
    if given:
        _segment_one(dict(given), out, model, options)
        return
    assignment = _assignment(study or [], cohort, model, options, out)
    _segment_many(assignment, part, workers, named(weights).file)


def _part(shard: str | None) -> Any:
    if shard is None:
        return None
    from anymri.segment.cohort import shard_named

    return shard_named(shard)


def _load_pages() -> None:
    import jinja2  # noqa: F401

    from anymri.report.preview import load_plotting

    load_plotting()


def _segment_one(images: dict[str, Path], out: Path, model: Any, options: Any) -> None:
    from anymri.segment import attempted, write_segmentation
    from anymri.segment import segment as segment_patient

    with attempted(out):
        result = segment_patient(images, name=out.resolve().name, weights=model, options=options)
        write_segmentation(result, out)
    _print(result.summary, out)
    print(USE)


def _segment_many(assignment: Any, shard: Any, workers: int, weights: Path) -> None:
    """Segment patients and say what became of them."""
    from contextlib import nullcontext

    from anymri.segment.cohort import VOLUMES, in_this_process, segment_cohort

    out, model, options = assignment.out, assignment.model, assignment.options
    means: Any = nullcontext(in_this_process(model, options))
    if workers > 1:
        from anymri.segment import check_writable
        from anymri.segment.actors import crew

        check_writable(out)
        means = crew(weights, model, options, workers=workers, out=out)

    def report(done: int, total: int, outcome: Any) -> None:
        if outcome.summary is not None:
            _print(outcome.summary, out / outcome.name)

    with means as given:
        tally = segment_cohort(assignment, getattr(given, "execute", given), shard=shard, report=report)
    asked = len(tally.kept) + len(tally.done) + len(tally.failed)
    if len(assignment.names) == len(tally.failed) == 1:
        raise AnymriError(next(iter(tally.failed.values())))
    for name, reason in tally.failed.items():
        print(one_line(f"failed: {name}: {reason}"), file=sys.stderr)
    part = "" if shard is None else f" of part {shard.number} of {shard.of}"
    kept = f", {len(tally.kept)} of them earlier" if tally.kept else ""
    kept += f"; {len(assignment.left_out)} left out" if assignment.left_out else ""
    print(f"{asked - len(tally.failed)} of {asked} patients{part} are segmented{kept}; volumes in {out / VOLUMES}")
    print(USE)
    if tally.failed:
        raise UsageError(f"{len(tally.failed)} of {asked} patients could not be segmented")


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


def _assignment(studies: list[Path], cohort: Path | None, model: Any, options: Any, out: Path) -> Any:
    """Return every patient asked for; folders that cannot be used are refused by name, one alone with its error."""
    from anymri.segment.cohort import Assignment, find_visits

    task = model.method.task
    visits: list[Any] = []
    refused: dict[str, str] = {}
    left_out: list[tuple[str, str]] = []
    for folder in [cohort] if cohort is not None else studies:
        try:
            found, unused = find_visits(folder, task)
        except AnymriError as error:
            if cohort is not None or len(studies) == 1:
                raise
            refused[folder.resolve().name] = str(error)
            continue
        for path, reason in unused:
            print(one_line(f"left out: {path}: {reason}"), file=sys.stderr)
        visits += found
        left_out += unused
    return Assignment(tuple(visits), model, options, out, refused, tuple(left_out))


def _print(summary: dict[str, Any], folder: Path) -> None:
    """Say what was found; what not to rely on comes first, and again beside its volume."""
    from anymri.trust.statement import marked

    warnings, name = summary["warnings"], f"{summary['name']}: "
    if any(marked(summary, region) for region in summary["volumes_ml"]):
        print(f"{name}{warnings[0]}")
        warnings, name = warnings[1:], "  "
    found = ((f"{region} {ml:.1f} ml", marked(summary, region)) for region, ml in summary["volumes_ml"].items())
    volumes = "  ".join(f"{volume}, {mark}" if mark else volume for volume, mark in found)
    seconds, used = sum(summary["seconds"].values()), "+".join(summary["modalities_used"])
    print(f"{name}{volumes}  ({seconds:.1f} s, from {used}) in {folder}")
    for warning in warnings:
        print(f"  {warning}")
    if expected := summary.get("expected_dice"):
        known = {region: "not known" if dice is None else f"{dice[0]:.2f} to {dice[1]:.2f}" for region, dice in expected.items()}
        print(
            "  expected Dice (1: as an expert draws it; below 0.5: poor): "
            + "  ".join(f"{region} {dice}" for region, dice in known.items())
        )
