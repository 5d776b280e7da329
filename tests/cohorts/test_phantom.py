"""Synthetic patients: repeatable, lifelike in what can be measured, and found again on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anymri.cohorts import phantom_brain as tissue
from anymri.cohorts.phantom import PhantomPatient, brain_scene, find_phantom, make_patient, write_phantoms
from anymri.cohorts.phantom_physics import CANCER, FAT, GLAND, TISSUES, Sequence, Tissue, acquire, signal
from anymri.domain.modality import Modality, ModalitySet
from anymri.domain.region import LabelScheme, Region
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.errors import InputFileError, LabelSchemeError, UsageError
from anymri.preparation.skull import check_stripped
from anymri.volumes.nifti import read_labels, read_nifti
from anymri.volumes.volume import Grid, Volume

SHAPE, SPACING_MM = (48, 48, 48), (4.0, 4.0, 4.0)
VOXEL_ML = 0.064
SEEDS = range(8)


def made(seed: int, task: Task = GLIOMA) -> PhantomPatient:
    return make_patient(task, seed, shape=SHAPE, spacing_mm=SPACING_MM)


def with_modalities(*names: str) -> Task:
    return replace(GLIOMA, modalities=ModalitySet(tuple(Modality(n, n, n.lower()) for n in names)))


def nested(depth: int) -> Task:
    """Return a task with so many regions, each inside the one before."""
    classes = tuple(f"c{i}" for i in range(depth))
    names = tuple(f"R{i}" for i in range(depth))
    regions = tuple(Region(n, n, classes[i:]) for i, n in enumerate(names))
    scheme = LabelScheme("nested", "", {i + 1: names[: i + 1] for i in range(depth)}, names)
    return replace(GLIOMA, name="nested", classes=("background", *classes), regions=regions, schemes=(scheme,))


@pytest.fixture(scope="module")
def patients() -> list[PhantomPatient]:
    return [made(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def contrasts() -> dict[str, dict[str, float]]:
    """Return the median of every tissue in every image of one patient, taken where a voxel holds little else."""
    scene = brain_scene(5, (92, 100, 78), (1.9, 1.9, 1.9))
    pure = {name: scene.whole((share > 0.7).astype(np.uint8)) > 0 for name, share in scene.fractions.items()}
    images = {name: acquire(scene, name, 5) for name in (*GLIOMA.modalities.names, "ADC", "DWI")}
    assert all(pure[t].sum() > 20 for t in (tissue.WHITE, tissue.GREY, tissue.FLUID, tissue.EDEMA, tissue.NECROSIS))
    return {n: {t: float(np.median(image[where])) for t, where in pure.items() if where.sum() > 20} for n, image in images.items()}


def test_the_same_seed_makes_the_same_bits(patients: list[PhantomPatient]) -> None:
    again = made(3)
    assert again.name == patients[3].name
    assert np.array_equal(again.labels, patients[3].labels)
    assert all(np.array_equal(again.images[n], patients[3].images[n]) for n in GLIOMA.modalities.names)


def test_another_seed_makes_another_patient(patients: list[PhantomPatient]) -> None:
    assert len({p.name for p in patients}) == len(patients)
    assert len({p.labels.tobytes() for p in patients}) == len(patients)
    assert len({p.images["T1"].tobytes() for p in patients}) == len(patients)


def test_the_modalities_asked_for_do_not_change_the_patient(patients: list[PhantomPatient]) -> None:
    fewer = made(2, with_modalities("T2", "FLAIR"))
    assert np.array_equal(fewer.labels, patients[2].labels)
    assert np.array_equal(fewer.images["T2"], patients[2].images["T2"])


def test_images_are_what_a_stripped_scan_is(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        brain = patient.images["T1"] > 0
        for image in patient.images.values():
            assert image.shape == SHAPE and image.dtype == np.float32
            assert np.array_equal(image > 0, brain) and (image[~brain] == 0).all()
            assert np.array_equal(image, np.rint(image)) and image.max() < 2**15
            assert image[brain].std() > 0.1 * image[brain].mean()
        assert not brain[[0, -1]].any() and not brain[:, [0, -1]].any()
        assert not patient.labels[~brain].any()


def test_brains_are_as_large_as_brains(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        brain = patient.images["T1"] > 0
        assert 1100 < brain.sum() * VOXEL_ML < 1700
        extent = [4 * (1 + np.ptp(np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {a}))))) for a in range(3)]
        assert 124 <= extent[0] <= 156 and 156 <= extent[1] <= 192 and 120 <= extent[2] <= 156


def test_tumours_are_as_large_as_tumours(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        ml = {v: float((patient.labels == v).sum()) * VOXEL_ML for v in (1, 2, 4)}
        assert set(np.unique(patient.labels)) == {0, 1, 2, 4}
        assert 20 < sum(ml.values()) < 150
        assert 7 < ml[1] + ml[4] < 60
        assert ml[4] > 0.2 * (ml[1] + ml[4])


def test_a_tumour_lies_in_one_place_and_mostly_on_one_side(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        core = np.argwhere(np.isin(patient.labels, (1, 4)))
        left = (core[:, 0] > 23.5).mean()
        assert max(left, 1 - left) > 0.97
        assert (core.std(axis=0) * 4 < 22).all()


def test_edema_surrounds_the_core(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        where = np.argwhere(patient.labels > 0)
        core = np.argwhere(np.isin(patient.labels, (1, 4)))
        assert (where.min(0) <= core.min(0)).all() and (where.max(0) >= core.max(0)).all()


def test_flair_shows_edema_and_hides_fluid(contrasts: dict[str, dict[str, float]]) -> None:
    flair = contrasts["FLAIR"]
    assert flair[tissue.EDEMA] > 1.4 * flair[tissue.GREY] and flair[tissue.EDEMA] > 1.7 * flair[tissue.WHITE]
    assert flair[tissue.FLUID] < 0.5 * flair[tissue.WHITE] < 0.5 * flair[tissue.GREY]


def test_t2_shows_water(contrasts: dict[str, dict[str, float]]) -> None:
    t2 = contrasts["T2"]
    assert t2[tissue.WHITE] < t2[tissue.GREY] < t2[tissue.EDEMA] < t2[tissue.FLUID]
    assert t2[tissue.NECROSIS] > t2[tissue.EDEMA]


def test_t1_shows_white_matter(contrasts: dict[str, dict[str, float]]) -> None:
    t1 = contrasts["T1"]
    assert t1[tissue.WHITE] > t1[tissue.GREY] > t1[tissue.FLUID]
    assert t1[tissue.NECROSIS] < t1[tissue.EDEMA] < t1[tissue.WHITE]


def test_contrast_agent_shows_the_rim(contrasts: dict[str, dict[str, float]]) -> None:
    before, after = contrasts["T1"], contrasts["T1c"]
    assert after[tissue.ENHANCING] > 1.3 * after[tissue.WHITE]
    assert before[tissue.ENHANCING] < before[tissue.WHITE]
    assert after[tissue.WHITE] > after[tissue.GREY] > after[tissue.FLUID]
    assert after[tissue.NECROSIS] < after[tissue.WHITE]


def test_diffusion_is_that_of_the_tissues(contrasts: dict[str, dict[str, float]]) -> None:
    adc, dwi = contrasts["ADC"], contrasts["DWI"]
    assert adc[tissue.WHITE] == pytest.approx(740, rel=0.2) and adc[tissue.FLUID] > 2000
    assert dwi[tissue.FLUID] < 0.5 * dwi[tissue.WHITE]


def test_signals_follow_the_equations() -> None:
    plain = Tissue(1000, 100, 0.8, 1.0, gadolinium_mM=0.2)
    assert signal(plain, Sequence(1000, 100)) == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-1))
    nulled = Sequence(1e9, 0, inversion_ms=1000 * np.log(2))
    assert signal(plain, nulled) == pytest.approx(0, abs=1e-6)
    # 1/s + 5 /mM/s * 0.2 mM = 2/s; 10/s + 7.1 /mM/s * 0.2 mM = 11.42/s
    assert signal(plain, Sequence(1000, 100, contrast=True)) == pytest.approx(0.8 * (1 - np.exp(-2)) * np.exp(-1.142))
    assert signal(plain, Sequence(1e9, 0, b_ms_um2=2.0)) == pytest.approx(0.8 * np.exp(-2))
    assert signal(plain, Sequence(1e9, 0, maps_diffusion=True)) == 1.0
    diffusion = Sequence(4000, 70, b_ms_um2=1.4)
    assert signal(TISSUES[CANCER], diffusion) > signal(TISSUES[GLAND], diffusion) > signal(TISSUES[FAT], diffusion)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_any_number_of_modalities(count: int) -> None:
    names = ("A", "B", "C2", "longer name", "E")[:count]
    patient = made(0, with_modalities(*names))
    assert tuple(patient.images) == names
    assert len({image.tobytes() for image in patient.images.values()}) == count
    brain = patient.images["A"] > 0
    for image in patient.images.values():
        inside = image[brain]
        assert inside.std() > 0.05 * inside.mean()


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_any_number_of_nested_regions(depth: int) -> None:
    labels = made(1, nested(depth)).labels
    assert set(np.unique(labels)) == set(range(depth + 1))
    assert np.array_equal(labels > 0, made(1).labels > 0)


def test_a_task_that_is_not_stripped_gets_a_pelvis() -> None:
    for seed in range(4):
        patient = make_patient(PROSTATE, seed, shape=(64, 64, 40), spacing_mm=(2.5, 2.5, 3.0))
        assert tuple(patient.images) == ("T2w", "ADC", "DWI")
        gland, cancer = patient.labels == 1, patient.labels == 2
        assert 15 < (gland | cancer).sum() * 0.01875 < 90 and 0.2 < cancer.sum() * 0.01875 < 8
        assert all((image > 0).all() for image in patient.images.values())
        middle = {n: (np.median(i[gland]), np.median(i[cancer])) for n, i in patient.images.items()}
        assert middle["T2w"][1] < middle["T2w"][0] and middle["ADC"][1] < middle["ADC"][0] and middle["DWI"][1] > middle["DWI"][0]


@pytest.mark.parametrize("shape, spacing_mm", [((24, 24, 24), (1.0, 1.0, 1.0)), ((40, 32, 16), (5.0, 7.0, 12.0))])
@pytest.mark.parametrize("task", [GLIOMA, PROSTATE], ids=lambda t: t.name)
def test_small_and_uneven_grids(task: Task, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    patient = make_patient(task, 0, shape=shape, spacing_mm=spacing_mm)
    assert set(np.unique(patient.labels)) == set(task.scheme().values) - ({3} if task is GLIOMA else set())
    grid = Grid(shape, patient.affine)
    assert grid.spacing_mm == spacing_mm and grid.affine[1, 3] == (shape[1] - 1) * spacing_mm[1]


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UsageError, match="seed from 0"):
        make_patient(GLIOMA, -1)
    with pytest.raises(UsageError, match="8 voxels"):
        make_patient(GLIOMA, 0, shape=(4, 48, 48))
    with pytest.raises(UsageError, match="has no value for"):
        made(0, replace(GLIOMA, schemes=GLIOMA.schemes[-1:]))


def test_written_patients_are_found_again(tmp_path: Path) -> None:
    cohort = write_phantoms(tmp_path / "made", GLIOMA, seeds=(7, 3), shape=SHAPE, spacing_mm=SPACING_MM)
    found = find_phantom(tmp_path / "made", GLIOMA)
    assert sorted(found.studies, key=lambda s: s.name) == sorted(cohort.studies, key=lambda s: s.name)
    assert found.left_out == () and found.name == cohort.name == "made"
    study = cohort.studies[0]
    assert study.images["T1c"].path.name == "phantom_0007_t1ce.nii.gz" and study.scheme == "brats2021"
    patient = made(7)
    for name, source in study.images.items():
        volume = read_nifti(source.path)
        assert np.array_equal(volume.array, patient.images[name]) and np.array_equal(volume.grid.affine, patient.affine)
    assert study.labels is not None
    assert np.array_equal(read_labels(study.labels.path).array, patient.labels)


def test_some_patients_lack_modalities_or_labels(tmp_path: Path) -> None:
    runs = [
        write_phantoms(tmp_path / n, GLIOMA, seeds=range(6), shape=(16, 16, 16), spacing_mm=(12.0, 12.0, 12.0), missing=True)
        for n in "ab"
    ]
    counts = [len(s.images) for s in runs[0].studies]
    assert counts[0] == 4 and min(counts) >= 1 and any(n < 4 for n in counts)
    assert [s.labels is None for s in runs[0].studies] == [False, False, True, False, False, False]
    assert [set(s.images) for s in runs[0].studies] == [set(s.images) for s in runs[1].studies]
    for one, two in zip(*(sorted((tmp_path / n).rglob("*.nii.gz")) for n in "ab"), strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert {s.name: set(s.images) for s in find_phantom(tmp_path / "a", GLIOMA).studies} == {
        s.name: set(s.images) for s in runs[0].studies
    }


def test_names_of_files_are_read_in_any_case_and_strangers_are_listed(tmp_path: Path) -> None:
    write_phantoms(tmp_path, PROSTATE, seeds=[1], shape=(8, 8, 8), spacing_mm=(12.0, 12.0, 12.0))
    folder = tmp_path / "phantom_0001"
    (folder / "phantom_0001_t2w.nii.gz").rename(folder / "phantom_0001_T2W.NII.GZ")
    (folder / "notes.nii").write_bytes(b"")
    found = find_phantom(tmp_path, PROSTATE)
    assert [set(s.images) for s in found.studies] == [{"T2w", "ADC", "DWI"}]
    assert [path.name for path, _ in found.left_out] == ["notes.nii"]
    assert found.studies[0].scheme == "gland_lesion"
    assert find_phantom(tmp_path, PROSTATE, scheme="lesion").studies[0].scheme == "lesion"


def test_folders_without_phantoms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="not a folder"):
        find_phantom(tmp_path / "absent", GLIOMA)
    with pytest.raises(InputFileError, match="holds no phantom"):
        find_phantom(tmp_path, GLIOMA)
    with pytest.raises(LabelSchemeError):
        find_phantom(tmp_path, GLIOMA, scheme="unheard of")


@pytest.mark.parametrize("seed", [0, 2])
def test_preparation_takes_it_for_a_stripped_brain(seed: int) -> None:
    patient = make_patient(GLIOMA, seed, shape=(80, 96, 78), spacing_mm=(2.0, 2.0, 2.0))
    for name, image in patient.images.items():
        check_stripped(Volume(image, Grid(image.shape, patient.affine)), image > 0, file=name)


@pytest.mark.slow
def test_a_patient_of_full_size() -> None:
    patient = make_patient(GLIOMA, 11)
    small = made(11)
    assert patient.labels.shape == (240, 240, 155)
    for name, image in patient.images.items():
        check_stripped(Volume(image, Grid(image.shape, patient.affine)), image > 0, file=name)
    for value in (1, 2, 4):
        full, coarse = (patient.labels == value).sum() / 1000, (small.labels == value).sum() * VOXEL_ML
        assert full == pytest.approx(coarse, rel=0.25)
