"""Figures are written with the machine they are of, and peaks are those of this process."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ..material import benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("measuring")


def test_the_machine_names_processor_threads_and_versions(script: ModuleType) -> None:
    found = script.machine()
    assert found["processor"] and found["cores"] >= 1
    assert found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__
    for name in ("processor", "torch", "anymri"):
        assert found[name] in script.described()


def test_figures_are_written_with_the_machine(script: ModuleType, tmp_path: Path) -> None:
    script.write_json(tmp_path / "a.json", {"rows": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"machine": script.machine(), "rows": [1.5]}
    script.write_json(None, {"rows": []})


def test_work_is_timed_and_its_value_returned(script: ModuleType) -> None:
    value, wall, cpu = script.timed(lambda: sum(range(200_000)))
    assert value == 19_999_900_000
    assert wall > 0 and cpu > 0


def test_the_peak_holds_what_was_held(script: ModuleType) -> None:
    block = bytearray(b"\1") * (64 * 2**20)
    assert script.peak_mib() > len(block) / 2**20
    assert script.held_mib(2**30) == 0.0  # No process has this number.


def test_no_benchmark_is_left_unlisted(script: ModuleType) -> None:
    run = benchmark("run")
    listed = (run.HERE / "README.md").read_text(encoding="utf-8")
    assert "measuring" not in run.scripts()
    assert [name for name in run.scripts() if f"`{name}.py`" not in listed] == []
