"""Several runs trained and scored side by side, on the same cases and by the same rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from anymri.engine.distributed import processes
from anymri.engine.evaluation import evaluate
from anymri.engine.model import read_model
from anymri.engine.parts import parts_of
from anymri.engine.run import Run, RunFolder
from anymri.engine.training import train
from anymri.errors import AnymriError, TrainingError, UsageError, one_line
from anymri.metrics.protocol import Protocol
from anymri.report.measured import ORDER
from anymri.volumes.store import case_folder, read_cohort, write_json

SCORES = "scores.csv"
Report = Callable[[str, str, float], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        name: Of the run in its set.
        folder: Its run folder; the score table is in it.
        reason: Why there are no scores; empty if there are.
    """

    name: str
    folder: Path
    reason: str = ""


@dataclass(frozen=True)
class Means:
    """By what runs are compared.

    Attributes:
        protocol: Rules of scoring.
        device: Where to compute.
        report: Called with (run, "training" or "scoring", share of it that is done).
    """

    protocol: Protocol
    device: torch.device
    report: Report = lambda name, what, share: None


def compare(runs: Mapping[str, Run], data: Path, out: Path, *, means: Means) -> tuple[Outcome, ...]:
    """Train every run and score it on its test cases, each in a folder of its name; what is done already is kept.

    One run that fails does not stop the others: the outcome says why. The same call goes on where it was interrupted.

    Args:
        runs: By name.
        data: Folder of prepared cases.
        out: Folder for the run folders, and for their order, which reports keep.
        means: Protocol, device, report.

    Raises:
        UsageError: If a run leaves no case to be tested on, before anything is trained.
    """
    _, split = read_cohort(data)
    for name, run in runs.items():
        if not parts_of(run, split).test:
            raise UsageError(f"{name}: no case is left out for testing; choose a fold with --fold")
    if processes().leads:
        write_json(out / ORDER, {"runs": list(runs)})
    outcomes = []
    for name, run in runs.items():
        folder = out / name
        try:
            _done(name, run, data, folder, means=means)
        except (AnymriError, RuntimeError, MemoryError) as error:  # The latter two: of memory, and the like.
            said = str(error).strip().splitlines() or [type(error).__name__]  # MemoryError says nothing.
            outcomes.append(Outcome(name, folder, one_line(said[0])))
        else:
            outcomes.append(Outcome(name, folder))
    return tuple(outcomes)


def _done(name: str, run: Run, data: Path, path: Path, *, means: Means) -> None:
    folder, scores = RunFolder(path), path / SCORES
    started = folder.record.exists()
    if started and folder.read_run() != run:
        raise TrainingError(f"{path}: holds a run with other settings; choose another folder, or remove it")
    if scores.exists():
        return
    if not folder.weights.exists():
        train(
            run, data, path, resume=started, device=means.device, report=lambda p: means.report(name, "training", min(p.share, 1))
        )
    _, split = read_cohort(data)
    evaluate(
        read_model(folder.weights),
        [case_folder(data, n) for n in parts_of(run, split).test],
        scores,
        protocol=means.protocol,
        device=means.device,
        report=lambda done, total, case: means.report(name, "scoring", done / total),
    )
