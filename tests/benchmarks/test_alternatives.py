"""What was not kept computes what is there: a comparison of anything else would say nothing of speed."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from anymri.losses.subsets import students_of

from ..material import benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("alternatives")


def test_every_alternative_has_a_row_and_the_same_results(script: ModuleType) -> None:
    rows = script.measured("tiny", 16, 1)
    assert [row["name"] for row in rows] == [*script.STEPS, *script.DECODES]
    steps, decodes = rows[: len(script.STEPS)], rows[len(script.STEPS) :]
    assert steps[0]["apart"] == 0 and steps[0]["ratio_cpu"] == decodes[0]["ratio_cpu"] == 1
    assert max(row["apart"] for row in steps) < 1e-5
    assert max(row["apart"] for row in decodes) < 1e-5
    assert all(row["cpu_s"] > 0 and row["ratio_cpu"] > 0 for row in rows)


def test_an_alternative_is_in_the_step_that_is_taken(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(script, "checkpoint", lambda layer, x, **_: called.append(x.shape) or layer(x))
    method = script.method_of(script.CCSDConfig.sized("tiny"), script.FLOAT32)
    for name in script.STEPS:
        script.stepped(method, 16, name, script.SEED)
    assert called == [(1, 1, 16, 16, 16)] * 8  # The shared encoder and a specific one for each of four images.


def test_the_step_that_is_compared_has_six_students(script: ModuleType) -> None:
    generator = torch.Generator().manual_seed(script.SEED)
    present = torch.ones((1, 4), dtype=torch.bool)
    script.ccsd.draw_subsets(present, generator)
    assert len(students_of(present, generator)) == 6


def test_peaks_are_those_of_a_step_and_of_decodes(script: ModuleType) -> None:
    assert all(script.peak("tiny", 16, name) >= 0 for name in (list(script.STEPS)[1], *script.DECODES))
