"""The training step's benchmark compares like with like: the reference in plain code learns what the package learns."""

from __future__ import annotations

import pytest

from ..material import benchmark


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_encode_and_terms_one_at_a_time_leave_the_gradient_of_full_passes(seed: int) -> None:
    script = benchmark("training_step")
    plain, ours = (script.method_of("tiny", script.REFERENCE) for _ in range(2))
    batch = script.noise_batch(16)
    script.reference_step(plain, batch, seed)
    script.our_step(ours, batch, seed)
    assert all((p.grad is None) == (q.grad is None) for p, q in zip(plain.parameters(), ours.parameters(), strict=True))
    assert sum(float(p.grad.norm()) for p in plain.parameters() if p.grad is not None) > 0
    assert script.apart(ours, plain) < 1e-5
