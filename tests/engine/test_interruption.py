"""Signals: work stops where nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.checkpoint import read_newest
from anymri.engine.interruption import asked, deferred, heeding, stop
from anymri.engine.run import RunFolder
from anymri.engine.training import Progress, fit
from anymri.errors import AnymriError, InterruptedWork

from ..material import made_patient, short_run

CPU = torch.device("cpu")
PATIENTS = [made_patient(GLIOMA, seed) for seed in range(3)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_once_where_nothing_is_under_way(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    message = f"^{number.name}: nothing that was finished is lost; do it again$"
    with pytest.raises(InterruptedWork, match=message) as caught, heeding("do it again"):
        os.kill(os.getpid(), number)
        raise AssertionError("never reached")
    assert caught.value.signal == number and not isinstance(caught.value, AnymriError)
    assert signal.getsignal(number) == before and asked() == 0


def test_a_signal_waits_for_what_must_be_finished() -> None:
    seen = []
    with pytest.raises(InterruptedWork), heeding(""):
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append(asked())
            with deferred():  # Ends nothing.
                pass
            seen.append("finished")
        raise AssertionError("never reached")
    assert seen == [signal.SIGTERM, "finished"]


def test_what_is_passed_on_by_another_program_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended at once"))
    with pytest.raises(InterruptedWork), heeding(""), deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_ctrl_c_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr("anymri.engine.interruption.BOUNCE", 0.0)
    with pytest.raises(InterruptedWork), heeding(""), deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
        assert codes == [130]


def test_threads_and_programs_that_handle_signals_themselves_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with heeding(""), deferred():
            seen.append(signal.getsignal(signal.SIGTERM) == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True] and asked() == 0
    with pytest.raises(InterruptedWork, match="^SIGTERM: done$"):
        stop(signal.SIGTERM, "done")


def test_a_training_that_was_stopped_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    run = short_run("dropout_unet", steps=8, checkpoint_minutes=60)
    whole = fit(run, PATIENTS, RunFolder(tmp_path / "whole"), resume=False, device=CPU)

    def report(progress: Progress) -> None:
        if progress.step in (3, 5):
            os.kill(os.getpid(), signal.SIGTERM)

    folder = RunFolder(tmp_path / "stopped")
    for attempt, step in enumerate((4, 6)):  # The step under way is told of it when it ends.
        with pytest.raises(InterruptedWork, match=f"^SIGTERM: step {step} is saved in .*stopped; go on$"), heeding("go on"):
            fit(run, PATIENTS, folder, resume=attempt > 0, device=CPU, report=report)
        found = read_newest(folder.checkpoints)
        assert found is not None and found[1]["step"] == step
    again = fit(run, PATIENTS, folder, resume=True, device=CPU)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    newest = [read_newest(RunFolder(tmp_path / name).checkpoints) for name in ("whole", "stopped")]
    assert newest[0] is not None and newest[1] is not None
    assert newest[0][1]["course"] == newest[1][1]["course"] and len(newest[0][1]["course"]["recent"]) == 8


def test_a_signal_in_the_last_step_is_heeded_when_all_is_saved(tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.share >= 1.0:
            os.kill(os.getpid(), signal.SIGTERM)

    run, folder = short_run("dropout_unet", steps=2), RunFolder(tmp_path)
    with pytest.raises(InterruptedWork, match="nothing that was finished is lost"), heeding(""):
        fit(run, PATIENTS, folder, resume=False, device=CPU, report=report)
    found = read_newest(folder.checkpoints)
    assert found is not None and found[1]["step"] == 2
