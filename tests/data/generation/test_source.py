"""A batch with generated patches: chance from numbers alone, what is left alone keeps its bits, nobody claims to know more."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from anymri.data.batch import Batch
from anymri.data.generation.material import load_material
from anymri.data.generation.mixing import MixDraw
from anymri.data.generation.settings import Generation
from anymri.data.generation.source import GenerationDraw, Source, apply_generation, draw_generation
from anymri.data.generation.synthesis import Models, SynthesisDraw
from anymri.data.generation.transplant import TransplantDraw
from anymri.data.patches import draw_patches, make_batch
from anymri.data.patients import Patient
from anymri.domain.appearance import appearance_of
from anymri.domain.task import GLIOMA

from ...material import made_patient
from .made import write_material

SIZE = (8, 8, 8)


def patients() -> list[Patient]:
    return [made_patient(GLIOMA, s, extent=(14, 12, 16)) for s in range(3)]


def source_of(settings: Generation, given: list[Patient], models: Models | None = None) -> Source:
    return Source(settings, given, [1.0] * len(given), SIZE, 1, 4.0, 0.5, models)


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


def test_a_mixed_patch_knows_what_its_recipient_knows() -> None:
    whole, partly, _ = patients()
    partly = replace(partly, known=np.array([True, False, False]), centres=partly.centres[:1])
    plain, found, draw = generated(source_of(Generation(mix=1.0), [whole, partly]), 0, count=12)
    mixed = torch.tensor([change is not None for change in draw.changes])
    assert mixed.tolist() == [patch.patient == 1 for patch in draw.patches] and 0 < mixed.sum() < 12
    assert torch.equal(found.known_BR, plain.known_BR)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    material = load_material(write_material(tmp_path_factory.mktemp("material")), GLIOMA, 2)
    appearance = appearance_of(GLIOMA)
    assert appearance is not None
    return Models(GLIOMA, appearance, material.anatomies, material.tumours, (), 2)


def test_a_synthetic_patch_shows_and_knows_everything(models: Models) -> None:
    partly = [replace(p, known=np.array([True, False, False]), present=np.arange(4) < 1) for p in patients()]
    plain, found, draw = generated(source_of(Generation(synthetic=0.5), partly, models), 3, count=12)
    made = torch.tensor([isinstance(change, SynthesisDraw) for change in draw.changes])
    assert 2 < made.sum() < 10
    assert found.present_BM[made].all() and found.known_BR[made].all()
    assert {name for name, synthetic in zip(found.names, made, strict=True) if synthetic} == {"synthetic:head.nii.gz"}
    assert torch.equal(found.image_BMDHW[~made], plain.image_BMDHW[~made]) and torch.equal(
        found.present_BM[~made], plain.present_BM[~made]
    )
    assert found.image_BMDHW.dtype == plain.image_BMDHW.dtype and found.origin_B3.dtype == plain.origin_B3.dtype
    assert found.image_BMDHW.shape == plain.image_BMDHW.shape and found.target_BRDHW.shape == plain.target_BRDHW.shape


def test_each_share_is_as_asked_for(models: Models) -> None:
    source = source_of(Generation(synthetic=0.3, mix=0.5, transplant=0.5), patients(), models)
    cuts = draw_patches(source.patients, SIZE, 1000, tumour_share=0.5, weights=source.weights, seed=(0,))
    found = Counter(type(change) for change in draw_generation(source, cuts, seed=(0,)).changes)
    shares = {SynthesisDraw: 0.3, MixDraw: 0.7 * 0.5, TransplantDraw: 0.7 * 0.5 * 0.5}
    assert {kind: found[kind] / 1000 for kind in shares} == pytest.approx(shares, abs=0.05)


def test_all_kinds_follow_from_the_numbers_alone(models: Models) -> None:
    source = source_of(Generation(synthetic=0.3, mix=0.4, transplant=1.0), patients(), models)
    first, again = (generated(source, 7, 8, 9, count=10)[1] for _ in range(2))
    assert_same(first, again)


def test_absent_modalities_do_not_matter() -> None:
    given = [replace(p, present=np.array([True, False, True, True])) for p in patients()]
    spoilt = [replace(p, image=p.image.copy()) for p in given]
    for patient in spoilt:
        patient.image[1] = np.nan
    settings = Generation(mix=0.5, transplant=1.0)
    whole, found = (generated(source_of(settings, p), 4, count=8)[1] for p in (given, spoilt))
    rows = [0, 2, 3]
    assert torch.equal(whole.image_BMDHW[:, rows], found.image_BMDHW[:, rows])
    assert torch.equal(whole.target_BRDHW, found.target_BRDHW)
