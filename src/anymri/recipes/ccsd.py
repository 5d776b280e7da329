"""The experiments of CCSD's paper: its trainings on BraTS 2018 and 2020, and its ablations.

Each table is a set of runs that differ in one field. At the size of the paper they need BraTS 2018 and a large GPU; their ``small``
versions train on whatever is prepared, with folds, on a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anymri.data.augment import Augmentation
from anymri.engine.run import Parts, Run, Window, checked_run
from anymri.recipes.default import BRIEF, varied
from anymri.recipes.splits import split_lists

# Section 4: 100 epochs, batch 12. An epoch is one patch of every training case.
EPOCHS, BATCH = 100, 12
# The crop of ShaSpec, whose network it is. Its short edge is along slices there and from left to right here, where our cases have
# their first axis; voxels are 1 mm either way.
CROP = (80, 160, 160)
# The published rows, by the names they have here.
LOSSES: Mapping[str, Mapping[str, Any]] = {
    "neither": {"hmsd": 0, "dmcd": 0},
    "hmsd": {"dmcd": 0},
    "dmcd": {"hmsd": 0},
    "hmsd+dmcd": {},
}
ABSENT = {f"{name}-{absent}": {**losses, "absent": absent} for absent in ("zero", "shared_mean") for name, losses in LOSSES.items()}
FEATURES = {
    f"{name}-on-{features}": {**LOSSES[name], "distilled": features}
    for features in ("shared", "specific", "fused")
    for name in ("hmsd", "dmcd", "hmsd+dmcd")
}
PATHS = {path: {"path": path} for path in ("most_critical", "least_critical", "random")}
CRITICALITIES = {"random": {"path": "random"}, "gradient": {"criticality": "gradient"}, "cosine": {"criticality": "cosine"}}
# Name of the set → its rows, and what they show.
TABLES: Mapping[str, tuple[Mapping[str, Mapping[str, Any]], str]] = {
    "table3": (LOSSES, "which losses are on"),
    "table4": (FEATURES, "which features are distilled"),
    "table5": (PATHS, "which modality DMCD removes first"),
    "table6": (CRITICALITIES, "by what DMCD calls a modality critical"),
    "absent": (ABSENT, "table 3 with either filling of absent slots"),
}


def _published(cohort: str, number: int) -> Run:
    """Return a training as section 4 has it: Adam at 1e-2, cosine annealing, rotations and flips.

    Batch 12 is made of twelve patches one after the other, so that it fits anywhere; the gradient is the same. Ours, because the
    paper does not speak of it: gradients clipped at norm 5, bf16, the checkpoint chosen on the validation cases.
    """
    parts: Parts = split_lists(cohort, number)
    settings = {
        "cases": parts.model_dump(mode="json"),
        "window": Window(stride=1, size=CROP).model_dump(),
        "patch": CROP,
        "batch": 1,
        "accumulate": BATCH,
        "steps": -(-EPOCHS * len(parts.train) // BATCH),
        "optimiser": "adam",
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "warm_up": 0.0,
        "average": 0.0,
        "tumour_share": 0.0,
        "augmentation": Augmentation.none()
        .model_copy(update={"flip": (0.5, 0.5, 0.5), "spatial": 0.5, "rotation_degrees": 15.0, "scaling": 0.0})
        .model_dump(),
    }
    run = Run.of("ccsd", "paper", settings)
    return checked_run({**run.model_dump(mode="json"), "config": {**run.config, "absent": "zero"}})


def brats2018() -> Run:
    """Return CCSD on BraTS 2018 as published, split 1 of the field's three."""
    return _published("brats2018", 1)


def brats2020() -> Run:
    """Return CCSD on BraTS 2020 as published."""
    return _published("brats2020", 1)


def table1() -> Mapping[str, Run]:
    """Return table 1 of the paper: CCSD on each of the three splits of BraTS 2018."""
    return {f"split{number}": _published("brats2018", number) for number in (1, 2, 3)}


def table2() -> Mapping[str, Run]:
    """Return table 2 of the paper, Dice and HD95: CCSD on BraTS 2020."""
    return {"split1": brats2020()}


def table1_small() -> Mapping[str, Run]:
    """Return the small version of table 1: each of the five folds of what is prepared left out in turn."""
    content = small().model_dump(mode="json")
    return {f"fold{fold}": checked_run({**content, "fold": fold}) for fold in range(5)}


def small() -> Run:
    """Return what the small versions of the tables have in common: 1000 steps of one 64³ patch at 2 mm, fold 0 left out.

    The method's default stands in for an absent modality, ``shared_mean``; at the size of the paper it is the paper's ``zero``.
    """
    return Run.of("ccsd", "small", BRIEF)


def _table(name: str, base: Callable[[], Run], where: str) -> Callable[[], Mapping[str, Run]]:
    """Return the recipe of a table."""
    rows, purpose = TABLES[name]

    def runs() -> Mapping[str, Run]:
        return varied(base, rows)

    runs.__doc__ = f"Return {purpose}: {len(rows)} runs {where}."
    return runs


TABLE_SETS: Mapping[str, Callable[[], Mapping[str, Run]]] = {
    f"ccsd.{name}{ending}": _table(name, base, where)
    for name in TABLES
    for ending, base, where in (("", brats2018, "on BraTS 2018 as published"), (".small", small, "on what is prepared"))
}
