"""Observed cases made by code: what a model says of them is drawn, and the truth follows from it by a known rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from anymri.domain.modality import subsets
from anymri.domain.task import Task
from anymri.trust.advice import Gain
from anymri.trust.calibration import Calibration, Calibrations
from anymri.trust.caution import CautionCheck
from anymri.trust.checks import AdviceCheck, CalibrationCheck, Checks, DiceCheck
from anymri.trust.counts import INSIDE, LOGITS, TRUE, TRUE_BAND
from anymri.trust.expectation import LEVEL, Expectation
from anymri.trust.fitting import Belief, EmptyMasks, Sample
from anymri.trust.observation import Observation
from anymri.trust.record import Measured, TrustRecord

TRUTH = Calibration(temperature=2.0, offset=-1.0)
OWN = Calibration(temperature=4.0, offset=-3.0)  # Of T1 alone, in records.


def made_observations(task: Task, cases: int = 6, *, seed: int = 0, noise: float = 0.05) -> list[Observation]:
    """Return cases in which a modality more is a Dice more, each its own, and voxels are true as often as ``TRUTH`` says."""
    rng = np.random.default_rng(seed)
    names = subsets(task.modalities)
    found = []
    for case in range(cases):
        ease = rng.normal(0, 0.4)
        counts, dice = [], []
        for subset in names:
            sure = 3.0 + len(subset) + ease
            voxels = np.round(4e4 * np.exp(-((LOGITS + 9) ** 2) / 8) + 2e3 * np.exp(-((LOGITS - sure) ** 2) / 4))
            true = voxels * TRUTH.probability(LOGITS)
            inside = np.where(LOGITS > 0, voxels, 0)
            rows = np.stack([voxels, inside, true, voxels / 2, true / 2])
            gain = sum((r + 1) * kept for r, kept in enumerate(subset.mask))
            counts.append([rows] * len(task.regions))
            dice.append([float(expit(-1 + 0.5 * gain + ease + rng.normal(0, noise)))] * len(task.regions))
        empty = np.zeros((len(names), len(task.regions)), bool)
        found.append(Observation(f"case_{case}", tuple(map(str, names)), np.array(counts), np.array(dice), empty))
    return found


def emptied(sample: Sample, cases: Sequence[int], *, rightly: bool) -> Sample:
    """Return a sample in which nothing was found in these cases, rightly or not."""
    counts, dice, empty = sample.counts_CSNK.copy(), sample.dice_CS.copy(), sample.empty_CS.copy()
    of = list(cases)
    counts[of, :, INSIDE], dice[of], empty[of] = 0, float(rightly), True
    if rightly:
        counts[of, :, TRUE] = counts[of, :, TRUE_BAND] = 0
    return replace(sample, counts_CSNK=counts, dice_CS=dice, empty_CS=empty)


def made_record(task: Task, weights: str, *, intercept: float = 0.0) -> TrustRecord:
    """Return a record by which everything depends on the soft Dice, and the last modality is always what helps."""
    gains: dict[str, dict[str, Gain]] = {}
    for subset in subsets(task.modalities):
        for name in subset.missing:
            mean = 0.1 if name == subset.missing[-1] else 0.005
            gains.setdefault(str(subset), {})[name] = Gain(
                mean=mean, low=round(mean - 0.05, 3), high=round(mean + 0.05, 3), error=0.0, best=mean
            )
    belief = Belief(
        calibration=Calibrations(pooled=TRUTH, subsets={"T1": OWN}),
        expectation=Expectation(
            intercept=intercept,
            slope=1.0,
            modalities={},
            low=-0.5,
            high=0.5,
            residuals=tuple(np.linspace(-0.6, 0.6, 20).round(3).tolist()),
        ),
        gains=gains,
        empty=EmptyMasks(masks=0, right=0, cases=0, without=0),
    )
    errors = {"1": 0.03, "2": 0.02, "all": 0.01, "each": 0.02, "patient": 0.05}
    figures = CalibrationCheck(everywhere=errors, band=errors, cross_entropy=0.05)
    checks = Checks(
        calibration={"raw": figures, "temperature": figures, "fitted": figures},
        dice=DiceCheck(
            mean_absolute_error=0.1,
            by_number={"1": 0.2},
            by_modalities_alone=0.2,
            correlation=0.8,
            within_subsets=0.5,
            coverage=0.8,
            width=0.3,
        ),
        advice=AdviceCheck(
            choices=10,
            best=0.7,
            near=0.8,
            gain=0.2,
            possible=0.3,
            always={},
            by_patient=0.2,
            by_patient_error=0.01,
            coverage=0.8,
            unnamed=0,
        ),
        caution=CautionCheck(masks=40, poor=6, doubtful=4, doubtful_poor=3, uncertain=4, uncertain_poor=1, chances=()),
    )
    return TrustRecord(
        task=task.name,
        method="ccsd",
        weights=(weights,),
        measured=(weights,),
        cohort="made_up",
        cases=17,
        level=LEVEL,
        regions={r: Measured(belief=belief, checks=checks) for r in task.region_names},
        version="0.1.0",
    )
