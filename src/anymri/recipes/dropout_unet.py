"""The U-Net with modality dropout, trained like nnU-Net: its loss, its augmentation, its schedule."""

from __future__ import annotations

from typing import Any

from anymri.data.augment import Augmentation
from anymri.engine.run import Run, Window, checked_run
from anymri.methods.method import Size

# 1000 epochs of 250 steps.
STEPS = 250_000
_SETTINGS: dict[str, Any] = {
    "batch": 2,
    "steps": STEPS,
    "optimiser": "sgd",
    "learning_rate": 1e-2,
    "weight_decay": 3e-5,
    "warm_up": 0.0,
    "schedule": "poly",
    "clip": 12.0,
    "average": 0.0,
    "tumour_share": 0.5,  # Of a batch of two nnU-Net centres one on tumour; here each is, or is not, by chance.
    "augmentation": Augmentation.nnunet().model_dump(mode="json"),
}


def _trained_like_nnunet(size: Size, edge: int) -> Run:
    """Return a run on patches of this edge at 1 mm: SGD with Nesterov momentum, Dice over classes + cross-entropy at every level.

    Ours, because all methods here share it: bf16, the checkpoint chosen on validation cases, no mirrored copies at inference.
    """
    window = Window(stride=1, size=(edge, edge, edge)).model_dump()
    run = Run.of("dropout_unet", size, {**_SETTINGS, "patch": (edge, edge, edge), "window": window})
    config = {**run.config, "dice": "classes", "smooth": 1e-5, "initialisation": "he"}
    return checked_run({**run.model_dump(mode="json"), "config": config})


def nnunet() -> Run:
    """Return the U-Net with modality dropout trained like nnU-Net, at its size: patches of 128³ at 1 mm, 250 000 steps of two."""
    return _trained_like_nnunet("paper", 128)


def nnunet_base() -> Run:
    """Return the same at the size of the other methods: ``base``, patches of 96³ at 1 mm."""
    return _trained_like_nnunet("base", 96)
