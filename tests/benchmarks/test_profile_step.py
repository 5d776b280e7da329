"""Shares of a step add up, operations find their kind, and memory is that of what is held."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from ..material import benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("profile_step")


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::convolution_backward", "convolutions, backward"),
        ("aten::mkldnn_convolution", "convolutions, forward"),
        ("aten::native_batch_norm_backward", "norms, backward"),
        ("aten::native_batch_norm", "norms, forward"),
        ("aten::leaky_relu_backward", "activations, both ways"),
        ("aten::_log_softmax_backward_data", "softmax and losses"),
        ("aten::_to_copy", "copies and casts"),
        ("aten::add_", "sums and products"),
        ("torch::autograd::AccumulateGrad", "rest"),
    ],
)
def test_an_operation_has_a_kind(script: ModuleType, operation: str, kind: str) -> None:
    assert script.kind_of(operation) == kind


def test_a_storage_is_counted_once(script: ModuleType) -> None:
    block = torch.zeros(2**18)
    assert script.mib([block, block[5:], block.view(2, -1)]) == 1.0
    assert script.mib([block], frozenset({block.data_ptr()})) == 0.0


def test_shares_add_up_and_memory_is_counted(script: ModuleType) -> None:
    found = script.measured("tiny", 8, 1)
    percent, mib = found["percent"], found["MiB"]
    assert tuple(percent) == script.KINDS
    assert sum(percent.values()) == pytest.approx(100)
    assert all(percent[kind] > 0 for kind in script.KINDS)
    assert mib["gradients of weights"] == pytest.approx(mib["weights"], rel=0.2)
    # Two moments and an average of every weight.
    assert mib["averaged weights and optimiser's state"] == pytest.approx(3 * mib["weights"], rel=0.2)
    assert mib["features of all encoders, with their graph"] > 0
    assert mib["one decode, with its graph and loss"] > 0
    assert mib["sums at the leaves"] > 0
