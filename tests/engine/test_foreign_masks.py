"""Anyone's masks: names matched to cases, grids checked, scheme declared, scored as weights are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.engine import foreign_masks
from anymri.engine.evaluation import evaluate
from anymri.engine.foreign_masks import Reading, evaluate_masks, find_masks, on_grid
from anymri.engine.inference import nested, region_logits_of, restored
from anymri.errors import AnymriError, CaseError, GridMismatchError, ImageContentError, InputFileError, LabelSchemeError, UsageError
from anymri.metrics.protocol import ANYMRI
from anymri.metrics.scores import ScoreTable, read_scores
from anymri.preparation.labels import labels_from_bits
from anymri.volumes.nifti import write_nifti
from anymri.volumes.store import read_image, read_truth
from anymri.volumes.volume import Grid, Volume, reoriented

from ..material import NATIVE, PREPARED, write_made_case, write_made_cohort
from .test_evaluation import model_with

CPU = torch.device("cpu")
SCHEME = GLIOMA.scheme()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a", "b"), ("c",)))
    return tmp_path / "prepared"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    (tmp_path / "theirs").mkdir()
    return tmp_path / "theirs"


def folders(prepared: Path, names: str = "abc") -> list[Path]:
    return [prepared / "cases" / n for n in names]


def truth(prepared: Path, case: str, scheme: str = "brats2021") -> Volume:
    volume = read_truth(prepared / "cases" / case)
    return Volume(labels_from_bits(volume.array, GLIOMA.scheme(scheme), GLIOMA), volume.grid)


def scored(prepared: Path, masks: Path, out: Path, *, names: str = "abc", scheme: str = "brats2021", **more: Any) -> ScoreTable:
    found = find_masks(masks, folders(prepared, names), GLIOMA)
    reading = Reading(GLIOMA, GLIOMA.scheme(scheme), ANYMRI)
    return evaluate_masks(found, ("made_up", prepared / "cases"), out, reading=reading, **more)


def test_the_masks_of_a_model_score_as_the_model_does(prepared: Path, masks: Path, tmp_path: Path) -> None:
    """All fifteen subsets, predicted from the stored case: not a digit differs."""
    model = model_with(-1.0)
    expected = evaluate(model, folders(prepared), tmp_path / "weights.csv", protocol=ANYMRI, device=CPU)
    for case in "abc":
        image, every = read_image(prepared / "cases" / case), subsets(GLIOMA.modalities)
        logits = region_logits_of(model, image, (True,) * 4, [s.mask for s in every], device=CPU)
        for subset, found in zip(every, logits, strict=True):
            bits = np.bitwise_or.reduce([m.astype(np.uint8) << r for r, m in enumerate(nested(restored(found, PREPARED, NATIVE)))])
            folder = masks / "+".join(reversed(subset.names))
            folder.mkdir(exist_ok=True)
            write_nifti(folder / f"{case}.nii.gz", Volume(labels_from_bits(bits, SCHEME, GLIOMA), NATIVE))
    table = scored(prepared, masks, tmp_path / "masks.csv")
    assert [(r.case, r.subset, r.region, r.metric, r.value, r.unit) for r in table] == [
        (r.case, r.subset, r.region, r.metric, r.value, r.unit) for r in expected
    ]
    first = table.rows[0]
    assert (first.method, first.cohort, first.protocol, first.seed, len(first.run)) == ("theirs", "made_up", "anymri", None, 12)
    assert read_scores(tmp_path / "masks.csv") == table
    assert sorted(p.name for p in tmp_path.glob("*.csv*")) == ["masks.csv", "weights.csv"]
    assert not list(tmp_path.glob(".*"))


NAMES = ["a.nii.gz", "a.nii", "a_seg.nii.gz", "a-seg.nii", "a/segmentation.nii.gz", "a/a_seg.nii.gz", "FLAIR+T1+T1c+T2/a.nii.gz"]


@pytest.mark.parametrize("name", [*NAMES, "t2+flair+T1C+t1/a/segmentation.nii.gz"])
def test_names_that_are_understood(prepared: Path, masks: Path, name: str) -> None:
    (masks / name).parent.mkdir(parents=True, exist_ok=True)
    (masks / name).touch()
    found = find_masks(masks, folders(prepared), GLIOMA)
    assert found.masks == {"a": {GLIOMA.modalities.full: masks / name}}
    assert (found.method, found.without, found.unmatched) == ("theirs", ("b", "c"), ())


def test_what_matches_nothing_is_listed(prepared: Path, masks: Path) -> None:
    write_made_case(prepared / "cases" / "b", GLIOMA, 1, modalities=("T1", "T2"))
    strange = ["d.nii.gz", "a/probability_WT.nii.gz", "T1c+PET/a.nii.gz", "x/y/a.nii.gz", "a_pred.nii.gz", "T1c/b.nii.gz"]
    for name in ["a.nii.gz", "T1/b.nii", "notes.txt", ".hidden/a.nii.gz", ".a.nii.gz", *strange]:
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        (masks / name).touch()
    found = find_masks(masks, folders(prepared), GLIOMA)
    assert {c: {str(s): p.name for s, p in made.items()} for c, made in found.masks.items()} == {
        "a": {"FLAIR+T1+T1c+T2": "a.nii.gz"},
        "b": {"T1": "b.nii"},
    }
    assert sorted(str(p.relative_to(masks)) for p, _ in found.unmatched) == sorted(strange)
    reasons = {str(p.relative_to(masks)): reason for p, reason in found.unmatched}
    assert reasons["T1c/b.nii.gz"] == "made from T1c, but the prepared case has T1+T2 alone"
    assert reasons["d.nii.gz"] == "its name is that of none of the 3 cases that are scored"
    assert found.without == ("c",)


def test_a_whole_name_comes_before_one_with_a_suffix(prepared: Path, masks: Path) -> None:
    write_made_case(prepared / "cases" / "a_seg", GLIOMA, 5)
    (masks / "a_seg.nii.gz").touch()
    found = find_masks(masks, [*folders(prepared), prepared / "cases" / "a_seg"], GLIOMA)
    assert list(found.masks) == ["a_seg"]


@pytest.mark.parametrize("second", ["a_seg.nii.gz", "a/segmentation.nii.gz", "FLAIR+T1+T1c+T2/a.nii.gz"])
def test_two_masks_of_one_case_are_refused(prepared: Path, masks: Path, second: str) -> None:
    for name in ("a.nii.gz", second):
        (masks / name).parent.mkdir(exist_ok=True)
        (masks / name).touch()
    with pytest.raises(UsageError, match=r"both are masks of case a from FLAIR\+T1\+T1c\+T2; remove one"):
        find_masks(masks, folders(prepared), GLIOMA)


def test_a_folder_without_masks_is_refused(prepared: Path, masks: Path) -> None:
    with pytest.raises(InputFileError, match="holds no mask of a case; expected CASE.nii.gz for cases such as a, b, c"):
        find_masks(masks, folders(prepared), GLIOMA)
    (masks / "z.nii").touch()
    with pytest.raises(InputFileError, match=r"holds no mask of a case \(z.nii: its name is that of none"):
        find_masks(masks, folders(prepared), GLIOMA)
    with pytest.raises(InputFileError, match="is not a folder"):
        find_masks(masks / "z.nii", folders(prepared), GLIOMA)


@pytest.mark.parametrize("axes", ["RAS", "SPL", "AIR"])
def test_other_axes_are_turned_back(prepared: Path, masks: Path, tmp_path: Path, axes: str) -> None:
    volume = truth(prepared, "a")
    write_nifti(masks / "a.nii.gz", reoriented(volume, axes))
    table = scored(prepared, masks, tmp_path / "s.csv", names="a")
    assert {r.value for r in table if r.metric in ("dice", "surface_dice_1mm", "precision")} == {1.0}
    assert {r.value for r in table if r.metric == "hausdorff_95_mm"} == {0.0}


def _moved(mm: float) -> Grid:
    affine = NATIVE.affine.copy()
    affine[0, 3] += mm
    return Grid(NATIVE.shape, affine)


def test_a_grid_within_a_tenth_of_a_millimetre_is_the_same() -> None:
    array = np.zeros(NATIVE.shape, np.int32)
    assert on_grid(Volume(array, _moved(0.05)), NATIVE, file="m", case="a").shape == NATIVE.shape


@pytest.mark.parametrize("kind", ["moved", "cropped", "stretched", "prepared"])
def test_any_other_grid_is_refused_with_both_named(kind: str) -> None:
    stretched = NATIVE.affine.copy()
    stretched[:3, :3] *= 1.5
    shape = (NATIVE.shape[0], NATIVE.shape[1], NATIVE.shape[2] - 1)
    grid = {"moved": _moved(3.0), "cropped": Grid(shape, NATIVE.affine), "stretched": Grid(NATIVE.shape, stretched)}.get(
        kind, PREPARED
    )
    with pytest.raises(GridMismatchError) as caught:
        on_grid(Volume(np.zeros(grid.shape, np.int32), grid), NATIVE, file="theirs/a.nii.gz", case="a")
    line = str(caught.value)
    assert line.startswith("theirs/a.nii.gz: its grid is ") and "that of case a is 22x16x20 voxels of 1 x 1 x 1 mm, PSR" in line
    assert {"moved": "3 mm apart", "cropped": "22x16x19", "stretched": "1.5 x 1.5", "prepared": "16x18x14"}[kind] in line


def test_values_outside_the_scheme_are_refused(prepared: Path, masks: Path, tmp_path: Path) -> None:
    write_nifti(masks / "a.nii.gz", truth(prepared, "a", "brats2023"))
    with pytest.raises(LabelSchemeError) as caught:
        scored(prepared, masks, tmp_path / "s.csv", names="a")
    assert "a.nii.gz: holds the value 3 (" in str(caught.value) and "schemes that would fit: brats2023" in str(caught.value)
    assert not (tmp_path / "s.csv").exists()
    table = scored(prepared, masks, tmp_path / "s.csv", names="a", scheme="brats2023")
    assert {r.value for r in table if r.metric == "dice"} == {1.0}


def test_a_probability_map_is_no_mask(prepared: Path, masks: Path, tmp_path: Path) -> None:
    write_nifti(masks / "a.nii.gz", Volume(np.full(NATIVE.shape, 0.4, np.float32), NATIVE))
    with pytest.raises(ImageContentError, match="no whole numbers"):
        scored(prepared, masks, tmp_path / "s.csv", names="a")


def test_regions_that_either_side_does_not_tell_are_not_scored(prepared: Path, masks: Path, tmp_path: Path) -> None:
    write_made_case(prepared / "cases" / "b", GLIOMA, 1, known=("WT",))
    for case in "ab":
        whole = truth(prepared, case)
        write_nifti(masks / f"{case}.nii.gz", Volume((whole.array > 0).astype(np.uint8), whole.grid))
    table = scored(prepared, masks, tmp_path / "s.csv", names="ab", scheme="wt")
    assert {(r.case, r.region) for r in table} == {("a", "WT"), ("b", "WT")}
    assert {r.value for r in table if r.metric == "dice"} == {1.0}
    table = scored(prepared, masks, tmp_path / "s.csv", names="ab")
    assert {(r.case, r.region) for r in table} == {("a", "WT"), ("a", "TC"), ("a", "ET"), ("b", "WT")}
    write_made_case(prepared / "cases" / "b", GLIOMA, 1, known=("TC",))
    with pytest.raises(CaseError, match="its reference tells TC alone, masks of scheme wt do not"):
        scored(prepared, masks, tmp_path / "s.csv", names="ab", scheme="wt")
    write_made_case(prepared / "cases" / "b", GLIOMA, 1, known=())
    with pytest.raises(CaseError, match="has no reference segmentation"):
        scored(prepared, masks, tmp_path / "s.csv", names="ab")


class Broken(Exception):
    """Ends an evaluation from outside."""


@pytest.mark.parametrize("change", ["nothing", "a mask", "the scheme", "torn", "a case"])
def test_an_interrupted_evaluation_goes_on_where_it_was(
    prepared: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    for case in "abc":
        write_nifti(masks / f"{case}.nii.gz", truth(prepared, case))
    made: list[str] = []
    original = foreign_masks.reference_of

    def spied(folder: Path, *given: Any) -> Any:
        made.append(folder.name)
        return original(folder, *given)

    def report(done: int, total: int, name: str) -> None:
        if name == "b":
            raise Broken

    monkeypatch.setattr(foreign_masks, "reference_of", spied)
    with pytest.raises(Broken):
        scored(prepared, masks, tmp_path / "s.csv", report=report)
    assert made == ["a", "b"] and not (tmp_path / "s.csv").exists()
    if change == "a mask":
        write_nifti(masks / "a.nii.gz", Volume(np.zeros(NATIVE.shape, np.uint8), NATIVE))
    if change == "torn":
        part = tmp_path / ".s.csv.parts" / "a.csv"
        part.write_bytes(part.read_bytes()[:-40])
    if change == "a case":
        later = (tmp_path / ".s.csv.parts" / "a.csv").stat().st_mtime + 1
        os.utime(prepared / "cases" / "a" / "case.json", (later, later))
    if change == "the scheme":
        with pytest.raises(AnymriError):
            scored(prepared, masks, tmp_path / "s.csv", scheme="msd")
    else:
        table = scored(prepared, masks, tmp_path / "s.csv")
        assert {r.value for r in table if r.case == "a" and r.metric == "dice"} == {0.0 if change == "a mask" else 1.0}
    again = {"nothing": "c", "a mask": "abc", "torn": "ac", "a case": "ac", "the scheme": "a"}[change]
    assert made == ["a", "b", *again]
