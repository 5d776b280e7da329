"""Masks made by anyone, scored as weights are: same grid, same rules, same table.

    DIR/CASE.nii.gz                     also CASE_seg.nii.gz, CASE-seg.nii.gz
    DIR/CASE/segmentation.nii.gz        as 'anymri segment' writes it; also CASE.nii.gz, CASE_seg.nii.gz, CASE-seg.nii.gz
    DIR/SUBSET/…                        the same, made from these modalities alone, such as T1c+FLAIR, in any order

Masks that lie in no folder of a subset are taken for made from all that the case has. Files may be .nii, .mha or .nrrd as well.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymri.domain.modality import Subset, subsets
from anymri.domain.region import LabelScheme
from anymri.domain.task import Task
from anymri.engine.distributed import joined as joined_processes
from anymri.engine.evaluation import already_scored, reference_of
from anymri.errors import CaseError, GridMismatchError, InputFileError, UsageError
from anymri.metrics.protocol import CaseReference, Protocol, score_case
from anymri.metrics.scores import Origin, Score, ScoreTable, joined, read_scores, tabulated, write_scores
from anymri.preparation.labels import region_bits
from anymri.volumes.images import ENDINGS, read_label_map
from anymri.volumes.store import make_folder, read_case
from anymri.volumes.volume import Array, Grid, Volume, grid_distance_mm, orientation_of, reoriented, same_grid

Report = Callable[[int, int, str], None]
_SUFFIXES = ("", "_seg", "-seg")
_OWN = "segmentation"  # What 'anymri segment' calls a mask.


@dataclass(frozen=True)
class FoundMasks:
    """Masks of a folder, matched to cases.

    Attributes:
        method: Name of the folder, which stands for whoever made the masks.
        masks: Case → subset it was made from → file; cases in the order given, subsets in the canonical one.
        without: Cases that have no mask.
        unmatched: Files that belong to no case, each with the reason.
    """

    method: str
    masks: Mapping[str, Mapping[Subset, Path]]
    without: tuple[str, ...]
    unmatched: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class Reading:
    """How masks are read and scored: what their values mean, and by which rules."""

    task: Task
    scheme: LabelScheme
    protocol: Protocol


def find_masks(source: Path, cases: Sequence[Path], task: Task) -> FoundMasks:
    """Return the masks of a folder that belong to prepared cases.

    Args:
        source: Folder with masks.
        cases: Folders of the prepared cases that are to be scored.
        task: Whose modalities name the folders of subsets.

    Raises:
        InputFileError: If the folder is missing, or none of its masks belongs to a case.
        UsageError: If two files are the mask of one case and subset.
        CaseError: If a case is damaged.
    """
    if not source.is_dir():
        raise InputFileError(f"{source}: is not a folder; expected one with masks such as CASE.nii.gz in it")
    whole = {folder.name: task.modalities.subset(read_case(folder).modalities) for folder in cases}
    printed = {frozenset(n.lower() for n in s.names): s for s in subsets(task.modalities)}
    found: dict[str, dict[Subset, Path]] = {name: {} for name in whole}
    unmatched: list[tuple[Path, str]] = []
    for path in _walked(source):
        folders = path.relative_to(source).parts[:-1]
        subset = printed.get(frozenset(folders[0].lower().split("+"))) if folders else None
        case = _case_of(path, folders[1:] if subset else folders, whole)
        if case is None:
            unmatched.append((path, f"its name is that of none of the {len(whole)} cases that are scored"))
        elif subset is not None and not subset <= whole[case]:
            unmatched.append((path, f"made from {subset}, but the prepared case has {whole[case]} alone"))
        elif (other := found[case].setdefault(subset or whole[case], path)) is not path:
            raise UsageError(f"{other} and {path}: both are masks of case {case} from {subset or whole[case]}; remove one")
    masks = {name: {s: made[s] for s in printed.values() if s in made} for name, made in found.items() if made}
    if not masks:
        reason = f" ({unmatched[0][0].name}: {unmatched[0][1]})" if unmatched else ""
        named = ", ".join(list(whole)[:3])
        raise InputFileError(f"{source}: holds no mask of a case{reason}; expected CASE.nii.gz for cases such as {named}")
    return FoundMasks(source.resolve().name, masks, tuple(n for n in whole if n not in masks), tuple(unmatched))


def _walked(source: Path) -> Iterator[Path]:
    """Yield every image below a folder, sorted, but for what is hidden."""
    for path in sorted(source.rglob("*")):
        shown = not any(part.startswith(".") for part in path.relative_to(source).parts)
        if shown and path.name.lower().endswith(ENDINGS) and path.is_file():
            yield path


def _case_of(path: Path, folders: Sequence[str], cases: Mapping[str, Subset]) -> str | None:
    """Return the case that a file is the mask of; a whole name comes before one with a suffix."""
    stem = path.name[: -next(len(e) for e in ENDINGS if path.name.lower().endswith(e))]
    if len(folders) > 1 or (folders and folders[0] not in cases):
        return None
    if folders:
        return folders[0] if stem in (_OWN, *(folders[0] + s for s in _SUFFIXES)) else None
    return next((c for s in _SUFFIXES if stem.endswith(s) and (c := stem.removesuffix(s)) in cases), None)


def evaluate_masks(
    found: FoundMasks, prepared: tuple[str, Path], out: Path, *, reading: Reading, report: Report | None = None
) -> ScoreTable:
    """Score masks on the patients' own grids and write the table.

    The table of each case is kept beside ``out`` until all are done, so that an interrupted evaluation goes on where it was.
    Processes that torchrun has started share the cases; the one that leads joins their tables.

    Args:
        found: The masks.
        prepared: Name of the cohort, and the folder that holds the folders of its cases.
        out: The CSV file.
        reading: What the values mean, and the rules of scoring.
        report: Called after each case of this process with (done, total, name).

    Raises:
        CaseError: If a case has no reference for a region of the scheme.
        InputFileError: If a mask cannot be read.
        GridMismatchError: If a mask is not on the patient's own grid.
        LabelSchemeError: If a mask holds a value that the scheme does not know.
        OutputError: If the table cannot be written.
        TrainingError: If one of several processes is lost.
    """
    cohort, root = prepared
    known = {name: _known(root / name, reading) for name in found.masks}
    run = _digest(found, reading.scheme)
    parts = out.with_name(f".{out.name}.parts")
    with joined_processes(advice="the same command goes on") as group, ThreadPoolExecutor(2) as pool:
        make_folder(parts)
        own: dict[str, ScoreTable] = {}
        for name in group.deal(tuple(found.masks), f"evaluate {out.name}"):
            origin = Origin(found.method, cohort, name, None, run, reading.protocol.name)
            part = parts / f"{name}.csv"
            table = already_scored(part, origin, root / name)
            if table is None:
                reference = reference_of(root / name, known[name], reading.task, reading.protocol)
                native = Grid.from_lattice(read_case(root / name).native)
                scored = [
                    pool.submit(_scored, path, subset, native, (origin, reference, reading))
                    for subset, path in found.masks[name].items()
                ]
                table = ScoreTable(tuple(row for future in scored for row in future.result()))
                write_scores(part, table)
            own[name] = table
            if report is not None:
                report(len(own) if group.count == 1 else len(list(parts.glob("*.csv"))), len(found.masks), name)
        group.wait()
        whole = joined([own[n] if n in own else read_scores(parts / f"{n}.csv") for n in found.masks])
        group.wait()  # Until all have read the parts.
        if group.leads:
            write_scores(out, whole)
            shutil.rmtree(parts, ignore_errors=True)
    return whole


def _known(folder: Path, reading: Reading) -> tuple[str, ...]:
    """Return the regions that both the reference and the scheme of the masks tell."""
    case = read_case(folder)
    if not case.known_regions:
        raise CaseError(f"{folder}: has no reference segmentation; leave it out, or prepare it with one")
    known = tuple(r for r in case.known_regions if r in reading.scheme.known)
    if not known:
        told = ", ".join(case.known_regions)
        raise CaseError(f"{folder}: its reference tells {told} alone, masks of scheme {reading.scheme.name} do not; leave it out")
    return known


def _digest(found: FoundMasks, scheme: LabelScheme) -> str:
    """Return what tells these masks, read in this way, from others: 12 digits of a SHA-256 over all of them."""
    total = hashlib.sha256(scheme.name.encode())
    for name, masks in found.masks.items():
        for subset, path in masks.items():
            try:
                total.update(f"\0{name}\0{subset}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
            except OSError as error:
                raise InputFileError(f"{path}: cannot be read ({error.strerror}); expected a mask") from error
    return total.hexdigest()[:12]


def _scored(path: Path, subset: Subset, native: Grid, how: tuple[Origin, CaseReference, Reading]) -> tuple[Score, ...]:
    origin, reference, reading = how
    array = on_grid(read_label_map(path), native, file=f"{path}", case=origin.case)
    bits = region_bits(array, reading.scheme, reading.task, file=str(path))
    masks = {r: np.asarray(bits >> i & 1, dtype=bool) for i, r in enumerate(reading.task.region_names)}
    return tabulated(origin, str(subset), score_case(masks, reference))


def on_grid(mask: Volume, native: Grid, *, file: str, case: str) -> Array:
    """Return the voxels of a mask in the order of the patient's own grid: copied, never interpolated.

    Args:
        mask: On that grid, up to the order and direction of its axes.
        native: The patient's own grid.
        file: What to call the mask in an error.
        case: What to call the patient.

    Raises:
        GridMismatchError: If its voxels are others.
    """
    turned = reoriented(mask, orientation_of(native))
    if same_grid(turned.grid, native):
        return np.ascontiguousarray(turned.array)
    apart = grid_distance_mm(turned.grid, native)
    far = "" if apart == float("inf") else f" (voxels lie up to {apart:.3g} mm apart)"
    raise GridMismatchError(
        f"{file}: its grid is {_described(mask.grid)}, that of case {case} is {_described(native)}{far}; "
        "bring the mask back to the grid of the patient's first image"
    )


def _described(grid: Grid) -> str:
    shape, spacing = "x".join(map(str, grid.shape)), " x ".join(f"{mm:.4g}" for mm in grid.spacing_mm)
    start = ", ".join(f"{mm:.4g}" for mm in grid.affine[:3, 3])
    return f"{shape} voxels of {spacing} mm, {orientation_of(grid)}, from ({start})"
