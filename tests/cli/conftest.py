"""Weights, patients and a way to run the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from anymri.cli import main
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.task import GLIOMA
from anymri.engine.model import WeightsHeader, write_weights
from anymri.engine.run import Window
from anymri.methods import method_named


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Runner = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["anymri", *map(str, words)])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return Outcome(int(str(code or 0)), printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained tiny weights: they find something or nothing, but the whole path runs."""
    torch.manual_seed(0)
    config = method_named("ccsd").config.sized("tiny")
    method = config.build(GLIOMA)
    header = WeightsHeader(
        name="untrained",
        method="ccsd",
        config=config.model_dump(mode="json"),
        task=GLIOMA.name,
        window=Window(stride=4, size=(48, 48, 48)),
        training={"seed": 0, "fold": 0},
    )
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    write_weights(path, dict(method.state_dict()), header)
    return path


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small synthetic patients in BraTS folders."""
    folder = tmp_path_factory.mktemp("patients")
    write_phantoms(folder, GLIOMA, seeds=range(5), shape=(48, 48, 40), spacing_mm=(4.0, 4.0, 4.0))
    return folder


@pytest.fixture
def images(patients: Path) -> dict[str, Path]:
    """Files of one patient, by option."""
    folder = sorted(p for p in patients.iterdir() if p.is_dir())[0]
    suffixes = {"flair": "flair", "t1": "t1", "t1c": "t1ce", "t2": "t2"}
    return {option: next(folder.glob(f"*_{suffix}.nii.gz")) for option, suffix in suffixes.items()}
