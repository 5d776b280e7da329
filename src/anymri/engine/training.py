"""The training loop."""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from anymri.data.augment import apply_augmentation, draw_augmentation
from anymri.data.batch import Batch
from anymri.data.patches import draw_patches, make_batch
from anymri.data.patients import Patient, load_patients
from anymri.engine.inference import autocast
from anymri.engine.logs import logger_of
from anymri.engine.model import Model, read_model, shapes_of
from anymri.engine.parts import parts_of
from anymri.engine.run import Parts, Run, RunFolder
from anymri.engine.selection import choose
from anymri.engine.state import Place, State, entered, first_state, resumed, save, whole_state, with_candidate
from anymri.errors import CaseError, TrainingError, WeightsError
from anymri.methods.method import Method
from anymri.volumes.store import CohortRecord, case_folder, make_folder, read_cohort

LOG_EVERY = 20

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

    Args:
        run: All settings.
        data: Folder of prepared cases.
        out: Where the run folder is made.
        resume: Go on from the newest checkpoint in it, if there is one.
        device: Where to compute; the processor if None.
        report: Called after every step.

    Raises:
        CaseError: If the cohort is made for another task.
        TrainingError: If the folder holds a run and ``resume`` is not asked for, or another run; or if the loss diverges.
    """
    folder, device = RunFolder(out), device or torch.device("cpu")
    record, split = read_cohort(data)
    if record.task != run.task:
        raise CaseError(
            f"{data}: prepared for task {record.task}, the run is for {run.task}; prepare it again with --task {run.task}"
        )
    parts = parts_of(run, split)
    if folder.record.exists():
        if not resume:
            raise TrainingError(f"{out}: holds a run already; add --resume to go on with it, or choose another folder")
        if folder.read_run() != run:
            raise TrainingError(
                f"{folder.record}: holds a run with other settings; give the same ones to resume, or choose another folder"
            )
        if folder.read_cases() != parts.model_dump():
            raise TrainingError(
                f"{data}: its folds are no longer those of {folder.record}; restore splits.json and the cases to resume, "
                "or start again in another folder"
            )
    make_folder(out)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    names = [n for n in parts.train if run.partial_weight > 0 or n not in set(split.train_only)]
    patients = load_patients([case_folder(data, n) for n in names], run.task_object, run.window.stride)
    _first_method(run)
    if not folder.record.exists():  # Not before: a cohort or weights that cannot be read leave no run behind.
        folder.write_record(run, _facts(record, parts, data))
    fit(run, patients, folder, resume=resume, device=device, report=report)
    return choose(run, folder, [case_folder(data, n) for n in parts.validation], device=device)


def _facts(record: CohortRecord, parts: Parts, data: Path) -> dict[str, object]:
    from importlib.metadata import version

    return {
        "cohort": {"name": record.name, "licence": record.licence, "citation": record.citation, "folder": data.name},
        "cases": parts.model_dump(),
        "versions": {"anymri": version("anymri"), "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def fit(
    run: Run, patients: Sequence[Patient], folder: RunFolder, *, resume: bool, device: torch.device, report: Report | None = None
) -> Method:
    """Train to the end of the budget, leaving checkpoints, candidates and a log; return the method with averaged weights.

    Raises:
        TrainingError: If the loss or a gradient is not finite, or no checkpoint can be read.
        OutputError: If the folder cannot be written.
    """
    make_folder(folder.path)
    method = _first_method(run)
    method = method.to(device).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]  (missing in torch's stubs)
    state = first_state(method, run, device)
    if resume:
        state = resumed(state, run, folder)
    method.train()
    weights = [1.0 if p.known.all() else run.partial_weight for p in patients]
    saved = time.monotonic()
    write = logger_of(folder, step=state.place.step)
    while (share := _share(run, state.place)) < 1.0:
        state = _staged(state, run, share)
        started = time.monotonic()
        terms = _step(state, run, patients, weights)
        place = _onwards(state.place, time.monotonic() - started, sum(terms.values()))
        state = replace(state, place=place)
        if place.step % LOG_EVERY == 0 or place.step == 1:
            seconds, running = round(place.seconds, 2), place.running
            write({"step": place.step, "seconds": seconds, "share": round(share, 5), "running": running, **terms})
        share = _share(run, place)
        if report is not None:
            report(Progress(place.step, share, place.running or 0.0, place.seconds))
        for candidate in run.candidates:
            if candidate not in place.kept and share >= candidate:
                state = with_candidate(state, folder, candidate)
        if time.monotonic() - saved > 60 * run.checkpoint_minutes or share >= 1.0:
            save(state, folder)
            saved = time.monotonic()
    method.load_state_dict(whole_state(state))
    return method.eval()


def _onwards(place: Place, seconds: float, loss: float) -> Place:
    """Return the place after one more step."""
    running = loss if place.running is None else 0.98 * place.running + 0.02 * loss
    return replace(place, step=place.step + 1, seconds=place.seconds + seconds, running=running)


def _first_method(run: Run) -> Method:
    """Return the network before the first step.

    Raises:
        WeightsError: If the weights to start from do not fit.
    """
    torch.manual_seed(run.seed)
    method = run.method_config.build(run.task_object)
    if run.init is None:
        return method
    model = read_model(Path(run.init))
    ours = shapes_of(run.method_config, run.task_object)
    theirs = {k: tuple(v.shape) for k, v in model.method.state_dict().items()}
    if (model.header.method, model.header.task) != (run.method, run.task) or ours != theirs:
        raise WeightsError(
            f"{run.init}: weights of {model.header.method} for {model.header.task}; "
            "a start for this run needs its own method and settings"
        )
    method.load_state_dict({**method.state_dict(), **model.method.state_dict()})  # What only training uses starts afresh.
    return method


def _step(state: State, run: Run, patients: Sequence[Patient], weights: Sequence[float]) -> dict[str, float]:
    """Make one optimiser step and return the mean of each measured term, weighted."""
    terms: dict[str, float] = {}
    progress = _stage_share(run, state)
    names: list[str] = []
    for part in range(run.accumulate):
        # All chance of a step follows from the seed and its number, so a resumed run needs no generator's state.
        seed = (run.seed, state.place.step, part)
        generator = torch.Generator().manual_seed(hash(seed) & 0x7FFFFFFF)
        draws = draw_patches(patients, run.patch, run.batch, tumour_share=run.tumour_share, weights=weights, seed=seed)
        batch = _on(make_batch(patients, draws, run.patch, run.window.stride), state.device)
        batch = apply_augmentation(batch, draw_augmentation(run.augmentation, run.batch, batch.image_BMDHW.shape[1], generator))
        names += [n for n in batch.names if n not in names]
        values = back_propagate(state.method, batch, progress=progress, generator=generator, precision=run.precision)
        for name, value in values.items():
            terms[name] = terms.get(name, 0.0) + value / run.accumulate
    where = f"at step {state.place.step + 1}; cases of the batch: {', '.join(names)}"
    advice = "the last checkpoint is kept; look at these cases, or start anew with a smaller --set learning_rate"
    if not all(map(math.isfinite, terms.values())):
        found = ", ".join(f"{name} {value:g}" for name, value in terms.items())
        raise TrainingError(f"loss is not finite ({found}) {where}; {advice}")
    for name, optimiser in state.optimisers.items():
        parameters = state.method.parameter_groups()[name]
        for parameter in parameters if run.accumulate > 1 else ():
            if parameter.grad is not None:
                parameter.grad /= run.accumulate
        norm = torch.nn.utils.clip_grad_norm_(parameters, run.clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"gradient of {name} is not finite {where}; {advice}")
        for group in optimiser.param_groups:
            group["lr"] = optimiser.defaults["lr"] * schedule(progress, run.warm_up)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    _average(state, run)
    return terms


def back_propagate(
    method: Method, batch: Batch, *, progress: float, generator: torch.Generator, precision: str
) -> dict[str, float]:
    """Back-propagate each term of the objective as it comes; return the sum of the weighted values per name."""
    values: dict[str, float] = {}
    groups = method.parameter_groups()
    iterator = method.losses(batch, progress=progress, generator=generator)
    while True:
        with autocast(batch.image_BMDHW.device, precision):
            term = next(iterator, None)
        if term is None:
            return values
        # A term serves one group; what it leaves at the parameters of others is taken away again.
        others = [(p, p.grad) for name, group in groups.items() if name != term.group for p in group]
        for parameter, _ in others:
            parameter.grad = None
        (term.value * term.weight).backward()
        for parameter, gradient in others:
            parameter.grad = gradient
        if term.measured:
            values[term.name] = values.get(term.name, 0.0) + term.value.item() * term.weight


def schedule(share: float, warm_up: float) -> float:
    """Return the factor of the learning rate: linear rise, then half a cosine to zero."""
    if share < warm_up:
        return max(share / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


def _share(run: Run, place: Place) -> float:
    """Return the share of the budget that is spent."""
    return place.step / run.steps if run.steps is not None else place.seconds / (60 * (run.minutes or 1))


def _on(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    return Batch(
        batch.image_BMDHW.to(device),
        batch.present_BM.to(device),
        batch.target_BRDHW.to(device),
        batch.known_BR.to(device),
        batch.names,
        batch.origin_B3.to(device),
    )


@torch.no_grad()
def _average(state: State, run: Run) -> None:
    """Move the averaged weights towards the current ones; faster at first, so that the start is forgotten."""
    decay = min(run.average, (1 + state.place.step) / (10 + state.place.step))
    for name, value in state.method.state_dict().items():
        if value.is_floating_point():
            state.averaged[name].lerp_(value, 1 - decay)


def _staged(state: State, run: Run, share: float) -> State:
    """Return the state in the stage that is due: stages share the budget equally, and each starts with new optimisers."""
    count = len(state.method.stages)
    due = min(int(share * count), count - 1)
    return state if due == state.place.stage else entered(state, run, replace(state.place, stage=due, stage_start=share))


def _stage_share(run: Run, state: State) -> float:
    """Return the share of the current stage that has passed; learning rate and method follow it."""
    start, end = state.place.stage_start, (state.place.stage + 1) / len(state.method.stages)
    return (_share(run, state.place) - start) / (end - start)
