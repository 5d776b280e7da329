"""What is good, made once, and a way to run the command line in this process under a limit of memory."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from anymri.cli import main
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.engine.model import WeightsHeader, write_weights
from anymri.engine.run import RunFolder, Window
from anymri.methods import method_named

from ..material import short_run, tiny, write_made_cohort
from .entry import Kit
from .images import brain, nifti, put

torch.set_num_threads(1)

MEMORY = 1_500_000_000  # Bytes that a command may take beyond what the process held before.
SUFFIXES = ("flair", "t1", "t1ce", "t2")


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, standard output and standard error, and by how many bytes memory rose at most."""

    code: int
    out: str
    err: str
    grown: int


Runner = Callable[..., Outcome]


def write_untrained(path: Path, task: Task) -> Path:
    """Write tiny weights that learnt nothing."""
    method = tiny("dropout_unet", task)
    config = method_named("dropout_unet").config.sized("tiny").model_dump(mode="json")
    window = Window(stride=4, size=(48, 48, 48))
    header = WeightsHeader(name=path.stem, method="dropout_unet", config=config, task=task.name, window=window)
    write_weights(path, dict(method.state_dict()), header)
    return path


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Return what is good."""
    folder = tmp_path_factory.mktemp("good")
    study, prepared, run = folder / "study", folder / "prepared", folder / "run"
    study.mkdir()
    for seed, suffix in enumerate(SUFFIXES):
        put(study / f"good_{suffix}.nii.gz", nifti(brain(seed)))
    put(study / "good_seg.nii.gz", nifti((brain() > 800).astype("u1") * 4))
    write_made_cohort(prepared, GLIOMA, folds=[["case_a"], ["case_b"]])
    weights = write_untrained(folder / "untrained.safetensors", GLIOMA)
    run.mkdir()
    RunFolder(run).write_record(short_run("dropout_unet"), {"cohort": {"name": "made_up"}})
    shutil.copyfile(weights, run / "weights.safetensors")
    return Kit(weights, write_untrained(folder / "prostate.safetensors", PROSTATE), study, prepared, run)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Runner:
    """Return a function that runs the command line with these words."""
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "imported"))

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["anymri", *map(str, words)])
        code: object = 0
        with limited() as grown:
            try:
                main()
            except SystemExit as stop:
                code = stop.code
        printed = capsys.readouterr()
        return Outcome(int(str(code or 0)), printed.out, printed.err, grown())

    return call


@contextmanager
def limited() -> Iterator[Callable[[], int]]:
    """Let the block take no more address space than MEMORY beyond what there is; give the rise of the peak of what is in memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = _bytes_of("VmSize", "VmRSS")
    if before:
        Path("/proc/self/clear_refs").write_text("5")  # Starts the peak afresh.
        resource.setrlimit(resource.RLIMIT_AS, (before[0] + MEMORY, hard))
    try:
        yield lambda: _bytes_of("VmHWM")[0] - before[1] if before else 0
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _bytes_of(*names: str) -> list[int]:
    """Return figures of this process; none where the system does not tell them."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return []
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return [int(lines[name].split()[0]) * 1024 for name in names]
