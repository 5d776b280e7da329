"""The six ways of handling missing modalities that the AdaMM paper tells apart, one representative of each."""

from __future__ import annotations

from collections.abc import Mapping

from anymri.engine.run import Run, checked_run
from anymri.recipes.default import BRIEF, side_by_side

# In the order of the paper's table: three that make up for what is missing, three that do without.
REPRESENTATIVES: Mapping[str, tuple[str, ...]] = {
    "data generation": ("synthesis",),
    "feature generation": ("shaspec",),
    "sample retrieval": ("retrieval",),
    "robustness enhancement": ("dropout_unet",),
    "multi-task learning": ("uhved",),
    "knowledge distillation": ("adamm", "ccsd"),
}


def six_categories() -> Mapping[str, Run]:
    """Return one method of each category (two of the last) at size small: 1000 steps of one 64³ patch at 2 mm, fold 0 left out.

    All of ShaSpec but its size is as published, with the mean of what kept modalities share in the place of absent ones.
    """
    runs = side_by_side({name: (name, "small") for names in REPRESENTATIVES.values() for name in names})
    return {name: checked_run({**run.model_dump(mode="json"), **BRIEF}) for name, run in runs.items()}
