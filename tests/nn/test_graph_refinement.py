"""Graph refinement against its equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from anymri.nn.graph_refinement import GraphRefinement, NodeAssignment, NodeAttention, crossed


def refinement(channels: int = 16, nodes: int = 5, reproject: Any = "fused") -> GraphRefinement:
    torch.manual_seed(0)
    return GraphRefinement(channels, nodes, reproject=reproject)


def test_shares_sum_to_one_and_nodes_have_one_length() -> None:
    torch.manual_seed(0)
    shares, nodes = NodeAssignment(5, 16)(torch.randn(3, 16, 40))
    torch.testing.assert_close(shares.sum(1), torch.ones(3, 40))
    torch.testing.assert_close(nodes.norm(dim=2), torch.full((3, 5), 5**-0.5))


def test_squared_distances_are_those_of_the_gaussian_kernel() -> None:
    torch.manual_seed(0)
    assign, f = NodeAssignment(4, 8), torch.randn(2, 8, 30)
    shares, nodes = assign(f)
    width = assign.widths.sigmoid()
    apart = (f[:, None] - assign.anchors[None, :, :, None]) / width[None, :, :, None]  # B × K × C × V
    expected = (-0.5 * apart.square().sum(2)).softmax(1)
    torch.testing.assert_close(shares, expected, rtol=1e-4, atol=1e-5)
    means = (expected[:, :, None] * apart).sum(3) / (expected.sum(2)[:, :, None] + 1e-9)
    unit = means / means.norm(dim=2, keepdim=True)
    torch.testing.assert_close(nodes, unit / unit.flatten(1).norm(dim=1)[:, None, None], rtol=1e-3, atol=1e-4)


def test_graphs_are_crossed() -> None:
    torch.manual_seed(0)
    ours, theirs, weight = torch.randn(1, 3, 4), torch.randn(1, 2, 4), torch.randn(4, 4)
    expected = torch.stack([(theirs[0] @ ours[0, k]).softmax(0) @ (theirs[0] @ weight) for k in range(3)])[None]
    torch.testing.assert_close(crossed(ours, theirs, weight), expected)


def test_attention_by_hand() -> None:
    torch.manual_seed(0)
    attend, nodes = NodeAttention(4), torch.randn(1, 3, 4)
    q = attend.project(nodes)[0]
    expected = attend.out(torch.stack([(q @ q[k] / 2).softmax(0) @ q for k in range(3)]))
    torch.testing.assert_close(attend(nodes)[0], expected)


@pytest.mark.parametrize("reproject", ["fused", "both"])
def test_the_order_of_the_nodes_says_nothing(reproject: str) -> None:
    module = refinement(reproject=reproject).eval()
    aware, general = torch.randn(2, 16, 2, 3, 4), torch.randn(2, 16, 2, 3, 4)
    before = module(aware, general)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        for assign in (module.assign_aware, module.assign_general):
            assign.anchors.copy_(assign.anchors[order])
            assign.widths.copy_(assign.widths[order])
    torch.testing.assert_close(module(aware, general), before)


@pytest.mark.parametrize("reproject", ["fused", "both"])
def test_what_is_painted_follows_from_nodes_and_shares(reproject: str) -> None:
    module = refinement(nodes=3, reproject=reproject)
    aware, general = torch.randn(1, 16, 6), torch.randn(1, 16, 6)
    p_c, g_c = module.assign_aware(aware)
    p_g, g_g = module.assign_general(general)
    mixed = module.norm_aware(module.mix_aware(g_c.transpose(1, 2))).relu().transpose(1, 2)
    weight = module.convolve.weight
    new_g, new_c = crossed(g_g, mixed, weight), crossed(mixed, g_g, weight)
    nodes = module.attend(torch.cat((module.attend(new_c), module.attend(new_g)), 1))[0]
    painted = torch.zeros(16, 6)
    for v in range(6):
        shares = torch.cat((p_c[0, :, v], p_g[0, :, v]))
        for k in range(3):
            if reproject == "both":
                painted[:, v] += nodes[k] * shares[k] / 2 + nodes[3 + k] * shares[3 + k] / 2
            else:
                weighed = shares.softmax(0) * shares
                painted[:, v] += nodes[3 + k] * (weighed[k] + weighed[3 + k])
    torch.testing.assert_close(module.reprojected(aware, general)[0], painted, rtol=1e-4, atol=1e-5)


def test_it_refines_sample_by_sample_and_any_grid() -> None:
    module = refinement().eval()
    aware, general = torch.randn(3, 16, 2, 4, 3), torch.randn(3, 16, 2, 4, 3)
    together = module(aware, general)
    assert together.shape == general.shape
    for b in range(3):
        torch.testing.assert_close(module(aware[b : b + 1], general[b : b + 1])[0], together[b], rtol=1e-4, atol=1e-5)


def test_distances_are_in_single_precision_under_autocast() -> None:
    module = refinement().eval()
    f = torch.randn(1, 16, 2, 2, 2)
    seen: list[torch.dtype] = []
    module.assign_general.register_forward_hook(lambda _module, _given, said: seen.append(said[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        module(f.bfloat16(), f.bfloat16())
    assert seen == [torch.float32]


def test_every_parameter_is_alive() -> None:
    for reproject in ("fused", "both"):
        module = refinement(reproject=reproject)
        module(torch.randn(1, 16, 3, 3, 3), torch.randn(1, 16, 3, 3, 3)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_parameters_are_as_many_as_those_that_live_in_the_published_program() -> None:
    module = refinement(128, 8)
    assert sum(p.numel() for p in module.parameters()) == 119_936
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
