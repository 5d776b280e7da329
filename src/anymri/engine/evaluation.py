"""A model on the cases of a cohort: every subset, hidden by the engine, scored on the patient's own grid."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from anymri.data.patients import check_names, full_image
from anymri.domain.task import Task
from anymri.engine.distributed import joined
from anymri.engine.inference import native_masks, region_logits_of
from anymri.engine.model import Model
from anymri.errors import CaseError, InputFileError, UsageError
from anymri.metrics.protocol import CaseReference, Protocol, prepare_case, score_case
from anymri.metrics.scores import Origin, Score, ScoreTable, read_scores, tabulated, write_scores
from anymri.metrics.scores import joined as joined_tables
from anymri.volumes.store import make_folder, read_case, read_cohort, read_truth
from anymri.volumes.volume import Grid

Report = Callable[[int, int, str], None]


def evaluate(
    model: Model,
    cases: Sequence[Path],
    out: Path,
    *,
    protocol: Protocol,
    device: torch.device,
    report: Report | None = None,
) -> ScoreTable:
    """Score a model on prepared cases and write the table.

    A case is encoded once and decoded for every subset of what it has. The table of each case is kept beside ``out`` until all are
    done, so that an interrupted evaluation goes on where it was. Processes that torchrun has started share the cases; the one that
    leads joins their tables.

    Args:
        model: What is scored.
        cases: Folders of prepared cases of one cohort.
        out: The CSV file.
        protocol: Rules of scoring.
        device: Where to compute.
        report: Called after each case of this process with (done, total, name).

    Raises:
        UsageError: If there is no case.
        CaseError: If a case has no reference or is made for another task; before anything is scored.
        OutputError: If the table cannot be written.
        TrainingError: If one of several processes is lost.
    """
    if not cases:
        raise UsageError(f"{out}: there is no case to score; choose a fold that has some")
    record, _ = read_cohort(cases[0].parents[1])
    for folder in cases:
        _check(folder, model.method.task)
    parts = out.with_name(f".{out.name}.parts")
    seed, run = model.header.training.seed, model.sha256[:12]
    origins = {f.name: Origin(model.called, record.name, f.name, seed, run, protocol.name) for f in cases}
    with joined(device, advice="the same command goes on") as group, ThreadPoolExecutor(2) as pool:
        make_folder(parts)
        own: dict[str, ScoreTable] = {}
        for folder in group.deal(cases, f"evaluate {out.name}"):
            part = parts / f"{folder.name}.csv"
            table = already_scored(part, origins[folder.name], folder)
            if table is None:
                table = _scored(model, folder, origins[folder.name], protocol, (device, pool))
                write_scores(part, table)
            own[folder.name] = table
            if report is not None:
                report(len(own) if group.count == 1 else len(list(parts.glob("*.csv"))), len(cases), folder.name)
        group.wait()
        whole = joined_tables([own[f.name] if f.name in own else read_scores(parts / f"{f.name}.csv") for f in cases])
        group.wait()  # Until all have read the parts.
        if group.leads:
            write_scores(out, whole)
            shutil.rmtree(parts, ignore_errors=True)
    return whole


def _check(folder: Path, task: Task) -> None:
    case = read_case(folder)
    if case.task != task.name:
        raise CaseError(
            f"{folder}: prepared for task {case.task}, the weights are for {task.name}; prepare it again with --task {task.name}"
        )
    check_names(case, folder, task)
    if not case.known_regions:
        raise CaseError(f"{folder}: has no reference segmentation; leave it out, or prepare it with one")


def already_scored(part: Path, origin: Origin, folder: Path) -> ScoreTable | None:
    """Return the table of a case that an interrupted evaluation left, if it is of the same weights or masks, and protocol.

    The same weights under other settings have another name.

    A case that was prepared after it was scored is scored again.
    """
    if not origin.run:  # A model that never was a file cannot be told from another.
        return None
    try:
        if (folder / "case.json").stat().st_mtime_ns > part.stat().st_mtime_ns:
            return None
        table = read_scores(part)
    except (InputFileError, OSError):
        return None
    same = all(
        (r.method, r.run, r.protocol, r.cohort, r.case) == (origin.method, origin.run, origin.protocol, origin.cohort, origin.case)
        for r in table
    )
    return table if same and len(table) else None


def reference_of(folder: Path, regions: Sequence[str], task: Task, protocol: Protocol) -> CaseReference:
    """Return the reference of a prepared case, of these regions, ready to be scored against."""
    truth = read_truth(folder)
    masks = {r: (truth.array >> i & 1).astype(bool) for i, r in enumerate(task.region_names) if r in regions}
    return prepare_case(masks, truth.grid.spacing_mm, protocol)


def _scored(
    model: Model, folder: Path, origin: Origin, protocol: Protocol, means: tuple[torch.device, ThreadPoolExecutor]
) -> ScoreTable:
    """Return the scores of one case: subsets are decoded one after the other and scored in threads meanwhile."""
    device, pool = means
    case, task = read_case(folder), model.method.task
    reference = reference_of(folder, case.known_regions, task, protocol)
    present = task.modalities.subset(case.modalities)
    keeps = [s for s in model.method.supports() if s <= present]
    grids = Grid.from_lattice(case.grid), Grid.from_lattice(case.native)
    waiting: list[Future[tuple[Score, ...]]] = []
    image = full_image(folder, task)
    logits_of_subsets = region_logits_of(model, image, present.mask, [s.mask for s in keeps], device=device)
    for subset, logits in zip(keeps, logits_of_subsets, strict=True):
        if len(waiting) >= 4:  # Each holds a whole grid of logits: no more of them than the threads can work off.
            waiting[-4].result()
        waiting.append(pool.submit(_one, logits, grids, task, reference, (origin, str(subset))))
    return ScoreTable(tuple(row for future in waiting for row in future.result()))


def _one(logits, grids: tuple[Grid, Grid], task: Task, reference: CaseReference, name: tuple[Origin, str]) -> tuple[Score, ...]:
    masks = native_masks(logits, *grids)
    scored = score_case(dict(zip(task.region_names, masks, strict=True)), reference)
    return tabulated(*name, scored)
