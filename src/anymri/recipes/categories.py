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
# At the rate of the others its content term runs away within a hundred steps, teacher and student ever further apart.
_CALMER = {"adamm": {"learning_rate": 1e-3}}


def six_categories() -> Mapping[str, Run]:
    """Return one method of each category (two of the last) at size small: 1000 steps of one 64³ patch at 2 mm, fold 0 left out.

    ShaSpec has both auxiliary losses, and in the place of absent modalities the mean of what kept ones share. The rate is 3e-3 for
    all but AdaMM, whose loss runs away there: 1e-3.
    """
    runs = side_by_side({name: (name, "small") for names in REPRESENTATIVES.values() for name in names})
    return {name: checked_run({**run.model_dump(mode="json"), **BRIEF, **_CALMER.get(name, {})}) for name, run in runs.items()}
