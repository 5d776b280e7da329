"""The training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymri.data.augment import apply_augmentation, draw_augmentation
from anymri.data.batch import Batch
from anymri.data.patches import draw_patches, make_batch
from anymri.data.patients import Patient
from anymri.engine.checkpoint import optimiser_tensors, read_newest, restore_optimisers, write_checkpoint
from anymri.engine.run import Run, RunFolder
from anymri.errors import TrainingError
from anymri.methods.method import Method

LOG_EVERY = 20
# A loss this much above its own running mean, for this many steps in a row, is a run that has left the road.
DIVERGED_FACTOR, DIVERGED_STEPS = 10.0, 50

Report = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """What a training says of itself while it runs: steps done, share of the budget, loss, seconds spent on steps."""

    step: int
    share: float
    loss: float
    seconds: float


@dataclass
class State:
    """What changes while a training runs, and is written in checkpoints."""

    method: Method
    averaged: dict[str, Tensor]
    optimisers: dict[str, torch.optim.Optimizer]
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    stage: int = 0
    stage_start: float = 0.0
    kept: list[float] = field(default_factory=list)


def fit(run: Run, patients: Sequence[Patient], folder: RunFolder, *, resume: bool, device: torch.device, report: Report | None = None) -> Method:
    """Train to the end of the budget, leaving checkpoints, candidates and a log; return the method with averaged weights.

    Raises:
        TrainingError: If the loss is not finite, or stays far above where it was.
    """
    torch.manual_seed(run.seed)
    method = run.method_config.build(run.task_object).to(device, memory_format=torch.channels_last_3d)
    state = State(method, _floating(method), {}, device)
    _enter_stage(state, run)
    if resume:
        _restore(state, run, folder)
    method.train()
    weights = [1.0 if p.known.all() else run.partial_weight for p in patients]
    saved = time.monotonic()
    running = None
    while (share := _share(run, state)) < 1.0:
        _next_stage(state, run, share)
        started = time.monotonic()
        terms = _step(state, run, patients, weights, share)
        state.seconds += time.monotonic() - started
        state.step += 1
        loss = sum(terms.values())
        running = loss if running is None else 0.98 * running + 0.02 * loss
        if state.step % LOG_EVERY == 0 or state.step == 1:
            _log(folder, {"step": state.step, "seconds": round(state.seconds, 2), "share": round(share, 5), "running": running, **terms})
        if report is not None:
            report(Progress(state.step, _share(run, state), running, state.seconds))
        for candidate in run.candidates:
            if candidate not in state.kept and _share(run, state) >= candidate:
                _keep_candidate(state, folder, candidate)
        if time.monotonic() - saved > 60 * run.checkpoint_minutes or _share(run, state) >= 1.0:
            _save(state, folder)
            saved = time.monotonic()
    method.load_state_dict({**method.state_dict(), **state.averaged})
    return method.eval()


def _step(state: State, run: Run, patients: Sequence[Patient], weights: Sequence[float], share: float) -> dict[str, float]:
    """Make one optimiser step and return the mean of each measured term, weighted."""
    terms: dict[str, float] = {}
    stage_share = (share - state.stage_start) / (1 - state.stage_start) if len(state.method.stages) > 1 else share
    batches = []
    for part in range(run.accumulate):
        # All chance of a step follows from the seed and its number, so a resumed run needs no generator's state.
        seed = (run.seed, state.step, part)
        generator = torch.Generator().manual_seed(hash(seed) & 0x7FFFFFFF)
        draws = draw_patches(patients, run.patch, run.batch, tumour_share=run.tumour_share, weights=weights, seed=seed)
        batch = make_batch(patients, draws, run.patch, run.window.stride)
        batch = _on(batch, state.device)
        batch = apply_augmentation(batch, draw_augmentation(run.augmentation, run.batch, batch.image_BMDHW.shape[1], generator))
        batches.append(batch)
        for name, value in back_propagate(state.method, batch, progress=stage_share, generator=generator, run=run).items():
            terms[name] = terms.get(name, 0.0) + value / run.accumulate
    if not all(map(math.isfinite, terms.values())):
        names = ", ".join(n for b in batches for n in b.names)
        raise TrainingError(
            f"loss is not finite at step {state.step} ({terms}); cases of the batch: {names}; "
            "the last checkpoint is kept: resume with a smaller --set learning_rate"
        )
    rate = run.learning_rate * schedule(share, run.warm_up)
    for name, optimiser in state.optimisers.items():
        parameters = state.method.parameter_groups()[name]
        norm = torch.nn.utils.clip_grad_norm_(parameters, run.clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"gradient is not finite at step {state.step}; cases of the batch: {', '.join(n for b in batches for n in b.names)}")
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    _average(state, run)
    return terms


def back_propagate(method: Method, batch: Batch, *, progress: float, generator: torch.Generator, run: Run) -> dict[str, float]:
    """Back-propagate each term of the objective as it comes; return the sum of the weighted values per name."""
    values: dict[str, float] = {}
    groups = method.parameter_groups()
    iterator = method.losses(batch, progress=progress, generator=generator)
    device = batch.image_BMDHW.device.type
    while True:
        with torch.autocast(device, torch.bfloat16) if run.precision == "bf16" else nullcontext():
            term = next(iterator, None)
        if term is None:
            return values
        # A term serves one group; what it leaves at the parameters of others is taken away again.
        others = [(p, p.grad) for name, group in groups.items() if name != term.group for p in group]
        for parameter, _ in others:
            parameter.grad = None
        (term.value * (term.weight / run.accumulate)).backward()
        for parameter, gradient in others:
            parameter.grad = gradient
        if term.measured:
            values[term.name] = values.get(term.name, 0.0) + term.value.item() * term.weight


def schedule(share: float, warm_up: float) -> float:
    """Return the factor of the learning rate: linear rise, then half a cosine to zero."""
    if share < warm_up:
        return max(share / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


def _share(run: Run, state: State) -> float:
    return state.step / run.steps if run.steps is not None else state.seconds / (60 * (run.minutes or 1))


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


def _floating(method: Method) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in method.state_dict().items() if v.is_floating_point()}


@torch.no_grad()
def _average(state: State, run: Run) -> None:
    """Move the averaged weights towards the current ones; faster at first, so that the start is forgotten."""
    decay = min(run.average, (1 + state.step) / (10 + state.step))
    for name, value in state.method.state_dict().items():
        if value.is_floating_point():
            state.averaged[name].lerp_(value, 1 - decay)


def _enter_stage(state: State, run: Run) -> None:
    state.method.enter_stage(state.method.stages[state.stage])
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    state.optimisers = {}
    for name, parameters in state.method.parameter_groups().items():
        if run.optimiser == "sgd":
            made = torch.optim.SGD(parameters, run.learning_rate, momentum=0.99, nesterov=True, weight_decay=run.weight_decay)
        else:
            made = kinds[run.optimiser](parameters, run.learning_rate, weight_decay=run.weight_decay)
        state.optimisers[name] = made


def _next_stage(state: State, run: Run, share: float) -> None:
    """Stages share the budget equally; a new one starts with new optimisers."""
    count = len(state.method.stages)
    due = min(int(share * count), count - 1)
    if due != state.stage:
        state.stage, state.stage_start = due, share
        _enter_stage(state, run)


def _save(state: State, folder: RunFolder) -> None:
    tensors = {f"method.{k}": v for k, v in state.method.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in state.averaged.items()}
    tensors |= optimiser_tensors(state.optimisers)
    facts = {k: getattr(state, k) for k in ("step", "seconds", "stage", "stage_start", "kept")}
    write_checkpoint(folder.checkpoints, state.step, tensors, facts)


def _restore(state: State, run: Run, folder: RunFolder) -> None:
    found = read_newest(folder.checkpoints)
    if found is None:
        return
    tensors, facts, spoilt = found
    for line in spoilt:
        _log(folder, {"warning": line})
    for key in ("step", "seconds", "stage", "stage_start", "kept"):
        setattr(state, key, facts[key])
    _enter_stage(state, run)
    state.method.load_state_dict({k.removeprefix("method."): v for k, v in tensors.items() if k.startswith("method.")})
    state.averaged = {k.removeprefix("averaged."): v.to(state.device) for k, v in tensors.items() if k.startswith("averaged.")}
    restore_optimisers(state.optimisers, tensors)


def _keep_candidate(state: State, folder: RunFolder, candidate: float) -> None:
    from safetensors.torch import save_file

    folder.candidates.mkdir(parents=True, exist_ok=True)
    target = folder.candidates / f"at_{candidate:.3f}.safetensors"
    part = target.with_name(f".{target.name}.part")
    save_file({k: v.contiguous() for k, v in state.averaged.items()}, part)
    part.rename(target)
    state.kept.append(candidate)


def _log(folder: RunFolder, line: Mapping[str, Any]) -> None:
    with open(folder.log, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(dict(line)) + "\n")
