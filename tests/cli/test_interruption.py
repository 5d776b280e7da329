"""SIGTERM and Ctrl-C, as they reach a command: nothing finished is lost, no process stays behind, one line says how to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anymri.cli import main
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.errors import InterruptedWork

HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "words, again",
    [
        (["train", "ccsd", "--out", "a run"], "anymri train ccsd --out 'a run' --resume"),
        (["train", "--resume", "--out", "run"], "anymri train --resume --out run"),
        (["list", "methods"], "anymri list methods"),
    ],
)
def test_the_line_says_how_to_go_on(
    words: list[str],
    again: str,
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(**given: object) -> None:
        os.kill(os.getpid(), number)
        raise AssertionError("never reached")

    monkeypatch.setattr("anymri.cli.app", work)
    monkeypatch.setattr(sys, "argv", ["anymri", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    assert capsys.readouterr().err == f"stopped by {number.name}: nothing that was finished is lost; go on with: {again}\n"


def test_an_interruption_is_no_error_that_somebody_could_swallow() -> None:
    assert not issubclass(InterruptedWork, Exception)


def children_of(parent: int) -> set[int]:
    """Return the processes that a process has started, and those that they have."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if number == parent:
            found |= {int(path.parent.name)} | children_of(int(path.parent.name))
    return found


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def finished(prepared: Path) -> dict[Path, int]:
    """Return the cases that are whole, and when each was made."""
    return {p: p.stat().st_mtime_ns for p in prepared.glob("cases/[!.]*/case.json")}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_prepare_goes_on_where_it_was_and_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "prepared"
    write_phantoms(raw, GLIOMA, seeds=range(24), shape=(48, 48, 40), spacing_mm=(4.0, 4.0, 4.0))
    words = [sys.executable, "-m", "anymri", "prepare", str(raw), str(out), "--workers", "2"]
    # A session of its own: the signal goes to all of it, as Ctrl-C does.
    process = subprocess.Popen(words, env=HERE, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while len(finished(out)) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    started = children_of(process.pid)
    assert started
    os.kill(process.pid, number) if number == signal.SIGKILL else os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    deadline = time.monotonic() + 30
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, started))
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert said.splitlines() == [
            f"stopped by {number.name}: nothing that was finished is lost; go on with: anymri prepare {raw} {out} --workers 2"
        ]
    kept = finished(out)
    assert 2 <= len(kept) < 24 and not (out / "cohort.json").exists()
    done = subprocess.run(words, env=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert finished(out).items() >= kept.items()
    assert len(json.loads((out / "cohort.json").read_text())["cases"]) == 24
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_train_saves_and_evaluate_keeps_its_parts(tmp_path: Path, patients: Path) -> None:
    program = [sys.executable, "-m", "anymri"]
    prepared, out = tmp_path / "prepared", tmp_path / "run"
    subprocess.run([*program, "prepare", str(patients), str(prepared)], env=HERE, capture_output=True, check=True)
    sets = ("patch=[16,16,16]", "window.stride=4", "precision=float32", "validation=0", 'config={"widths":[4,6]}')
    words = [*program, "train", "dropout_unet", "--data", str(prepared), "--out", str(out), "--steps", "1000000"]
    words += [word for setting in sets for word in ("--set", setting)]
    process = subprocess.Popen(words, env=HERE, stderr=subprocess.PIPE, text=True)
    while not (out / "log.jsonl").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    (line,) = [text for text in said.splitlines() if text.startswith("stopped by")]
    assert "SIGINT: step " in line and line.endswith("--resume") and "is saved in" in line and "Traceback" not in said
    step = int(line.split("step ")[1].split()[0])
    assert (out / "checkpoints" / f"step_{step:08d}").is_dir()

    scores = tmp_path / "scores.csv"
    words = [*program, "evaluate", "ccsd-small", "--data", str(prepared), "--out", str(scores), "--device", "cpu"]
    process = subprocess.Popen(words, env=HERE, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    parts = tmp_path / ".scores.csv.parts"
    while len(list(parts.glob("*.csv"))) < 1:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143 and "go on with: anymri evaluate ccsd-small" in said and "Traceback" not in said
    kept = {p: p.stat().st_mtime_ns for p in parts.glob("*.csv")}
    assert kept and not scores.exists()
    assert subprocess.run(words, env=HERE, capture_output=True, check=False).returncode == 0
    assert scores.exists() and not parts.exists()
