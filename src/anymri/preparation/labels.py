"""Voxel values of a label scheme ↔ region bits: bit r is set where a voxel belongs to region r of the task."""

from __future__ import annotations

import numpy as np

from anymri.domain.region import LabelScheme
from anymri.domain.task import BACKGROUND, Task
from anymri.errors import LabelSchemeError
from anymri.volumes.volume import Array


def region_bits(labels: Array, scheme: LabelScheme, task: Task, *, file: str = "the label map") -> Array:
    """Return the bit field of a label map, uint8. Bits of regions that the scheme does not know stay 0 and mean nothing.

    Args:
        labels: Whole numbers of any shape.
        scheme: How they are to be read.
        task: Whose regions the bits stand for.
        file: What to call the label map in an error.

    Raises:
        LabelSchemeError: If a value is outside the scheme.
    """
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high > max(scheme.values):
        raise _foreign(labels, scheme, task, file)
    table = np.zeros(max(scheme.values) + 1, dtype=np.uint8)
    allowed = np.zeros(len(table), dtype=bool)
    allowed[0] = True
    for value, regions in scheme.regions.items():
        allowed[value] = True
        table[value] = sum(1 << task.region_names.index(r) for r in regions)
    if not allowed[np.unique(labels)].all():
        raise _foreign(labels, scheme, task, file)
    return table[labels]


def _foreign(labels: Array, scheme: LabelScheme, task: Task, file: str) -> LabelSchemeError:
    values, counts = np.unique(labels, return_counts=True)
    foreign = [(int(v), int(n)) for v, n in zip(values, counts, strict=True) if int(v) not in scheme.values]
    found = {int(v) for v in values}
    fitting = [s.name for s in task.schemes if found <= set(s.values)]
    listed = ", ".join(f"{v} ({n} voxels)" for v, n in foreign[:5]) + (" …" if len(foreign) > 5 else "")
    advice = f"schemes that would fit: {', '.join(fitting)}" if fitting else f"no scheme of task {task.name} fits; check the file"
    known = ", ".join(map(str, scheme.values))
    return LabelSchemeError(f"{file}: holds the value {listed}; scheme {scheme.name} knows {known}; {advice}")


def labels_from_bits(bits: Array, scheme: LabelScheme, task: Task) -> Array:
    """Return the label map that a scheme writes for a bit field, uint8.

    A voxel counts as inside a region only if it is inside all outer ones.

    Raises:
        LabelSchemeError: If the scheme cannot write every class of the task.
    """
    written = scheme.written
    lacking = [c for c in task.classes if c != BACKGROUND and c not in (written or {})]
    if written is None or lacking:
        able = ", ".join(s.name for s in task.schemes if s.written is not None)
        raise LabelSchemeError(f"scheme {scheme.name} cannot write {', '.join(lacking)}; choose one of {able}")
    inside = np.array(task.membership)  # (R, K)
    table = np.zeros(256, dtype=np.uint8)
    for pattern in range(256):
        flags = np.array([bool(pattern >> r & 1) for r in range(len(task.regions))])
        nested = np.logical_and.accumulate(flags)
        match = np.flatnonzero((inside == nested[:, None]).all(axis=0))
        # No class has this pattern: fall back to the outermost region's own, which every nested set of regions has.
        name = task.classes[int(match[0])] if match.size else BACKGROUND
        table[pattern] = 0 if name == BACKGROUND else written[name]
    return table[bits]
