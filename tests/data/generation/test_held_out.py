"""Held-out tumours: recognised in every mirroring and however they were cropped, in another edition too; others are not."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.generation.held_out import Reference, read_reference, recognised
from anymri.data.generation.material import Tumour
from anymri.data.patients import pooled
from anymri.domain.task import GLIOMA
from anymri.volumes.store import read_labels
from anymri.volumes.volume import Array, bounding_box

from ...material import write_made_case


def lump(seed: int, extent: int = 48) -> Array:
    """Return a lump of no symmetry, about 22 voxels across, bool."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((extent,) * 3), 5)
    axis = np.arange(extent) - (extent - 1) / 2
    far = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    return far < 11 + 4 * noise / noise.std()


def tumour_of(inside: Array, name: str = "map", stride: int = 2) -> Tumour:
    cropped = inside[bounding_box(inside)].astype(np.uint8)
    shares = np.pad(pooled(cropped, stride), 1)[None].repeat(3, 0)
    return Tumour(name, shares, shares.sum((1, 2, 3)) / stride**3)


def reference_of(inside: Array, name: str = "case") -> Reference:
    return Reference(name, 0, inside[bounding_box(inside)])


@pytest.mark.parametrize("axes", [axes for n in range(4) for axes in combinations(range(3), n)])
def test_in_every_mirroring(axes: tuple[int, ...]) -> None:
    tumours = [tumour_of(np.flip(lump(0), axes), "same"), tumour_of(lump(1), "other")]
    assert recognised(tumours, [reference_of(lump(0))], 2) == {"same": "case"}


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_another_edition_of_the_reference(stride: int) -> None:
    whole = lump(0)
    edited, (d, h, w) = whole.copy(), bounding_box(whole)
    edited[: d.start + 1] = edited[:, h.stop - 1 :] = False  # Something is missing on two sides,
    edited[24, 24, w.start - 1] = True  # on the third is a voxel more: the box moves, and the grid in it.
    assert bounding_box(edited) != bounding_box(whole)
    assert recognised([tumour_of(edited, stride=stride)], [reference_of(whole)], stride) == {"map": "case"}


def test_others_are_not() -> None:
    tumours = [tumour_of(lump(seed), f"map {seed}") for seed in range(6)]
    found = recognised(tumours, [reference_of(lump(seed), f"case {seed}") for seed in (2, 4, 9)], 2)
    assert found == {"map 2": "case 2", "map 4": "case 4"}
    assert recognised(tumours, [], 2) == {} == recognised([], [reference_of(lump(0))], 2)


def test_what_a_reference_tells_is_compared() -> None:
    outer, inner = lump(0), lump(0) & lump(1)
    shares = np.stack([np.pad(pooled(r[bounding_box(outer)].astype(np.uint8), 2), 1) for r in (outer, inner, inner)])
    nested = replace(tumour_of(outer), shares=shares)
    assert recognised([nested], [reference_of(inner)], 2) == {} == recognised([nested], [replace(reference_of(outer), region=1)], 2)
    assert recognised([nested], [replace(reference_of(inner), region=1)], 2) == {"map": "case"}


def test_references_of_cases(tmp_path: Path) -> None:
    write_made_case(tmp_path / "whole", GLIOMA, 0)
    write_made_case(tmp_path / "partly", GLIOMA, 0, known=GLIOMA.region_names[1:])
    write_made_case(tmp_path / "none", GLIOMA, 0, known=())
    whole, partly = (read_reference(tmp_path / name, GLIOMA) for name in ("whole", "partly"))
    assert whole is not None and partly is not None
    bits = read_labels(tmp_path / "whole")
    assert (whole.region, int(whole.inside.sum())) == (0, int((bits & 1).sum()))
    assert (partly.region, int(partly.inside.sum())) == (1, int((bits >> 1 & 1).sum()))
    assert read_reference(tmp_path / "none", GLIOMA) is None
