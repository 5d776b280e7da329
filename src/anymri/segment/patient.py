"""One patient: files in, a mask on the patient's own grid out."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from anymri.backends import Backend, backend_named, version_of, with_backend
from anymri.domain.case import Source
from anymri.domain.task import Task
from anymri.engine.inference import LeftOut, answers_of, device_named, native_masks, restored
from anymri.engine.model import Model
from anymri.errors import OutputError, UsageError
from anymri.preparation.labels import labels_from_bits
from anymri.segment.visit import Opened, Visit, checked_images, inputs_of, opened_case, opened_images, read_images
from anymri.trust import statement
from anymri.trust.calibration import Calibration
from anymri.trust.record import Trust
from anymri.trust.statement import NOT_MEASURED, Statement
from anymri.volumes.nifti import write_nifti
from anymri.volumes.store import write_json
from anymri.volumes.volume import Volume
from anymri.volumes.writing import filling
from anymri.weights import load_model, load_trust, namesake, trust_of

Precision = Literal["auto", "float32", "bf16"]
MASK = "segmentation.nii.gz"
_WRITERS = 2  # Each holds an image twice while it packs it.
SUMMARY = "summary.json"  # The last file to appear: where it lies, the others do.
USE = "Research use only. Not a medical device."
LESION_ML = 0.5  # A sphere of 10 mm, what response criteria (RANO) call measurable. What is smaller is left out without a warning.
WHOLE = 0.9  # Share of what all images show; of 340 images of real patients one showed less, and it was cut off.


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one patient.

    Attributes:
        mask: Voxel values of the label scheme, uint8, on the grid of the first image in the task's order.
        regions: Region name → mask of that region on the same grid, bool.
        probabilities: Region name → probability on the same grid, float32, never above that of a region around it; empty unless
            asked for.
        summary: What summary.json holds.
        images: Modality name → the image as it was read, or made of a prepared case.
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
        backend: What computes the windows: torch, or on a processor onnx or openvino.
        trust: How far to trust the weights; None if that has not been measured.
    """

    scheme: str | None = None
    probabilities: bool = False
    precision: Precision = "auto"
    device: str = "auto"
    backend: Backend = "torch"
    trust: Trust | None = None


def checked_options(scheme: str | None, probabilities: bool, precision: str, device: str, backend: str = "torch") -> Options:
    """Return options from words.

    Raises:
        UsageError: If a word means nothing, or two contradict each other.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"precision '{precision}' is unknown; expected one of {', '.join(get_args(Precision))}")
    if device_named(device).type != "cpu" and device != "auto" and backend != "torch":
        raise UsageError(f"--backend {backend} computes on the processor; leave --device {device} out")
    return Options(scheme, probabilities, cast(Precision, precision), device, backend_named(backend))


def ready(model: Model, options: Options, *, exported: Path | None = None) -> Model:
    """Return the model as the options have it computed; done once, it serves many patients.

    Args:
        model: What predicts.
        options: How to segment.
        exported: A folder that may hold graphs of these weights.

    Raises:
        UsageError: If the back end is not installed or cannot compute in that precision.
    """
    return with_backend(model, options.backend, precision=options.precision, exported=exported)


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
        options: How to segment. If they have no trust, it is looked for beside the weights.

    Returns:
        The mask on the grid of the first image in the task's order, with all that is known about it.

    Raises:
        AnymriError: One line about what cannot be used.
    """
    started = time.perf_counter()
    model = weights if isinstance(weights, Model) else load_model(weights)
    options = options or Options()
    if options.trust is None:
        options = replace(options, trust=trust_of(model) if isinstance(weights, Model) else load_trust(weights, model))
    loaded = {} if isinstance(weights, Model) else {"load_weights": round(time.perf_counter() - started, 3)}
    visit = Visit(name, {n: Source(Path(path)) for n, path in images.items()})
    result = segment_visit(visit, model, options)
    seconds = loaded | result.summary["seconds"]
    return replace(result, summary=result.summary | {"seconds": seconds})


def segment_visit(visit: Visit, model: Model, options: Options) -> Segmentation:
    """Segment one patient, from raw files or from a prepared case.

    Raises:
        AnymriError: One line about what cannot be used.
    """
    clock, model = _Clock(), ready(model, options)
    task = model.method.task
    scheme = task.scheme(options.scheme)
    labels_from_bits(np.zeros((1, 1, 1), np.uint8), scheme, task)  # A scheme that cannot be written is refused before any work.
    if visit.case is None:
        images = checked_images(visit, task)
        inputs = inputs_of(visit)
        volumes = read_images(images)
        clock.lap("read")
        opened = opened_images(visit, volumes, task)
        clock.lap("prepare")
    else:
        inputs = inputs_of(visit)
        opened = opened_case(visit.case, task)
        clock.lap("read")
    # Other engines compute in the precision that they were made for.
    where, precision = (options.device, options.precision) if model.other_engine is None else ("cpu", "float32")
    mask = opened.subset.mask
    (answer,) = answers_of(model, opened.image_MDHW, mask, [mask], device=device_named(where), precision=precision)
    logits = answer.logits_RDHW
    clock.lap("predict")
    native = opened.native
    masks = native_masks(logits, opened.grid, native)
    regions = {r: Volume(m, native) for r, m in zip(task.region_names, masks, strict=True)}
    said = None
    if options.trust is not None:
        empty = [region for region, found in regions.items() if not found.array.any()]
        said = statement.stated(options.trust, opened.subset, logits, opened.image_MDHW, empty=empty)
    probabilities = {}
    if options.probabilities:
        how = statement.calibrations(options.trust, opened.subset)
        rows = [
            how.get(r, Calibration()).probability(x)
            for r, x in zip(task.region_names, restored(logits, opened.grid, native), strict=True)
        ]
        # Each region lies inside the one before, so it cannot be the likelier of the two.
        nested_rows = accumulate(rows, np.minimum)
        probabilities = {r: Volume(p, native) for r, p in zip(task.region_names, nested_rows, strict=True)}
    bits = np.bitwise_or.reduce([m.astype(np.uint8) << r for r, m in enumerate(masks)])
    labelled = Volume(labels_from_bits(bits, scheme, task).astype(np.uint8), native)
    clock.lap("restore")
    left_out = _left_out(answer.left_out, model, opened)
    summary = (
        _summary(visit.name, task, opened, regions, said=said, also=[_warning_of(left_out, task), namesake(model)])
        | {"left_out": left_out}
        | made_by(model, options)
        | {"inputs": inputs, "seconds": clock.seconds}
    )
    return Segmentation(labelled, regions, probabilities, summary, opened.pictures, task)


def made_by(model: Model, options: Options) -> dict[str, Any]:
    """Return the part of a summary that says what it was made by: two that agree in it and in their inputs hold the same mask."""
    from importlib.metadata import version

    return {
        "label_scheme": model.method.task.scheme(options.scheme).name,
        "options": {"probabilities": options.probabilities, "precision": options.precision, "backend": options.backend},
        "weights": {"name": model.header.name, "sha256": model.sha256, "method": model.header.method},
        "versions": {"anymri": version("anymri"), "torch": version("torch"), "python": platform.python_version()}
        | version_of(options.backend),
        "trust": statement.made_by(options.trust, model.sha256),
    }


def write_segmentation(result: Segmentation, out: Path) -> None:
    """Write mask, summary, picture and page (and probabilities, if kept) into a folder; all of them or none.

    Raises:
        OutputError: If the folder cannot be written.
    """
    from anymri.report.patient import write_patient_page
    from anymri.report.preview import write_preview

    started = time.perf_counter()
    with filling(out, last=SUMMARY, stale="probability_*.nii.gz", advice="choose a folder that is writable and has room") as part:
        images = {MASK: result.mask} | {f"probability_{region}.nii.gz": v for region, v in result.probabilities.items()}
        with ThreadPoolExecutor(_WRITERS) as pool:  # Packing leaves Python's lock to what draws.
            written = [pool.submit(write_nifti, part / file, volume) for file, volume in images.items()]
            marks = {region: statement.marked(result.summary, region) for region in result.regions}
            write_preview(part / "preview.png", result.images, _class_mask(result), result.task, marks=marks)
            for one in written:
                one.result()
        result.summary["seconds"]["write"] = round(time.perf_counter() - started, 3)
        write_patient_page(part / "report.html", result.summary, part / "preview.png", result.task)
        write_json(part / SUMMARY, result.summary)


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


@contextmanager
def attempted(out: Path) -> Iterator[None]:
    """Make a folder for what the block writes; if the block fails or is interrupted, not even an empty folder is left.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        check_writable(out)
        yield
    except BaseException:
        with suppress(OSError):  # It is not empty, or was never made.
            out.rmdir()
        raise


def _class_mask(result: Segmentation) -> Volume:
    """Return class indices, as pictures want them, from the regions' bits."""
    classes = np.zeros(result.mask.array.shape, np.uint8)
    for r, region in enumerate(result.task.regions):
        inner = result.task.regions[r + 1].classes if r + 1 < len(result.task.regions) else ()
        own = next(c for c in region.classes if c not in inner)
        classes[result.regions[region.name].array] = result.task.classes.index(own)
    return Volume(classes, result.mask.grid)


def _left_out(left_out: LeftOut, model: Model, opened: Opened) -> dict[str, Any]:
    """Return what summary.json says of small components that are not in the mask."""
    voxel_ml = opened.grid.voxel_ml
    return {
        "components": left_out.components,
        "volume_ml": round(left_out.voxels * voxel_ml, 3),
        "largest_ml": round(left_out.largest * voxel_ml, 3),
        "below": model.header.window.least_component,
    }


def _warning_of(left_out: Mapping[str, Any], task: Task) -> str:
    """Return a warning of components that were left out; empty if none is as large as a lesion that is measured."""
    if left_out["largest_ml"] < LESION_ML:
        return ""
    others = left_out["components"] - 1
    more = f" and {others} smaller {'one' if others == 1 else 'ones'} were" if others else " was"
    part = f"A part of {task.region_names[0]} of {left_out['largest_ml']:.1f} ml{more} left out"
    return f"{part}, below {left_out['below']:.0%} of the largest: look for further lesions."


def _summary(
    name: str, task: Task, opened: Opened, regions: Mapping[str, Volume], *, said: Statement | None, also: Sequence[str]
) -> dict[str, Any]:
    subset = opened.subset
    volumes = {r: round(float(v.array.sum()) * v.grid.voxel_ml, 3) for r, v in regions.items()}
    warnings = [said.caution()] if said is not None else []
    if not any(volumes.values()):
        warnings.append("Nothing was found. That is no proof that nothing is there.")
    if said is not None:
        warnings += [said.unfound(), said.unmeasured()]
    warnings += also
    if subset.missing and said is None:
        warnings.append(f"Without {statement.listed(subset.missing)} the mask is less certain.")
    coverage = opened.coverage
    for modality, share in coverage.items():
        if share < WHOLE:
            found = f"{modality} shows {100 * share:.0f} % of what the images show together"
            warnings.append(f"{found}; where it ends the mask rests on the others.")
    warnings.append(NOT_MEASURED if said is None else said.advice())
    return {  # What not to rely on stands before what was found.
        "name": name,
        "task": task.name,
        "use": USE,
        "warnings": [line for line in warnings if line],
        **(said.cautions() if said is not None else {}),
        "modalities_used": list(subset.names),
        "modalities_missing": list(subset.missing),
        "files": opened.files,
        "coverage": coverage,
        "volumes_ml": volumes,
        **(said.expectations() if said is not None else {}),
    }
