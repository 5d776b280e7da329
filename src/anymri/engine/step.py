"""One step of a training: its parts are shared among the processes, their gradients are added up, the weights move once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from anymri.data.ahead import Fetch, Key, at_once
from anymri.data.batch import Batch, coarser
from anymri.engine.distributed import processes
from anymri.engine.inference import autocast
from anymri.engine.run import Run
from anymri.engine.state import State, weights_of
from anymri.engine.supply import Finish, Supply, data_of
from anymri.errors import TrainingError, UsageError
from anymri.methods.method import Method


@dataclass(frozen=True)
class Made:
    """What a step was: the mean of each measured term, weighted, and the cases of its patches, of all processes.

    ``observed`` is what the method saw in the parts that this process computed, by the number of the part.
    """

    terms: dict[str, float]
    names: tuple[str, ...]
    observed: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


def make_step(state: State, run: Run, supply: Supply, *, progress: float, fetch: Fetch = at_once) -> Made:
    """Make one optimiser step; every process makes the same one.

    Args:
        state: Changed in place.
        run: All settings.
        supply: What patches are made from.
        progress: Share of the stage that has passed.
        fetch: Makes the data of a part, now or ahead of time.

    Raises:
        TrainingError: If the loss or a gradient is not finite in any process; the weights are as they were before.
    """
    before = {name: value.clone() for name, value in _buffers(state.method).items()} if processes().count > 1 else {}
    made_of = partial(data_of, run, supply, state.device)
    made, changed = _gathered(_back_propagate_share(state, run, partial(fetch, made_of), progress=progress), state.method, before)
    if not all(map(math.isfinite, made.terms.values())):
        found = ", ".join(f"{name} {value:g}" for name, value in made.terms.items())
        _refuse(f"loss is not finite ({found})", state, run, made.names)
    _add_up(state.method, {name: before[name] for name in changed})
    for name in state.optimisers:
        parameters = state.method.parameter_groups()[name]
        for parameter in parameters if run.accumulate > 1 else ():
            if parameter.grad is not None:
                parameter.grad /= run.accumulate
        norm = torch.nn.utils.clip_grad_norm_(parameters, run.clip)
        if not torch.isfinite(norm):
            _refuse(f"gradient of {name} is not finite", state, run, made.names)
    for optimiser in state.optimisers.values():  # Not before the gradients of all groups are known to be sound.
        for group in optimiser.param_groups:
            group["lr"] = optimiser.defaults["lr"] * schedule(progress, run.warm_up, run.schedule)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    _remember(state.method, made.observed, run.accumulate)
    _average(state, run)
    return made


def check_shares(run: Run) -> None:
    """Refuse a run whose steps cannot be shared evenly among the processes.

    Raises:
        UsageError: It says what to set.
    """
    count, patches = processes().count, run.batch * run.accumulate
    if run.accumulate % count == 0:
        return
    if patches % count == 0:
        what = f"--set batch={patches // count} --set accumulate={count} for the same {patches} patches a step"
    else:
        more = -(-patches // count) * count
        what = f"--set batch=1 --set accumulate={more} for {more} patches a step in place of {patches}, or fewer processes"
    raise UsageError(f"accumulate is {run.accumulate}, which {count} processes cannot share evenly; give {what}")


def advice_against(run: Run) -> str:
    """Return what to do about a training that diverged."""
    slower = float(f"{run.learning_rate / 3:.1g}")
    return (
        "the last checkpoint is kept, and going on from it would come here again; look at these cases, "
        f"or start anew in another folder with --set learning_rate={slower:g} (it was {run.learning_rate:g})"
    )


def _refuse(what: str, state: State, run: Run, names: Sequence[str]) -> NoReturn:
    raise TrainingError(f"{what} at step {state.place.step + 1}; cases of the batch: {', '.join(names)}; {advice_against(run)}")


def _back_propagate_share(
    state: State,
    run: Run,
    fetch: Callable[[Key, Key], tuple[Batch, Finish | None, torch.Generator]],
    *,
    progress: float,
) -> Made:
    """Back-propagate the parts of the step that fall to this process."""
    terms: dict[str, float] = {}
    names: list[str] = []
    observed: dict[int, Mapping[str, Tensor]] = {}
    parts = processes().share(range(run.accumulate))
    keys = [(run.seed, state.place.step, part) for part in parts]
    for part, key, following in zip(parts, keys, [*keys[1:], (run.seed, state.place.step + 1, parts[0])], strict=True):
        batch, finish, generator = fetch(key, following)
        if finish is not None:
            batch = finish(_on(batch, state.device))
        if progress < run.coarse:
            batch = coarser(batch)
        names += [n for n in batch.names if n not in names]
        values = back_propagate(state.method, batch, progress=progress, generator=generator, precision=run.precision)
        for name, value in values.items():
            terms[name] = terms.get(name, 0.0) + value / run.accumulate
        observed[part] = state.method.observed()
    return Made(terms, tuple(names), observed)


def _gathered(made: Made, method: Method, before: Mapping[str, Tensor]) -> tuple[Made, tuple[str, ...]]:
    """Return what all processes made, and the names of the buffers that any of them changed.

    A parameter that another one has a gradient of gets one here, too.
    """
    group = processes()
    if group.count == 1:
        return made, ()
    here = [name for name, value in _buffers(method).items() if not torch.equal(value, before[name])]
    parameters = list(method.parameters())
    without = [i for i, p in enumerate(parameters) if p.grad is None]
    told: list[Any] = group.gather([made.terms, made.names, without, here])
    for index in set(without) - set.intersection(*(set(w) for _, _, w, _ in told)):
        parameters[index].grad = torch.zeros_like(parameters[index])
    terms: dict[str, float] = {}
    for others, _, _, _ in told:
        for name, value in others.items():
            terms[name] = terms.get(name, 0.0) + value
    changed = {name for *_, names in told for name in names}
    whole = replace(made, terms=terms, names=tuple(dict.fromkeys(n for _, names, *_ in told for n in names)))
    return whole, tuple(name for name in before if name in changed)


@torch.no_grad()
def _add_up(method: Method, before: Mapping[str, Tensor]) -> None:
    """Give all processes the sum of the gradients, and of the changes of counters and the like, as far as any has changed."""
    group = processes()
    if group.count == 1:
        return
    buffers = {name: value for name, value in _buffers(method).items() if name in before}
    for name, value in buffers.items():
        value -= before[name]
    group.sum_([*(p.grad for p in method.parameters() if p.grad is not None), *buffers.values()])
    for name, value in buffers.items():
        value += before[name]


@torch.no_grad()
def _remember(method: Method, observed: Mapping[int, Mapping[str, Tensor]], parts: int) -> None:
    """Give the method what all parts of the step observed, in their order: the same in every process, however many there are."""
    whole = {name: rows.new_zeros((parts, *rows.shape)) for name, rows in next(iter(observed.values()), {}).items()}
    if not whole:
        return
    for part, of_part in observed.items():
        for name, rows in of_part.items():
            whole[name][part] = rows
    processes().sum_(list(whole.values()))  # The parts of others are zero here.
    method.remember({name: rows.flatten(0, 1) for name, rows in whole.items()})


def _buffers(method: Method) -> dict[str, Tensor]:
    """Return the state that is not a weight."""
    weights = weights_of(method)
    return {k: v for k, v in method.state_dict().items() if k not in weights and v.dtype != torch.bool}


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


def schedule(share: float, warm_up: float, fall: str = "cosine") -> float:
    """Return the factor of the learning rate: linear rise, then a fall to zero, half a cosine or ("poly") to the power of 0.9."""
    if share < warm_up:
        return max(share / warm_up, 0.01)
    spent = (share - warm_up) / (1 - warm_up)
    if fall == "poly":
        return max(1 - spent, 0.0) ** 0.9
    return 0.5 * (1 + math.cos(math.pi * spent))


def _on(batch: Batch, device: torch.device) -> Batch:
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
    """Move the averaged weights towards the current ones; faster as a stage begins, so that its untrained start is forgotten."""
    done = state.place.step - state.place.stage_step
    decay = min(run.average, (1 + done) / (10 + done))
    for name, value in weights_of(state.method).items():
        state.averaged[name].lerp_(value, 1 - decay)
