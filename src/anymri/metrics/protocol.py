"""What is scored, and what an empty mask is worth: a frozen value, so that two tables can be told apart by its name.

Published Dice and Hausdorff figures differ by several points through these rules alone. ``anymri`` is ours; a new protocol is one
more ``Protocol`` in ``PROTOCOLS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from anymri.domain.case import Shape
from anymri.errors import GridMismatchError, UsageError
from anymri.metrics.masks import Comparison, Mask, Reference, compare, prepare_reference
from anymri.volumes.volume import Spacing

DICE = "dice"
VOLUME = "volume_ml"
REFERENCE_VOLUME = "reference_volume_ml"
# Every metric and its unit, in the order of tables; "1" is a share, from 0 to 1.
UNITS: Mapping[str, str] = MappingProxyType(
    {
        DICE: "1",
        "hausdorff_95_mm": "mm",
        "directed_hausdorff_95_mm": "mm",
        "surface_dice_1mm": "1",
        "sensitivity": "1",
        "precision": "1",
        VOLUME: "ml",
        REFERENCE_VOLUME: "ml",
    }
)
_TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class EmptyRule:
    """What a metric is worth where a mask is empty.

    NaN: no value, counted but in no mean. "diagonal": that of the scored grid in mm.

    Attributes:
        both: Neither mask has a voxel.
        missed: The prediction alone is empty.
        invented: The reference alone is empty.
    """

    both: float | Literal["diagonal"]
    missed: float | Literal["diagonal"]
    invented: float | Literal["diagonal"]


@dataclass(frozen=True)
class Protocol:
    """Rules of scoring.

    Attributes:
        name: The word on the command line and in tables.
        description: One line for people.
        agreement: For shares: Dice, surface Dice, sensitivity, precision.
        distance: For distances in mm.
        dice_epsilon: If positive, Dice is (2·common + ε)/(sum + ε), which needs no rule for empty masks.
        least_voxels: By region, outermost first: a predicted region with fewer voxels is taken for empty.
        window: If given, prediction and reference are both cut to this many voxels around the grid's centre.
    """

    name: str
    description: str
    agreement: EmptyRule
    distance: EmptyRule
    dice_epsilon: float = 0.0
    least_voxels: tuple[int, ...] = ()
    window: Shape | None = None


ANYMRI = Protocol(
    name="anymri",
    description="whole grid, nothing removed; both empty: Dice 1, HD95 0; one empty: Dice 0, HD95 the diagonal of the grid",
    agreement=EmptyRule(both=1.0, missed=0.0, invented=0.0),
    distance=EmptyRule(both=0.0, missed="diagonal", invented="diagonal"),
)
PROTOCOLS = (ANYMRI,)


@dataclass(frozen=True, eq=False)
class CaseReference:
    """The reference of one case, ready for any number of predictions.

    Attributes:
        protocol: Rules it was prepared for.
        shape: Voxels of the case's grid, before any window.
        regions: Known region → its reference.
    """

    protocol: Protocol
    shape: Shape
    regions: Mapping[str, Reference]


def protocol_named(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        UsageError: If there is no such protocol.
    """
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    raise UsageError(f"protocol '{name}' is unknown; expected one of {', '.join(p.name for p in PROTOCOLS)}")


def score(prediction: Mask, reference: Reference, protocol: Protocol) -> dict[str, float]:
    """Score one region as it is: every metric of ``UNITS``, in that order.

    Rules on a whole case (``least_voxels``, ``window``) belong to ``score_case``.

    Raises:
        GridMismatchError: If the shapes differ.
    """
    found = compare(prediction, reference)
    agreement = _ruled(protocol.agreement, found)
    distance = _ruled(protocol.distance, found)
    values = {
        DICE: found.dice if agreement is None else agreement,
        "hausdorff_95_mm": found.hausdorff_95_mm if distance is None else distance,
        "directed_hausdorff_95_mm": found.directed_hausdorff_95_mm if distance is None else distance,
        "surface_dice_1mm": found.surface_dice(_TOLERANCE_MM) if agreement is None else agreement,
        "sensitivity": found.sensitivity if agreement is None else agreement,
        "precision": found.precision if agreement is None else agreement,
        VOLUME: found.volume_ml,
        REFERENCE_VOLUME: found.reference_volume_ml,
    }
    if protocol.dice_epsilon > 0:
        epsilon = protocol.dice_epsilon
        values[DICE] = (2 * found.common + epsilon) / (found.predicted + found.referred + epsilon)
    return values


def score_masks(prediction: Mask, truth: Mask, spacing_mm: Spacing, protocol: Protocol) -> dict[str, float]:
    """Score one region of one prediction; for several predictions prepare the reference once and call ``score``.

    Raises:
        GridMismatchError: If the shapes differ.
    """
    return score(prediction, prepare_reference(truth, spacing_mm), protocol)


def prepare_case(truth: Mapping[str, Mask], spacing_mm: Spacing, protocol: Protocol) -> CaseReference:
    """Return the reference of a case.

    Args:
        truth: Region → mask (D, H, W) on the patient's own grid, for the regions that the reference tells; at least one.
        spacing_mm: Voxel edge lengths along D, H, W.
        protocol: Rules of scoring.

    Raises:
        GridMismatchError: If the masks differ in shape.
    """
    shape = _one_shape(truth, "reference")
    return CaseReference(
        protocol=protocol,
        shape=shape,
        regions=MappingProxyType({r: prepare_reference(_windowed(m, protocol), spacing_mm) for r, m in truth.items()}),
    )


def score_case(prediction: Mapping[str, Mask], case: CaseReference) -> dict[str, dict[str, float]]:
    """Score a prediction of a case under the protocol that its reference was prepared for.

    Args:
        prediction: Region → mask on the patient's own grid, for every region of the task, outermost first.
        case: From ``prepare_case``.

    Returns:
        Region → metric → value, for the regions that the reference tells.

    Raises:
        GridMismatchError: If the shapes differ.
        UsageError: If a region of the reference was not predicted.
    """
    protocol = case.protocol
    absent = [r for r in case.regions if r not in prediction]
    if absent:
        raise UsageError(f"the prediction lacks region {', '.join(absent)} of the reference; it has {', '.join(prediction)}")
    if _one_shape(prediction, "prediction") != case.shape:
        raise GridMismatchError(
            f"prediction of shape {_one_shape(prediction, 'prediction')} does not fit a reference of shape {case.shape}; "
            "bring both to one grid"
        )
    least = dict(zip(prediction, protocol.least_voxels, strict=False))
    scores: dict[str, dict[str, float]] = {}
    for region, reference in case.regions.items():
        # Counted before the window is cut: what is small depends on the lesion, not on where the grid's centre lies.
        mask, fewest = prediction[region], least.get(region, 0)
        if fewest and np.count_nonzero(mask) < fewest:
            mask = np.zeros_like(mask)
        scores[region] = score(_windowed(mask, protocol), reference, protocol)
    return scores


def _ruled(rule: EmptyRule, found: Comparison) -> float | None:
    """Return what the rule says, or None where neither mask is empty and the metric speaks for itself."""
    if found.both_empty:
        value = rule.both
    elif found.prediction_empty:
        value = rule.missed
    elif found.reference_empty:
        value = rule.invented
    else:
        return None
    return found.diagonal_mm if isinstance(value, str) else value


def _one_shape(masks: Mapping[str, Mask], what: str) -> Shape:
    shapes = {r: tuple(m.shape) for r, m in masks.items()}
    if len(set(shapes.values())) != 1:
        raise GridMismatchError(f"{what}: regions of one case must share one grid; found {shapes or 'no region'}")
    d, h, w = next(iter(shapes.values()))
    return d, h, w


def _windowed(mask: Mask, protocol: Protocol) -> Mask:
    if protocol.window is None:
        return mask
    starts = [max(n - w, 0) // 2 for n, w in zip(mask.shape, protocol.window, strict=True)]
    return mask[tuple(slice(s, s + w) for s, w in zip(starts, protocol.window, strict=True))]
