"""One patient: files in, a mask on the patient's own grid out."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from anymri.domain.task import Task
from anymri.engine.inference import device_named, nested, region_logits_of, restored
from anymri.engine.model import Model
from anymri.errors import InputFileError, OutputError, UsageError
from anymri.preparation.labels import labels_from_bits
from anymri.preparation.pipeline import prepare_images
from anymri.volumes.nifti import read_nifti, write_nifti
from anymri.volumes.store import write_json
from anymri.volumes.volume import Volume
from anymri.weights import load_model

Precision = Literal["auto", "float32", "bf16"]
USE = "Research use only. Not a medical device."


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one patient.

    Attributes:
        mask: Voxel values of the label scheme, uint8, on the grid of the first image in the task's order.
        regions: Region name → mask of that region on the same grid, bool.
        probabilities: Region name → probability on the same grid, float32; empty unless asked for.
        summary: What summary.json holds.
        images: Modality name → the image as it was read.
        task: What was segmented.
    """

    mask: Volume
    regions: dict[str, Volume]
    probabilities: dict[str, Volume]
    summary: dict[str, Any]
    images: dict[str, Volume]
    task: Task


@dataclass(frozen=True)
class Options:
    """How to segment.

    Attributes:
        scheme: Label scheme of the mask; None for the task's own.
        probabilities: Keep the probability of each region as well.
        precision: float32, bf16, or auto: float32 on a processor, bf16 on a GPU.
        device: cpu, cuda, or auto.
    """

    scheme: str | None = None
    probabilities: bool = False
    precision: Precision = "auto"
    device: str = "auto"


def checked_options(scheme: str | None, probabilities: bool, precision: str, device: str) -> Options:
    """Return options from words.

    Raises:
        UsageError: If a word means nothing.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"precision '{precision}' is unknown; expected one of {', '.join(get_args(Precision))}")
    device_named(device)
    return Options(scheme, probabilities, cast(Precision, precision), device)


@dataclass
class _Clock:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self.started, 3)
        self.started = now


def segment(
    images: Mapping[str, Path | str],
    *,
    name: str = "patient",
    weights: Model | str | Path | None = None,
    options: Options | None = None,
) -> Segmentation:
    """Segment one patient from the images at hand.

    Args:
        images: Modality name → NIfTI file; co-registered and skull-stripped. What is missing is left out.
        name: What to call the patient.
        weights: Name or file of weights, or a model already loaded; the default weights if None.
        options: How to segment.

    Returns:
        The mask on the grid of the first image in the task's order, with all that is known about it.

    Raises:
        AnymriError: One line about what cannot be used.
    """
    options, clock = options or Options(), _Clock()
    model = weights if isinstance(weights, Model) else load_model(weights)
    task = model.method.task
    scheme = task.scheme(options.scheme)
    labels_from_bits(np.zeros((1, 1, 1), np.uint8), scheme, task)  # A scheme that cannot be written is refused before any work.
    clock.lap("load_weights")
    files = _checked_files(images, task)
    with ThreadPoolExecutor(len(files)) as pool:
        volumes = dict(zip(files, pool.map(read_nifti, files.values()), strict=True))
    clock.lap("read")
    prepared = prepare_images(volumes, task, files={n: f"{p} ({n})" for n, p in files.items()})
    clock.lap("prepare")
    subset = task.modalities.subset(files)
    image = np.zeros((len(task.modalities), *prepared.grid.shape), np.float32)
    image[np.array(subset.mask)] = prepared.image_MDHW
    device = device_named(options.device)
    (logits,) = region_logits_of(model, image, subset.mask, [subset.mask], device=device, precision=options.precision)
    clock.lap("predict")
    native = volumes[subset.names[0]].grid
    on_native = restored(logits, prepared.grid, native)
    masks = nested(on_native)
    regions = {r: Volume(m, native) for r, m in zip(task.region_names, masks, strict=True)}
    probabilities = {}
    if options.probabilities:
        probabilities = {r: Volume(1 / (1 + np.exp(-x)), native) for r, x in zip(task.region_names, on_native, strict=True)}
    bits = np.bitwise_or.reduce([m.astype(np.uint8) << r for r, m in enumerate(masks)])
    mask = Volume(labels_from_bits(bits, scheme, task).astype(np.uint8), native)
    clock.lap("restore")
    summary = _summary(name, model, files, regions) | {"label_scheme": scheme.name, "seconds": clock.seconds}
    return Segmentation(mask, regions, probabilities, summary, volumes, task)


def write_segmentation(result: Segmentation, out: Path) -> None:
    """Write mask, summary, picture and page (and probabilities, if kept) into a folder; all of them or none.

    Raises:
        OutputError: If the folder cannot be written.
    """
    from anymri.report.patient import write_patient_page
    from anymri.report.preview import write_preview

    started = time.perf_counter()
    check_writable(out)
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as scratch:
            part = Path(scratch)
            write_nifti(part / "segmentation.nii.gz", result.mask)
            for region, volume in result.probabilities.items():
                write_nifti(part / f"probability_{region}.nii.gz", volume)
            write_preview(part / "preview.png", result.images, _class_mask(result), result.task)
            result.summary["seconds"]["write"] = round(time.perf_counter() - started, 3)
            write_patient_page(part / "report.html", result.summary, part / "preview.png", result.task)
            write_json(part / "summary.json", result.summary)
            for stale in out.glob("probability_*.nii.gz"):  # Of an earlier result: beside this mask they would mislead.
                stale.unlink()
            for file in sorted(part.iterdir()):
                os.replace(file, out / file.name)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); choose a folder that is writable and has room"
        ) from error


def check_writable(out: Path) -> None:
    """Make the folder, and make sure before any work that files can be written to it.

    Raises:
        OutputError: If they cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".part-", dir=out):
            pass
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error}); choose a folder that is writable") from error


def _checked_files(images: Mapping[str, Path | str], task: Task) -> dict[str, Path]:
    """Return the files in the task's order.

    Raises:
        UsageError: If there is none, a modality is unknown, or two modalities name one file.
        InputFileError: If a file is missing.
    """
    if not images:
        raise UsageError(f"no image was given; expected at least one of {', '.join(task.modalities.names)}")
    files = {n: Path(images[n]) for n in task.modalities.subset(images).names}
    seen: dict[Path, str] = {}
    for modality, path in files.items():
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing"
            raise InputFileError(f"{path} ({modality}): expected a NIfTI file, found {found}; check the path")
        real = path.resolve()
        if real in seen:
            raise UsageError(
                f"{path}: given for both {seen[real]} and {modality}; "
                "give each modality its own file, and leave out what is missing"
            )
        seen[real] = modality
    return files


def _class_mask(result: Segmentation) -> Volume:
    """Return class indices, as pictures want them, from the regions' bits."""
    classes = np.zeros(result.mask.array.shape, np.uint8)
    for r, region in enumerate(result.task.regions):
        inner = result.task.regions[r + 1].classes if r + 1 < len(result.task.regions) else ()
        own = next(c for c in region.classes if c not in inner)
        classes[result.regions[region.name].array] = result.task.classes.index(own)
    return Volume(classes, result.mask.grid)


def _summary(name: str, model: Model, files: Mapping[str, Path], regions: Mapping[str, Volume]) -> dict[str, Any]:
    from importlib.metadata import version

    task = model.method.task
    subset = task.modalities.subset(files)
    volumes = {r: round(float(v.array.sum()) * v.grid.voxel_ml, 3) for r, v in regions.items()}
    warnings = []
    if not any(volumes.values()):
        warnings.append("Nothing was found. That is no proof that nothing is there.")
    if subset.missing:
        warnings.append(f"Without {', '.join(subset.missing)} the mask is less certain; the weights' card says by how much.")
    return {
        "name": name,
        "task": task.name,
        "use": USE,
        "modalities_used": list(subset.names),
        "modalities_missing": list(subset.missing),
        "files": {n: str(p) for n, p in files.items()},
        "volumes_ml": volumes,
        "weights": {"name": model.header.name, "sha256": model.sha256, "method": model.header.method},
        "versions": {"anymri": version("anymri"), "torch": version("torch"), "python": platform.python_version()},
        "warnings": warnings,
    }
