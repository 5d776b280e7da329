"""From files to prepared cases: absent means absent, the way back is exact, one failure does not stop the rest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from anymri.domain.case import Cohort, Split, Study
from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import AnymriError, CaseError, GridMismatchError, ImageContentError, LabelSchemeError, OutputError, UsageError
from anymri.preparation import labels_from_bits, prepare_cohort, prepare_images, prepare_study
from anymri.volumes import store
from anymri.volumes.nifti import write_nifti
from anymri.volumes.volume import Grid, Volume, exact_copy, orientation_of, reoriented, resampled

from .conftest import SHAPE, Writer, brain, tumour

Images = dict[str, Volume]


def test_images_are_cropped_and_ordered_as_the_task_orders_them(images: Images) -> None:
    backwards = dict(reversed(images.items()))
    prepared = prepare_images(backwards, GLIOMA)
    assert list(prepared.intensity) == list(GLIOMA.modalities.names)
    assert prepared.image_MDHW.dtype == np.float32
    assert prepared.image_MDHW.shape[1:] == prepared.grid.shape < SHAPE
    for m, name in enumerate(GLIOMA.modalities.names):
        there = prepared.image_MDHW[m] != 0
        here = resampled(Volume(images[name].array != 0, images[name].grid), prepared.grid, order=0).array
        assert np.array_equal(there, here)


def test_what_is_absent_cannot_matter(images: Images) -> None:
    alone = {}
    for subset in subsets(GLIOMA.modalities):
        at_hand = {n: images[n] for n in subset.names}
        prepared = prepare_images(at_hand, GLIOMA)
        assert prepared.image_MDHW.shape[0] == len(subset)
        for m, name in enumerate(subset.names):
            # All phantoms share one outline here, so each modality comes out the same in every company.
            assert np.array_equal(alone.setdefault(name, prepared.image_MDHW[m]), prepared.image_MDHW[m])


def test_the_crop_sees_only_what_is_at_hand(images: Images) -> None:
    whole = prepare_images(images, GLIOMA)
    part = images["FLAIR"].array.copy()
    part[:, :, 14:] = 0
    images["FLAIR"] = Volume(part, images["FLAIR"].grid)
    assert prepare_images({"FLAIR": images["FLAIR"]}, GLIOMA).grid.shape[2] < whole.grid.shape[2]
    assert prepare_images(images, GLIOMA).grid.shape == whole.grid.shape


@pytest.mark.parametrize("codes", ["RAS", "PIR", "SAL"])
def test_any_orientation_gives_the_same_case(images: Images, codes: str) -> None:
    usual = prepare_images(images, GLIOMA)
    turned = prepare_images({n: reoriented(v, codes) for n, v in images.items()}, GLIOMA)
    assert np.array_equal(turned.image_MDHW, usual.image_MDHW)
    assert np.allclose(turned.grid.affine, usual.grid.affine)
    mixed = prepare_images({**images, "T2": reoriented(images["T2"], codes)}, GLIOMA)
    assert np.array_equal(mixed.image_MDHW, usual.image_MDHW)


def test_another_spacing_is_resampled(images: Images) -> None:
    coarse = {n: Volume(v.array, Grid(SHAPE, np.diag([-2.0, -2.0, 2.5, 1.0]))) for n, v in images.items()}
    prepared = prepare_images(coarse, GLIOMA)
    assert prepared.grid.spacing_mm == pytest.approx((1, 1, 1))
    assert orientation_of(prepared.grid) == "LPS"
    volume_mm3 = [(v.array != 0).sum() * 10.0 for v in coarse.values()]
    assert (prepared.image_MDHW != 0).sum((1, 2, 3)) == pytest.approx(volume_mm3, rel=0.02)
    assert np.abs(prepared.image_MDHW).max() <= 10
    assert np.array_equal(prepared.image_MDHW * 64, np.rint(prepared.image_MDHW * 64))


def test_faults_of_images_name_the_file(images: Images) -> None:
    files = {n: f"{n}.nii.gz" for n in images}
    with pytest.raises(UsageError, match="no image was given; expected at least one of FLAIR, T1, T1c, T2"):
        prepare_images({}, GLIOMA)
    with pytest.raises(UsageError, match="modality 'PET' is unknown"):
        prepare_images({"PET": images["T1"]}, GLIOMA)
    other = Grid(SHAPE, np.eye(4))
    with pytest.raises(
        GridMismatchError, match=r"^T1\.nii\.gz: its affine differs from that of FLAIR\.nii\.gz \(RAS against LPS\)"
    ):
        prepare_images({**images, "T1": Volume(images["T1"].array, other)}, GLIOMA, files=files)
    flat = Volume((images["T2"].array > 0).astype(np.float32), images["T2"].grid)
    with pytest.raises(ImageContentError, match=r"^T2\.nii\.gz: is constant"):
        prepare_images({**images, "T2": flat}, GLIOMA, files=files)
    noisy = Volume(images["T2"].array + 1, images["T2"].grid)
    with pytest.raises(ImageContentError, match=r"^T2\.nii\.gz: its background is 1; expected 0"):
        prepare_images({**images, "T2": noisy}, GLIOMA, files=files)


def test_every_voxel_counts_where_the_task_says_so(grid: Grid) -> None:
    rng = np.random.default_rng(0)
    images = {n: Volume(rng.normal(100, 10, SHAPE).astype(np.float32), grid) for n in PROSTATE.modalities.names}
    prepared = prepare_images(images, PROSTATE)
    assert prepared.grid.shape == SHAPE
    assert (prepared.image_MDHW != 0).all()


def test_a_study_becomes_a_case_and_finds_its_way_back(images: Images, labels: Volume, write_study: Writer) -> None:
    del images["T1"]
    turned = {n: reoriented(v, "RAI") for n, v in images.items()}
    prepared = prepare_study(write_study("a", turned, labels), GLIOMA)
    case = prepared.case
    assert (case.name, case.task, case.scheme) == ("a", "glioma", "brats2021")
    assert case.modalities == ("FLAIR", "T1c", "T2")
    assert case.known_regions == ("WT", "TC", "ET")
    assert set(case.sources) == {"FLAIR", "T1c", "T2", "labels"}
    assert all(len(str(s["sha256"])) == 64 for s in case.sources.values())
    assert [s["name"] for s in case.steps] == ["reorient", "resample", "crop", "normalise"]
    native, grid = Grid.from_lattice(case.native), Grid.from_lattice(case.grid)
    assert orientation_of(native) == "RAI"
    assert exact_copy(grid, native)
    assert prepared.labels_DHW is not None
    assert prepared.truth is not None
    written = labels_from_bits(prepared.labels_DHW, GLIOMA.scheme("brats2021"), GLIOMA)
    back = resampled(Volume(written, grid), native, order=0)
    assert np.array_equal(reoriented(back, "LPS").array, tumour())
    assert np.array_equal(reoriented(prepared.truth, "LPS").array > 0, tumour() > 0)
    json.dumps(dataclasses.asdict(case))


def test_a_scheme_that_knows_only_some_regions(images: Images, labels: Volume, write_study: Writer) -> None:
    whole = Volume((labels.array > 0).astype(np.int32), labels.grid)
    prepared = prepare_study(write_study("a", {"FLAIR": images["FLAIR"]}, whole, "wt"), GLIOMA)
    assert prepared.case.known_regions == ("WT",)
    assert prepared.labels_DHW is not None
    assert set(np.unique(prepared.labels_DHW)) == {0, 1}


def test_a_study_without_reference_or_with_an_empty_one(images: Images, grid: Grid, write_study: Writer) -> None:
    prepared = prepare_study(write_study("a", images), GLIOMA)
    assert (prepared.labels_DHW, prepared.truth, prepared.case.scheme, prepared.case.known_regions) == (None, None, None, ())
    empty = prepare_study(write_study("b", images, Volume(np.zeros(SHAPE, np.int32), grid)), GLIOMA)
    assert empty.labels_DHW is not None
    assert not empty.labels_DHW.any()
    assert empty.case.known_regions == GLIOMA.region_names


def test_faults_of_labels_name_the_file(images: Images, labels: Volume, write_study: Writer) -> None:
    with pytest.raises(LabelSchemeError, match=r"labels\.nii\.gz: holds the value 4 .*would fit: brats2021, brats2013"):
        prepare_study(write_study("a", images, labels, "brats2023"), GLIOMA)
    other = Volume(labels.array[:-1], Grid(labels.array[:-1].shape, labels.grid.affine))
    with pytest.raises(
        GridMismatchError, match=r"labels\.nii\.gz \(labels\): its shape is 29x34x26 but the images has|labels\.nii\.gz"
    ):
        prepare_study(write_study("b", images, other), GLIOMA)


@pytest.fixture
def cohort(images: Images, labels: Volume, write_study: Writer) -> Cohort:
    studies = [write_study(f"case {i}", images, labels) for i in range(3)]
    studies.append(write_study("part", {"T1": images["T1"]}, labels))
    studies.append(write_study("unlabelled", images))
    faulty = write_study("faulty", images, labels)
    faulty.images["T2"].path.write_bytes(b"")
    return Cohort("c", (faulty, *studies), ((Path("x.mha"), "why"),), "licence", "cite")


Call = tuple[int, int, str, float, str | None]


def test_a_cohort_is_prepared_but_for_its_failures(cohort: Cohort, tmp_path: Path) -> None:
    calls: list[Call] = []
    failures = prepare_cohort(cohort, GLIOMA, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert [f.case for f in failures] == ["faulty"]
    assert failures[0].reason.endswith("T2.nii.gz: is empty (0 bytes); expected a NIfTI image; copy or download it again")
    assert [c[:3] for c in calls] == [(i + 1, 6, s.name) for i, s in enumerate(cohort.studies)]
    assert [c[4] is None for c in calls] == [False, *[True] * 5]
    names = [s.name for s in cohort.studies[1:]]
    assert [p.name for p in store.list_cases(tmp_path / "out")] == sorted(names)
    record, split = store.read_cohort(tmp_path / "out")
    assert record.cases == tuple(names)
    assert (record.name, record.task, record.scheme, record.licence, record.citation) == (
        "c",
        "glioma",
        "brats2021",
        "licence",
        "cite",
    )
    assert record.left_out == (("x.mha", "why"), ("faulty", failures[0].reason))
    assert split == Split((("case 0",), ("case 1",), ("case 2",)), ("part",))


def test_stored_cases_are_those_prepared(cohort: Cohort, tmp_path: Path) -> None:
    prepare_cohort(cohort, GLIOMA, tmp_path / "out")
    fresh = prepare_study(cohort.studies[1], GLIOMA)
    folder = store.case_folder(tmp_path / "out", "case 0")
    assert store.read_case(folder) == fresh.case
    assert np.array_equal(store.read_image(folder), fresh.image_MDHW)
    assert fresh.labels_DHW is not None
    assert fresh.truth is not None
    assert np.array_equal(store.read_labels(folder), fresh.labels_DHW)
    assert np.array_equal(store.read_truth(folder).array, fresh.truth.array)


def test_workers_prepare_the_same(cohort: Cohort, tmp_path: Path) -> None:
    calls: list[Call] = []
    failures = prepare_cohort(cohort, GLIOMA, tmp_path / "two", workers=2, progress=lambda *call: calls.append(call))
    assert [f.case for f in failures] == ["faulty"]
    assert sorted(c[0] for c in calls) == [1, 2, 3, 4, 5, 6]
    prepare_cohort(cohort, GLIOMA, tmp_path / "one")
    for folder in store.list_cases(tmp_path / "one"):
        other = store.case_folder(tmp_path / "two", folder.name)
        assert store.read_case(other) == store.read_case(folder)
        assert np.array_equal(store.read_image(other), store.read_image(folder))
    assert (tmp_path / "one" / "cohort.json").read_bytes() == (tmp_path / "two" / "cohort.json").read_bytes()


def test_a_second_run_keeps_what_is_whole_and_mends_the_rest(
    cohort: Cohort, images: Images, tmp_path: Path, write_study: Writer
) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, GLIOMA, out)
    kept, cut = (store.case_folder(out, n) / "case.json" for n in ("case 0", "case 1"))
    before = kept.stat().st_mtime_ns
    cut.unlink()
    write_study("faulty", images)
    assert prepare_cohort(cohort, GLIOMA, out) == []
    assert kept.stat().st_mtime_ns == before
    assert len(store.list_cases(out)) == 6
    again = dataclasses.replace(cohort, studies=tuple(dataclasses.replace(s, labels=None, scheme=None) for s in cohort.studies))
    prepare_cohort(again, GLIOMA, out)
    assert not store.has_labels(kept.parent)


def test_a_file_that_was_exchanged_is_noticed_whatever_its_date(images: Images, tmp_path: Path, write_study: Writer) -> None:
    study = write_study("one", images)
    cohort, out = Cohort("made", (study,)), tmp_path / "out"
    prepare_cohort(cohort, GLIOMA, out)
    record = store.case_folder(out, "one") / "case.json"
    before, flair = record.stat().st_mtime_ns, study.images["FLAIR"].path
    flair.touch()
    prepare_cohort(cohort, GLIOMA, out)
    assert record.stat().st_mtime_ns == before  # Its content is the same.
    write_nifti(flair, Volume(brain(9), images["FLAIR"].grid))
    os.utime(flair, (1e9, 1e9))  # As a copy that keeps dates.
    prepare_cohort(cohort, GLIOMA, out)
    assert record.stat().st_mtime_ns > before
    assert store.read_case(record.parent).sources["FLAIR"]["sha256"] == hashlib.sha256(flair.read_bytes()).hexdigest()


def test_folds_of_the_source_are_kept_without_failures(cohort: Cohort, tmp_path: Path) -> None:
    split = Split((("case 2", "faulty"), ("case 0",)), ("case 1",))
    prepare_cohort(dataclasses.replace(cohort, split=split), GLIOMA, tmp_path / "out")
    assert store.read_cohort(tmp_path / "out")[1] == Split((("case 2",), ("case 0",)), ("case 1",))


def test_a_cohort_of_failures_and_a_place_that_cannot_be_written(cohort: Cohort, tmp_path: Path) -> None:
    faulty = dataclasses.replace(cohort, studies=cohort.studies[:1])
    with pytest.raises(CaseError, match=r"none of the 1 cases of c could be prepared; the first: .*T2\.nii\.gz: is empty"):
        prepare_cohort(faulty, GLIOMA, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_cohort(cohort, GLIOMA, tmp_path / "file" / "out")
    with pytest.raises(AnymriError, match="cannot be a folder's"):
        prepare_cohort(dataclasses.replace(cohort, studies=(Study("../a", {}),)), GLIOMA, tmp_path / "out")


def test_two_brains_differ(grid: Grid) -> None:
    assert not np.array_equal(brain(0), brain(1))
    assert brain().shape == grid.shape
