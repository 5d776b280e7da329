"""How the weights ``ccsd-base`` and ``ccsd-small`` are trained, and the baseline beside them."""

from __future__ import annotations

from typing import Any

from anymri.data.artefacts import Artefacts
from anymri.data.augment import Augmentation
from anymri.engine.run import Run, Window, checked_run
from anymri.methods.dropout_unet import DropoutUNetConfig
from anymri.methods.method import Size

# One patch a step, so that a processor makes as many steps as it can; most of them on coarse patches, which take a sixth of the
# time. No case is taken out to choose a checkpoint by: validation scores of earlier trainings rose to the end.
_SETTINGS: dict[str, Any] = {
    "batch": 1,
    "learning_rate": 3e-3,
    "steps": 5_600,
    "coarse": 0.6,
    "augmentation": Augmentation(artefacts=Artefacts()).model_dump(),
    "window": Window(least_component=0.1).model_dump(),
    "validation": 0,
    "candidates": (1.0,),
}


def ccsd_base() -> Run:
    """Return the run of ``ccsd-base``: CCSD with fused skips, 5,170 steps at 4 mm and 430 at 2 mm."""
    return _ccsd("base")


def ccsd_small() -> Run:
    """Return the run of ``ccsd-small``: that of ``ccsd-base`` at size ``small``."""
    return _ccsd("small")


def dropout_unet_base() -> Run:
    """Return the baseline's run with the same patches, rate and steps as ``ccsd-base``.

    Four levels, as CCSD has, since five do not fit coarse patches; as wide as it takes to have as many parameters, 5.6 M to 5.9 M.
    """
    config = {**DropoutUNetConfig.sized("base").model_dump(mode="json"), "widths": (32, 64, 128, 256)}
    return checked_run({"method": "dropout_unet", "config": config, **_SETTINGS})


def _ccsd(size: Size) -> Run:
    run = Run.of("ccsd", size, _SETTINGS)
    return run.model_copy(update={"config": {**run.config, "skips": "fused"}})
