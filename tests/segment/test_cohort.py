"""Which patients are done, which failed, and one table of volumes that all agree on. Nothing is computed here: a double writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anymri import Options
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.errors import CaseError, InterruptedWork, OutputError, UsageError
from anymri.segment import cohort as cohorts
from anymri.segment.cohort import Assignment, Outcome, Shard, find_visits, segment_cohort, shard_named
from anymri.segment.patient import attempted, made_by
from anymri.segment.visit import Visit, inputs_of
from anymri.trust.record import Trust

from ..doubles import PlacedConfig
from ..trust.made import made_record

TRUST_COLUMNS = ("caution", "expected_dice_low", "expected_dice_high", "poor_chance")


def trusted(assignment: Assignment, sha256: str) -> Assignment:
    """Return the assignment with a trust file of that hash beside its weights."""
    trust = Trust(made_record(GLIOMA, assignment.model.sha256), sha256)
    return replace(assignment, options=replace(assignment.options, trust=trust))


CHANGED = {
    "weights": lambda a: replace(a, model=replace(a.model, sha256="f" * 64)),
    "scheme": lambda a: replace(a, options=Options(scheme="brats2023")),
    "probabilities": lambda a: replace(a, options=Options(probabilities=True)),
    "precision": lambda a: replace(a, options=Options(precision="float32")),
    "trust": lambda a: trusted(a, "a" * 64),
}


def model(sha256: str = "0" * 64) -> Model:
    torch.manual_seed(0)
    header = WeightsHeader(name="m", method="placed", config={}, task="glioma", window=Window(stride=1, size=(8, 8, 8)))
    return Model(PlacedConfig().build(GLIOMA), header, sha256)


class Double:
    """Writes what a patient leaves on disk, with what is said of some; fails on some, and stops after some."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        failing: Sequence[str] = (),
        stop_after: int = 99,
        said: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.assignment, self.failing, self.stop_after, self.said = assignment, failing, stop_after, said or {}
        self.asked: list[str] = []

    def __call__(self, visits: Sequence[Visit], out: Path) -> Iterator[Outcome]:
        for visit in visits:
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(visit.name)
            if visit.name in self.failing:
                yield Outcome(visit.name, None, "too small, sadly")
                continue
            summary: dict[str, Any] = {
                "name": visit.name,
                "modalities_used": ["T1", "T2"],
                "seconds": {"read": 1.0, "predict": 2.0},
            }
            summary["volumes_ml"] = {"WT": 3.0, "TC": 2.0, "ET": float(ord(visit.name))}
            summary |= self.said.get(visit.name, {})
            summary |= made_by(self.assignment.model, self.assignment.options) | {"inputs": inputs_of(visit)}
            (out / visit.name).mkdir(exist_ok=True)
            (out / visit.name / "segmentation.nii.gz").touch()
            (out / visit.name / "summary.json").write_text(json.dumps(summary))
            yield Outcome(visit.name, summary)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "volumes.csv").open(newline="") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


@pytest.fixture
def assignment(prepared: Path, tmp_path: Path) -> Assignment:
    visits, left_out = find_visits(prepared, GLIOMA)
    assert [v.name for v in visits] == list("abcde") and left_out == ()
    return Assignment(visits, model(), Options(), tmp_path / "out", {})


def test_one_row_for_every_patient(assignment: Assignment) -> None:
    tally = segment_cohort(assignment, Double(assignment, failing="c"))
    assert (tally.kept, tally.done, tally.failed) == ((), tuple("abde"), {"c": "too small, sadly"})
    table = rows(assignment.out)
    assert list(table) == list("abcde")
    assert table["a"] == {
        **{"name": "a", "status": "done", "reason": "", "modalities": "T1+T2", "WT_ml": "3.0", "TC_ml": "2.0", "ET_ml": "97.0"},
        **{f"{region}_{what}": "" for region in GLIOMA.region_names for what in TRUST_COLUMNS},  # It has not been measured.
        **{"label_scheme": "brats2021", "weights": "m", "weights_sha256": "0" * 64, "seconds": "3.0"},
    }
    failed = table["c"]
    assert (failed["status"], failed["reason"], failed["WT_ml"], failed["weights"]) == ("failed", "too small, sadly", "", "m")


def test_a_failure_is_forgotten_when_it_succeeds(assignment: Assignment) -> None:
    segment_cohort(assignment, Double(assignment, failing="c"))
    again = Double(assignment)
    tally = segment_cohort(assignment, again)
    assert again.asked == ["c"] and tally.kept == tuple("abde") and not tally.failed
    assert {r["status"] for r in rows(assignment.out).values()} == {"done"}
    assert sorted(p.name for p in assignment.out.iterdir()) == [*"abcde", "volumes.csv"]


def test_what_was_interrupted_goes_on_where_it_was(assignment: Assignment) -> None:
    with pytest.raises(KeyboardInterrupt):
        segment_cohort(assignment, Double(assignment, stop_after=2))
    assert {n: r["status"] for n, r in rows(assignment.out).items()} == dict(
        zip("abcde", ("done", "done", *["open"] * 3), strict=True)
    )
    again = Double(assignment)
    seen: list[tuple[int, int, str]] = []
    segment_cohort(assignment, again, report=lambda done, total, outcome: seen.append((done, total, outcome.name)))
    assert again.asked == list("cde") and seen == [(1, 3, "c"), (2, 3, "d"), (3, 3, "e")]


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_made_otherwise_is_made_again(assignment: Assignment, what: str) -> None:
    segment_cohort(assignment, Double(assignment))
    changed = CHANGED[what](assignment)
    with pytest.raises(KeyboardInterrupt):  # What is there counts for nothing until it is made again.
        segment_cohort(changed, Double(changed, stop_after=1))
    assert [r["status"] for r in rows(assignment.out).values()] == ["done", *["open"] * 4]
    again = Double(changed)
    segment_cohort(changed, again)
    assert again.asked == list("bcde")


@pytest.mark.parametrize("now", ["b" * 64, None], ids=["another", "none"])
def test_what_rests_on_another_trust_file_is_made_again(assignment: Assignment, now: str | None) -> None:
    before = trusted(assignment, "a" * 64)
    segment_cohort(before, Double(before))
    same = Double(before)
    assert segment_cohort(before, same).kept == tuple("abcde") and same.asked == []
    changed = assignment if now is None else trusted(assignment, now)
    again = Double(changed)
    segment_cohort(changed, again)
    assert again.asked == list("abcde")


@pytest.mark.parametrize(("trust", "asked"), [(None, ""), ("null", ""), ('{"cohort": "made"}', "b"), ('"a"', "b")])
def test_a_summary_that_names_no_trust_file(assignment: Assignment, trust: str | None, asked: str) -> None:
    """Without any it was made without; one that does not say which counts for nothing."""
    segment_cohort(assignment, Double(assignment))
    path = assignment.out / "b" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["trust"]
    path.write_text(json.dumps(summary if trust is None else summary | {"trust": json.loads(trust)}))
    again = Double(assignment)
    segment_cohort(assignment, again)
    assert again.asked == list(asked)


@pytest.mark.parametrize("damage", ["mask", "summary", "input", "version"])
def test_what_is_damaged_or_of_other_files_is_made_again(assignment: Assignment, prepared: Path, damage: str) -> None:
    segment_cohort(assignment, Double(assignment))
    folder = assignment.out / "b"
    if damage == "mask":
        (folder / "segmentation.nii.gz").unlink()
    elif damage == "summary":
        (folder / "summary.json").write_text('{"name": "b", "inputs"')
    elif damage == "version":
        text = (folder / "summary.json").read_text()
        (folder / "summary.json").write_text(text.replace('"anymri": "', '"anymri": "9'))
    else:
        (prepared / "cases" / "b" / "case.json").write_text((prepared / "cases" / "b" / "case.json").read_text() + "\n")
    again = Double(assignment)
    segment_cohort(assignment, again)
    assert again.asked == ["b"]


def test_weights_that_never_were_a_file_cannot_be_told_apart(assignment: Assignment) -> None:
    nameless = replace(assignment, model=model(""))
    for _ in range(2):
        double = Double(nameless)
        segment_cohort(nameless, double)
        assert double.asked == list("abcde")


def test_shards_divide_the_patients_and_agree_on_the_table(assignment: Assignment, tmp_path: Path) -> None:
    whole = replace(assignment, out=tmp_path / "whole")
    segment_cohort(whole, Double(whole, failing="d"))
    asked: list[str] = []
    for number in (3, 1, 2):
        double = Double(assignment, failing="d")
        tally = segment_cohort(assignment, double, shard=Shard(number, 3))
        assert len(tally.done) + len(tally.failed) == len(double.asked)
        asked += double.asked
    assert asked == ["c", "a", "d", "b", "e"]
    assert (assignment.out / "volumes.csv").read_bytes() == (whole.out / "volumes.csv").read_bytes()
    empty = Double(assignment)
    assert segment_cohort(assignment, empty, shard=Shard(9, 9)).failed == {} and empty.asked == []


def test_the_last_to_write_the_table_has_seen_everything(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another shard finishes a patient while this one is writing: it looks again, and writes again."""
    segment_cohort(assignment, Double(assignment, failing="c"))
    write, late = cohorts.write_text, [Double(assignment)]

    def written(path: Path, text: str) -> None:
        if late:
            another = late.pop()
            list(another([v for v in assignment.visits if v.name == "c"], assignment.out))
            (assignment.out / ".c.failed.json").unlink()
        write(path, text)

    monkeypatch.setattr(cohorts, "write_text", written)
    cohorts.write_volumes(assignment)
    assert rows(assignment.out)["c"]["status"] == "done"


def test_what_lies_in_the_folder_stays_in_the_table(assignment: Assignment) -> None:
    segment_cohort(assignment, Double(assignment))
    fewer = replace(assignment, visits=assignment.visits[:1])
    segment_cohort(fewer, Double(fewer))
    assert list(rows(assignment.out)) == list("abcde")


def test_the_table_says_what_not_to_rely_on(assignment: Assignment) -> None:
    ranges, poor = {"WT": [0.813, 0.95], "TC": [0.28, 0.76], "ET": [0.0, 0.65]}, {"WT": 0.03, "TC": 0.25, "ET": 0.6}
    some = {"expected_dice": {**ranges, "ET": None}, "poor_chance": {**poor, "ET": None}}  # Of ET none is expected.
    said = {
        "a": {"doubtful_regions": ["ET"], "uncertain_regions": ["TC"], "expected_dice": ranges, "poor_chance": poor},
        "b": {"doubtful_regions": [], "uncertain_regions": ["TC"], **some},
    }
    now = trusted(assignment, "a" * 64)
    with pytest.raises(KeyboardInterrupt):
        segment_cohort(now, Double(now, said=said, stop_after=2))
    begun = rows(now.out)
    segment_cohort(now, Double(now, said=said, failing="d"))  # Of a and b nothing is known but what lies on the disk.
    table = rows(now.out)
    assert {name: table[name] for name in "ab"} == {name: begun[name] for name in "ab"}
    header = list(table["a"])
    first = header.index("ET_ml") + 1
    assert header[first : first + 12] == [f"{region}_{what}" for region in GLIOMA.region_names for what in TRUST_COLUMNS]
    told = {name: [row[column] for column in header[first : first + 12]] for name, row in table.items()}
    assert told == {
        "a": ["", "0.813", "0.95", "0.03", "may be wrong", "0.28", "0.76", "0.25", "do not rely on it", "0.0", "0.65", "0.6"],
        "b": ["", "0.813", "0.95", "0.03", "may be wrong", "0.28", "0.76", "0.25", "", "", "", ""],
        **{name: [""] * 12 for name in "cde"},
    }
    whole = (now.out / "volumes.csv").read_bytes()
    segment_cohort(now, kept := Double(now, failing="d"))
    assert kept.asked == ["d"] and (now.out / "volumes.csv").read_bytes() == whole


def test_what_cannot_be_used_is_a_failure_of_one_shard(assignment: Assignment) -> None:
    refused = replace(assignment, refused={"bb": "holds nothing"})
    tallies = [segment_cohort(refused, Double(refused), shard=Shard(i, 2)) for i in (1, 2)]
    assert [t.failed for t in tallies] == [{"bb": "holds nothing"}, {}]
    assert [n for n, r in rows(assignment.out).items() if r["status"] == "failed"] == ["bb"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "1/2/3", "-1/3", "1.0/2", "", "²/3"])
def test_nonsense_for_a_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        shard_named(text)


def test_a_shard_is_named() -> None:
    assert shard_named("3/8") == Shard(3, 8) and shard_named("1/1") == Shard()


def test_names_that_cannot_be_are_refused_before_the_work_begins(assignment: Assignment) -> None:
    with pytest.raises(UsageError, match="patient a was given more than once"):
        replace(assignment, visits=(*assignment.visits, Visit("a")))
    for name in ("../up", ".hidden", ""):
        with pytest.raises(CaseError, match="cannot be a folder's"):
            replace(assignment, visits=(Visit(name),))
    assert not assignment.out.exists()


def test_a_folder_that_cannot_be_written_is_refused(assignment: Assignment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    blocked = replace(assignment, out=tmp_path / "file" / "out")
    double = Double(blocked)
    with pytest.raises(OutputError, match="cannot be written"):
        segment_cohort(blocked, double)
    assert double.asked == []


def test_a_cohort_for_another_task_is_refused(prepared: Path) -> None:
    with pytest.raises(CaseError, match="prepared for task glioma, the weights are for prostate"):
        find_visits(prepared, PROSTATE)


def test_of_what_was_interrupted_not_even_an_empty_folder_is_left(tmp_path: Path) -> None:
    with pytest.raises(InterruptedWork), attempted(tmp_path / "p"):
        assert (tmp_path / "p").is_dir()
        raise InterruptedWork(15, "stop")
    assert not (tmp_path / "p").exists()
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "notes.txt").write_text("mine")
    with pytest.raises(InterruptedWork), attempted(tmp_path / "q"):
        raise InterruptedWork(15, "stop")
    assert (tmp_path / "q" / "notes.txt").read_text() == "mine"
