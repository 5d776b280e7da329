"""What a machine does to a training: it is killed, its disk fills up, its folder vanishes. All of it in processes of their own."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.checkpoint import read_newest
from anymri.engine.run import RunFolder

from ..material import short_run, write_made_cohort

HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    write_made_cohort(path, GLIOMA, folds=(("a", "b", "c"),))
    return path


def command(prepared: Path, out: Path, **settings: Any) -> list[str]:
    """Return the command of a training of a tiny network that does nothing but step and save."""
    run = short_run("dropout_unet", **{"checkpoint_minutes": 0.0, **settings}).model_dump(mode="json")
    given = (
        "config",
        "window",
        "patch",
        "steps",
        "precision",
        "candidates",
        "validation",
        "checkpoint_minutes",
        "threads",
        "batch",
    )
    sets = [word for name in given for word in ("--set", f"{name}={json.dumps(run[name])}")]
    words = ["train", "dropout_unet", "--data", str(prepared), "--out", str(out), "--device", "cpu", "--resume", *sets]
    return [sys.executable, "-m", "anymri", *words]


def outcome(out: Path) -> tuple[dict[str, torch.Tensor], Any, list[dict[str, Any]]]:
    """Return all that a training leaves and that must not depend on how often it was broken off."""
    found = read_newest(RunFolder(out).checkpoints)
    assert found is not None
    lines = [json.loads(line) for line in RunFolder(out).log.read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k != "seconds"} for line in lines if "warning" not in line]
    tensors = found[0] | {f"{p.stem}.{k}": v for p in sorted(RunFolder(out).candidates.iterdir()) for k, v in _tensors(p).items()}
    return tensors, {k: v for k, v in found[1].items() if k != "seconds"}, timeless


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def newest(out: Path) -> int:
    """Return the step of the newest checkpoint."""
    return max((int(p.name[5:]) for p in (out / "checkpoints").glob("step_*")), default=0)


def assert_same(one: Path, other: Path) -> None:
    (a, facts_a, log_a), (b, facts_b, log_b) = outcome(one), outcome(other)
    assert a.keys() == b.keys() and [k for k in a if not torch.equal(a[k], b[k])] == []
    assert facts_a == facts_b  # The last 25 losses and the moving average of all are among them.
    assert log_a == log_b


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments_it_ends_where_an_unbroken_one_does(prepared: Path, tmp_path: Path) -> None:
    words = command(prepared, tmp_path / "killed", steps=300)
    subprocess.run(command(prepared, tmp_path / "whole", steps=300), env=HERE, capture_output=True, check=True)
    chance, killed = random.Random(7), 0
    for _ in range(40):
        process = subprocess.Popen(words, env=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if chance.random() < 0.2:  # While it starts.
            time.sleep(chance.uniform(0, 4))
        else:
            aim = newest(tmp_path / "killed") + chance.randint(1, 60)
            while process.poll() is None and newest(tmp_path / "killed") < aim:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.03))  # About a step and a checkpoint.
        process.kill()
        _, said = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
        killed += 1
    assert process.returncode == 0 and killed >= 4
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*.tmp"))


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from anymri.cli import main
main()
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_loses_nothing_but_the_last_interval(prepared: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "run", command(prepared, tmp_path / "run", steps=4)
    # run.json and the log fit, a checkpoint does not.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "9000", *words[3:]], env=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "step_00000001: checkpoint cannot be written (" in done.stderr and "free some space and resume" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert list((out / "checkpoints").iterdir()) == []
    assert subprocess.run(words, env=HERE, capture_output=True, check=False).returncode == 0
    assert RunFolder(out).weights.is_file()


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list(path.glob(pattern)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_a_folder_that_vanishes_is_one_line(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(command(prepared, out, steps=100_000), env=HERE, stderr=subprocess.PIPE, text=True)
    wait_for(out, "checkpoints/step_*", process)
    out.rename(tmp_path / "moved")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and len(said.splitlines()) == 1, said
    assert "the run folder has vanished while the training ran; bring it back and resume" in said
    assert not out.exists()
    (tmp_path / "moved").rename(out)
    process = subprocess.Popen(command(prepared, out, steps=100_000), env=HERE, stderr=subprocess.PIPE, text=True)
    before = newest(out)
    while newest(out) < before + 3 and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and "is saved in" in said


@pytest.mark.parametrize("damage", ["half", "a bit", "no facts", "other facts"])
def test_a_damaged_checkpoint_is_passed_over_and_it_is_said(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from anymri.engine.training import fit

    from ..material import made_patient

    patients, run = [made_patient(GLIOMA, seed) for seed in range(2)], short_run("dropout_unet", steps=4, checkpoint_minutes=0)
    folder, cpu = RunFolder(tmp_path / "run"), torch.device("cpu")
    whole = fit(run, patients, RunFolder(tmp_path / "whole"), resume=False, device=cpu)
    shutil.copytree(tmp_path / "whole", folder.path)
    last = folder.checkpoints / "step_00000004"
    tensors = last / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    if damage == "half":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "a bit":
        content[-100] ^= 1
        tensors.write_bytes(content)
    elif damage == "other facts":
        facts = (last / "facts.json").read_text()
        (last / "facts.json").write_text(facts.replace('"step": 4', '"step": "x"'))
    else:
        (last / "facts.json").unlink()
    again = fit(run, patients, folder, resume=True, device=cpu)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    (said,) = [r.getMessage() for r in caplog.records]
    assert said.startswith("note: ") and "step_00000004" in said and "the one before it is used" in said
