"""Two processes do what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import anymri.engine.step as step
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.engine.checkpoint import read_newest
from anymri.engine.distributed import ALONE, Processes, joined, launch, processes, restarted
from anymri.engine.run import Run, RunFolder
from anymri.engine.step import check_shares
from anymri.engine.training import train
from anymri.errors import UsageError
from anymri.methods.retrieval import Retrieval
from anymri.volumes.store import read_image

from ..material import short_run, tiny, write_made_cohort

HERE = {**os.environ, "OMP_NUM_THREADS": "1"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    write_made_cohort(path, GLIOMA, folds=(("a", "b", "c"), ("d", "e")))
    return path


def shared_run(**settings: object) -> Run:
    window = {"stride": 1, "size": (24, 24, 24)}  # A whole case: the choice is quick.
    usual = {"accumulate": 2, "steps": 4, "fold": 0, "validation": 1, "window": window, "optimiser": "sgd", "learning_rate": 1e-3}
    return short_run("dropout_unet", **usual | settings)


def record_of(run: Run, path: Path) -> Path:
    """Return a folder that holds nothing but the record of a run, for ``--from``."""
    path.mkdir(parents=True)
    RunFolder(path).write_record(run, {})
    return path


def two(*words: object, restarts: int = 0) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--max-restarts", str(restarts)]
    return [sys.executable, *launcher, "-m", "anymri", *map(str, words)]


def done(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=HERE, capture_output=True, text=True, check=False)


# Alone


def test_one_process_needs_nobody() -> None:
    with joined() as group:
        assert group is ALONE is processes() and group.leads and not restarted(None)
        assert group.share(range(3)) == list(group.deal(range(3), "x")) == [0, 1, 2]
        assert group.gather({"a": 1}) == [{"a": 1}]
        tensor = torch.ones(2)
        group.sum_([tensor])
        group.wait()
        assert tensor.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("count", "begun_by", "expected"),
    [("0", "here", False), ("1", "here", True), ("1", "elsewhere", False), ("1", None, False)],
)
def test_only_the_launch_that_began_a_run_goes_on_by_itself(
    monkeypatch: pytest.MonkeyPatch, count: str, begun_by: str | None, expected: bool
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "here")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert launch() == "here" and restarted(begun_by) is expected


def test_shares_are_apart_and_whole() -> None:
    shares = [Processes(rank, 3).share(range(8)) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize(
    "batch, accumulate, count, advice",
    [
        (2, 1, 2, "--set batch=1 --set accumulate=2 for the same 2 patches"),
        (4, 1, 2, "--set batch=2 --set accumulate=2 for the same 4 patches"),
        (2, 3, 2, "--set batch=3 --set accumulate=2 for the same 6 patches"),
        (1, 1, 2, "--set batch=1 --set accumulate=2 for 2 patches a step in place of 1, or fewer processes"),
    ],
)
def test_a_step_that_cannot_be_shared_is_refused(
    batch: int, accumulate: int, count: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymri.engine.step.processes", lambda: Processes(0, count))
    with pytest.raises(UsageError, match=f"accumulate is {accumulate}, which {count} processes cannot share evenly; give {advice}"):
        check_shares(short_run("dropout_unet", batch=batch, accumulate=accumulate))
    check_shares(short_run("dropout_unet", batch=1, accumulate=2 * count))


def test_processes_tell_each_other_of_the_state_that_changed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny("retrieval", GLIOMA)
    assert isinstance(method, Retrieval)
    method.bank.features.fill_(0.1)
    before = {name: value.clone() for name, value in method.state_dict().items() if name.startswith("bank.")}
    method.bank.written += 3
    told: list[list[int]] = []

    def gather(self: Processes, value: list[Any]) -> list[Any]:
        return [value, [{"seg": 1.0}, ["theirs"], value[2], ["bank.cases"]]]

    def sum_(self: Processes, tensors: Sequence[torch.Tensor]) -> None:
        told.append([t.numel() for t in tensors])
        for tensor in tensors:
            tensor += 2  # What the other process adds.

    monkeypatch.setattr(Processes, "gather", gather)
    monkeypatch.setattr(Processes, "sum_", sum_)
    monkeypatch.setattr("anymri.engine.step.processes", lambda: Processes(0, 2))
    made, changed = step._gathered(step.Made({"seg": 2.0}, ("mine",)), method, before)
    assert (made.terms, made.names, changed) == ({"seg": 3.0}, ("mine", "theirs"), ("bank.cases", "bank.written"))
    step._add_up(method, {name: before[name] for name in changed})
    assert told == [[len(method.bank.cases), 1]]  # The features, which are most of it, stay at home.
    assert method.bank.written.item() == 5 and method.bank.cases.eq(2).all()
    assert torch.equal(method.bank.features, before["bank.features"])


# Together


def losses_and_weights(folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    found = read_newest(RunFolder(folder).checkpoints)
    assert found is not None
    return found[1]["course"]["recent"], found[0]


def assert_alike(one: Path, other: Path) -> None:
    """Compare losses and weights; not for Adam, which turns the sign of a gradient that is nothing but rounding into a step."""
    (a, first), (b, second) = losses_and_weights(one), losses_and_weights(other)
    assert a == pytest.approx(b, rel=1e-5) and len(a) > 1
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.timeout(280)
def test_two_processes_train_as_one_with_the_summed_batch(prepared: Path, tmp_path: Path) -> None:
    run = shared_run()
    train(run, prepared, tmp_path / "one")
    record, out = record_of(run, tmp_path / "record"), tmp_path / "two"
    outcome = done(two("train", "--from", record, "--data", prepared, "--out", out, "--device", "cpu"))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("weights in") == 1  # One process speaks.
    assert_alike(tmp_path / "one", out)
    choices = [json.loads(RunFolder(tmp_path / name).selection.read_text()) for name in ("one", "two")]
    assert choices[0]["chosen"] == choices[1]["chosen"] and choices[0]["cases"] == choices[1]["cases"]
    assert choices[0]["scores"] == pytest.approx(choices[1]["scores"], abs=1e-3)
    assert RunFolder(out).read_facts()["machine"]["processes"] == 2
    assert [json.loads(line)["step"] for line in RunFolder(out).log.read_text().splitlines() if "step" in line] == [1]
    first, second = (load_file(RunFolder(tmp_path / name).weights) for name in ("one", "two"))
    assert all(torch.allclose(first[k].float(), second[k].float(), atol=1e-3) for k in first)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, settings", [("ccsd", {}), ("ccsd", {"precision": "bf16"}), ("dropout_unet", {"optimiser": "adamw"}), ("retrieval", {})]
)
def test_methods_train_alike(method: str, settings: dict, prepared: Path, tmp_path: Path) -> None:
    usual = {"accumulate": 4, "steps": 4, "fold": 0, "optimiser": "sgd", "learning_rate": 1e-3}
    run = short_run(method, **usual | settings)
    train(run, prepared, tmp_path / "one")
    record, out = record_of(run, tmp_path / "record"), tmp_path / "two"
    outcome = done(two("train", "--from", record, "--data", prepared, "--out", out, "--device", "cpu"))
    assert outcome.returncode == 0, outcome.stderr
    if run.precision == "float32" and run.optimiser == "sgd":
        assert_alike(tmp_path / "one", out)
    else:
        a, b = (losses_and_weights(folder)[0] for folder in (tmp_path / "one", out))
        assert a == pytest.approx(b, rel=1e-5 if run.precision == "float32" else 1e-2)


def wait_for(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not any(int(p.name[5:]) >= step for p in folder.glob("checkpoints/step_*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)


def child(process: subprocess.Popen[str], rank: int) -> int:
    """Return the process of a rank."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == process.pid and f"RANK={rank}".encode() in environment:
            return int(path.parent.name)
    raise AssertionError("no such process")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_lost_process_ends_all_and_a_restart_goes_on(restarts: int, prepared: Path, tmp_path: Path) -> None:
    run = shared_run(steps=120, checkpoint_minutes=0)
    record, out = record_of(run, tmp_path / "record"), tmp_path / "two"
    command = two("train", "--from", record, "--data", prepared, "--out", out, "--device", "cpu", restarts=restarts)
    process = subprocess.Popen(command, env=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(out, 10, process)
    os.kill(child(process, 1), 9)
    _, said = process.communicate(timeout=240)
    assert "error: process 1 of 2 (counted from 0) is gone (killed, out of memory" in said and "--resume" in said
    if not restarts:
        assert process.returncode != 0 and not RunFolder(out).weights.exists()
        return
    assert process.returncode == 0, said
    train(run, prepared, tmp_path / "one")
    assert_alike(tmp_path / "one", out)


@pytest.mark.slow
def test_a_signal_stops_all_at_the_same_step(prepared: Path, tmp_path: Path) -> None:
    record, out = record_of(shared_run(steps=10_000, checkpoint_minutes=0), tmp_path / "record"), tmp_path / "two"
    command = two("train", "--from", record, "--data", prepared, "--out", out, "--device", "cpu")
    process = subprocess.Popen(command, env=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(out, 5, process)
    process.terminate()
    _, said = process.communicate(timeout=120)
    stopped = [line for line in said.splitlines() if line.startswith("stopped by SIGTERM: step ")]
    assert len(stopped) == 2 and len(set(stopped)) == 1 and "go on with: torchrun … -m anymri train" in stopped[0]
    step = int(stopped[0].split("step ")[1].split()[0])
    assert (out / "checkpoints" / f"step_{step:08d}").is_dir()


MEETINGS = """
from anymri.engine.distributed import joined

for _ in range(3):
    with joined() as group:
        dealt = group.gather(list(group.deal(range(5), "one pile")))
        assert sorted(sum(dealt, [])) == list(range(5)), dealt
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_processes_meet_again(tmp_path: Path) -> None:
    """As a set of runs does: each is trained, then scored."""
    (tmp_path / "meetings.py").write_text(MEETINGS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    outcome = done([*launcher, str(tmp_path / "meetings.py")])
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_prepare_and_evaluate_make_the_same_with_two(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "raw", GLIOMA, seeds=range(5), shape=(48, 48, 40), spacing_mm=(4.0, 4.0, 4.0))
    one = [sys.executable, "-m", "anymri"]
    for launcher, name in ((one, "one"), (two(), "two")):
        outcome = done([*launcher, "prepare", str(tmp_path / "raw"), str(tmp_path / name), "--workers", "1"])
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.count("5 cases prepared") == 1
    for file in ("cohort.json", "splits.json", *(f"cases/phantom_{i:04d}/case.json" for i in range(5))):
        first, second = ((tmp_path / name / file).read_text() for name in ("one", "two"))
        assert first == second, file
    for case in (tmp_path / "one" / "cases").iterdir():
        assert (read_image(case) == read_image(tmp_path / "two" / "cases" / case.name)).all()
    train(short_run("dropout_unet", steps=1, window={"stride": 4, "size": (48, 48, 48)}), tmp_path / "one", tmp_path / "run")
    for launcher, name in ((one, "1"), (two(), "2")):
        words = ["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "one"), "--out", str(tmp_path / name / "s.csv")]
        outcome = done([*launcher, *words, "--device", "cpu"])
        assert outcome.returncode == 0, outcome.stderr
    for file in ("s.csv", "s.md"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()
    assert sorted(p.name for p in (tmp_path / "2").iterdir()) == ["s.csv", "s.md"]
    (tmp_path / "masks").mkdir()
    for reference in (tmp_path / "raw").glob("*/*_seg.nii.gz"):
        shutil.copy(reference, tmp_path / "masks")
    for launcher, name in ((one, "1"), (two(), "2")):
        words = ["evaluate", "--masks", str(tmp_path / "masks"), "--data", str(tmp_path / "one")]
        outcome = done([*launcher, *words, "--out", str(tmp_path / name / "s.csv")])
        assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "1" / "s.csv").read_bytes() == (tmp_path / "2" / "s.csv").read_bytes()
    assert sorted(p.name for p in (tmp_path / "2").iterdir()) == ["s.csv", "s.md"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_every_gpu_has_its_process(prepared: Path, tmp_path: Path) -> None:
    count = torch.cuda.device_count()
    run = shared_run(accumulate=2 * count)
    record = record_of(run, tmp_path / "record")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words = ["-m", "anymri", "train", "--from", str(record), "--data", str(prepared), "--device", "cuda", "--out"]
    outcome = done([*launcher, str(count), *words, str(tmp_path / "all")])
    assert outcome.returncode == 0, outcome.stderr
    train(run, prepared, tmp_path / "one", device=torch.device("cuda"))
    a, b = (losses_and_weights(tmp_path / name)[0] for name in ("one", "all"))
    assert a == pytest.approx(b, rel=1e-3)
    outcome = done([*launcher, str(count + 1), *words, str(tmp_path / "more")])
    assert outcome.returncode != 0 and f"this machine has {count}; start at most {count} processes on it" in outcome.stderr
