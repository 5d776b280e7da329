"""A batch with generated patches: chance from numbers alone, what is left alone keeps its bits, nobody claims to know more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from anymri.data.batch import Batch
from anymri.data.generation.settings import Generation
from anymri.data.generation.source import GenerationDraw, Source, apply_generation, draw_generation
from anymri.data.patches import draw_patches, make_batch
from anymri.data.patients import Patient
from anymri.domain.task import GLIOMA

from ...material import made_patient

SIZE = (8, 8, 8)


def patients() -> list[Patient]:
    return [made_patient(GLIOMA, s, extent=(14, 12, 16)) for s in range(3)]


def source_of(settings: Generation, given: list[Patient]) -> Source:
    return Source(settings, given, [1.0] * len(given), SIZE, 1)


def generated(source: Source, *seed: int, count: int = 4) -> tuple[Batch, Batch, GenerationDraw]:
    given = source.patients
    cuts = draw_patches(given, SIZE, count, tumour_share=0.5, weights=source.weights, seed=seed)
    draw = draw_generation(source, cuts, seed=seed)
    plain = make_batch(given, draw.patches, SIZE, 1)
    return plain, apply_generation(plain, draw, source), draw


def assert_same(one: Batch, other: Batch) -> None:
    assert torch.equal(one.image_BMDHW, other.image_BMDHW) and torch.equal(one.target_BRDHW, other.target_BRDHW)
    assert torch.equal(one.known_BR, other.known_BR) and one.names == other.names


def test_nothing_is_generated_unless_asked_for() -> None:
    assert not Generation().active
    plain, found, draw = generated(source_of(Generation(), patients()), 1)
    assert found is plain and not any(draw.changes)


def test_the_same_numbers_give_the_same_bits() -> None:
    source = source_of(Generation(mix=0.8), patients())
    first, again, other = (generated(source, *seed)[1] for seed in ((1, 2, 0), (1, 2, 0), (1, 3, 0)))
    assert_same(first, again)
    assert not torch.equal(first.image_BMDHW, other.image_BMDHW)


def test_patches_that_are_left_alone_keep_their_bits() -> None:
    plain, found, draw = generated(source_of(Generation(mix=0.5), patients()), 5, count=12)
    left = torch.tensor([change is None for change in draw.changes])
    assert 2 < left.sum() < 10
    assert torch.equal(found.image_BMDHW[left], plain.image_BMDHW[left])
    assert torch.equal(found.target_BRDHW[left], plain.target_BRDHW[left])
    assert (found.image_BMDHW[~left] != plain.image_BMDHW[~left]).any()


def test_a_mixed_patch_knows_what_both_know() -> None:
    whole, partly, _ = patients()
    partly = replace(partly, known=np.array([True, False, False]), centres=partly.centres[:1])
    _, found, draw = generated(source_of(Generation(mix=1.0), [whole, partly]), 0)
    assert all(draw.changes)
    assert found.known_BR.tolist() == [[True, False, False]] * 4
