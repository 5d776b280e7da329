"""What changes while a training runs, and how it comes to disk and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from anymri.engine.checkpoint import (
    laid_out_as,
    optimiser_tensors,
    read_newest,
    restore_optimisers,
    write_checkpoint,
    write_tensors,
)
from anymri.engine.distributed import processes
from anymri.engine.divergence import Course
from anymri.engine.logs import check_there, warn
from anymri.engine.run import Run, RunFolder
from anymri.errors import OutputError, TrainingError
from anymri.methods.method import Adam, Method

COARSE_WORK = 1 / 8  # A patch of voxels of twice the edge has an eighth of them.
_NEARLY = 1 - 1e-9  # Rounding does not end a budget before its last step.


@dataclass(frozen=True)
class Place:
    """Where a training stands; a checkpoint says it in JSON.

    Attributes:
        step: Optimiser steps done.
        work: The same, a step on coarse patches counted by their voxels.
        seconds: Spent on them.
        stage: Index of the current stage.
        stage_start: Share of the budget at which it began.
        stage_step: Optimiser steps done by then.
        kept: Candidates that are on disk.
        running: Moving average of the loss; None before the first step.
        course: How the loss of the stage has gone.
    """

    step: int = 0
    work: float = 0.0
    seconds: float = 0.0
    stage: int = 0
    stage_start: float = 0.0
    stage_step: int = 0
    kept: tuple[float, ...] = ()
    running: float | None = None
    course: Course = Course()


@dataclass(frozen=True, eq=False)
class State:
    """A training between two steps. Tensors are changed in place, the rest is replaced.

    Attributes:
        method: In training.
        averaged: Moving average of its weights. Counters and what a method remembers are no weights: of them the latest counts.
        optimisers: One per parameter group.
        device: Where it computes.
        place: Where it stands.
    """

    method: Method
    averaged: dict[str, Tensor]
    optimisers: dict[str, torch.optim.Optimizer]
    device: torch.device
    place: Place = Place()


def first_state(method: Method, run: Run, device: torch.device) -> State:
    """Return the state before the first step."""
    averaged = {k: v.clone() for k, v in weights_of(method).items()}
    return entered(State(method, averaged, {}, device), run, Place())


def weights_of(method: Method) -> dict[str, Tensor]:
    """Return the parameters by their names in the state of the method, each under all its names, without their graph."""
    return {name: value.detach() for name, value in method.named_parameters(remove_duplicate=False)}


def entered(state: State, run: Run, place: Place) -> State:
    """Return the state at a place, its stage entered with new optimisers."""
    state.method.enter_stage(state.method.stages[place.stage])
    own = state.method.own_optimisers()
    optimisers = {name: _optimiser(run, parameters, own.get(name)) for name, parameters in state.method.parameter_groups().items()}
    return replace(state, optimisers=optimisers, place=place)


def _optimiser(run: Run, parameters: list[torch.nn.Parameter], own: Adam | None) -> torch.optim.Optimizer:
    if own is not None:
        return torch.optim.Adam(parameters, own.learning_rate, own.betas, weight_decay=own.weight_decay)
    rate, decay = run.learning_rate, run.weight_decay
    if run.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.99, nesterov=True, weight_decay=decay)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[run.optimiser](parameters, rate, weight_decay=decay)


def share_of(run: Run, place: Place) -> float:
    """Return the share of the budget that is spent: of the minutes, or of the work that is in the steps."""
    if run.steps is None:
        return place.seconds / (60 * (run.minutes or 1))
    if place.step >= run.steps:
        return 1.0
    # As many steps as are asked for, ``coarse`` of their work on coarse patches.
    whole = run.steps / (1 - run.coarse + run.coarse / COARSE_WORK)
    return min(place.work / whole, _NEARLY)


def work_of(run: Run, progress: float) -> float:
    """Return the work of one step, where that share of the stage has passed."""
    return COARSE_WORK if progress < run.coarse else 1.0


def staged(state: State, run: Run) -> State:
    """Return the state in the stage that is due: stages share the budget equally, and each starts with new optimisers."""
    count, share = len(state.method.stages), share_of(run, state.place)
    due = min(int(share * count), count - 1)
    if due == state.place.stage:
        return state
    return entered(state, run, replace(state.place, stage=due, stage_start=share, stage_step=state.place.step, course=Course()))


def stage_share(run: Run, state: State) -> float:
    """Return the share of the current stage that has passed; learning rate and method follow it."""
    start, end = state.place.stage_start, (state.place.stage + 1) / len(state.method.stages)
    return (share_of(run, state.place) - start) / (end - start)


def whole_state(state: State) -> dict[str, Tensor]:
    """Return what a finished method would hold: weights averaged, all else as it is."""
    return {**state.method.state_dict(), **state.averaged}


def save(state: State, folder: RunFolder) -> None:
    """Write a checkpoint.

    Raises:
        OutputError: If it cannot be written.
    """
    tensors = {f"method.{k}": v for k, v in state.method.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in state.averaged.items()}
    tensors |= optimiser_tensors(state.optimisers)
    try:
        write_checkpoint(folder.checkpoints, state.place.step, tensors, asdict(state.place))
    except OutputError:
        check_there(folder)  # If that is the reason, it is the better word.
        raise


def resumed(state: State, run: Run, folder: RunFolder) -> State:
    """Return the state of the newest checkpoint that can be read; the given one if there is none.

    Raises:
        TrainingError: If there are checkpoints and none can be read, or they count a coarse start as earlier versions did.
    """
    found = read_newest(folder.checkpoints)
    if found is None:
        return state
    tensors, facts, spoilt = found
    if run.coarse and run.steps and "work" not in facts:
        raise TrainingError(
            f"{folder.checkpoints}: of an earlier version, which spread a coarse start over the steps otherwise; start anew in "
            "another folder"
        )
    for line in spoilt if processes().leads else ():
        warn(folder, line)
    state = entered(state, run, _place_of(facts))
    state.method.load_state_dict({k.removeprefix("method."): v for k, v in tensors.items() if k.startswith("method.")})
    averaged = {k: laid_out_as(v, tensors[f"averaged.{k}"]) for k, v in state.averaged.items()}
    restore_optimisers(state.optimisers, tensors)
    return replace(state, averaged=averaged)


def _place_of(facts: Mapping[str, Any]) -> Place:
    known = {f.name: facts[f.name] for f in fields(Place) if f.name in facts}
    known.setdefault("work", float(known.get("step", 0)))  # Checkpoints of before, without a coarse start.
    course = dict(known.get("course", {}))
    course["recent"] = tuple(course.get("recent", ()))
    return Place(**{**known, "kept": tuple(known.get("kept", ())), "course": Course(**course)})


def with_candidate(state: State, folder: RunFolder, candidate: float) -> State:
    """Write the averaged weights as a candidate, by the process that leads, and return the state that knows of it.

    Raises:
        OutputError: If they cannot be written.
    """
    if processes().leads:
        write_tensors(folder.candidates / f"at_{candidate:.3f}.safetensors", whole_state(state))
    return replace(state, place=replace(state.place, kept=(*state.place.kept, candidate)))
