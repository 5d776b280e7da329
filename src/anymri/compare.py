"""Several runs trained and scored side by side, on the same cases and by the same rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anymri.domain.case import Split
from anymri.engine.distributed import processes
from anymri.engine.evaluation import evaluate
from anymri.engine.model import read_model
from anymri.engine.parts import parts_of
from anymri.engine.run import Run, RunFolder, checked_run
from anymri.engine.training import train
from anymri.errors import AnymriError, InputFileError, TrainingError, UsageError, one_line
from anymri.metrics.protocol import ANYMRI, Protocol, protocol_named
from anymri.metrics.scores import joined, read_scores, write_scores
from anymri.report.measured import ORDER
from anymri.report.page import write_report
from anymri.volumes.store import case_folder, parsed_json, read_cohort, write_json

SCORES, REPORT = "scores.csv", "report"
Report = Callable[[str, str, float], None]

# How a run learns is its own. All else decides which cases it learns from, which patches it sees of them, in which order, and how
# many; so does a field that is named nowhere here.
_OWN = (
    *("method", "config", "optimiser", "learning_rate", "weight_decay", "warm_up", "schedule", "clip", "average", "precision"),
    *("checkpoint_minutes", "runaway", "init", "init_sha256", "threads"),
)
_CASES = ("task", "fold", "cases", "validation", "partial_weight")
_PATCHES = (
    "window",
    "patch",
    "coarse",
    "batch",
    "accumulate",
    "tumour_share",
    "augmentation",
    "seed",
    "steps",
    "minutes",
    "candidates",
    "generation",
)


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


def check_alike(runs: Mapping[str, Run]) -> None:
    """Refuse runs that would not see the same patches of the same cases in the same order, or not equally many or as long.

    Raises:
        UsageError: It names two of them and the fields in which they differ.
    """
    (first, one), *others = runs.items()
    for name, other in others:
        decisive = (f for f in dict.fromkeys((*_CASES, *_PATCHES, *Run.model_fields)) if f not in _OWN)
        fields = [f for f in decisive if getattr(one, f) != getattr(other, f)]
        if fields:
            raise UsageError(
                f"{first} and {name} differ in {', '.join(fields)}: what is compared must learn from the same patches of the same "
                "cases; give both the same by --set FIELD=VALUE, --steps or --fold"
            )


def on_folds(runs: Mapping[str, Run], folds: Sequence[int]) -> dict[str, Run]:
    """Return every run with each of some folds left out, called NAME_foldK; all of the first fold come first."""
    return {
        f"{name}_fold{fold}": run.model_copy(update={"fold": fold, "cases": None}) for fold in folds for name, run in runs.items()
    }


def compare(runs: Mapping[str, Run], data: Path, out: Path, *, means: Means) -> tuple[Outcome, ...]:
    """Train every run and score it on its test cases, each in a folder of its name; what is done already is kept.

    One run that fails does not stop the others: the outcome says why. The same call goes on where it was interrupted.

    Args:
        runs: By name.
        data: Folder of prepared cases.
        out: Folder for the run folders, and for a record of all of them, whose order reports keep.
        means: Protocol, device, report.

    Raises:
        UsageError: If a run is for another task or leaves no case to be tested on, or the folder was begun with other runs,
            other cases or another protocol; nothing is trained then.
        InputFileError: If the folder's record is damaged.
    """
    record, split = read_cohort(data)
    for name, run in runs.items():
        if record.task != run.task:
            raise UsageError(
                f"{data}: prepared for task {record.task}, {name} is for {run.task}; give --set task={record.task}, or other cases"
            )
        if run.cases is not None and not run.cases.train:
            continue  # This run alone fails, and says why.
        parts = parts_of(run, split)
        if run.cases is None and not parts.test:
            raise UsageError(f"{name}: no case is left out for testing; choose a fold with --fold")
    cases = {"cohort": record.name, "sha256": _digest(split)}
    if (out / ORDER).exists():
        _check_begun(runs, cases, means.protocol, (data, out))
    if processes().leads:
        settings = {name: run.model_dump(mode="json") for name, run in runs.items()}
        write_json(out / ORDER, {"runs": list(runs), "settings": settings, "cases": cases, "protocol": means.protocol.name})
    outcomes = []
    for name, run in runs.items():
        folder = out / name
        try:
            _done(name, run, data, folder, means=means)
        except AnymriError as error:
            outcomes.append(Outcome(name, folder, one_line(str(error))))
        except Exception as error:  # A fault in one method is no reason to lose the others.
            said = str(error).strip().splitlines()
            outcomes.append(Outcome(name, folder, one_line(": ".join((type(error).__name__, *said[:1])))))
        else:
            outcomes.append(Outcome(name, folder))
    return tuple(outcomes)


def begun_runs(out: Path) -> dict[str, Run]:
    """Return the runs that a folder's comparison was begun with, by name.

    Raises:
        UsageError: If the folder holds none.
        InputFileError: If its record is damaged.
    """
    if not (out / ORDER).is_file():
        raise UsageError(f"{out}: holds no comparison; name the methods to compare")
    settings = _recorded(out).get("settings")
    if not isinstance(settings, dict):
        raise UsageError(f"{out / ORDER}: does not say what its runs are; name the methods to compare")
    try:
        return {name: checked_run(content) for name, content in settings.items()}
    except (UsageError, TypeError, ValueError) as error:
        raise InputFileError(f"{out / ORDER}: its runs do not fit this version ({error}); choose another folder") from None


def begun_protocol(out: Path) -> Protocol:
    """Return the rules by which a folder's comparison was begun to score; a record that names none is older than the choice.

    Raises:
        UsageError: If this version does not have them.
        InputFileError: If the record is damaged.
    """
    return protocol_named(str(_recorded(out).get("protocol", ANYMRI.name)))


def conclude(outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write one table of the scores of all runs that have some, and a report on them; return its page.

    Raises:
        OutputError: If they cannot be written.
    """
    if processes().leads:
        write_scores(out / SCORES, joined(read_scores(o.folder / SCORES) for o in outcomes if not o.reason))
        write_report([out], out / REPORT)
    return out / REPORT / "index.html"


def _done(name: str, run: Run, data: Path, path: Path, *, means: Means) -> None:
    for purpose in ("train", "test"):
        if run.cases is not None and not getattr(run.cases, purpose):
            raise UsageError(f"no case of its {purpose} list is there; prepare some of them")
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


def _recorded(out: Path) -> dict[str, Any]:
    try:
        return parsed_json(out / ORDER)
    except (OSError, ValueError) as error:
        raise InputFileError(f"{out / ORDER}: cannot be read ({error}); choose another folder") from None


def _check_begun(runs: Mapping[str, Run], cases: Mapping[str, str], protocol: Protocol, folders: tuple[Path, Path]) -> None:
    """Refuse to go on with other runs, cases or rules than a folder was begun with; what it does not tell is believed."""
    data, out = folders
    recorded = _recorded(out)
    if "settings" not in recorded:
        return
    begun = begun_runs(out)
    advice = "give the same options to go on, or choose another folder"
    if list(begun) != list(runs):
        raise UsageError(f"{out}: was begun with the runs {', '.join(begun)}, not {', '.join(runs)}; {advice}")
    for name, run in runs.items():
        before, now = begun[name].model_dump(mode="json"), run.model_dump(mode="json")
        fields = [f for f in now if before[f] != now[f]]
        if fields:
            raise UsageError(f"{out}: {name} was begun with other settings, they differ in {', '.join(fields)}; {advice}")
    if begun_protocol(out) != protocol:
        raise UsageError(f"{out}: was begun with protocol {begun_protocol(out).name}, not {protocol.name}; {advice}")
    if recorded.get("cases") not in (None, dict(cases)):
        raise UsageError(
            f"{data}: its cases or folds are not those that {out} was begun with; restore them, or choose another folder"
        )


def _digest(split: Split) -> str:
    """Return a hash of which case is in which fold."""
    return hashlib.sha256(json.dumps([split.folds, split.train_only]).encode()).hexdigest()
