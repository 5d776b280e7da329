"""Run folders as a report sees them: what was set, how the loss fell, which candidate was chosen, which weights came out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymri.engine.run import RunFolder, checked_run
from anymri.errors import AnymriError, InputFileError, UsageError
from anymri.methods import method_named

# Runs that differ in nothing else are repetitions of one another.
_REPETITION = ("seed", "fold", "cases", "threads", "checkpoint_minutes")
_CONFIG = "config."
_MOST = 6  # Longer lists are counted, not spelt out.


@dataclass(frozen=True, eq=False)
class Training:
    """One run folder.

    Attributes:
        folder: Where it is.
        method: Name of the method.
        seed: Of everything.
        fold: That was left out; None if none was.
        settings: Every setting but those in which repetitions differ, by dotted name.
        cohort: Name of the cohort that it was trained on.
        steps: How many it made; None if neither its newest checkpoint nor its end tells.
        losses: Step and smoothed loss of every logged step; empty without a log.
        candidates: Candidate → mean Dice on validation cases; empty if nothing was to be chosen.
        rule: In words what that Dice is a mean of; None if that is not told.
        chosen: The candidate that became the weights; None while it is unfinished.
        weights: First digits of the weights' SHA-256, as score tables have them; None without weights.
    """

    folder: Path
    method: str
    seed: int | None
    fold: int | None
    settings: Mapping[str, Any]
    cohort: str
    steps: int | None
    losses: tuple[tuple[int, float], ...]
    candidates: Mapping[str, float]
    rule: str | None
    chosen: str | None
    weights: str | None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def kind(self) -> str:
        """Equal for runs that are repetitions of one another."""
        return json.dumps([self.method, self.cohort, dict(self.settings)], sort_keys=True)


def is_run(folder: Path) -> bool:
    """Return whether a folder holds the record of a run."""
    return RunFolder(folder).record.is_file()


def read_training(folder: Path) -> Training:
    """Read a run folder, finished or not.

    Raises:
        InputFileError: If a file in it is not what it should be.
    """
    files = RunFolder(folder)
    record = _json(files.record, "the record of a run")
    run = record.get("run")
    if not isinstance(run, dict) or not isinstance(run.get("method"), str):
        raise InputFileError(f"{files.record}: has no run with a method; expected a folder that 'anymri train' has made")
    selection = _json(files.selection, "a choice of candidates") if files.selection.is_file() else {}
    cohort = record.get("cohort")
    return Training(
        folder=folder,
        method=run["method"],
        seed=run.get("seed"),
        fold=run.get("fold"),
        settings={k: v for k, v in _flat(_complete(run)).items() if k.split(".")[0] not in _REPETITION},
        cohort=str(cohort.get("name", "")) if isinstance(cohort, dict) else "",
        steps=_steps(files, run.get("steps") if files.weights.is_file() else None),
        losses=_losses(files.log),
        candidates=dict(selection.get("scores") or {}),
        rule=selection.get("rule"),
        chosen=selection.get("chosen"),
        weights=_digest(files.weights),
    )


def _complete(run: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded run with what it leaves out at its default: an older version knew fewer settings."""
    try:
        return checked_run(run).model_dump(mode="json")
    except AnymriError:
        return run


def differing(trainings: Sequence[Training]) -> tuple[str, ...]:
    """Return the settings in which some runs of one method differ, by dotted name, in the order of the record."""
    names = dict.fromkeys(name for t in trainings for name in t.settings)
    return tuple(n for n in names if len({json.dumps(t.settings.get(n), sort_keys=True) for t in trainings}) > 1)


def described(training: Training, fields: Sequence[str]) -> str:
    """Return in words what is particular in some settings: those that are not the method's default; empty if all are."""
    usual = _defaults(training.method)
    told = [n for n in fields if n not in usual or training.settings.get(n) != usual[n]]
    return ", ".join(f"{setting_name(n)} {setting_text(training.settings.get(n))}" for n in told)


def setting_name(field: str) -> str:
    """Return the name of a setting for people."""
    return field.removeprefix(_CONFIG).replace("_", " ")


def setting_text(value: Any) -> str:
    """Return the value of a setting for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "/".join(map(setting_text, value)) if len(value) <= _MOST else f"{len(value)} values"
    return str(value).replace("_", " ")


def _defaults(method: str) -> dict[str, Any]:
    """Return the default settings of a method, by dotted name; none if this version does not have the method."""
    try:
        config = method_named(method).config()
    except UsageError:
        return {}
    return _flat({"config": config.model_dump(mode="json")})


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: cannot be read ({error}); expected {what} as JSON") from None
    if not isinstance(content, dict):
        raise InputFileError(f"{path}: found JSON that is no object; expected {what}")
    return content


def _steps(files: RunFolder, budget: object) -> int | None:
    """Return how many steps were made, by the newest checkpoint, else the budget of a run that came to its end.

    The log does not tell: not every step is logged.
    """
    names = (p.name.removeprefix("step_") for p in files.checkpoints.glob("step_*"))
    return max((int(n) for n in names if n.isdecimal()), default=budget if isinstance(budget, int) else None)


def _losses(log: Path) -> tuple[tuple[int, float], ...]:
    """Return what the log says of the loss; the last line of a run that is going on may be half there."""
    if not log.is_file():
        return ()
    found: list[tuple[int, float]] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
            step, running = int(said["step"]), float(said["running"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if math.isfinite(running):
            found.append((step, running))
    return tuple(found)


def _digest(weights: Path) -> str | None:
    if not weights.is_file():
        return None
    with weights.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]
