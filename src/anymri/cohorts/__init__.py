"""Layouts of data: one file each."""

from __future__ import annotations

from anymri.cohorts.brats import find_brats

LAYOUTS = {"brats": find_brats}

__all__ = ["LAYOUTS", "find_brats"]
