"""One thread, tiny untrained weights, and a prepared cohort of a few voxels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anymri.domain.task import GLIOMA

from ..cli.conftest import weights
from ..material import write_made_cohort

torch.set_num_threads(1)

__all__ = ["prepared", "weights"]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a", "b"), ("c", "d")), partly=("e",))
    return tmp_path / "prepared"
