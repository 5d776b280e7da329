"""The training step's benchmark compares like with like: the reference in plain code learns what the package learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anymri.methods.ccsd import CCSDConfig

from ..material import benchmark

SETTINGS: list[dict[str, Any]] = [{}, {"absent": "zero"}, {"skips": "fused"}]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_encode_and_terms_one_at_a_time_leave_the_gradient_of_full_passes(seed: int, setting: dict[str, Any]) -> None:
    script, config = benchmark("training_step"), CCSDConfig.sized("tiny").model_copy(update=setting)
    plain, ours = (script.method_of(config, script.REFERENCE) for _ in range(2))
    batch = script.noise_batch(16)
    script.reference_step(plain, batch, seed)
    script.our_step(ours, batch, seed)
    assert all((p.grad is None) == (q.grad is None) for p, q in zip(plain.parameters(), ours.parameters(), strict=True))
    assert sum(float(p.grad.norm()) for p in plain.parameters() if p.grad is not None) > 0
    assert script.apart(ours, plain) < 1e-5


def test_both_are_held_against_float64_and_timed_by_two_clocks() -> None:
    script = benchmark("training_step")
    config, batch = CCSDConfig.sized("tiny"), script.noise_batch(16)
    finest = script.exact(config, batch, 1)
    assert {p.grad.dtype for p in finest.parameters() if p.grad is not None} == {torch.float64}
    plain, ours, half = script.measure_steps(config, batch, 1)
    assert [row["kind"] for row in (plain, ours, half)] == list(script.KINDS)
    assert plain["apart_from_reference"] == 0 and plain["faster_wall"] == plain["faster_cpu"] == 1
    assert 0 < plain["apart_from_float64"] < 1e-4 and 0 < ours["apart_from_float64"] < 1e-4 < half["apart_from_float64"]
    assert all(row["wall_s"] > 0 and row["cpu_s"] > 0 for row in (plain, ours, half))
