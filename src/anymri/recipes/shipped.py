"""How the weights that come with the package were trained, and the baseline beside them."""

from __future__ import annotations

from anymri.engine.run import Run

# One patch a step, so that a processor makes as many steps as it can.
_SETTINGS = {"minutes": 70.0, "batch": 1, "learning_rate": 3e-3}


def ccsd_small() -> Run:
    """Return the run of ``ccsd-small``: CCSD with fused skips at 2 mm, 70 minutes."""
    run = Run.of("ccsd", "small", _SETTINGS)
    return run.model_copy(update={"config": {**run.config, "skips": "fused"}})


def dropout_unet_small() -> Run:
    """Return the baseline's run with the same budget, rate and data."""
    return Run.of("dropout_unet", "small", _SETTINGS)
