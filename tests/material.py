"""What tests are made of: tasks with any number of modalities, random batches and patients, short runs."""

from __future__ import annotations

import importlib.util
import sys
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anymri.data.augment import Augmentation
from anymri.data.batch import Batch
from anymri.data.patients import Patient
from anymri.domain.case import Case, Split
from anymri.domain.modality import Modality, ModalitySet
from anymri.domain.region import LabelScheme, Region
from anymri.domain.task import BACKGROUND, TASKS, Task
from anymri.engine.run import Run, Window, checked_run
from anymri.methods import METHODS, method_named
from anymri.methods.method import Method, Term
from anymri.nn.leaves import Leaves
from anymri.volumes.store import STEP, CohortRecord, write_case, write_cohort
from anymri.volumes.volume import Grid, Volume, cropped_grid, reoriented_grid, resampled


def task_with(modalities: int) -> Task:
    """Return a made-up task with two nested regions."""
    regions = (Region("outer", "all of it", ("shell", "core")), Region("inner", "the core", ("core",)))
    return Task(
        name=f"made_up_{modalities}",
        description="made up",
        modalities=ModalitySet(tuple(Modality(f"M{m}", f"kind {m}", f"m{m}") for m in range(modalities))),
        classes=(BACKGROUND, "shell", "core"),
        regions=regions,
        schemes=(LabelScheme("only", "1, 2", {1: ("outer",), 2: ("outer", "inner")}, ("outer", "inner"), {"shell": 1, "core": 2}),),
        spacing_mm=(1.0, 1.0, 1.0),
        orientation="LPS",
        foreground="brain",
        colours=("#2ca02c", "#d62728"),
    )


# The project's own, once where a method cannot tell two apart, and made-up ones with fewer and more modalities than any of them.
_DISTINCT = {(len(task.modalities), task.membership): task for task in reversed(TASKS)}
ALL_TASKS = {task.name: task for task in (*reversed(_DISTINCT.values()), task_with(2), task_with(5))}
ALL_METHODS = tuple(entry.name for entry in METHODS)


def tiny(method: str, task: Task, *, seed: int = 0, **options: Any) -> Method:
    """Return a freshly initialised method at size tiny, in training mode."""
    torch.manual_seed(seed)
    config = method_named(method).config.sized("tiny")
    return type(config).model_validate({**config.model_dump(), **options}).build(task)


def blob(extent: tuple[int, int, int], centre: np.ndarray, radius: float) -> np.ndarray:
    """Return a ball, bool."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in extent), indexing="ij"), -1)
    return np.linalg.norm(places - centre, axis=-1) < radius


def made_patient(
    task: Task, seed: int, *, extent: tuple[int, int, int] = (12, 12, 12), present: tuple[bool, ...] | None = None
) -> Patient:
    """Return a noisy ball of a brain with nested balls in it that every modality shows, on a grid of stride 1."""
    rng = np.random.default_rng(seed)
    regions = len(task.regions)
    middle = np.array(extent) / 2
    centre = middle + rng.uniform(-0.1, 0.1, 3) * min(extent)
    inside = np.stack([blob(extent, centre, (0.3 - 0.07 * r) * min(extent)) for r in range(regions)])
    brain = blob(extent, middle, max(extent) / 2)
    contrast = rng.normal(0, 1.5, (len(task.modalities), regions))
    image = rng.normal(0, 0.5, (len(task.modalities), *extent)) + np.einsum("mr,rdhw->mdhw", contrast, inside)
    at_hand = np.array(present or (True,) * len(task.modalities))
    image = np.where(brain, image, 0) * at_hand[:, None, None, None]
    centres = tuple(np.argwhere(ring) for ring in inside)
    return Patient(f"case_{seed}", image.astype(np.float16), at_hand, inside.astype(np.uint8), np.ones(regions, bool), centres)


def made_batch(
    task: Task, *, seed: int = 0, size: int = 2, edge: int = 8, present: tuple[tuple[bool, ...], ...] | None = None
) -> Batch:
    """Return patients that fill their patch, with the modalities at hand that are asked for; all if nothing is said."""
    patients = [made_patient(task, 100 * seed + b, extent=(edge, edge, edge)) for b in range(size)]
    every = torch.ones((size, len(task.modalities)), dtype=torch.bool)
    return Batch(
        torch.from_numpy(np.stack([p.image for p in patients]).astype(np.float32)),
        every if present is None else torch.tensor(present),
        torch.from_numpy(np.stack([p.shares for p in patients]).astype(np.float32)),
        torch.ones((size, len(task.regions)), dtype=torch.bool),
        tuple(p.name for p in patients),
        torch.zeros((size, 3), dtype=torch.int64),
    )


def mixed_presence(task: Task) -> tuple[tuple[bool, ...], ...]:
    """Return one row with everything, one with the first modality alone, one without it, one with the last alone."""
    n = len(task.modalities)
    first = tuple(m == 0 for m in range(n))
    return ((True,) * n, first, tuple(not f for f in first), first[::-1])


def with_absent(batch: Batch, value: float | Tensor) -> Batch:
    """Return the batch with something else in the channels that are absent."""
    at_hand = batch.present_BM[:, :, None, None, None]
    return replace(batch, image_BMDHW=torch.where(at_hand, batch.image_BMDHW, torch.as_tensor(value)))


def back_propagated(method: Method, batch: Batch, *, seed: int = 0, progress: float = 0.5) -> tuple[list[Term], dict[str, Tensor]]:
    """Return the terms of the objective, each back-propagated as it came, and the gradient of every parameter that got one."""
    method.zero_grad(set_to_none=True)
    terms = []
    for term in method.losses(batch, progress=progress, generator=torch.Generator().manual_seed(seed)):
        (term.value * term.weight).backward()
        terms.append(Term(term.name, term.value.detach(), term.weight, term.group, term.measured))
    return terms, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def in_one_pass(method: Method, batch: Batch, monkeypatch: pytest.MonkeyPatch, *, seed: int = 0) -> dict[str, Tensor]:
    """Return the gradients of the sum of all terms by one backward pass through everything, features in place of leaves."""
    method.zero_grad(set_to_none=True)
    with monkeypatch.context() as patched:
        patched.setattr(Leaves, "cut", lambda self, feature: feature)
        patched.setattr(Leaves, "carried", lambda self: torch.zeros((), dtype=torch.float64))
        total = torch.zeros((), dtype=torch.float64)
        for term in method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(seed)):
            total = total + term.value * term.weight
        total.backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def held_by_graphs(method: Method, batch: Batch) -> dict[str, list[int]]:
    """Return, by name of term, how many numbers the graphs hold whenever such a term is handed out."""
    alive: Counter[int] = Counter()

    def packed(tensor: Tensor) -> Tensor:
        token = tensor.detach()
        alive[id(token)] = token.numel()
        weakref.finalize(token, alive.pop, id(token))
        return token

    held: dict[str, list[int]] = {}
    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        for term in method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(0)):
            held.setdefault(term.name, []).append(alive.total())
            (term.value * term.weight).backward()
            del term
    return held


def measured(terms: list[Term]) -> list[tuple[str, float]]:
    """Return the names and values of the terms that say something."""
    return [(t.name, t.value.item() * t.weight) for t in terms if t.measured]


def short_run(method: str, **settings: Any) -> Run:
    """Return a run of a tiny network on 8³ patches that ends within seconds; settings replace these."""
    return checked_run(
        {
            "method": method,
            "window": Window(stride=1, size=(8, 8, 8)),
            "patch": (8, 8, 8),
            "steps": 6,
            "precision": "float32",
            "learning_rate": 1e-2,
            "augmentation": Augmentation(),
            "validation": 0,
            "candidates": (0.5, 1.0),
            "threads": 1,
            **({"config": method_named(method).config.sized("tiny").model_dump(mode="json")} | settings),
        }
    )


# The patient's own grid runs along other axes than the prepared one and is larger.
NATIVE = Grid((22, 16, 20), np.array([[0.0, 0.0, 1.0, -9.0], [-1.0, 0.0, 0.0, 8.0], [0.0, 1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0]]))
_WHOLE = reoriented_grid(NATIVE, "LPS")
PREPARED = cropped_grid(_WHOLE, (slice(2, 18), slice(3, 21), slice(1, 15)))


def write_made_case(
    folder: Path, task: Task, seed: int, *, modalities: Sequence[str] | None = None, known: Sequence[str] | None = None
) -> None:
    """Write a small prepared case whose images are the regions plus noise, as lifelike as a test of plumbing needs."""
    names = tuple(modalities or task.modalities.names)
    known = task.region_names if known is None else tuple(known)
    patient = made_patient(task, seed, extent=PREPARED.shape)
    rows = [task.modalities.index(n) for n in names]
    image = np.rint(patient.image[rows].astype(np.float32) / STEP) * np.float32(STEP)
    bits = np.bitwise_or.reduce([s << r for r, s in enumerate(patient.shares)]).astype(np.uint8)
    truth = resampled(Volume(bits, PREPARED), NATIVE, order=0).array
    case = Case(folder.name, task.name, names, known, PREPARED.lattice(), NATIVE.lattice())
    write_case(folder, case, image, bits if known else None, truth if known else None)


def write_made_cohort(
    prepared: Path, task: Task, *, folds: Sequence[Sequence[str]], partly: Sequence[str] = (), name: str = "made_up"
) -> None:
    """Write prepared cases in these folds, and some with the first modality and the outermost region alone, to train on."""
    names = [n for fold in folds for n in fold]
    for seed, case in enumerate(names):
        write_made_case(prepared / "cases" / case, task, seed)
    for seed, case in enumerate(partly, len(names)):
        first = task.modalities.names[:1], task.region_names[:1]
        write_made_case(prepared / "cases" / case, task, seed, modalities=first[0], known=first[1])
    record = CohortRecord(name, task.name, (*names, *partly), licence="none", citation="nobody")
    write_cohort(prepared, record, Split(tuple(map(tuple, folds)), tuple(partly)))


def benchmark(name: str) -> ModuleType:
    """Return a script of the folder of benchmarks as a module; it finds its neighbours, as when it is run."""
    file = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # Dataclasses look their module up.
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module
