"""anymri segment."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from anymri.cli.options import Device, Out
from anymri.errors import AnymriError, UsageError, one_line


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
        print(one_line(f"failed: {name}: {reason}"), file=sys.stderr)
    print("Research use only. Not a medical device.")
    if failures:
        raise UsageError(f"{len(failures)} of {asked} patients could not be segmented")


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
            print(one_line(f"left out: {path}: {reason}"), file=sys.stderr)
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
