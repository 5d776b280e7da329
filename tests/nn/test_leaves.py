"""Leaves: many backward passes that end in one."""

from __future__ import annotations

import torch

from anymri.nn.leaves import Leaves


def test_what_terms_leave_goes_on_in_one_pass() -> None:
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    leaves = Leaves()
    features = weight * 5, weight**2
    first, second = map(leaves.cut, features)
    assert torch.equal(first, features[0]) and first.is_leaf and leaves.gathered(first) is None
    (first * torch.tensor([1.0, 10.0])).sum().backward()
    leaves.gather()
    assert first.grad is None and weight.grad is None
    ((first * 2).sum() + second[1]).backward()
    leaves.gather()
    leaves.gather()  # nothing new, nothing added
    found = leaves.gathered(first), leaves.gathered(second)
    assert [f.tolist() for f in found if f is not None] == [[3.0, 12.0], [0.0, 1.0]]
    leaves.carried().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [15.0, 60.0 + 6.0]


def test_sums_keep_what_half_precision_would_lose() -> None:
    leaves = Leaves()
    leaf = leaves.cut(torch.ones(1, dtype=torch.bfloat16))
    for gradient in (256.0, 1.0, 1.0, 1.0):  # 256 + 1 is 256 in bf16
        (leaf * gradient).sum().backward()
        leaves.gather()
    found = leaves.gathered(leaf)
    assert found is not None and found.dtype == torch.float32 and found.item() == 259.0


def test_features_without_a_graph_and_leaves_that_nothing_reached_carry_nothing() -> None:
    weight = torch.ones(2, requires_grad=True)
    leaves = Leaves()
    constant, used = leaves.cut(torch.ones(2)), leaves.cut(weight * 2)
    leaves.cut(weight * torch.nan)
    (constant + used).sum().backward()
    leaves.gather()
    leaves.carried().backward()
    assert weight.grad is not None and weight.grad.tolist() == [2.0, 2.0]
