"""AdaMM on the data of its paper: by the project's own recipe, and as it was published; and without each of its modules.

No list of cases is published with AdaMM. BraTS 2018 has the field's lists; of the other two data sets fold 0 is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymri.data.augment import Augmentation
from anymri.domain.task import METASTASIS
from anymri.engine.run import Run, Window, checked_run
from anymri.recipes.categories import six_categories
from anymri.recipes.default import default, varied
from anymri.recipes.splits import split_lists

# 200 epochs of one patch of every training case; 300 on FeTS.
EPOCHS = 200
# Along the axes of a BraTS file, which are those of our cases: left to right, front to back, upwards.
CROP = (160, 192, 128)
# BraTS 2024, adult glioma after treatment: BraTS2024-BraTS-GLI-TrainingData (synapse.org, syn60086071) has 1350 cases with a
# reference, scans of 613 patients; 271 came later (syn64314352), and the 188 for validation have none. A fifth is left out.
CASES = 1350 * 4 // 5
# Without adapters there is nothing for GARM to refine.
ABLATION: Mapping[str, Mapping[str, Any]] = {
    "whole": {},
    "without_adapters": {"adapters": False, "garm": False},
    "without_garm": {"garm": False},
    "without_bbdm": {"output": 0, "content": 0, "style": 0, "adversarial": 0},
    "without_lgrm": {"lgrm": False},
}


def brats2018() -> Run:
    """Return AdaMM on BraTS 2018, split 1 of the field's three, by the default recipe of all methods."""
    return _default({"cases": split_lists("brats2018").model_dump(mode="json")})


def brats2024() -> Run:
    """Return AdaMM on BraTS 2024 (prepare it with --scheme brats2024: 4 is the resection cavity), fold 0 left out.

    The cavity is no part of the tumour, so it is in no region. A patient may have several visits, BraTS-GLI-PATIENT-VISIT: a
    splits.json beside the data keeps them in one fold, which the usual folds do not.
    """
    return _default({"fold": 0})


def metastasis() -> Run:
    """Return AdaMM on Pretreat-MetsToBrain-Masks (prepare it with --task metastasis), fold 0 left out."""
    return _default({"fold": 0, "task": METASTASIS.name})


def published() -> Run:
    """Return AdaMM on BraTS 2024 with crop and length as published and the losses as far as told, fold 0 left out.

    Adam at 1e-4, L2 1e-5, a fall to the power of 0.9 (continuous, where the published one falls once an epoch), batch 1, random
    crops, flips along three axes. Images go from 0 to 1: published is the range of the whole volume, background included; here
    that of the brain, so that the crop around it does not matter. Subsets are drawn uniformly, one for each sample. Ours, because
    it is not told: which cases are tested on, gradients clipped at norm 5, bf16. Not as published: no checkpoint is chosen (there,
    by the cases that are tested on), so that every training case is trained on and an epoch is all of them; windows cover the
    whole case, dropout is off in tests, classes exclude each other.
    """
    plain = Augmentation.none().model_copy(update={"flip": (0.5, 0.5, 0.5)})
    settings = {
        "window": Window(stride=1, size=CROP, intensity="min_max").model_dump(),
        "patch": CROP,
        "batch": 1,
        "steps": EPOCHS * CASES,
        "optimiser": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 1e-5,
        "schedule": "poly",
        "warm_up": 0.0,
        "average": 0.0,
        "tumour_share": 0.0,
        "augmentation": plain.model_dump(),
        "fold": 0,
        "validation": 0,
        "candidates": (1.0,),
    }
    run = Run.of("adamm", "paper", settings)
    return checked_run({**run.model_dump(mode="json"), "config": {**run.config, "style_scale": "absolute"}})


def ablation() -> Mapping[str, Run]:
    """Return AdaMM on BraTS 2018, whole and without each of its modules.

    The gate is none of them: it acts on finished weights (``anymri evaluate --set config.gate=off``).
    """
    return varied(brats2018, ABLATION)


def ablation_small() -> Mapping[str, Run]:
    """Return the small version of this ablation: on what is prepared, with size, budget and patches of six_categories."""
    return varied(lambda: six_categories()["adamm"], ABLATION)


def _default(settings: dict[str, object]) -> Run:
    return checked_run({**default("adamm", "paper").model_dump(mode="json"), **settings})
