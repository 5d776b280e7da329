"""Probabilities that are as often right as they say: two numbers per region and subset, and how far off they are before and after.

A logit is divided by a temperature and shifted by an offset before it becomes a probability. The mask is made of the logits as they
are, so neither changes it. The offset is not decoration: a mask that is to have the highest Dice holds voxels that are more likely
outside than inside, wherever that Dice is low.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from anymri.trust.counts import EVERYWHERE, INSIDE, LOGITS, Array, Floats

_COLDEST, _HOTTEST = 0.05, 20.0  # Temperatures of any network that was trained lie between them.
_FURTHEST = 20.0
_ECE_BINS = 15


class Calibration(BaseModel):
    """From logit to probability.

    Attributes:
        temperature: What logits are divided by.
        offset: What is then added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(default=1.0, gt=0)
    offset: float = 0.0

    def probability(self, logits: Array) -> Array:
        """Return what logits stand for, any shape."""
        return expit(logits / self.temperature + self.offset)


class Calibrations(BaseModel):
    """Calibrations of one region.

    A network that sees T1c alone and one that sees all four are wrong in other ways, so each subset has its own.

    Attributes:
        pooled: Of all subsets together.
        subsets: Subset, as it prints → its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooled: Calibration = Calibration()
    subsets: dict[str, Calibration] = {}

    def of(self, subset: str) -> Calibration:
        """Return that of a subset; that of all together where it has none."""
        return self.subsets.get(subset, self.pooled)


def fitted_temperature(voxels_K: Array, true_K: Array) -> Calibration:
    """Return the temperature, without an offset, by which voxels are likeliest; 1 if there are none.

    Args:
        voxels_K: Counts over the logit.
        true_K: Those of them that the reference counts in.
    """
    from scipy.optimize import minimize_scalar  # Needed to fit alone; segmenting need not wait for it.

    if not np.sum(voxels_K):
        return Calibration()

    def loss(x: float) -> float:
        return cross_entropy(voxels_K, true_K, Calibration(temperature=float(np.exp(x))))

    found = minimize_scalar(loss, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return Calibration(temperature=float(np.exp(found.x)))


def fitted(voxels_K: Array, true_K: Array) -> Calibration:
    """Return the temperature and the offset by which voxels are likeliest (Platt).

    Args:
        voxels_K: Counts over the logit.
        true_K: Those of them that the reference counts in.

    Raises:
        ValueError: If a count is not a number.
    """
    from scipy.optimize import minimize

    if not (np.isfinite(voxels_K).all() and np.isfinite(true_K).all()):
        raise ValueError("counts must be numbers")
    if not (total := float(np.sum(voxels_K))):
        return Calibration()

    def loss(x: Floats) -> tuple[float, Floats]:
        scores = x[0] * LOGITS + x[1]  # Convex in these two.
        surplus = voxels_K * expit(scores) - true_K
        value = voxels_K @ np.logaddexp(0, scores) - true_K @ scores
        return value / total, np.array([surplus @ LOGITS, surplus.sum()]) / total

    bounds = ((1 / _HOTTEST, 1 / _COLDEST), (-_FURTHEST, _FURTHEST))
    precise = {"ftol": 1e-13, "gtol": 1e-9}
    found = minimize(loss, np.array([0.5, -0.5]), jac=True, method="L-BFGS-B", bounds=bounds, options=precise)
    return Calibration(temperature=1 / float(found.x[0]), offset=float(found.x[1]))


def cross_entropy(voxels_K: Array, true_K: Array, calibration: Calibration) -> float:
    """Return the mean of −log of the probability that was given to what the reference says, in nats per voxel."""
    p = np.clip(calibration.probability(LOGITS), 1e-12, 1 - 1e-12)
    total = true_K @ np.log(p) + (voxels_K - true_K) @ np.log1p(-p)
    return float(-total / max(np.sum(voxels_K), 1))


def gaps(voxels_K: Array, true_K: Array, calibration: Calibration) -> Floats:
    """Return, for 15 equal bins of probability, how many more voxels were promised than there are; negative if fewer.

    Args:
        voxels_K: Counts over the logit.
        true_K: Those of them that the reference counts in.
        calibration: What makes probabilities of the logits.
    """
    p = calibration.probability(LOGITS)
    place = np.minimum((p * _ECE_BINS).astype(int), _ECE_BINS - 1)
    return np.bincount(place, voxels_K * p - true_K, minlength=_ECE_BINS).astype(np.float64)


def expected_calibration_error(voxels_K: Array, true_K: Array, calibration: Calibration) -> float:
    """Return the mean distance between what is said and what is so, in 15 equal bins of probability, weighted by their voxels.

    Returns:
        From 0 to 1; NaN if there are no voxels.

    Source: Naeini et al., AAAI 2015; for each region a voxel is in or out.
    """
    total = float(np.sum(voxels_K))
    return float(np.abs(gaps(voxels_K, true_K, calibration)).sum()) / total if total else float("nan")


def soft_dice(said_NK: Array, calibration: Calibration) -> Floats:
    """Return the Dice of a mask with a truth drawn from the probabilities: 2 Σ p·m / (Σ p + Σ m); 0 if both sums are 0.

    Args:
        said_NK: Counts everywhere and inside the mask, as ``counts.said`` returns them; any axes before these two are kept.
        calibration: What makes probabilities of the logits.
    """
    p = calibration.probability(LOGITS)
    inside = said_NK[..., INSIDE, :]
    both = np.asarray(said_NK[..., EVERYWHERE, :] @ p + inside.sum(-1))
    return np.divide(2 * (inside @ p), both, out=np.zeros_like(both), where=both > 0)
