"""Graph-guided refinement: two maps are gathered into the nodes of two graphs, which look at each other and paint one map."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymri.nn.residual_unet import GROUPS

Reproject = Literal["fused", "both"]


class NodeAssignment(nn.Module):
    """Soft assignment of voxels to nodes by a Gaussian kernel with a width of its own for every node and channel.

    Args:
        nodes: K, nodes of the graph.
        channels: C of the map.
    """

    def __init__(self, nodes: int, channels: int) -> None:
        super().__init__()
        self.anchors = nn.Parameter(torch.rand(nodes, channels))
        self.widths = nn.Parameter(torch.rand(nodes, channels))

    def forward(self, f_BCV: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shares P (B, K, V), which sum to 1 over K, and the nodes (B, K, C), each of length 1/√K."""
        width = self.widths.sigmoid()
        precision = width**-2
        # ‖(f − a)/σ‖² multiplied out, so that no B × K × V × C is made.
        constant = (self.anchors**2 * precision).sum(1)[:, None]
        distance = precision @ f_BCV**2 - 2 * (self.anchors * precision) @ f_BCV + constant
        shares = (-0.5 * distance).softmax(1)
        mass = shares.sum(2)[:, :, None]
        nodes = (shares @ f_BCV.transpose(1, 2) - mass * self.anchors) / width / (mass + 1e-9)
        nodes = F.normalize(nodes, dim=2)
        return shares, F.normalize(nodes.flatten(1), dim=1).view_as(nodes)


class NodeAttention(nn.Module):
    """One layer of attention whose queries, keys and values are the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, nodes_BKC: Tensor) -> Tensor:
        """Return nodes of the same shape."""
        q = self.project(nodes_BKC)
        return self.out((q @ q.transpose(1, 2) / q.shape[2] ** 0.5).softmax(2) @ q)


def crossed(ours_BKC: Tensor, theirs_BKC: Tensor, weight: Tensor) -> Tensor:
    """Return the nodes of one graph as mixtures of the other's, convolved by ``weight`` (C, C)."""
    return (ours_BKC @ theirs_BKC.transpose(1, 2)).softmax(2) @ (theirs_BKC @ weight)


class GraphRefinement(nn.Module):
    """Refines a general map by a combination-aware one of the same shape.

    Args:
        channels: C of both maps; a multiple of eight.
        nodes: K of each graph.
        reproject: "fused": the general graph's nodes over shares weighed against each other; "both": all nodes, half each.
    """

    def __init__(self, channels: int, nodes: int, *, reproject: Reproject) -> None:
        super().__init__()
        self.reproject = reproject
        self.assign_aware = NodeAssignment(nodes, channels)
        self.assign_general = NodeAssignment(nodes, channels)
        self.mix_aware = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm_aware = nn.GroupNorm(GROUPS, channels)
        self.convolve = nn.Linear(channels, channels, bias=False)
        self.attend = NodeAttention(channels)
        self.paint = nn.Sequential(
            nn.Conv3d(channels, channels, 1, bias=False), nn.GroupNorm(GROUPS, channels), nn.ReLU(inplace=True)
        )
        self.fuse = nn.Sequential(
            nn.Conv3d(channels, channels, 1, bias=False),
            nn.GroupNorm(GROUPS, channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, channels, 1),
        )

    def forward(self, aware: Tensor, general: Tensor) -> Tensor:
        """Return the refined map, (B, C, D, H, W) as both that are given."""
        with torch.autocast(general.device.type, enabled=False):  # Squared distances in half precision mean nothing.
            painted = self.reprojected(aware.flatten(2).float(), general.flatten(2).float()).view(general.shape)
        return self.fuse(general + self.paint(painted) + aware)

    def reprojected(self, aware_BCV: Tensor, general_BCV: Tensor) -> Tensor:
        """Return what the graphs say of each voxel, (B, C, V)."""
        p_c, g_c = self.assign_aware(aware_BCV)
        p_g, g_g = self.assign_general(general_BCV)
        g_c = F.relu(self.norm_aware(self.mix_aware(g_c.transpose(1, 2)))).transpose(1, 2)
        weight = self.convolve.weight
        g_g, g_c = crossed(g_g, g_c, weight), crossed(g_c, g_g, weight)
        nodes = self.attend(torch.cat((self.attend(g_c), self.attend(g_g)), 1))
        shares = torch.cat((p_c, p_g), 1)
        if self.reproject == "both":
            return nodes.transpose(1, 2) @ (shares / 2)
        aware_part, general_part = (shares.softmax(1) * shares).chunk(2, 1)
        return nodes.chunk(2, 1)[1].transpose(1, 2) @ (aware_part + general_part)
