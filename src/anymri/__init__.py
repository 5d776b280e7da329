"""anymri: brain tumour segmentation from whichever MRI sequences a patient has.

Shapes are written at the end of a tensor's name:

    B batch   M modality   R region   K class   C channel   D H W voxels   T token   S subset
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymri.segment import Options, Segmentation, segment, write_segmentation

__all__ = ["Options", "Segmentation", "segment", "write_segmentation"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes more than a second, and ``anymri --help`` needs none of it."""
    if name in __all__:
        return getattr(import_module("anymri.segment"), name)
    raise AttributeError(f"module 'anymri' has no attribute '{name}'")


class _Package(ModuleType):
    """Keeps ``anymri.segment`` a function: importing the module of that name would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.segment if name == "segment" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
