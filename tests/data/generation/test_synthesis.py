"""Synthetic patients: nested regions in a brain, z-scores as prepared images have them, each ingredient switched by its field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anymri.data.generation.material import load_material
from anymri.data.generation.settings import Generation
from anymri.data.generation.synthesis import Models, SynthesisDraw, _pushed, draw_synthesis, synthesised
from anymri.domain.appearance import appearance_of
from anymri.domain.task import GLIOMA, Task

from ...material import task_with
from .made import write_material

SIZE = (32, 32, 32)
STILL = Generation(
    healthy=0,
    flip=0,
    rotation_degrees=0,
    scaling=0,
    deformation_mm=0,
    tumour_deformation_mm=0,
    mass_effect=0,
    random_contrast=0,
    contrast_spread=0,
    texture=0,
    partial_volume=0,
    artefacts=None,
)


def models_for(task: Task, folder: Path) -> Models:
    appearance, material = appearance_of(task), load_material(folder, task, 2)
    assert appearance is not None
    return Models(task, appearance, material.anatomies, material.tumours, (), 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return models_for(GLIOMA, folder)


def drawn(settings: Generation, models: Models, seed: int) -> SynthesisDraw:
    return draw_synthesis(settings, models, SIZE, tumour_share=1.0, rng=np.random.default_rng(seed))


def made(settings: Generation, models: Models, seed: int) -> tuple[Tensor, Tensor]:
    return synthesised(drawn(settings, models, seed), models, SIZE, torch.device("cpu"))


def test_the_same_seed_makes_the_same_patient(models: Models) -> None:
    (image, target), again, other = (made(Generation(), models, seed) for seed in (1, 1, 2))
    assert torch.equal(image, again[0]) and torch.equal(target, again[1])
    assert not torch.equal(image, other[0]) and not torch.equal(target, other[1])


@pytest.mark.parametrize("seed", range(6))
def test_regions_are_nested_and_inside_the_brain(models: Models, seed: int) -> None:
    settings = Generation(healthy=0.0, artefacts=None)
    image, target = made(settings, models, seed)
    assert target.shape == (3, *SIZE) and image.shape == (4, *SIZE)
    assert target.min() >= 0 and target.max() <= 1 + 1e-6 and target[0].sum() > 20
    assert (target[:-1] >= target[1:] - 1e-6).all()
    brain = (image != 0).any(0)
    assert brain.sum() > 1000 and not brain.all()
    assert ((image != 0) == brain).all()  # Zero is for the background, in every modality.
    assert target[0][~brain].max() == 0
    assert image.abs().max() <= 10 and image.isfinite().all()


@pytest.mark.parametrize("seed", range(4))
def test_artefacts_leave_the_background(models: Models, seed: int) -> None:
    plain = made(Generation(artefacts=None), models, seed)[0]
    found, target = made(Generation(), models, seed)
    assert (found[plain == 0] == 0).all()
    assert (target[:-1] >= target[1:] - 1e-6).all()


@pytest.mark.parametrize("modalities", [2, 5])
def test_any_number_of_modalities_and_regions(folder: Path, modalities: int) -> None:
    task = task_with(modalities)
    appearance, material = appearance_of(task), load_material(folder, GLIOMA, 2)
    assert appearance is not None
    two = tuple(replace(t, shares=t.shares[:2], volumes=t.volumes[:2]) for t in material.tumours)
    image, target = made(Generation(healthy=0.0), Models(task, appearance, material.anatomies, two, (), 2), 3)
    assert image.shape == (modalities, *SIZE) and target.shape == (2, *SIZE) and target.any()
    assert all(not torch.equal(image[0], other) for other in image[1:])


def test_the_whole_brain_has_the_mean_and_deviation_of_prepared_images(models: Models) -> None:
    for seed in range(3):  # The patch is wider than this brain.
        settings = Generation(artefacts=None, partial_volume=0.2, mass_effect=0, tumour_scaling=0, deformation_mm=0, healthy=1)
        image = made(settings, models, seed)[0]
        for channel in image:
            inside = channel[(image != 0).all(0)]
            assert abs(float(inside.mean())) < 0.3 and float(inside.std()) == pytest.approx(0.85, abs=0.35)  # Voxels are mixed.


def test_tissues_and_parts_of_the_tumour_look_as_they_are_told(models: Models) -> None:
    image, target = made(STILL, models, 0)
    flair, t1, t1c, _ = image
    enhancing, edema = target[2] > 0.95, (target[0] > 0.95) & (target[1] == 0)
    healthy = (target[0] == 0) & (t1 != 0)
    assert t1c[enhancing].mean() > t1c[edema].mean() + 1
    assert flair[edema].mean() > flair[healthy].mean() + 1
    assert len(t1[healthy].round(decimals=3).unique()) <= 10  # Even: a few tissues and what lies between two of them.


def test_a_healthy_patient_has_no_tumour(models: Models) -> None:
    image, target = made(Generation(healthy=1.0), models, 0)
    assert image.any() and not target.any()


def test_own_tumours_take_their_share(models: Models) -> None:
    both = replace(models, own_tumours=models.tumours[:1])
    found = [drawn(Generation(healthy=0.0, own_tumours=0.3), both, seed).tumour for seed in range(200)]
    assert np.mean([number == 2 for number in found]) == pytest.approx(0.3, abs=0.1)
    alone = replace(both, tumours=())
    assert {drawn(Generation(healthy=0.0, own_tumours=0.0), alone, seed).tumour for seed in range(5)} == {0}


CHANGES = {
    "deformation_mm": 3.0,
    "tumour_deformation_mm": 3.0,
    "rotation_degrees": 20.0,
    "scaling": 0.2,
    "flip": 1.0,
    "mass_effect": 1.0,
    "random_contrast": 1.0,
    "contrast_spread": 1.0,
    "texture": 1.0,
    "partial_volume": 0.8,
    "tumour_scaling": 0.0,
}


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_changes_something_alone(models: Models, field: str) -> None:
    plain = made(STILL, models, 4)[0]
    assert not torch.equal(plain, made(STILL.model_copy(update={field: CHANGES[field]}), models, 4)[0])


def test_a_core_pushes_away_what_is_around_it(models: Models) -> None:
    settings = STILL.model_copy(update={"mass_effect": 1.0, "mass_effect_mm": (6.0, 6.0)})
    # A brain so deep that nothing is held by the skull; the patch lies in its middle, the core in the middle of the patch.
    anatomy = replace(models.anatomies[0], depth_mm=np.full_like(models.anatomies[0].depth_mm, 100))
    draw = replace(drawn(settings, models, 0), origin=(np.array(anatomy.codes.shape) - 1) / 2)
    target = torch.zeros((3, *SIZE))
    target[:, 13:19, 13:19, 13:19] = 1
    away = _pushed(target, draw, anatomy, (9, 9, 9))
    assert away.norm(dim=0).max().item() == pytest.approx(3, rel=1e-3)  # 6 mm are three voxels.
    for axis in range(3):
        low, high = away[axis].narrow(axis, 2, 2), away[axis].narrow(axis, 5, 2)
        assert low.mean() < 0 < high.mean()
    held = _pushed(target, draw, replace(anatomy, depth_mm=np.zeros_like(anatomy.depth_mm)), (9, 9, 9))
    assert not held.any()


def test_edema_spares_the_ventricle_and_a_core_does_not(models: Models) -> None:
    anatomy = models.anatomies[0]
    middle = (np.array(anatomy.codes.shape) - 1) / 2
    draw = replace(drawn(STILL, models, 0), tumour=0, origin=middle, tumour_centre=np.zeros(3), tumour_matrix=np.eye(3), cortex=1.0)
    core = synthesised(draw, models, SIZE, torch.device("cpu"))[1]
    assert core[1, 15:17, 15:17, 15:17].min() > 0.9
    beside = replace(
        draw, tumour_centre=np.array([4.0, 0.0, 0.0])
    )  # Its edema, 3 to 5 voxels from its centre, meets the ventricle.
    edema = synthesised(beside, models, SIZE, torch.device("cpu"))[1]
    assert edema[0, 15:17, 15:17, 15:17].max() == 0 and edema[0].any()
