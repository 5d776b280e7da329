"""Material: skulls taken away, tumours by their scheme, the same however a file is turned, and every fault in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anymri.data.generation.material import load_material, tumours_of
from anymri.domain.appearance import TISSUES
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import AnymriError
from anymri.volumes.nifti import read_labels, write_nifti
from anymri.volumes.volume import reoriented

from ...material import made_patient
from .made import CORE, EDEMA, ENHANCING, head, tumour, write_map, write_material


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def test_what_a_folder_holds(folder: Path) -> None:
    found = load_material(folder, GLIOMA, 2)
    (anatomy,) = found.anatomies
    assert [t.name for t in found.tumours] == ["a.nii.gz", "b.nii.gz"]
    assert list(found.hashes) == ["anatomies/head.nii.gz", "tumours/a.nii.gz", "tumours/b.nii.gz"]
    labels, codes = head(), {label: code for code, tissue in enumerate(TISSUES, 1) for label in tissue.labels}
    for label in (3, 41, 4):
        assert (anatomy.codes == codes[label]).sum() == (labels == label).sum()
    # The border is empty and of the skull nothing is left; fluid around a brain without sulci goes with it.
    assert not any(side.any() for axis in range(3) for side in (anatomy.codes.take(0, axis), anatomy.codes.take(-1, axis)))
    assert anatomy.voxels == (anatomy.codes > 0).sum() < ((labels > 0) & (labels != 507)).sum()
    assert anatomy.shares.sum() == pytest.approx(1) and anatomy.shares[0] == pytest.approx((labels == 41).sum() / anatomy.voxels)
    sites = anatomy.codes[tuple(anatomy.sites.T)]
    assert len(sites) and all(TISSUES[code - 1].site for code in sites)


def test_tumours_are_nested_shares(folder: Path) -> None:
    (found, _), labels = load_material(folder, GLIOMA, 2).tumours, tumour()
    expected = [np.isin(labels, v).sum() / 8 for v in ((EDEMA, CORE, ENHANCING), (CORE, ENHANCING), (ENHANCING,))]
    assert found.volumes.tolist() == expected
    assert found.shares.max() == 8 and (found.shares[:-1] >= found.shares[1:]).all()


def test_however_a_file_is_turned(folder: Path, tmp_path: Path) -> None:
    for part in ("anatomies", "tumours"):
        for path in (folder / part).iterdir():
            write_nifti(tmp_path / part / path.name, reoriented(read_labels(path), "IPR"))
    assert load_material(tmp_path, GLIOMA, 2).hashes == load_material(folder, GLIOMA, 2).hashes


def test_what_a_folder_says_of_itself(tmp_path: Path) -> None:
    folder = write_material(tmp_path)
    assert load_material(folder, GLIOMA, 2).source == ""
    (folder / "README.md").write_text("Of nobody.\n")
    assert load_material(folder, GLIOMA, 2).source == "Of nobody."
    (folder / "SOURCES").write_bytes(b"Made by code.\n\x1b[2J\xffno licence" + 5000 * b"!")  # Comes first.
    found = load_material(folder, GLIOMA, 2).source
    assert found.startswith("Made by code.\n[2J\ufffdno licence!!!") and found.endswith("! …") and len(found) == 4002


def test_tumours_of_patients_that_are_wholly_known() -> None:
    whole, partly, healthy = (made_patient(GLIOMA, s) for s in range(3))
    partly, healthy = replace(partly, known=np.array([True, False, False])), replace(healthy, centres=())
    (found,) = tumours_of([whole, partly, healthy], 1)
    assert found.name == whole.name and found.volumes.tolist() == whole.shares.sum((1, 2, 3)).tolist()


def spoil_label(folder: Path) -> None:
    labels = head()
    labels[28, 28, 28] = 999
    write_map(folder / "anatomies" / "head.nii.gz", labels)


def spoil_scheme(folder: Path) -> None:
    write_map(folder / "tumours" / "a.nii.gz", tumour() * 4)


FAULTS: list[tuple[str, Callable[[Path], None]]] = [
    ("anatomies: is no folder; material to train on needs", lambda f: shutil.rmtree(f / "anatomies")),
    ("tumours: holds no file", lambda f: [p.unlink() for p in (f / "tumours").iterdir()] and None),
    (r"head.nii.gz: holds the label 999; expected numbers of FreeSurfer", spoil_label),
    (
        r"head.nii.gz: shows no brain \(0 voxels",
        lambda f: write_map(f / "anatomies" / "head.nii.gz", np.zeros((9, 9, 9), np.int16)),
    ),
    (r"a.nii.gz: holds the label 4, 8, 12; scheme msd knows 0, 1, 2, 3", spoil_scheme),
    (r"b.nii.gz: shows no tumour \(0 voxels", lambda f: write_map(f / "tumours" / "b.nii.gz", np.zeros((9, 9, 9), np.int16))),
    (r"b.nii.gz: ", lambda f: (f / "tumours" / "b.nii.gz").write_bytes(b"no image") and None),
]


@pytest.mark.parametrize(("message", "spoil"), FAULTS, ids=[message[:30] for message, _ in FAULTS])
def test_a_fault_is_one_line(message: str, spoil: Callable[[Path], None], tmp_path: Path) -> None:
    spoil(write_material(tmp_path))
    with pytest.raises(AnymriError, match=message) as caught:
        load_material(tmp_path, GLIOMA, 2)
    assert "\n" not in str(caught.value)


def test_only_brains_are_made(folder: Path) -> None:
    with pytest.raises(AnymriError, match="task prostate has no synthetic patients"):
        load_material(folder, PROSTATE, 2)
