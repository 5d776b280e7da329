"""Many patients: which are done already, which failed and why, and one table of volumes for all of them.

OUT/NAME/                 what is written of one patient; its summary says what it was made from, and comes last
OUT/.NAME.failed.json     why a patient failed; removed when it succeeds
OUT/volumes.csv           one row a patient, made of what was asked for and of these alone: all who work on it write the same
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymri.cohorts import find_cohort
from anymri.domain.task import Task
from anymri.engine.model import Model
from anymri.errors import AnymriError, CaseError, UsageError, one_line
from anymri.segment.patient import MASK, SUMMARY, Options, attempted, check_writable, made_by, segment_visit, write_segmentation
from anymri.segment.visit import Visit, inputs_of
from anymri.trust.statement import marked
from anymri.volumes.store import case_folder, read_cohort, write_json
from anymri.volumes.writing import write_text

VOLUMES = "volumes.csv"
DONE, FAILED, OPEN, LEFT_OUT = "done", "failed", "open", "left out"
_FAILED = ".failed.json"
_PAUSE_SECONDS = 30.0  # Between two writings of the table while patients come in.
# What stands in the table of each region, beside its volume.
_TRUST = ("caution", "expected_dice_low", "expected_dice_high", "poor_chance")


@dataclass(frozen=True)
class Outcome:
    """What became of one patient.

    Attributes:
        name: Of the patient.
        summary: What summary.json holds; None if it failed.
        reason: Why it failed, one line; None if it did not.
    """

    name: str
    summary: dict[str, Any] | None
    reason: str | None = None


# Segments patients into their folders below OUT, in any order, and tells what became of each as it is known.
Executor = Callable[[Sequence[Visit], Path], Iterator[Outcome]]


@dataclass(frozen=True)
class Shard:
    """Which part of the patients is to be done: every ``of``-th, beginning with number ``number``, counted from 1."""

    number: int = 1
    of: int = 1


@dataclass(frozen=True, eq=False)
class Assignment:
    """Patients to segment in one way into one folder.

    Attributes:
        visits: All of them, whichever shard they are in; names differ.
        model: What segments them.
        options: How.
        out: Where a folder for each is made.
        refused: Name → reason, of what was asked for and is known beforehand not to be usable.
        left_out: What was found beside the patients and is not used: (path or name, reason).
    """

    visits: tuple[Visit, ...]
    model: Model
    options: Options
    out: Path
    refused: Mapping[str, str]
    left_out: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = [*(v.name for v in self.visits), *self.refused]
        if twice := [n for n, count in Counter(names).items() if count > 1]:
            raise UsageError(f"patient {twice[0]} was given more than once; give each folder once")
        for name in names:
            case_folder(self.out, name)  # Names that no folder can have are refused before the work begins.

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that was asked for, sorted: the order that shards count in."""
        return tuple(sorted([*(v.name for v in self.visits), *self.refused]))


@dataclass(frozen=True)
class Tally:
    """What came of an assignment: names of the patients that are there already, that were done, and name → reason of the others."""

    kept: tuple[str, ...]
    done: tuple[str, ...]
    failed: Mapping[str, str]


def shard_named(text: str) -> Shard:
    """Return the shard that ``I/N`` names.

    Raises:
        UsageError: If it names none.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"--shard {text}: expected I/N with I from 1 to N, such as 3/8 for the third of eight parts")
    return Shard(number, of)


def find_visits(source: Path, task: Task) -> tuple[tuple[Visit, ...], tuple[tuple[str, str], ...]]:
    """Return the patients of a prepared folder or of a layout of raw data, and what was found there and is not used.

    Raises:
        CaseError: If the folder was prepared for another task.
        InputFileError: If there is no patient.
    """
    if (source / "cohort.json").is_file():
        record, _ = read_cohort(source)
        if record.task != task.name:
            raise CaseError(f"{source}: prepared for task {record.task}, the weights are for {task.name}; choose other weights")
        return tuple(Visit(n, case=case_folder(source, n)) for n in record.cases), record.left_out
    cohort = find_cohort(source, task)
    left_out = tuple((str(path), reason) for path, reason in cohort.left_out)
    return tuple(Visit(s.name, s.images) for s in cohort.studies), left_out


def segment_cohort(
    assignment: Assignment,
    execute: Executor,
    *,
    shard: Shard | None = None,
    report: Callable[[int, int, Outcome], None] | None = None,
) -> Tally:
    """Segment the patients of a shard that are not there already; one that fails stops no other.

    Args:
        assignment: What is to be done.
        execute: Who does it.
        shard: Which part of it; None for all.
        report: Called after each patient with (done, total, what became of it).

    Raises:
        OutputError: If the folder cannot be written at all.
    """
    shard, out = shard or Shard(), assignment.out
    check_writable(out)
    chosen = set(assignment.names[shard.number - 1 :: shard.of])
    mine = [v for v in sorted(assignment.visits, key=lambda v: v.name) if v.name in chosen]
    failed = {n: reason for n, reason in assignment.refused.items() if n in chosen}
    for name, reason in failed.items():
        _record_failure(assignment, name, reason)
    wanted = made_by(assignment.model, assignment.options)
    kept = [v.name for v in mine if _fits(v, out, wanted)]
    for name in kept:
        _forget_failure(out, name)
    waiting = [v for v in mine if v.name not in set(kept)]
    done: list[str] = []
    written = time.monotonic()
    try:
        for outcome in execute(waiting, out):
            if outcome.reason is None:
                done.append(outcome.name)
                _forget_failure(out, outcome.name)
            else:
                failed[outcome.name] = outcome.reason
                _record_failure(assignment, outcome.name, outcome.reason)
            if report is not None:
                report(len(done) + len(failed), len(waiting), outcome)
            if time.monotonic() - written > _PAUSE_SECONDS:
                write_volumes(assignment)
                written = time.monotonic()
    finally:
        write_volumes(assignment)
    return Tally(tuple(kept), tuple(done), failed)


def segmented(visit: Visit, model: Model, options: Options, out: Path) -> Outcome:
    """Segment a patient into its folder below ``out``, and return what became of it; no fault of its own is raised."""
    folder = out / visit.name
    try:
        with attempted(folder):
            result = segment_visit(visit, model, options)
            write_segmentation(result, folder)
    except (AnymriError, OSError, RuntimeError, MemoryError) as error:  # Even one too large for the memory stops no other.
        return Outcome(visit.name, None, one_line((str(error).splitlines() or [type(error).__name__])[0]))
    return Outcome(visit.name, result.summary)


def in_this_process(model: Model, options: Options) -> Executor:
    """Return an executor that does one patient after the other here."""
    return lambda visits, out: (segmented(visit, model, options, out) for visit in visits)


def write_volumes(assignment: Assignment) -> None:
    """Write volumes.csv: one row for each patient that was asked for or lies in the folder, sorted by name, then what was left out.

    Several may write at a time: each looks again after it has written, so that the last to write has seen everything.

    Raises:
        OutputError: If it cannot be written.
    """
    text = None
    while text != (now := _volumes(assignment)):
        write_text(assignment.out / VOLUMES, now)
        text = now


def _volumes(assignment: Assignment) -> str:
    out, task = assignment.out, assignment.model.method.task
    columns = ["name", "status", "reason", "modalities", *(f"{r}_ml" for r in task.region_names)]
    columns += [f"{r}_{what}" for r in task.region_names for what in _TRUST]
    columns += ["label_scheme", "weights", "weights_sha256", "seconds"]
    asked, wanted = {v.name: v for v in assignment.visits}, made_by(assignment.model, assignment.options)
    there = [p.parent.name for p in out.glob(f"*/{SUMMARY}")] + [p.name[1 : -len(_FAILED)] for p in out.glob(f".*{_FAILED}")]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name in sorted({*assignment.names, *there}):
        failure, summary = _read(_failure_file(out, name)), _read(out / name / SUMMARY)
        if failure is not None:
            writer.writerow({"name": name, "status": FAILED, **_made(failure), "reason": failure.get("reason", "")})
        elif summary is not None and (name not in asked or _fits(asked[name], out, wanted)):
            writer.writerow({"name": name, "status": DONE, **_made(summary), **_found(summary)})
        else:
            writer.writerow({"name": name, "status": OPEN})
    for name, reason in assignment.left_out:  # Among it may be a patient that somebody counts on.
        writer.writerow({"name": name, "status": LEFT_OUT, "reason": one_line(reason)})
    return stream.getvalue()


def _made(record: Mapping[str, Any]) -> dict[str, Any]:
    weights = record.get("weights", {})
    scheme = record.get("label_scheme", "")
    return {"label_scheme": scheme, "weights": weights.get("name", ""), "weights_sha256": weights.get("sha256", "")}


def _found(summary: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"modalities": "+".join(summary.get("modalities_used", ()))}
    for region, ml in summary.get("volumes_ml", {}).items():
        low, high = summary.get("expected_dice", {}).get(region) or (None, None)
        poor = summary.get("poor_chance", {}).get(region)
        trusted = zip(_TRUST, (marked(summary, region), low, high, poor), strict=True)
        found |= {f"{region}_ml": ml} | {f"{region}_{what}": value for what, value in trusted}
    return found | {"seconds": round(sum(summary.get("seconds", {}).values()), 3)}


def _fits(visit: Visit, out: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether what lies there was made of the same files, by the same weights, trust file and version, in the same way."""
    summary = _read(out / visit.name / SUMMARY)
    if summary is None or not (out / visit.name / MASK).is_file():
        return False
    if not wanted["weights"]["sha256"]:  # A model that never was a file cannot be told from another.
        return False
    try:
        return (
            summary["inputs"] == inputs_of(visit)
            and summary["weights"]["sha256"] == wanted["weights"]["sha256"]
            and _trust_file(summary) == _trust_file(wanted)
            and summary["versions"]["anymri"] == wanted["versions"]["anymri"]
            and all(summary[key] == wanted[key] for key in ("label_scheme", "options"))
        )
    except (AnymriError, KeyError, TypeError):
        return False


def _trust_file(made: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of the trust file that something was made with; None without one."""
    trust = made.get("trust")  # Cautions, expected Dice and calibrated probabilities all rest on it.
    return None if trust is None else trust["sha256"]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _record_failure(assignment: Assignment, name: str, reason: str) -> None:
    made = made_by(assignment.model, assignment.options)
    content = {"name": name, "reason": reason, "label_scheme": made["label_scheme"], "weights": made["weights"]}
    write_json(_failure_file(assignment.out, name), content)


def _forget_failure(out: Path, name: str) -> None:
    with suppress(OSError):
        _failure_file(out, name).unlink()


def _failure_file(out: Path, name: str) -> Path:
    return out / f".{name}{_FAILED}"
