"""What a model said of cases that it was not trained on, for every subset of their modalities, and how right it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anymri.data.patients import check_names, full_image
from anymri.domain.task import Task
from anymri.engine.inference import nested, region_logits_of, restored
from anymri.engine.model import Model
from anymri.errors import CaseError
from anymri.metrics.masks import dice
from anymri.trust import counts
from anymri.trust.counts import Array
from anymri.volumes.store import read_case, read_labels, read_truth
from anymri.volumes.volume import Grid

BAND_MM = 10.0  # Around the outermost region, and all of that: where a probability matters. Most of a brain is plainly healthy.


@dataclass(frozen=True, eq=False)
class Observation:
    """One case, with the modalities of each subset at hand.

    Attributes:
        case: Its name.
        subsets: Axis S, as a Subset prints.
        counts_SRNK: Voxels of the prepared grid over the logit, by region; N as in ``counts``: what the model said by itself
            (everywhere, inside), and the reference (true, band, true in the band).
        dice_SR: On the patient's own grid, as ``evaluate`` scores it: 1 where both masks are empty.
        empty_SR: Whether the model's mask there holds no voxel; known without the reference.
    """

    case: str
    subsets: tuple[str, ...]
    counts_SRNK: Array
    dice_SR: NDArray[np.float64]
    empty_SR: NDArray[np.bool_]


def said_of(logits_RDHW: Array, image_MDHW: Array) -> NDArray[np.int64]:
    """Return what a model said of a patient, counts (R, N = 2, K).

    Args:
        logits_RDHW: On the prepared grid.
        image_MDHW: The images at hand there; their background is 0.
    """
    return counts.said(logits_RDHW, nested(logits_RDHW), (image_MDHW != 0).any(0))


def observe(model: Model, folder: Path, *, device: torch.device) -> Observation:
    """Return what a model says of a prepared case with each subset of its modalities.

    Raises:
        CaseError: If the case is for another task, or its reference does not tell every region.
    """
    case, task = read_case(folder), model.method.task
    check_case(folder, task)
    grids = Grid.from_lattice(case.grid), Grid.from_lattice(case.native)
    image, bits, truth = full_image(folder, task), read_labels(folder), read_truth(folder).array
    flags = [np.uint8(1 << r) for r in range(len(task.regions))]
    labels, truths = (np.stack([(b & f) > 0 for f in flags]) for b in (bits, truth))
    band = counts.near(labels[0], grids[0].spacing_mm, BAND_MM)
    shown = image != 0
    present = task.modalities.subset(case.modalities)
    keeps = [s for s in model.method.supports() if s <= present]
    found, scores, empty = [], [], []
    logits_of_subsets = region_logits_of(model, image, present.mask, [s.mask for s in keeps], device=device)
    for subset, logits in zip(keeps, logits_of_subsets, strict=True):
        masks = nested(logits)
        foreground = shown[np.array(subset.mask)].any(0)
        everywhere = foreground | masks[0]
        own = counts.said(logits, masks, foreground)
        known = counts.right(logits, labels, (everywhere, everywhere & band))
        found.append(np.concatenate([own, known], axis=1).astype(np.int32))
        native = nested(restored(logits, *grids))
        scores.append([dice(m, t) for m, t in zip(native, truths, strict=True)])  # NaN: both are empty.
        empty.append([not m.any() for m in native])
    reached = np.nan_to_num(np.array(scores), nan=1.0)
    return Observation(case.name, tuple(map(str, keeps)), np.stack(found), reached, np.array(empty))


def check_case(folder: Path, task: Task) -> None:
    """Check that a case can be asked about with every subset.

    Raises:
        CaseError: If it is for another task, lacks a modality, or its reference does not tell every region.
    """
    case = read_case(folder)
    if case.task != task.name:
        raise CaseError(
            f"{folder}: prepared for task {case.task}, the weights are for {task.name}; prepare it again with --task {task.name}"
        )
    check_names(case, folder, task)
    if case.modalities != task.modalities.names or set(case.known_regions) != set(task.region_names):
        raise CaseError(
            f"{folder}: has {', '.join(case.modalities)} and a reference of {', '.join(case.known_regions) or 'nothing'}; expected "
            f"{', '.join(task.modalities.names)} and {', '.join(task.region_names)}; take it out of the folds"
        )
