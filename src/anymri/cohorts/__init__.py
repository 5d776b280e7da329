"""Layouts of data: one file each."""

from __future__ import annotations

from anymri.cohorts.brats import find_brats
from anymri.cohorts.phantom import find_phantom

LAYOUTS = {"brats": find_brats, "phantom": find_phantom}

__all__ = ["LAYOUTS", "find_brats", "find_phantom"]
