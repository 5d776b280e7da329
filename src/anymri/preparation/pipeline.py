"""The steps from a raw study to a prepared case, in order, and what was done on the way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from anymri.domain.case import Case, Cohort, Source, Split, Study
from anymri.domain.task import TASKS, Task, task_named
from anymri.errors import AnymriError, CaseError, LabelSchemeError, OutputError, UsageError
from anymri.preparation.intensity import CLIP, check_measured, check_new, foreground_of, normalised
from anymri.preparation.labels import region_bits
from anymri.preparation.skull import check_stripped
from anymri.preparation.spatial import check_extent, check_grids, resampled_bits, resampled_inside
from anymri.preparation.workers import ALONE, Group, worked_off
from anymri.volumes import store
from anymri.volumes.images import read_image, read_label_map
from anymri.volumes.volume import Array, Grid, Volume, bounding_box, cropped_grid, reoriented, resampled, respaced_grid, same_grid

MARGIN_VOXELS = 2  # Around the brain: what a 3×3×3 kernel at its rim sees of the background.
FOLDS = 5
THREADS = 2  # Images of a study that are worked on at once: each takes memory of its own.

Step = dict[str, object]
Progress = Callable[[int, int, str, float, str | None], None]


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Images of one study on the prepared grid.

    Attributes:
        image_MDHW: Modalities at hand in the task's order, z-scores in steps of 1/64, float32.
        grid: The prepared grid.
        intensity: Modality → what its normalisation was.
        steps: What was done, in order.
    """

    image_MDHW: Array
    grid: Grid
    intensity: dict[str, dict[str, float]]
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One visit, prepared.

    Attributes:
        case: What case.json says.
        image_MDHW: As in PreparedImages.
        labels_DHW: Region bits on the prepared grid, if there is a reference.
        truth: Region bits on the patient's own grid, if there is a reference.
    """

    case: Case
    image_MDHW: Array
    labels_DHW: Array | None
    truth: Volume | None


@dataclass(frozen=True)
class Failure:
    """A case that could not be prepared, and the line that says why."""

    case: str
    reason: str


def prepare_images(images: Mapping[str, Volume], task: Task, *, files: Mapping[str, str] | None = None) -> PreparedImages:
    """Return the images of one study on the task's grid.

    Only what is at hand is looked at: no other modality can change the outcome.

    Args:
        images: Modality name → image; co-registered, on one grid up to the order and direction of axes.
        task: What to prepare for.
        files: Modality name → what to call it in an error.

    Raises:
        UsageError: If there is no image or a modality is unknown.
        GridMismatchError: If grids differ.
        ImageContentError: If an image is constant or still has its skull.
    """
    names = task.modalities.subset(images).names
    if not names:
        raise UsageError(f"no image was given; expected at least one of {', '.join(task.modalities.names)}")
    called = {n: (files or {}).get(n, n) for n in names}
    check_grids({called[n]: images[n].grid for n in names}, task.orientation)
    turned = {n: reoriented(images[n], task.orientation) for n in names}
    start = turned[names[0]].grid
    check_extent(start, file=called[names[0]])
    target = respaced_grid(start, task.spacing_mm)
    # Grids that agree within the tolerance count as the first one's: no image is interpolated for a hundredth of a millimetre.
    onto = None if target is start else target
    with ThreadPoolExecutor(min(len(names), THREADS)) as pool:
        found = list(
            pool.map(lambda n: _checked(Volume(turned[n].array, start), turned[n].grid, onto, task, file=called[n]), names)
        )
        box = bounding_box(np.logical_or.reduce([mask for _, mask in found]), MARGIN_VOXELS)
        grid = cropped_grid(target, box)
        image = np.empty((len(names), *grid.shape), dtype=np.float32)
        scaled = pool.map(lambda n, pair: normalised(pair[0][box], pair[1][box], file=called[n]), names, found)
        intensity: dict[str, dict[str, float]] = {}
        for m, (n, (scores, made_from)) in enumerate(zip(names, scaled, strict=True)):
            image[m], intensity[n] = scores, made_from
            check_new(image[: m + 1], tuple(called.values()))
    steps: tuple[Step, ...] = (
        {"name": "reorient", "to": task.orientation},
        {"name": "resample", "spacing_mm": list(grid.spacing_mm), "interpolated": target is not start},
        {"name": "crop", "box": [[s.start, s.stop] for s in box], "of": list(target.shape), "margin_voxels": MARGIN_VOXELS},
        {"name": "normalise", "clip": CLIP, "step": store.STEP, "foreground": task.foreground},
    )
    return PreparedImages(image, grid, intensity, steps)


def _checked(image: Volume, own: Grid, onto: Grid | None, task: Task, *, file: str) -> tuple[Array, Array]:
    """Return the voxels of an image and where they show something, on another grid if one is given."""
    mask = np.ones(image.array.shape, dtype=bool)
    if task.foreground == "brain":
        mask = foreground_of(image.array)
        check_stripped(Volume(image.array, own), mask, file=file)
    check_measured(image.array, mask, file=file)
    return (image.array, mask) if onto is None else resampled_inside(image, mask, onto)


def prepare_study(study: Study, task: Task) -> PreparedCase:
    """Return a study prepared for a task, reference included where there is one.

    Raises:
        AnymriError: If a file cannot be used; the message names it.
    """
    names = task.modalities.subset(study.images).names
    if not names:
        raise UsageError(f"{study.name}: has no image; expected at least one of {', '.join(task.modalities.names)}")
    check_declared([study], task)
    sources: dict[str, Source] = {n: study.images[n] for n in names}
    # Decompressing releases the interpreter's lock, so the files of a study are read side by side.
    with ThreadPoolExecutor(len(names) + 2) as pool:
        labels = pool.submit(read_label_map, study.labels.path, channel=study.labels.channel) if study.labels else None
        reading = {n: pool.submit(read_image, s.path, channel=s.channel) for n, s in sources.items()}
        hashes = {n: pool.submit(_sha256, s.path) for n, s in _with_labels(study, sources).items()}
        images = {n: f.result() for n, f in reading.items()}
        reference = labels.result() if labels else None
        recorded: dict[str, dict[str, str | int | None]] = {
            n: {"file": str(s.path), "channel": s.channel, "sha256": hashes[n].result()}
            for n, s in _with_labels(study, sources).items()
        }
    prepared = prepare_images(images, task, files={n: f"{s} ({n})" for n, s in sources.items()})
    native = images[names[0]].grid
    known: tuple[str, ...] = ()
    scheme = truth = bits = None
    if reference is not None and study.labels is not None:
        scheme = task.scheme(study.scheme)
        known = tuple(r for r in task.region_names if r in scheme.known)
        drawn = Volume(region_bits(reference.array, scheme, task, file=str(study.labels)), reference.grid)
        truth = _truth(study.labels, drawn, native, task)
        bits = resampled_bits(truth, prepared.grid, len(task.regions)).array
    case = Case(
        name=study.name,
        task=task.name,
        modalities=names,
        known_regions=known,
        grid=prepared.grid.lattice(),
        native=native.lattice(),
        scheme=scheme.name if scheme else None,
        sources=recorded,
        intensity=prepared.intensity,
        steps=prepared.steps,
        version=_version(),
    )
    return PreparedCase(case, prepared.image_MDHW, bits, truth)


def check_declared(studies: Sequence[Study], task: Task) -> None:
    """Make sure that something declares what the values of every reference mean.

    Raises:
        LabelSchemeError: If nothing does.
    """
    silent = [s.labels for s in studies if s.labels is not None and s.scheme is None]
    if silent:
        more = f" (nor of {len(silent) - 1} more)" if len(silent) > 1 else ""
        known = ", ".join(s.name for s in task.schemes)
        raise LabelSchemeError(f"{silent[0]}: nothing declares its label scheme{more}; name it with --scheme, one of {known}")


def _with_labels(study: Study, sources: Mapping[str, Source]) -> dict[str, Source]:
    return {**sources, "labels": study.labels} if study.labels else dict(sources)


def _truth(source: Source, bits: Volume, native: Grid, task: Task) -> Volume:
    """Return the reference on the patient's own grid; it lies on the same voxels, possibly with other axes: a copy."""
    check_grids({"the images": native, f"{source} (labels)": bits.grid}, task.orientation)
    return Volume(bits.array, native) if same_grid(bits.grid, native) else resampled(bits, native, order=0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version() -> str:
    try:
        return metadata.version("anymri")
    except metadata.PackageNotFoundError:
        return "unknown"


def default_split(cases: Mapping[str, Case], task: Task, *, folds: int = FOLDS) -> Split:
    """Return folds where none came with the data: case i of the sorted complete ones is in fold i mod 5.

    Cases whose reference tells only some regions, or that lack a modality, are only trained on; those without a reference are in no
    fold.
    """
    whole = [n for n, c in sorted(cases.items()) if c.known_regions == task.region_names and c.modalities == task.modalities.names]
    partly = [n for n, c in sorted(cases.items()) if c.known_regions and n not in set(whole)]
    count = max(1, min(folds, len(whole)))
    return Split(tuple(tuple(whole[k::count]) for k in range(count)), tuple(partly))


def prepare_cohort(
    cohort: Cohort, task: Task, out: Path, *, workers: int = 1, progress: Progress | None = None, group: Group = ALONE
) -> list[Failure]:
    """Prepare every study of a cohort into a folder; one that fails does not stop the rest, and what is there already is kept.

    Args:
        cohort: What to prepare.
        task: What to prepare it for.
        out: Folder for cases/, cohort.json and splits.json.
        workers: Processes that this one starts.
        progress: Called after each case of this process with (done, total, name, seconds, error or None).
        group: Those that share the work.

    Returns:
        The cases that failed, in the cohort's order.

    Raises:
        CaseError: If not one case could be prepared, or a worker process died.
        LabelSchemeError: If nothing declares what the values of a reference mean.
        OutputError: If the folder cannot be written.
    """
    check_declared(cohort.studies, task)
    for study in cohort.studies:
        store.case_folder(out, study.name)  # Names that no folder can have are refused before the work begins.
    store.make_folder(out)
    own: dict[str, str | None] = {}
    cases: dict[str, Case] = {}
    studies = group.deal(cohort.studies, f"prepare {out.name}")
    for done, (name, case, seconds, error) in enumerate(_prepared(studies, task, out, workers), start=1):
        if case is not None:
            cases[name] = case
        own[name] = None if case is not None else error or "unknown"
        if progress is not None:
            progress(done, len(cohort.studies), name, seconds, error)
    found = {name: error for part in group.gather(own) for name, error in part.items()}
    failures = [Failure(s.name, reason) for s in cohort.studies if (reason := found[s.name]) is not None]
    # What others have prepared is read from the disk that all share.
    cases |= {n: store.read_case(store.case_folder(out, n)) for n, error in found.items() if error is None and n not in cases}
    if not cases:
        first = f"; the first: {failures[0].reason}" if failures else ""
        raise CaseError(f"{out}: none of the {len(cohort.studies)} cases of {cohort.name} could be prepared{first}")
    order = [s.name for s in cohort.studies if s.name in cases]
    schemes = {c.scheme for c in cases.values() if c.scheme}
    left_out = [(str(p), reason) for p, reason in cohort.left_out] + [(f.case, f.reason) for f in failures]
    record = store.CohortRecord(
        name=cohort.name,
        task=task.name,
        cases=tuple(order),
        scheme=schemes.pop() if len(schemes) == 1 else None,
        left_out=tuple(left_out),
        licence=cohort.licence,
        citation=cohort.citation,
    )
    if group.leads:
        store.write_cohort(out, record, _kept(cohort.split, cases) if cohort.split else default_split(cases, task))
    return failures


def _kept(split: Split, cases: Mapping[str, Case]) -> Split:
    folds = tuple(tuple(n for n in names if n in cases) for names in split.folds)
    return Split(folds, tuple(n for n in split.train_only if n in cases))


_Outcome = tuple[str, Case | None, float, str | None]


def _prepared(studies: Iterator[Study], task: Task, out: Path, workers: int) -> Iterator[_Outcome]:
    # A task travels to a worker by its name, so one that is not in the project's list stays in this process.
    if workers <= 1 or not any(task is t for t in TASKS):
        return (_prepare_one(study, task, out) for study in studies)
    return worked_off(studies, partial(_prepare_named, task=task.name, out=out), workers)


def _prepare_named(study: Study, task: str, out: Path) -> _Outcome:
    return _prepare_one(study, task_named(task), out)


def _prepare_one(study: Study, task: Task, out: Path) -> _Outcome:
    start = time.perf_counter()
    folder = store.case_folder(out, study.name)
    try:
        case = _already(folder, study, task)
        if case is None:
            done = prepare_study(study, task)
            case = done.case
            store.write_case(folder, case, done.image_MDHW, done.labels_DHW, done.truth.array if done.truth else None)
    except OutputError:
        raise  # A full disk would fail every other case, too.
    except AnymriError as error:
        return study.name, None, time.perf_counter() - start, str(error)
    return study.name, case, time.perf_counter() - start, None


def _touched(path: Path) -> float:
    """Return when a file last changed or came to this place: a copy may keep the date of what it was copied from."""
    found, link = path.stat(), path.lstat()
    return max(found.st_mtime, found.st_ctime, link.st_ctime)


def _already(folder: Path, study: Study, task: Task) -> Case | None:
    """Return the case that lies there if it was prepared from the same files, unchanged since, for the same task."""
    try:
        case = store.read_case(folder)
        made = (folder / "case.json").stat().st_mtime
        for n, s in _with_labels(study, study.images).items():
            if _touched(s.path) > made and _sha256(s.path) != case.sources.get(n, {}).get("sha256"):
                return None
    except (CaseError, OSError):
        return None
    wanted = {n: str(s) for n, s in _with_labels(study, study.images).items()}
    found = {n: str(Source(Path(str(s["file"])), s["channel"])) for n, s in case.sources.items()}  # type: ignore[arg-type]
    scheme = task.scheme(study.scheme).name if study.labels else None
    return case if (case.task, case.scheme, found) == (task.name, scheme, wanted) else None
