"""The corpus of bad input: one module per group, every file made by code."""

from __future__ import annotations

from ..entry import Entry
from . import command_line, containers, grids, headers, layouts, modalities, names, records, stores, voxels, weights

_GROUPS = (headers, containers, voxels, grids, modalities, records, stores, weights, names, layouts, command_line)
ENTRIES: tuple[Entry, ...] = tuple(entry for group in _GROUPS for entry in group.entries())
