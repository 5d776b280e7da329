"""A cohort over Ray: the share of each worker, who gets what, and what becomes of a patient whose worker dies."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anymri import Options
from anymri.domain.task import GLIOMA
from anymri.engine.interruption import SIGNALS, deferred, heeding
from anymri.errors import InterruptedWork, UsageError, WeightsError
from anymri.segment import actors
from anymri.segment.actors import TRIES, Share, crew, model_of, share_of
from anymri.segment.cohort import Assignment, Outcome, find_visits, in_this_process, segment_cohort
from anymri.segment.visit import Visit
from anymri.weights import load_model


@pytest.mark.parametrize(
    ("cores", "gpus", "workers", "expected"),
    [
        ((2.0,), 0.0, 2, Share(1, 0.0)),
        ((16.0,), 0.0, 3, Share(5, 0.0)),
        ((4.0, 4.0), 0.0, 1, Share(4, 0.0)),  # Eight cores, but no machine has more than four.
        ((5.0, 3.0), 0.0, 2, Share(3, 0.0)),  # Of four cores each, the second machine has none.
        ((32.0, 32.0), 4.0, 4, Share(16, 1.0)),
        ((32.0,), 2.0, 3, Share(10, 0.5)),
        ((8.0,), 8.0, 2, Share(4, 1.0)),
    ],
)
def test_every_worker_finds_room(cores: tuple[float, ...], gpus: float, workers: int, expected: Share) -> None:
    assert share_of(cores, gpus, workers) == expected


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="--workers 9: the cluster has 8 cores"):
        share_of((4.0, 4.0), 0.0, 9)


def test_weights_travel_by_content(weights: Path) -> None:
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    model, expected = model_of(content, digest), load_model(weights)
    assert (model.sha256, model.header) == (digest, expected.header)
    assert all((a == b).all() for a, b in zip(model.method.parameters(), expected.method.parameters(), strict=True))
    with pytest.raises(WeightsError, match="SHA-256"):
        model_of(content + b" ", digest)


class Dead(Exception):
    """What a Ray double raises for a worker that died."""


class Mistake(Dead):
    """What it raises for an exception in the program."""


def ray_double(fate: Callable[[str], Outcome | Dead]) -> Any:
    """Return a Ray whose tasks are done when they are waited for, the latest first."""

    def get(task: tuple[str, str]) -> Outcome:
        outcome = fate(task[1])
        if isinstance(outcome, Dead):
            raise outcome
        return outcome

    exceptions = SimpleNamespace(RayError=Dead, RayTaskError=Mistake)
    return SimpleNamespace(wait=lambda tasks, num_returns: ([tasks[-1]], tasks[:-1]), get=get, exceptions=exceptions)


def handle(name: str, given: list[tuple[str, str]]) -> Any:
    def remote(content: Any, visit: Visit, options: Options, folder: str) -> tuple[str, str]:
        assert content == "reference" and os.path.isabs(folder)
        given.append((name, visit.name))
        return name, visit.name

    return SimpleNamespace(segment=SimpleNamespace(remote=remote))


def test_a_worker_has_one_patient_at_a_time_and_goes_on_after_a_death() -> None:
    given: list[tuple[str, str]] = []
    done: list[Outcome] = []
    ray = ray_double(lambda name: Dead() if name == "c" else Outcome(name, {}))
    team = actors._Team(ray, (handle("x", given), handle("y", given)), "reference")
    for outcome in actors._dispatched(team, [Visit(n) for n in "abcde"], Options(), Path("out")):
        done.append(outcome)
        assert len(given) - len(done) <= 2
    assert sorted(o.name for o in done) == list("abcde")
    assert sorted(n for _, n in given) == list("abcde")
    assert {o.name: o.reason for o in done if o.reason} == {
        "c": "its worker died 3 times, perhaps for lack of memory; segment it by itself, or with fewer workers"
    }
    assert TRIES == 3


def test_a_signal_lets_those_under_way_be_finished_and_begins_no_more() -> None:
    given: list[tuple[str, str]] = []
    done: list[str] = []
    team = actors._Team(ray_double(lambda name: Outcome(name, {})), (handle("x", given), handle("y", given)), "reference")
    with pytest.raises(InterruptedWork, match="^SIGTERM: nothing that was finished is lost; again$"), heeding("again"), deferred():
        for outcome in actors._dispatched(team, [Visit(n) for n in "abcde"], Options(), Path("out")):
            done.append(outcome.name)
            if len(done) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    assert sorted(done) == sorted(name for _, name in given) and len(done) == 2


def test_a_ray_that_starts_takes_no_signals_away() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with actors._handlers_kept():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_mistake_in_the_program_is_not_a_failure_of_the_patient() -> None:
    team = actors._Team(ray_double(lambda name: Mistake("a bug")), (handle("x", []),), "reference")
    with pytest.raises(Mistake, match="a bug"):
        list(actors._dispatched(team, [Visit("a")], Options(), Path("out")))


def test_without_ray_the_way_out_is_named(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(UsageError, match=r"pip install 'anymri\[scale\]'; or divide the patients by --shard"),
        crew(weights, load_model(weights), Options(), workers=2, out=tmp_path),
    ):
        pass


class Killer:
    """Kills, as soon as it is seen at work on a patient, the process that writes it, so many times."""

    def __init__(self, out: Path, *, patient: str, times: int) -> None:
        self.killed: list[int] = []
        self._out, self._patient, self._times, self._over = out, patient, times, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set() and len(self.killed) < self._times:
            for part in self._out.glob(f"{self._patient}/.part.*.tmp"):
                process = int(part.name.removesuffix(".tmp").rsplit("-", 1)[1])
                if process not in self.killed:
                    os.kill(process, signal.SIGKILL)
                    self.killed.append(process)
            time.sleep(0.002)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "volumes.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def left(out: Path) -> dict[str, list[str]]:
    return {p.name: sorted(f.name for f in p.iterdir()) for p in out.iterdir() if p.is_dir()}


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield


@pytest.mark.slow
@pytest.mark.usefixtures("small_machine")
def test_workers_that_are_killed(weights: Path, prepared: Path, tmp_path: Path) -> None:
    """Killed once, a patient is done by the worker that comes back; killed every time, it is listed, and the others are done."""
    pytest.importorskip("ray")
    model, options = load_model(weights), Options(device="cpu")
    visits, _ = find_visits(prepared, GLIOMA)
    alone, once, ever = (Assignment(visits, model, options, tmp_path / name, {}) for name in ("alone", "once", "ever"))
    segment_cohort(alone, in_this_process(model, options))
    for assignment in (once, ever):
        assignment.out.mkdir()
    with crew(weights, model, options, workers=2, out=once.out) as given:
        assert len({p.process for p in given.places}) == 2 and all(p.sees for p in given.places)
        with Killer(once.out, patient="c", times=1) as killer:
            tally = segment_cohort(once, given.execute)
        assert len(killer.killed) == 1 and killer.killed[0] in {p.process for p in given.places}
        assert sorted(tally.done) == list("abcde") and not tally.failed and not tally.kept
        with Killer(ever.out, patient="b", times=TRIES) as killer:
            tally = segment_cohort(ever, given.execute)
        assert len(killer.killed) == TRIES
        assert sorted(tally.done) == list("acde")
        assert list(tally.failed) == ["b"] and "its worker died 3 times" in tally.failed["b"]
    assert table(once.out) == table(alone.out)
    assert left(once.out) == left(alone.out) and set(left(once.out)) == set("abcde")
    for name in "abcde":
        masks = [(a.out / name / "segmentation.nii.gz").read_bytes() for a in (alone, once)]
        assert masks[0] == masks[1]
    assert [row["status"] for row in table(ever.out)] == ["done", "failed", "done", "done", "done"]
    again = segment_cohort(ever, in_this_process(model, options))
    assert (again.kept, again.done) == (tuple("acde"), ("b",)) and table(ever.out) == table(alone.out)
    assert left(ever.out) == left(alone.out)
