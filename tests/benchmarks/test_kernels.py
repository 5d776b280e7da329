"""Every side of the kernels' table computes the layer that it names, and the table has a row for each."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Executor, Future
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ..material import benchmark

SIZE = (6, 8, 10)


class Here(Executor):
    """Does at once, in this process, what processes of their own would do."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("kernels")


def test_all_sides_are_exact_to_rounding(script: ModuleType) -> None:
    for name in script.LAYERS:
        found = script.apart(name, SIZE, script.SIDES)
        assert tuple(found) == script.SIDES
        assert max(found.values()) < 1e-5, name
        with torch.inference_mode():
            assert {tuple(script.called(side, name, SIZE).shape) for side in script.SIDES} == {(1, 16, *SIZE)}


def test_a_slab_is_no_other_convolution(script: ModuleType) -> None:
    assert script.apart("3×3×3, 16 → 16", (18, 6, 6), script.SIDES)[script.FIRST] < 1e-5


def test_the_table_has_every_layer_and_side(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "ProcessPoolExecutor", lambda *_, **__: Here())
    words = ["--size", *map(str, SIZE), "--rounds", "1", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr(sys, "argv", ["kernels.py", *words, "--json", str(tmp_path / "kernels.json")])
    script.main()
    written = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))
    assert [row["layer"] for row in written["rows"]] == list(script.LAYERS)
    assert all(set(row[what]) == set(script.SIDES) for row in written["rows"] for what in ("cpu_ms", "apart"))
    assert all(ms > 0 for row in written["rows"] for ms in row["cpu_ms"].values())
