"""What changes while a training runs, and how it comes to disk and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from safetensors.torch import save_file
from torch import Tensor

from anymri.engine.checkpoint import optimiser_tensors, read_newest, restore_optimisers, write_checkpoint
from anymri.engine.logs import log
from anymri.engine.run import Run, RunFolder
from anymri.methods.method import Method

_FACTS = ("step", "seconds", "stage", "stage_start", "kept")


@dataclass
class State:
    """What changes while a training runs.

    Attributes:
        method: In training.
        averaged: Moving average of its floating-point weights.
        optimisers: One per parameter group.
        device: Where it computes.
        step: Optimiser steps done.
        seconds: Spent on steps.
        stage: Index of the current stage.
        stage_start: Share of the budget at which it began.
        kept: Candidates that are on disk.
    """

    method: Method
    averaged: dict[str, Tensor]
    optimisers: dict[str, torch.optim.Optimizer]
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    stage: int = 0
    stage_start: float = 0.0
    kept: list[float] = field(default_factory=list)


def enter_stage(state: State, run: Run) -> None:
    state.method.enter_stage(state.method.stages[state.stage])
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    state.optimisers = {}
    for name, parameters in state.method.parameter_groups().items():
        if run.optimiser == "sgd":
            made = torch.optim.SGD(parameters, run.learning_rate, momentum=0.99, nesterov=True, weight_decay=run.weight_decay)
        else:
            made = kinds[run.optimiser](parameters, run.learning_rate, weight_decay=run.weight_decay)
        state.optimisers[name] = made


def save(state: State, folder: RunFolder) -> None:
    tensors = {f"method.{k}": v for k, v in state.method.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in state.averaged.items()}
    tensors |= optimiser_tensors(state.optimisers)
    facts = {k: getattr(state, k) for k in _FACTS}
    write_checkpoint(folder.checkpoints, state.step, tensors, facts)


def restore(state: State, run: Run, folder: RunFolder) -> None:
    found = read_newest(folder.checkpoints)
    if found is None:
        return
    tensors, facts, spoilt = found
    for line in spoilt:
        log(folder, {"warning": line})
    for key in _FACTS:
        setattr(state, key, facts[key])
    enter_stage(state, run)
    state.method.load_state_dict({k.removeprefix("method."): v for k, v in tensors.items() if k.startswith("method.")})
    state.averaged = {k.removeprefix("averaged."): v.to(state.device) for k, v in tensors.items() if k.startswith("averaged.")}
    restore_optimisers(state.optimisers, tensors)


def keep_candidate(state: State, folder: RunFolder, candidate: float) -> None:
    folder.candidates.mkdir(parents=True, exist_ok=True)
    target = folder.candidates / f"at_{candidate:.3f}.safetensors"
    part = target.with_name(f".{target.name}.part")
    save_file({k: v.contiguous() for k, v in state.averaged.items()}, part)
    part.rename(target)
    state.kept.append(candidate)


def floating_tensors(method: Method) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in method.state_dict().items() if v.is_floating_point()}
