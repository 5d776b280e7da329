"""Which candidate becomes the weights: decided on validation cases alone. This file never sees a test case."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from anymri.data.patients import full_image
from anymri.engine.distributed import processes
from anymri.engine.inference import nested, region_logits_of
from anymri.engine.logs import log
from anymri.engine.model import Model, Training, WeightsHeader, read_model, write_weights
from anymri.engine.record import material_told
from anymri.engine.run import Run, RunFolder
from anymri.errors import TrainingError
from anymri.metrics.masks import dice
from anymri.volumes.store import read_case, read_labels, write_json


def choose(run: Run, folder: RunFolder, validation: Sequence[Path], *, device: torch.device) -> Model:
    """Score every candidate on the validation cases, write the best as the run's weights, and return them as a model.

    Without validation cases, or with one candidate, the last one is taken. selection.json holds the scores and the choice.
    Several processes share the cases; one writes.

    Raises:
        TrainingError: If the training left no candidate.
    """
    group = processes()
    candidates = sorted(folder.candidates.glob("*.safetensors"))
    if not candidates:
        raise TrainingError(f"{folder.candidates}: holds no candidate weights; the training has not come to its end, resume it")
    scores = {}
    if validation and len(candidates) > 1:
        for path in candidates:
            scores[path.stem] = _shared_mean(_candidate(run, path), validation, path.stem, device=device)
            if group.leads:
                log(folder, {"candidate": path.stem, "validation_dice": scores[path.stem]})
    best = max(candidates, key=lambda p: (scores.get(p.stem, 0.0), p.stem))
    if group.leads:
        write_json(
            folder.selection,
            {
                "rule": "mean Dice over validation cases, supported subsets and regions, on the prepared grid",
                "cases": [p.name for p in validation],
                "scores": scores,
                "chosen": best.stem,
            },
        )
        write_weights(folder.weights, _candidate(run, best).method.state_dict(), _header(run, folder))
    group.wait()
    return read_model(folder.weights)


def mean_dice(model: Model, cases: Sequence[Path], *, device: torch.device) -> float:
    """Return the mean Dice over cases, subsets and known regions on the prepared grid; both empty counts as 1."""
    return float(np.mean([value for path in cases for value in _dices(model, path, device)]))


def _shared_mean(model: Model, cases: Sequence[Path], what: str, *, device: torch.device) -> float:
    """Return the mean Dice, each case scored by the process that is free."""
    group = processes()
    own = {path.name: _dices(model, path, device) for path in group.deal(cases, f"select {what}")}
    values = {name: found for part in group.gather(own) for name, found in part.items()}
    return float(np.mean([value for path in cases for value in values[path.name]]))


def _dices(model: Model, path: Path, device: torch.device) -> list[float]:
    """Return the Dice of every subset and known region of one case."""
    task, values = model.method.task, []
    case, bits = read_case(path), read_labels(path)
    present = task.modalities.subset(case.modalities)
    keeps = [s for s in model.method.supports() if s <= present]
    image = full_image(path, task)
    for logits in region_logits_of(model, image, present.mask, [s.mask for s in keeps], device=device):
        for r, mask in enumerate(nested(logits)):
            if task.region_names[r] in case.known_regions:
                value = dice(mask, (bits >> r & 1).astype(bool))
                values.append(1.0 if np.isnan(value) else value)
    return values


def _candidate(run: Run, path: Path) -> Model:
    method = run.method_config.build(run.task_object)
    method.load_state_dict({**method.state_dict(), **load_file(path)})
    method.strip()
    header = WeightsHeader(name=path.stem, method=run.method, config=run.config, task=run.task, window=run.window)
    return Model(method.eval(), header)


def _header(run: Run, folder: RunFolder) -> WeightsHeader:
    record = json.loads(folder.record.read_text())
    cases = folder.read_cases()
    training = Training(
        cohort=record.get("cohort", {}),
        versions=record.get("versions", {}),
        cases=(*cases.get("train", ()), *cases.get("validation", ())),
        seed=run.seed,
        fold=run.fold,
        budget=f"{run.steps} steps" if run.steps else f"{run.minutes:g} minutes",
        material=material_told(record),
    )
    return WeightsHeader(
        name=_file_name(folder.path), method=run.method, config=run.config, task=run.task, window=run.window, training=training
    )


def _file_name(path: Path) -> str:
    """Return the folder's name with what a weights' name may not hold replaced."""
    return re.sub(r"[^\w.+ -]", "_", path.resolve().name).lstrip(".+ -") or "run"
