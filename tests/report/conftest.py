"""Reports that many tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from anymri.report.page import write_report

from .made import FEW, write_scored_run, write_table


@pytest.fixture(scope="session")
def measured(tmp_path_factory) -> Path:
    """A report on two variants of ccsd with two seeds each, a second method, and published numbers."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_scored_run(folder / f"both_s{seed}", shift=0.1, seed=seed)
        write_scored_run(folder / f"neither_s{seed}", seed=seed, hmsd=0.0, dmcd=0.0)
    write_table(folder / "unet.csv", "dropout_unet", shift=-0.05)
    write_report([folder], folder / "out", published=["brats2018"], bootstrap=FEW)
    return folder / "out"


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """A report on published numbers alone."""
    out = tmp_path_factory.mktemp("published") / "report"
    write_report([], out, published=["brats2018"], bootstrap=FEW)
    return out
