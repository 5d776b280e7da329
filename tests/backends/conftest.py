"""One thread, and a cache of graphs of the tests' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ..cli.conftest import images, patients, run, weights

torch.set_num_threads(1)

__all__ = ["images", "patients", "run", "weights"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANYMRI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
