"""One patient in every layout is one patient: the same voxels and regions in the same place, whatever carries them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from anymri.cohorts import find_cohort
from anymri.cohorts.phantom import PhantomPatient, make_patient
from anymri.domain.task import GLIOMA
from anymri.errors import LabelSchemeError
from anymri.preparation import PreparedCase, prepare_cohort, prepare_study
from anymri.preparation.labels import region_bits
from anymri.volumes.images import read_image, read_label_map
from anymri.volumes.store import read_case, read_cohort
from anymri.volumes.volume import Volume, reoriented

NAMES = GLIOMA.modalities.names
TO_MSD = np.array([0, 2, 1, 0, 3], np.uint8)  # 1 core, 2 edema, 4 enhancing → 1 edema, 2 core, 3 enhancing


@pytest.fixture(scope="module")
def patient() -> PhantomPatient:
    return make_patient(GLIOMA, 3, shape=(40, 44, 36), spacing_mm=(4.0, 4.0, 4.0))


def nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)  # type: ignore[attr-defined]


def itk(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), True)


Writer = Callable[[Path, np.ndarray, np.ndarray], None]


def as_brats(root: Path, p: PhantomPatient, write: Writer = nifti, ending: str = ".nii.gz") -> str | None:
    for name, suffix in zip(NAMES, ("flair", "t1", "t1ce", "t2"), strict=True):
        write(root / f"p/p_{suffix}{ending}", p.images[name].astype(np.int16), p.affine)
    write(root / f"p/p_seg{ending}", p.labels, p.affine)
    return None


def as_mha(root: Path, p: PhantomPatient) -> str | None:
    return as_brats(root, p, itk, ".mha")


def as_msd(root: Path, p: PhantomPatient) -> str | None:
    order = ("T1", "T2", "FLAIR", "T1c")
    nifti(root / "imagesTr/p.nii.gz", np.stack([p.images[n] for n in order], -1).astype(np.float32), p.affine)
    nifti(root / "labelsTr/p.nii.gz", TO_MSD[p.labels], p.affine)
    labels = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    entry = {"image": "./imagesTr/p.nii.gz", "label": "./labelsTr/p.nii.gz"}
    modality = dict(zip("0123", ("T1w", "T2w", "FLAIR", "t1gd"), strict=True))
    (root / "dataset.json").write_text(json.dumps({"modality": modality, "labels": labels, "training": [entry], "test": []}))
    return None


def as_nnunet(root: Path, p: PhantomPatient) -> str | None:
    for channel, name in enumerate(("T2", "T1c", "T1", "FLAIR")):
        itk(root / f"imagesTr/p_000{channel}.nrrd", p.images[name].astype(np.int16), p.affine)
    itk(root / "labelsTr/p.nrrd", TO_MSD[p.labels], p.affine)
    channels = dict(zip("0123", ("T2", "T1ce", "T1", "T2-FLAIR"), strict=True))
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    content = {"channel_names": channels, "labels": labels, "numTraining": 1, "file_ending": ".nrrd"}
    (root / "dataset.json").write_text(json.dumps(content))
    return None


def as_bids(root: Path, p: PhantomPatient) -> str | None:
    for name, end in zip(NAMES, ("FLAIR", "T1w", "ce-gd_T1w", "T2w"), strict=True):
        nifti(root / f"sub-p/anat/sub-p_{end}.nii.gz", p.images[name].astype(np.int16), p.affine)
    nifti(root / "derivatives/masks/sub-p/anat/sub-p_dseg.nii.gz", p.labels, p.affine)
    (root / "derivatives/masks/dseg.tsv").write_text("index\tname\n1\tnecrotic core\n2\tedema\n4\tenhancing tumor\n")
    return None


def as_table(root: Path, p: PhantomPatient) -> str | None:
    nifti(root / "two.nii.gz", np.stack([p.images["FLAIR"], p.images["T2"]], -1).astype(np.int16), p.affine)
    itk(root / "x/post.mha", p.images["T1c"].astype(np.int16), p.affine)
    nifti(root / "x/pre.nii", p.images["T1"].astype(np.int16), p.affine)
    itk(root / "mask.nrrd", p.labels, p.affine)
    (root / "cases.csv").write_text("case;T1c;T1;FLAIR;T2;labels\np;x/post.mha;x/pre.nii;two.nii.gz[0];two.nii.gz[1];mask.nrrd\n")
    return "brats2021"


@dataclass(frozen=True)
class Read:
    """What the files of the only study in a folder hold: images and region bits on one orientation."""

    images: dict[str, Volume]
    bits: Volume


def read(root: Path, scheme: str | None) -> Read:
    (study,) = find_cohort(root, GLIOMA, scheme=scheme).studies
    assert study.labels is not None
    images = {n: reoriented(read_image(s.path, channel=s.channel), "LPS") for n, s in study.images.items()}
    labels = read_label_map(study.labels.path)
    bits = region_bits(labels.array, GLIOMA.scheme(study.scheme), GLIOMA, file=str(study.labels))
    return Read(images, reoriented(Volume(bits, labels.grid), "LPS"))


@pytest.mark.parametrize("written", [as_mha, as_msd, as_nnunet, as_bids, as_table])
def test_one_patient_in_every_layout(
    patient: PhantomPatient, tmp_path: Path, written: Callable[[Path, PhantomPatient], str | None]
) -> None:
    expected = read(tmp_path / "brats", as_brats(tmp_path / "brats", patient))
    (tmp_path / "other").mkdir()
    found = read(tmp_path / "other", written(tmp_path / "other", patient))
    assert found.images.keys() == expected.images.keys() == set(NAMES)
    for a, b in [(found.bits, expected.bits), *((found.images[n], expected.images[n]) for n in NAMES)]:
        assert np.array_equal(a.array, b.array) and a.array.any()
        np.testing.assert_allclose(a.grid.affine, b.grid.affine, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("written", [as_mha, as_msd, as_nnunet, as_bids, as_table])
def test_one_patient_in_every_layout_is_one_prepared_case(
    patient: PhantomPatient, tmp_path: Path, written: Callable[[Path, PhantomPatient], str | None]
) -> None:
    expected = prepared(tmp_path / "brats", as_brats(tmp_path / "brats", patient))
    (tmp_path / "other").mkdir()
    found = prepared(tmp_path / "other", written(tmp_path / "other", patient))
    assert np.array_equal(found.image_MDHW, expected.image_MDHW)
    assert found.labels_DHW is not None and np.array_equal(found.labels_DHW, expected.labels_DHW)
    assert found.truth is not None and expected.truth is not None and np.array_equal(found.truth.array, expected.truth.array)
    assert found.case.modalities == NAMES and found.case.known_regions == GLIOMA.region_names


def prepared(root: Path, scheme: str | None) -> PreparedCase:
    (study,) = find_cohort(root, GLIOMA, scheme=scheme).studies
    return prepare_study(study, GLIOMA)


def test_values_outside_the_declared_scheme_name_file_value_and_voxels(patient: PhantomPatient, tmp_path: Path) -> None:
    """A description that calls 3 enhancing, beside files with 4."""
    as_msd(tmp_path, patient)
    nifti(tmp_path / "labelsTr/p.nii.gz", patient.labels, patient.affine)
    count = int((patient.labels == 4).sum())
    with pytest.raises(
        LabelSchemeError,
        match=rf"labelsTr/p\.nii\.gz: holds the value 4 \({count} voxels\); scheme msd knows 0, 1, 2, 3; .*brats2021",
    ):
        read(tmp_path, None)


def test_references_that_nothing_declares_stop_the_preparation_before_it_begins(patient: PhantomPatient, tmp_path: Path) -> None:
    as_table(tmp_path / "in", patient)
    cohort = find_cohort(tmp_path / "in", GLIOMA)
    with pytest.raises(
        LabelSchemeError, match=r"mask\.nrrd: nothing declares its label scheme; name it with --scheme, one of brats2021"
    ):
        prepare_cohort(cohort, GLIOMA, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(LabelSchemeError, match="nothing declares"):
        prepare_study(cohort.studies[0], GLIOMA)


@pytest.mark.slow
def test_patients_whose_whole_tumour_alone_is_drawn_join_complete_ones(patient: PhantomPatient, tmp_path: Path) -> None:
    """They are trained on beside the others and in no fold that is tested."""
    as_brats(tmp_path / "in", patient)
    nifti(tmp_path / "in/q/q_flair.nii.gz", patient.images["FLAIR"].astype(np.int16), patient.affine)
    nifti(tmp_path / "in/q/q_wt.nii.gz", (patient.labels > 0).astype(np.uint8), patient.affine)
    assert prepare_cohort(find_cohort(tmp_path / "in", GLIOMA), GLIOMA, tmp_path / "out") == []
    record, split = read_cohort(tmp_path / "out")
    assert record.scheme is None and split.folds == (("p",),) and split.train_only == ("q",)
    case = read_case(tmp_path / "out/cases/q")
    assert (case.known_regions, case.scheme, case.modalities) == (("WT",), "wt", ("FLAIR",))
