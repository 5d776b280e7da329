"""What is scored, and what an empty mask is worth: a frozen value, so that two tables can be told apart by its name.

Published Dice and Hausdorff figures differ by several points through these rules alone. ``anymri`` is ours; the others score as a
published method did, so that a number can be set beside its numbers. What is not known of their source they take from ours, and say
so: ``Protocol.open``. A new protocol is one more ``Protocol`` in ``PROTOCOLS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from anymri.domain.case import Shape
from anymri.errors import GridMismatchError, UsageError
from anymri.metrics.masks import Comparison, Mask, Reference, compare, prepare_reference
from anymri.volumes.volume import Spacing

DICE = "dice"
HAUSDORFF = "hausdorff_95_mm"
VOLUME = "volume_ml"
REFERENCE_VOLUME = "reference_volume_ml"
# Every metric and its unit, in the order of tables; "1" is a share, from 0 to 1.
UNITS: Mapping[str, str] = MappingProxyType(
    {
        DICE: "1",
        HAUSDORFF: "mm",
        "directed_hausdorff_95_mm": "mm",
        "surface_dice_1mm": "1",
        "sensitivity": "1",
        "precision": "1",
        VOLUME: "ml",
        REFERENCE_VOLUME: "ml",
    }
)
_TOLERANCE_MM = 1.0
Worth = float | Literal["diagonal"]


@dataclass(frozen=True)
class EmptyRule:
    """What a metric is worth where a mask is empty.

    NaN: no value, counted but in no mean. "diagonal": that of the scored grid in mm.

    Attributes:
        both: Neither mask has a voxel.
        missed: The prediction alone is empty.
        invented: The reference alone is empty.
    """

    both: Worth
    missed: Worth
    invented: Worth


@dataclass(frozen=True)
class Protocol:
    """Rules of scoring.

    Attributes:
        name: The word on the command line and in tables.
        description: Whose rules they are.
        agreement: For shares: Dice, surface Dice, sensitivity, precision.
        distance: For distances in mm.
        dice_epsilon: If positive, Dice is (2·common + ε)/(sum + ε), which needs no rule for empty masks.
        least_voxels: By region, outermost first: a predicted region with fewer voxels is taken for empty, the regions around it
            stay as they are. For tasks with as many regions.
        window: If given, prediction and reference are both cut to this many voxels around the grid's centre.
        percent: Whether tables show shares in percent or as fractions; score tables hold fractions.
        open: What is not known of its source; there the rules are ours.
        unlike: What is known of its source and is not done here.
    """

    name: str
    description: str
    agreement: EmptyRule
    distance: EmptyRule
    dice_epsilon: float = 0.0
    least_voxels: tuple[int, ...] = ()
    window: Shape | None = None
    percent: bool = True
    open: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


def zero_if_either_empty() -> EmptyRule:
    """Return the first treatment of distances: 0 wherever a mask is empty, which rewards misses and false lesions."""
    return EmptyRule(both=0.0, missed=0.0, invented=0.0)


def penalise_false_lesion(penalty: Worth = "diagonal") -> EmptyRule:
    """Return the second treatment of distances: a penalty in mm if the reference alone is empty, 0 for a miss, which it rewards."""
    return EmptyRule(both=0.0, missed=0.0, invented=penalty)


def penalise_mismatch(penalty: Worth = "diagonal") -> EmptyRule:
    """Return the third treatment of distances, ours: a penalty in mm if exactly one mask is empty."""
    return EmptyRule(both=0.0, missed=penalty, invented=penalty)


ANYMRI = Protocol(
    name="anymri",
    description="ours",
    agreement=EmptyRule(both=1.0, missed=0.0, invented=0.0),
    distance=penalise_mismatch(),
)
_KIND = "whether HD95 pools both directions or takes the larger percentile (score tables have both)"
_EMPTY_DICE = "Dice where a mask is empty"
_EMPTY_DISTANCE = "HD95 where a mask is empty"
RFNET = replace(
    ANYMRI,
    name="rfnet",
    description="RFNet (ICCV 2021) and those who score like it: a small innermost region is removed, Dice with ε",
    dice_epsilon=1e-8,
    least_voxels=(0, 0, 500),
    open=("the value of ε", "whether what is removed stays in the regions around it (here it does)", _EMPTY_DISTANCE, _KIND),
)
M3AE = replace(
    ANYMRI,
    name="m3ae",
    description="M3AE (AAAI 2023); its rules of scoring are not known, so it is ours under another name",
    open=("whether small regions are removed", "smoothing of Dice", _EMPTY_DICE, _EMPTY_DISTANCE, _KIND),
)
_CROP: Shape = (160, 192, 128)
_SEEN = "its network is given the crop alone, ours the whole image"
SMUNET = replace(
    ANYMRI,
    name="smunet",
    description="SMU-Net (MIDL 2022): one crop around the centre, Dice with smoothing 1",
    dice_epsilon=1.0,
    window=_CROP,
    open=(_EMPTY_DISTANCE, _KIND),
    unlike=(_SEEN,),
)
# The diagonal of 240 × 240 × 155 voxels of 1 mm, in the crop as well; its text prints 393.13, a slip.
_PENALTY_MM = math.hypot(240, 240, 155)
ADAMM = replace(
    ANYMRI,
    name="adamm",
    description="AdaMM (arXiv 2509.15017): one crop around the centre; HD95 penalised if exactly one mask is empty",
    distance=penalise_mismatch(_PENALTY_MM),
    window=_CROP,
    open=("the size of the crop that is scored (here that of training)", "smoothing of Dice", _KIND),
    unlike=(_SEEN, "its program scores with dropout switched on"),
)
ADAMM_ZERO = replace(
    ADAMM,
    name="adamm_zero_if_either_empty",
    description="as adamm, but HD95 is 0 wherever a mask is empty: misses and false lesions are rewarded",
    distance=zero_if_either_empty(),
)
ADAMM_FALSE = replace(
    ADAMM,
    name="adamm_penalise_false_lesion",
    description="as adamm, but HD95 is penalised for a false lesion alone: misses are rewarded",
    distance=penalise_false_lesion(_PENALTY_MM),
)
NNUNET = replace(
    ANYMRI,
    name="nnunet",
    description="nnU-Net's own evaluation: Dice as a fraction, without value where both masks are empty",
    agreement=EmptyRule(both=math.nan, missed=0.0, invented=0.0),
    distance=EmptyRule(both=math.nan, missed=math.nan, invented=math.nan),
    percent=False,
    unlike=("it reports no distances; here they have no value where a mask is empty",),
)
PROTOCOLS = (ANYMRI, RFNET, M3AE, SMUNET, ADAMM, ADAMM_ZERO, ADAMM_FALSE, NNUNET)


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


def rules(protocol: Protocol) -> tuple[str, ...]:
    """Return the rules of a protocol, one line each."""
    where, removed = "the whole grid", "nothing"
    dice = f"2·common/sum; {_worded(protocol.agreement)}"
    if protocol.window is not None:
        where = f"{' × '.join(map(str, protocol.window))} voxels around the centre of the grid, along its axes"
    if protocol.least_voxels:
        removed = f"regions of fewer voxels than {', '.join(map(str, protocol.least_voxels))}, outermost region first"
    if protocol.dice_epsilon > 0:
        dice = f"(2·common + {protocol.dice_epsilon:g})/(sum + {protocol.dice_epsilon:g})"
    return (
        f"scored on: {where}",
        f"removed from predictions: {removed}",
        f"Dice: {dice}",
        f"HD95 and other distances in mm: {_worded(protocol.distance)}",
        f"shares: shown {'in percent' if protocol.percent else 'as fractions'}",
    )


def caveats(protocol: Protocol) -> tuple[str, ...]:
    """Return in what a protocol may differ from its source, one line for what is not known and one for what is."""
    lines = ("not known, so as ours: " + "; ".join(protocol.open), "not as its source: " + "; ".join(protocol.unlike))
    return tuple(line for line, has in zip(lines, (protocol.open, protocol.unlike), strict=True) if has)


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
        HAUSDORFF: found.hausdorff_95_mm if distance is None else distance,
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
        UsageError: If a region of the reference was not predicted, or the protocol has rules for another number of regions.
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
    if protocol.least_voxels and len(protocol.least_voxels) != len(prediction):
        raise UsageError(
            f"protocol '{protocol.name}' has rules for {len(protocol.least_voxels)} regions; found {len(prediction)} "
            f"({', '.join(prediction)}): choose another protocol"
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


def _worded(rule: EmptyRule) -> str:
    def worth(value: Worth) -> str:
        if isinstance(value, str):
            return "the diagonal of the scored grid"
        return "no value" if math.isnan(value) else f"{value:.2f}".removesuffix(".00")

    return f"both empty {worth(rule.both)}, missed {worth(rule.missed)}, invented {worth(rule.invented)}"


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
