"""The training loop."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from anymri.data.ahead import one_ahead
from anymri.data.patients import Patient, load_patients
from anymri.engine.distributed import joined, processes, restarted
from anymri.engine.divergence import followed, limit, runs_away
from anymri.engine.interruption import asked, deferred, stop
from anymri.engine.logs import check_there, logger_of, warn
from anymri.engine.model import Model, read_model, shapes_of
from anymri.engine.parts import parts_of
from anymri.engine.record import check_data, check_material, check_record, data_hashes, facts_of
from anymri.engine.run import Run, RunFolder
from anymri.engine.selection import choose
from anymri.engine.state import (
    Place,
    first_state,
    resumed,
    save,
    share_of,
    stage_share,
    staged,
    whole_state,
    with_candidate,
    work_of,
)
from anymri.engine.step import Made, advice_against, check_shares, make_step
from anymri.engine.supply import Supply, material_of, supply_of
from anymri.errors import CaseError, TrainingError, WeightsError
from anymri.methods.method import Method
from anymri.volumes.store import case_folder, make_folder, read_cohort

LOG_EVERY = 20
_SHOWN = 5

Report = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """What a training says of itself while it runs: steps done, share of the budget, loss, seconds spent on steps."""

    step: int
    share: float
    loss: float
    seconds: float


def train(
    run: Run, data: Path, out: Path, *, resume: bool = False, device: torch.device | None = None, report: Report | None = None
) -> Model:
    """Train on a prepared cohort and leave a run folder; return the chosen model.

    Processes that torchrun has started train together. A group that it has started again goes on by itself.

    Args:
        run: All settings.
        data: Folder of prepared cases.
        out: Where the run folder is made.
        resume: Go on from the newest checkpoint in it, if there is one.
        device: Where to compute; the processor if None.
        report: Called after every step.

    Raises:
        UsageError: If the processes cannot share the step evenly.
        CaseError: If the cohort is made for another task.
        InputFileError: If the material cannot be used.
        TrainingError: If the folder holds a run and ``resume`` is not asked for, or another run, or one of other data; if the loss
            diverges; if one of several processes is lost.
        InterruptedWork: If a signal asked for it; the state is saved.
    """
    folder, device = RunFolder(out), device or torch.device("cpu")
    with joined(device) as group:
        check_shares(run)
        resume = resume or begun_here(folder)
        supply, validation = _loaded(run, data, folder, resume=resume, device=device)
        follow(run, supply, folder, resume=resume, device=device, report=report)
        group.wait()
        return choose(run, folder, validation, device=device)


def begun_here(folder: RunFolder) -> bool:
    """Return whether the launch that began a run goes on with it after a process was lost."""
    return folder.record.exists() and restarted(folder.read_facts().get("launch"))


def _loaded(run: Run, data: Path, folder: RunFolder, *, resume: bool, device: torch.device) -> tuple[Supply, list[Path]]:
    """Return what to train on and the folders of those to choose by; write the record if there is none."""
    record, split = read_cohort(data)
    if record.task != run.task:
        raise CaseError(
            f"{data}: prepared for task {record.task}, the run is for {run.task}; "
            f"give --set task={record.task}, or prepare it again with --task {run.task}"
        )
    parts, group = parts_of(run, split), processes()
    begun = group.gather(folder.record.exists())[0]
    if begun and not resume:
        raise TrainingError(f"{folder.path}: holds a run already; add --resume to go on with it, or choose another folder")
    if begun:
        check_record(run, parts, data, folder)
    make_folder(folder.path)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    names = [n for n in parts.train if run.partial_weight > 0 or n not in set(split.train_only)]
    folders, window = [case_folder(data, n) for n in names], run.window
    patients = load_patients(folders, run.task_object, window.stride, intensity=window.intensity)
    validation, test = ([case_folder(data, n) for n in names] for names in (parts.validation, parts.test))
    hashes, material = data_hashes(run, patients, validation), material_of(run, [*validation, *test])
    if begun:
        check_data(hashes, data, folder)
        check_material(material, folder)
    _first_method(run)
    made_of, left_out = (material.hashes, material.left_out) if material else (None, {})
    seen = group.gather(hashlib.sha256(json.dumps([hashes, made_of, left_out]).encode()).hexdigest())
    if len(set(seen)) > 1:
        raise TrainingError(f"{data}: holds other cases for some processes than for others; give all of them the same ones")
    if group.leads and not begun:  # Not before: a cohort or weights that cannot be read leave no run behind.
        facts = facts_of(run, record, parts, data, hashes=hashes, device=device)
        source = (material.source or None) if material else None
        folder.write_record(run, {**facts, "material": made_of, "material_left_out": left_out, "material_source": source})
        if left_out:
            shown = [f"{name} ({case})" for name, case in left_out.items()]
            warn(
                folder,
                f"{len(shown)} tumours of the material are those of cases that the run is chosen or tested by, and are left out: "
                + ", ".join(shown[:_SHOWN] + ["…"] * (len(shown) > _SHOWN)),
            )
    return supply_of(run, patients, material), validation


def fit(
    run: Run, patients: Sequence[Patient], folder: RunFolder, *, resume: bool, device: torch.device, report: Report | None = None
) -> Method:
    """Train on patients alone, as ``follow`` does."""
    return follow(run, supply_of(run, patients), folder, resume=resume, device=device, report=report)


def follow(
    run: Run, supply: Supply, folder: RunFolder, *, resume: bool, device: torch.device, report: Report | None = None
) -> Method:
    """Train to the end of the budget, leaving checkpoints, candidates and a log; return the method with averaged weights.

    Raises:
        TrainingError: If the loss or a gradient is not finite, the loss runs away, no checkpoint can be read, or one of several
            processes is lost.
        OutputError: If the folder cannot be written.
        InterruptedWork: If a signal asked for it; the state is saved.
    """
    group = processes()
    make_folder(folder.path)
    method = _first_method(run)
    method = method.to(device).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]  (missing in torch's stubs)
    state = first_state(method, run, device)
    if resume:
        state = resumed(state, run, folder)
    _check_agreement(state.place, folder)
    method.train()
    saved = time.monotonic()
    write = logger_of(folder, step=state.place.step) if group.leads else lambda line: None
    with deferred(), one_ahead() as fetch:
        while (share := share_of(run, state.place)) < 1.0:
            state = staged(state, run)
            started = time.monotonic()
            progress = stage_share(run, state)
            made = make_step(state, run, supply, progress=progress, fetch=fetch)
            seconds, signal = _agreed(time.monotonic() - started)
            done = replace(state.place, work=state.place.work + work_of(run, progress))
            place = _onwards(done, run, seconds, sum(made.terms.values()))
            state = replace(state, place=place)
            if place.step % LOG_EVERY == 0 or place.step == 1:
                spent, running = round(place.seconds, 2), place.running
                write({"step": place.step, "seconds": spent, "share": round(share, 5), "running": running, **made.terms})
            _check_course(place, run, made)
            share = share_of(run, place)
            if report is not None:
                report(Progress(place.step, share, place.running or 0.0, place.seconds))
            check_there(folder)
            for candidate in run.candidates:
                if candidate not in place.kept and share >= candidate:
                    state = with_candidate(state, folder, candidate)
            due = time.monotonic() - saved > 60 * run.checkpoint_minutes and not place.course.doubtful
            if group.leads and (due or signal or share >= 1.0):
                save(state, folder)
                saved = time.monotonic()
            if signal and share < 1.0:
                group.wait()
                stop(signal, f"step {place.step} is saved in {folder.path}")
    method.load_state_dict(whole_state(state))
    return method.eval()


def _check_agreement(place: Place, folder: RunFolder) -> None:
    """Refuse to begin where the processes have not read the same checkpoint."""
    steps = processes().gather(place.step)
    if len(set(steps)) > 1:
        raise TrainingError(
            f"{folder.checkpoints}: the processes see different checkpoints (of steps {', '.join(map(str, steps))}); "
            "put the run folder where all of them can read it"
        )


def _agreed(seconds: float) -> tuple[float, int]:
    """Return how long the step took by the clock of the process that leads, and the signal that any of them was sent."""
    told = processes().gather([seconds, asked()])
    return float(told[0][0]), max(int(signal) for _, signal in told)


def _onwards(place: Place, run: Run, seconds: float, loss: float) -> Place:
    """Return the place after one more step."""
    running = loss if place.running is None else 0.98 * place.running + 0.02 * loss
    course = followed(place.course, loss, run.runaway)
    return replace(place, step=place.step + 1, seconds=place.seconds + seconds, running=running, course=course)


def _check_course(place: Place, run: Run, made: Made) -> None:
    """Stop a run whose loss runs away.

    Raises:
        TrainingError: It names the step and the cases of its batch.
    """
    course = place.course
    if runs_away(course, run.runaway):
        raise TrainingError(
            f"loss runs away: {course.level:.3g} is the median of the last {len(course.recent)} steps, {course.lowest:.3g} was the "
            f"lowest, more than {limit(course, run.runaway):.3g} was not expected, at step {place.step}; "
            f"cases of the batch: {', '.join(made.names)}; {advice_against(run)}, or with --set runaway=0 to let it run"
        )


def _first_method(run: Run) -> Method:
    """Return the network before the first step.

    Raises:
        WeightsError: If the weights to start from do not fit.
    """
    torch.manual_seed(run.seed)
    method = run.method_config.build(run.task_object)
    if run.init is None:
        return method
    model = read_model(Path(run.init), sha256=run.init_sha256)
    ours = shapes_of(run.method_config, run.task_object)
    theirs = {k: tuple(v.shape) for k, v in model.method.state_dict().items()}
    if (model.header.method, model.header.task) != (run.method, run.task) or ours != theirs:
        raise WeightsError(
            f"{run.init}: weights of {model.header.method} for {model.header.task}; "
            "a start for this run needs its own method and settings"
        )
    method.load_state_dict({**method.state_dict(), **model.method.state_dict()})  # What only training uses starts afresh.
    return method
