"""What the parts of a step are made of, and their data: patches cut, generated and augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from anymri.data.ahead import Key
from anymri.data.augment import apply_augmentation, draw_augmentation
from anymri.data.batch import Batch
from anymri.data.generation.held_out import read_reference, recognised
from anymri.data.generation.material import TUMOURS, Material, load_material, tumours_of
from anymri.data.generation.source import Source, apply_generation, draw_generation
from anymri.data.generation.synthesis import Models
from anymri.data.patches import draw_patches, make_batch
from anymri.data.patients import Patient
from anymri.domain.appearance import appearance_of
from anymri.engine.run import Run

Finish = Callable[[Batch], Batch]


@dataclass(frozen=True, eq=False)
class Supply:
    """What a training draws its patches from.

    Attributes:
        patients: What patches are cut from.
        weights: How often each patient is drawn, relative to the others.
        source: What patches are generated from; None if none are.
    """

    patients: Sequence[Patient]
    weights: Sequence[float]
    source: Source | None = None


def material_of(run: Run, held_out: Sequence[Path] = ()) -> Material | None:
    """Return what synthetic patients are made from; None if the run has none.

    Args:
        run: All settings.
        held_out: Folders of the cases that the run is chosen or tested by: their tumours are left out.

    Raises:
        InputFileError: If a folder is missing or empty, or a file cannot be used.
        LabelSchemeError: If a file holds a label that is not known.
        CaseError: If a case that is held out cannot be read.
    """
    if not run.material:
        return None
    task, stride = run.task_object, run.window.stride
    material = load_material(Path(run.material), task, stride)
    references = [found for folder in held_out if (found := read_reference(folder, task)) is not None]
    same = recognised(material.tumours, references, stride)
    used = tuple(tumour for tumour in material.tumours if tumour.name not in same)
    return replace(material, tumours=used, left_out={f"{TUMOURS}/{name}": same[name] for name in sorted(same)})


def supply_of(run: Run, patients: Sequence[Patient], material: Material | None = None) -> Supply:
    """Return what a run draws its patches from; without material there are no synthetic patients.

    Args:
        run: All settings.
        patients: Who is trained on.
        material: What ``material_of`` has read.
    """
    weights, settings, task = [1.0 if p.known.all() else run.partial_weight for p in patients], run.generation, run.task_object
    if not settings.active:
        return Supply(patients, weights)
    if run.augmentation.artefacts is not None:  # Done to every patch: once is enough.
        settings = settings.model_copy(update={"artefacts": None})
    models, appearance = None, appearance_of(task)
    if material is not None and appearance is not None:
        own = tumours_of(patients, run.window.stride)
        models = Models(task, appearance, material.anatomies, material.tumours, own, run.window.stride)
    voxel_mm = run.window.stride * sum(task.spacing_mm) / 3
    source = Source(settings, patients, weights, run.patch, run.window.stride, voxel_mm, run.tumour_share, models)
    return Supply(patients, weights, source)


def data_of(run: Run, supply: Supply, device: torch.device, key: Key) -> tuple[Batch, Finish | None, torch.Generator]:
    """Return the batch of a part, what is still to be done to it, and the generator for what the method draws.

    All chance of a part follows from its key, the seed, the step and its number, whoever computes it. On a processor the batch is
    generated and augmented already; elsewhere that is left to the device, and to the thread that it works for.
    """
    generator = torch.Generator().manual_seed(hash(key) & 0x7FFFFFFF)
    draws = draw_patches(supply.patients, run.patch, run.batch, tumour_share=run.tumour_share, weights=supply.weights, seed=key)
    generation = None if supply.source is None else draw_generation(supply.source, draws, seed=key)
    batch = make_batch(supply.patients, draws if generation is None else generation.patches, run.patch, run.window.stride)
    augmentation = draw_augmentation(run.augmentation, run.batch, batch.image_BMDHW.shape[1], generator)

    def finish(batch: Batch) -> Batch:
        if generation is not None and supply.source is not None:
            batch = apply_generation(batch, generation, supply.source)
        return apply_augmentation(batch, augmentation)

    return (finish(batch), None, generator) if device.type == "cpu" else (batch, finish, generator)
