"""Raw files and the case prepared from them are one patient."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anymri import Options, segment, write_segmentation
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.case import Source
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import CaseError, InputFileError, UsageError
from anymri.preparation.pipeline import prepare_cohort
from anymri.segment import Visit, segment_visit
from anymri.segment.visit import absolute, checked_images, inputs_of, opened_case, read_images
from anymri.volumes.nifti import read_nifti, write_nifti
from anymri.volumes.store import read_case
from anymri.volumes.volume import Grid, Volume
from anymri.weights import load_model


def test_a_prepared_case_gives_the_mask_of_its_raw_files(weights: Path, tmp_path: Path) -> None:
    cohort = write_phantoms(tmp_path / "raw", GLIOMA, seeds=[3], shape=(56, 60, 48), spacing_mm=(1.5, 1.5, 1.5))
    assert prepare_cohort(cohort, GLIOMA, tmp_path / "prepared") == []
    (study,), model = cohort.studies, load_model(weights)
    raw = segment({n: s.path for n, s in study.images.items()}, name=study.name, weights=model)
    case = tmp_path / "prepared" / "cases" / study.name
    for source in (*study.images.values(), *([study.labels] if study.labels else ())):
        source.path.unlink()
    stored = segment_visit(Visit(study.name, case=case), model, Options())
    assert np.array_equal(raw.mask.array, stored.mask.array)
    assert np.allclose(raw.mask.grid.affine, stored.mask.grid.affine)
    assert raw.summary["volumes_ml"] == stored.summary["volumes_ml"]
    assert raw.summary["files"] == stored.summary["files"]
    assert set(stored.summary["inputs"]) == {"case.json", "image.b2nd"}
    write_segmentation(stored, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == stored.summary
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("preview.png", "report.html", "segmentation.nii.gz", "summary.json"),
    ]


def test_pictures_of_a_prepared_case_are_the_raw_images(tmp_path: Path) -> None:
    """Up to the rounding of the store, and to what was cut off at ten deviations."""
    cohort = write_phantoms(tmp_path / "raw", GLIOMA, seeds=[4], shape=(64, 64, 56), spacing_mm=(1.0, 1.0, 1.0))
    prepare_cohort(cohort, GLIOMA, tmp_path / "prepared")
    (study,) = cohort.studies
    case = tmp_path / "prepared" / "cases" / study.name
    opened, intensity = opened_case(case, GLIOMA), read_case(case).intensity
    for name, source in study.images.items():
        before, after = read_nifti(source.path), opened.pictures[name]
        assert np.allclose(after.grid.affine, before.grid.affine)
        assert np.array_equal(after.array == 0, before.array == 0)
        apart = np.abs(after.array - before.array) / intensity[name]["std"]
        assert np.quantile(apart, 0.99) <= 1 / 64


def test_a_case_for_another_task_is_refused(prepared: Path) -> None:
    with pytest.raises(CaseError, match="prepared for task glioma, the weights are for prostate"):
        opened_case(prepared / "cases" / "a", PROSTATE)


def test_inputs_tell_a_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "t1.nii.gz"
    file.write_bytes(b"first")
    visit = Visit("a", {"T1": Source(file, 2)})
    first = inputs_of(visit)
    assert first["T1"]["channel"] == 2 and first["T1"]["bytes"] == 5 and first["T1"]["file"] == str(file)
    assert inputs_of(visit) == first == json.loads(json.dumps(first))
    os.utime(file, (1, 1))
    assert inputs_of(visit) != first
    file.unlink()
    with pytest.raises(InputFileError, match=r"t1.nii.gz\[2\]: cannot be read"):
        inputs_of(visit)


def test_two_channels_of_one_file_are_two_images(tmp_path: Path) -> None:
    file = tmp_path / "all.nii.gz"
    file.write_bytes(b"anything")
    visit = Visit("a", {"T2": Source(file, 1), "T1": Source(file, 0)})
    assert list(checked_images(visit, GLIOMA)) == ["T1", "T2"]
    with pytest.raises(UsageError, match="given for both T1 and T2"):
        checked_images(Visit("a", {"T1": Source(file, 0), "T2": Source(file, 0)}), GLIOMA)


def test_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    visit = absolute(Visit("a", {"T1": Source(Path("t1.nii"))}, Path("case")))
    assert visit == Visit("a", {"T1": Source(tmp_path / "t1.nii")}, tmp_path / "case")


def test_an_image_whose_field_of_view_is_cut_is_warned_of(weights: Path, tmp_path: Path) -> None:
    cohort = write_phantoms(tmp_path / "raw", GLIOMA, seeds=[5], shape=(56, 60, 48), spacing_mm=(1.5, 1.5, 1.5))
    (study,), model = cohort.studies, load_model(weights)
    images = {n: study.images[n].path for n in ("FLAIR", "T1c")}
    whole = segment(images, weights=model).summary
    assert whole["coverage"] == {"FLAIR": 1.0, "T1c": 1.0}
    assert not any("together" in line for line in whole["warnings"])
    cut = read_nifti(images["FLAIR"])
    array = cut.array.copy()
    foreground = np.flatnonzero(array.any((0, 1)))
    array[..., foreground[len(foreground) // 2] :] = 0
    write_nifti(tmp_path / "cut.nii.gz", replace(cut, array=array))
    found = segment({**images, "FLAIR": tmp_path / "cut.nii.gz"}, weights=model).summary
    assert found["coverage"]["T1c"] == 1.0
    assert 0.3 < found["coverage"]["FLAIR"] < 0.7
    assert [line.split(" of ")[0] for line in found["warnings"] if "together" in line] == [
        f"FLAIR shows {100 * found['coverage']['FLAIR']:.0f} %"
    ]
    alone = segment({"FLAIR": tmp_path / "cut.nii.gz"}, weights=model).summary
    assert alone["coverage"] == {"FLAIR": 1.0}  # Nothing to compare it with.


def test_images_are_read_side_by_side_in_their_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{name}.nii.gz" for name in "ab"]
    for file in files:
        write_nifti(file, Volume(rng.normal(0, 1, (5, 6, 7)).astype(np.float32), Grid((5, 6, 7), np.eye(4))))
    found = read_images({"T2": Source(files[1]), "T1": Source(files[0])})
    assert list(found) == ["T2", "T1"]
    assert np.array_equal(found["T1"].array, read_nifti(files[0]).array)
    with pytest.raises(InputFileError, match="not found"):
        read_images({"T1": Source(files[0]), "T2": Source(tmp_path / "missing.nii.gz")})
