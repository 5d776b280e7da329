"""The corpus of bad input: one module per group, every file made by code."""

from __future__ import annotations

from ..entry import Entry
from . import headers

ENTRIES: tuple[Entry, ...] = tuple(headers.entries())
