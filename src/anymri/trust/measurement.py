"""Weights and prepared cases → a trust record: each case is asked about by weights that were not trained on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from anymri.engine.model import Model
from anymri.engine.parts import left_out_by
from anymri.errors import UsageError
from anymri.trust.checks import checked
from anymri.trust.expectation import LEVEL
from anymri.trust.fitting import LEAST_CASES, Sample, empties, fitted, samples
from anymri.trust.observation import Observation, check_case, observe
from anymri.trust.record import Held, Measured, Trust, TrustCheck, TrustRecord
from anymri.volumes.store import case_folder, read_cohort
from anymri.volumes.writing import replacing

Report = Callable[[int, int, str], None]
Assigned = tuple[tuple[Model, Path], ...]


def assigned(models: Sequence[Model], prepared: Path, *, fold: int | None = None) -> Assigned:
    """Return each case that is to be asked about, with the first of the models that was not trained on it.

    A model is asked about the fold that it left out, if it was trained on this cohort; else about all cases that it has not seen.

    Args:
        models: Of one method, task, configuration and window; folds of a cross-validation, for instance.
        prepared: Folder made by ``anymri prepare``.
        fold: The fold to ask every model about.

    Raises:
        UsageError: If the models do not belong together, do not say what they were trained on, or were trained on these cases.
        CaseError: If a case is incomplete.
    """
    _, split = read_cohort(prepared)
    for model in models[1:]:
        if odd := _difference(model, models[0]):
            raise UsageError(f"{odd}; give folds of one method, trained in one way")
    found: dict[str, Model] = {}
    for model in models:
        name, trained = model.header.name, model.header.training
        if not trained.cases:
            raise UsageError(f"weights '{name}' do not say which cases they were trained on; give weights of 'anymri train'")
        left_out = fold if fold is not None else left_out_by(trained.cases, trained.fold, split)
        names = split.test(left_out) if left_out is not None else [n for part in split.folds for n in part]
        seen = [n for n in names if n in trained.cases]
        if left_out is not None and seen:
            raise UsageError(f"weights '{name}' were trained on {len(seen)} cases of fold {left_out}, {seen[0]} among them")
        for n in names:
            if n not in seen:
                found.setdefault(n, model)
    if len(found) < LEAST_CASES:
        raise UsageError(
            f"{len(found)} cases of {prepared} are new to these weights; trust is measured on {LEAST_CASES} at least: "
            "prepare more, or give the runs of several folds"
        )
    pairs = tuple((model, case_folder(prepared, n)) for n, model in found.items())
    for model, folder in pairs:
        check_case(folder, model.method.task)
    return pairs


def measure(
    pairs: Assigned, also: Sequence[Model], *, parts: Path, device: torch.device, report: Report | None = None
) -> TrustRecord:
    """Return all that is to be believed of some weights, and how far it held.

    Args:
        pairs: Cases and who is asked about them, from ``assigned``.
        also: Weights that were not asked and that the record shall belong to, too: trained in the same way, on all cases.
        parts: Folder where what was observed of each case is kept, so that an interrupted measurement goes on where it was.
        device: Where to compute.
        report: Called after each case with (done, total, name).

    Raises:
        UsageError: If ``also`` is of another method, task, configuration or window.
        OutputError: If a part cannot be written.
    """
    first = pairs[0][0].header
    for model in also:
        if odd := _difference(model, pairs[0][0]):
            raise UsageError(f"{odd}; leave out --for {model.header.name}")
    regions = _observed(pairs, parts, device, report)
    measured = _asked(pairs)
    return TrustRecord(
        task=first.task,
        method=first.method,
        weights=tuple(dict.fromkeys([*measured, *(m.sha256 for m in also)])),
        measured=measured,
        cohort=_cohort(pairs),
        cases=len(pairs),
        level=LEVEL,
        regions={name: Measured(belief=fitted(sample), checks=checked(sample)) for name, sample in regions.items()},
        version=version("anymri"),
    )


def check(pairs: Assigned, trust: Trust, *, parts: Path, device: torch.device, report: Report | None = None) -> TrustCheck:
    """Return how far a trust file holds on these cases; nothing is fitted to them but what it is compared with.

    Args:
        pairs: Cases and who is asked about them, from ``assigned``.
        trust: The file. The weights need not be those that it belongs to.
        parts: As for ``measure``.
        device: Where to compute.
        report: As for ``measure``.

    Raises:
        UsageError: If the file is of another method or task than the weights, or rests on these cases.
        OutputError: If a part cannot be written.
    """
    record = trust.record
    check_fits([model for model, _ in pairs], trust)
    asked = [model for model, _ in pairs if model.sha256 in record.measured]
    if any(_cohort(pairs) in (record.cohort, model.header.training.cohort.get("name")) for model in asked):
        raise UsageError(
            f"the trust file was measured with weights '{asked[0].header.name}' on what they were not trained on of cohort "
            f"'{_cohort(pairs)}': on its own cases nothing is checked; give others, prepared from data of another name"
        )
    regions = _observed(pairs, parts, device, report)
    return TrustCheck(
        trust=trust.sha256,
        weights=_asked(pairs),
        cohort=_cohort(pairs),
        cases=len(pairs),
        level=record.level,
        regions={
            name: Held(checks=checked(sample, belief=record.regions[name].belief), empty=empties(sample))
            for name, sample in regions.items()
        },
        version=version("anymri"),
    )


def check_fits(models: Sequence[Model], trust: Trust) -> None:
    """Check that a trust file could be lent to weights.

    Raises:
        UsageError: If it is of another method or task than one of them.
    """
    record = trust.record
    for header in (model.header for model in models):
        if (record.method, record.task) != (header.method, header.task):
            raise UsageError(
                f"the trust file is of method {record.method} for task {record.task}, weights '{header.name}' of {header.method} "
                f"for {header.task}; give one of their own"
            )


def _observed(pairs: Assigned, parts: Path, device: torch.device, report: Report | None) -> dict[str, Sample]:
    """Return region → what was observed of all cases."""
    seen: list[Observation] = []
    for model, folder in pairs:
        part = parts / f"{folder.name}.safetensors"
        found = _read_part(part, model, folder)
        if found is None:
            found = observe(model, folder, device=device)
            _write_part(part, found, model)
        seen.append(found)
        if report is not None:
            report(len(seen), len(pairs), folder.name)
    task = pairs[0][0].method.task
    return dict(zip(task.region_names, samples(seen, task.modalities), strict=True))


def _asked(pairs: Assigned) -> tuple[str, ...]:
    return tuple(dict.fromkeys(model.sha256 for model, _ in pairs))


def _cohort(pairs: Assigned) -> str:
    return read_cohort(pairs[0][1].parents[1])[0].name


def _difference(model: Model, first: Model) -> str:
    """Return in what two models differ that one trust file cannot be of both; empty if in nothing that matters."""
    a, b = model.header, first.header
    if (a.method, a.task) != (b.method, b.task):
        return f"weights '{a.name}' are of method {a.method} for task {a.task}, '{b.name}' of {b.method} for {b.task}"
    for words, one, other in (("config", a.config, b.config), ("window", a.window.model_dump(), b.window.model_dump())):
        for field in [*one, *other]:
            mine, theirs = (_shown(settings, field) for settings in (one, other))
            if mine != theirs:
                return f"weights '{a.name}' have {words}.{field} {mine}, '{b.name}' {theirs}"
    return ""


def _shown(settings: Mapping[str, Any], field: str) -> str:
    return str(settings[field]) if field in settings else "unset"


def _write_part(part: Path, seen: Observation, model: Model) -> None:
    facts = {"subsets": " ".join(seen.subsets), "weights": model.sha256}
    with replacing(part) as temporary:
        save_file({"counts": seen.counts_SRNK, "dice": seen.dice_SR, "empty": seen.empty_SR}, temporary, metadata=facts)


def _read_part(part: Path, model: Model, folder: Path) -> Observation | None:
    """Return what an interrupted measurement left of a case, if it is of the same weights and the case was not prepared since."""
    try:
        if (folder / "case.json").stat().st_mtime_ns > part.stat().st_mtime_ns:
            return None
        with safe_open(part, framework="np") as kept:
            facts = kept.metadata() or {}
            if not model.sha256 or facts.get("weights") != model.sha256:
                return None
            arrays = (kept.get_tensor(name) for name in ("counts", "dice", "empty"))
            return Observation(folder.name, tuple(facts["subsets"].split()), *arrays)
    except (OSError, KeyError, SafetensorError):
        return None
