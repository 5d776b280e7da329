"""Synthetic patients, prepared, trained on and scored; and how far hiding an image is from never having had it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.cohorts.phantom import write_phantoms
from anymri.domain.case import Cohort, Study
from anymri.domain.modality import Subset, subsets
from anymri.domain.task import GLIOMA
from anymri.engine.evaluation import evaluate
from anymri.engine.inference import nested, region_logits_of, restored
from anymri.engine.model import Model, read_model
from anymri.engine.run import Window
from anymri.engine.selection import full_image
from anymri.engine.training import train
from anymri.metrics.masks import dice
from anymri.metrics.protocol import ANYMRI
from anymri.preparation.pipeline import PreparedCase, prepare_cohort, prepare_study
from anymri.volumes.nifti import read_nifti, write_nifti
from anymri.volumes.store import list_cases, read_case, read_truth
from anymri.volumes.volume import Grid, Volume
from anymri.weights import load_model

from ..material import short_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Return four small patients whose T1 and T2 end lower than the rest, as scans of one visit often do."""
    cohort = write_phantoms(tmp_path_factory.mktemp("raw"), GLIOMA, seeds=range(4), shape=(24, 24, 20), spacing_mm=(4.0, 4.0, 4.0))
    for study in cohort.studies:
        cut_short(study, share=0.2)
    return cohort


def cut_short(study: Study, *, share: float) -> None:
    """Take the uppermost slices of the brain out of T1 and T2."""
    for name in ("T1", "T2"):
        volume = read_nifti(study.images[name].path)
        filled = np.flatnonzero(volume.array.any((0, 1)))
        volume.array[:, :, filled[-round(share * len(filled)) :]] = 0
        write_nifti(study.images[name].path, Volume(volume.array.astype(np.int16), volume.grid))


@pytest.fixture(scope="module")
def prepared(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    assert prepare_cohort(cohort, GLIOMA, path) == []
    return path


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder: long enough to find something, far too short to be good."""
    window = Window(stride=3, size=(40, 48, 40))
    run = short_run(
        "ccsd",
        config={"widths": [6, 12], "depths": [1, 1], "hmsd": 0.0},
        window=window,
        patch=(20, 20, 20),
        steps=40,
        fold=0,
        validation=1,
        tumour_share=0.9,
        average=0.9,
    )
    out = tmp_path_factory.mktemp("run")
    train(run, prepared, out)
    return out


def test_two_patients_are_scored_on_every_subset(prepared: Path, trained: Path, tmp_path: Path) -> None:
    model = read_model(trained / "weights.safetensors")
    folders = list_cases(prepared)[:2]
    table = evaluate(model, folders, tmp_path / "scores.csv", protocol=ANYMRI, device=CPU)
    assert len(table) == 2 * 15 * 3 * 8
    assert Counter(r.subset for r in table) == {str(s): 2 * 3 * 8 for s in subsets(GLIOMA.modalities)}
    whole = [r.value for r in table if r.metric == "dice" and r.region == "WT" and r.subset == "FLAIR+T1+T1c+T2"]
    assert np.mean(whole) > 0.3  # it has learned something
    truth = read_truth(folders[0])
    (volume,) = {r.value for r in table if r.metric == "reference_volume_ml" and r.region == "WT" and r.case == folders[0].name}
    assert volume == pytest.approx((truth.array & 1).sum() * truth.grid.voxel_ml)


def found(
    model: Model, image: np.ndarray, subset_mask: Sequence[bool], present: Sequence[bool], grids: tuple[Grid, Grid]
) -> np.ndarray:
    (logits,) = region_logits_of(model, image, present, [subset_mask], device=CPU)
    return nested(restored(logits, *grids))


def absent(study: Study, names: Sequence[str]) -> PreparedCase:
    return prepare_study(replace(study, images={n: s for n, s in study.images.items() if n in names}), GLIOMA)


def moved(model: Model, cohort: Cohort, prepared: Path, chosen: Sequence[Subset]) -> dict[str, float]:
    """Return, per subset, how far Dice of the outermost region moves if what is hidden was never there; mean over the patients."""
    apart: dict[str, list[float]] = {}
    for study in cohort.studies:
        folder = prepared / "cases" / study.name
        truth, image = read_truth(folder), full_image(folder, GLIOMA)
        stored = Grid.from_lattice(read_case(folder).grid)
        for subset in chosen:
            hidden = found(model, image, subset.mask, (True,) * 4, (stored, truth.grid))
            case = absent(study, subset.names)
            alone = np.zeros((4, *case.image_MDHW.shape[1:]), np.float32)
            alone[list(subset.mask)] = case.image_MDHW
            without = found(model, alone, subset.mask, subset.mask, (Grid.from_lattice(case.case.grid), truth.grid))
            reference = (truth.array & 1).astype(bool)
            apart.setdefault(str(subset), []).append(abs(dice(hidden[0], reference) - dice(without[0], reference)))
    return {subset: float(np.mean(values)) for subset, values in apart.items()}


def told(what: str, apart: dict[str, float]) -> None:
    print(f"\n{what}: how far Dice moves between an image that is hidden and one that was never there")
    for subset, value in apart.items():
        print(f"  {subset:<20}{value:.4f}")
    print(f"  {'mean':<20}{np.mean(list(apart.values())):.4f}, largest {max(apart.values()):.4f}")


def test_hiding_is_close_to_absence(cohort: Cohort, prepared: Path, trained: Path) -> None:
    """A stored case keeps the box of all its images; only where the crop differs can the two differ at all."""
    part = replace(cohort, studies=cohort.studies[:1])
    chosen = [GLIOMA.modalities.subset(names) for names in (("T1",), ("T2",), ("T1", "T2"), ("FLAIR",), ("FLAIR", "T2"))]
    apart = moved(read_model(trained / "weights.safetensors"), part, prepared, chosen)
    told("barely trained", apart)
    assert np.mean(list(apart.values())) < 0.05
    # Where the box is that of all images, nothing differs.
    assert apart["FLAIR"] == apart["FLAIR+T2"] == 0


@pytest.mark.slow
def test_hiding_is_close_to_absence_for_the_weights_that_come_along(tmp_path: Path) -> None:
    cohort = write_phantoms(tmp_path / "raw", GLIOMA, seeds=(0, 1))
    for study in cohort.studies:
        cut_short(study, share=0.15)
    assert prepare_cohort(cohort, GLIOMA, tmp_path / "prepared") == []
    apart = moved(load_model(), cohort, tmp_path / "prepared", subsets(GLIOMA.modalities))
    told("shipped weights", apart)
    assert np.mean(list(apart.values())) < 0.02
