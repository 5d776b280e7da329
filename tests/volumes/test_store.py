"""A case comes back as it was written, or not at all."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from anymri.domain.case import Case, Split
from anymri.errors import CaseError, OutputError
from anymri.volumes import store
from anymri.volumes.volume import Grid

RNG = np.random.default_rng(0)
IMAGE = (RNG.integers(-640, 641, (2, 40, 70, 33)) / 64).astype(np.float32)
LABELS = RNG.integers(0, 8, (40, 70, 33)).astype(np.uint8)
TRUTH = RNG.integers(0, 8, (50, 80, 40)).astype(np.uint8)
NATIVE = Grid((50, 80, 40), np.diag([-1.0, 1.0 / 3.0, 1.0, 1.0]))
CASE = Case(
    name="é 1",
    task="glioma",
    modalities=("FLAIR", "T1c"),
    known_regions=("WT", "TC", "ET"),
    grid=Grid((40, 70, 33), np.eye(4)).lattice(),
    native=NATIVE.lattice(),
    scheme="brats2021",
    sources={"FLAIR": {"file": "a.nii.gz", "channel": None, "sha256": "00"}},
    intensity={"FLAIR": {"mean": 0.1, "std": 1 / 3}},
    steps=({"name": "crop", "box": [[0, 1], [2, 3], [4, 5]]},),
    version="1.0",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = store.case_folder(tmp_path, CASE.name)
    store.write_case(made, CASE, IMAGE, LABELS, TRUTH)
    return made


def test_a_case_comes_back_bit_for_bit(folder: Path) -> None:
    assert store.read_case(folder) == CASE
    assert store.read_image(folder).dtype == np.float32
    assert np.array_equal(store.read_image(folder), IMAGE)
    assert np.array_equal(store.read_labels(folder), LABELS)
    truth = store.read_truth(folder)
    assert np.array_equal(truth.array, TRUTH)
    assert np.array_equal(truth.grid.affine, NATIVE.affine)
    box = (slice(3, 39), slice(10, 70), slice(0, 7))
    assert np.array_equal(store.read_image(folder, box), IMAGE[:, *box])
    assert np.array_equal(store.read_labels(folder, box), LABELS[box])


def test_no_pickle_and_nothing_else(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["case.json", "image.b2nd", "labels.b2nd", "truth.b2nd"]
    assert [p.name for p in folder.parent.iterdir()] == [CASE.name]


def test_a_case_without_reference(tmp_path: Path) -> None:
    folder = store.case_folder(tmp_path, "a")
    store.write_case(folder, dataclasses.replace(CASE, known_regions=(), scheme=None), IMAGE, None, None)
    assert not store.has_labels(folder)
    with pytest.raises(CaseError, match="labels.b2nd: not found"):
        store.read_labels(folder)
    with pytest.raises(CaseError, match="truth.b2nd: not found"):
        store.read_truth(folder)


def test_writing_again_replaces_all(folder: Path) -> None:
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())
    left_behind = folder.with_name(f".{folder.name}.{host}-4194305.tmp")  # One more than the most processes there can be.
    left_behind.mkdir()
    store.write_case(folder, CASE, IMAGE + 1, None, None)
    assert np.array_equal(store.read_image(folder), IMAGE + 1)
    assert not store.has_labels(folder)
    assert not left_behind.exists()


def test_damage_is_said_in_one_line(folder: Path) -> None:
    for name, read in (("image.b2nd", store.read_image), ("labels.b2nd", store.read_labels)):
        path = folder / name
        whole = path.read_bytes()
        for damage in (b"", b"no array", whole[: len(whole) // 2]):
            path.write_bytes(damage)
            with pytest.raises(CaseError, match="damaged") as caught:
                read(folder)
            assert "\n" not in str(caught.value)
    case = folder / "case.json"
    text = case.read_text(encoding="utf-8")
    for damage in (text[: len(text) // 2], "[]", "{}", text.replace('"grid"', '"gird"'), text.replace("1.0,", '"x",', 1)):
        case.write_text(damage, encoding="utf-8")
        with pytest.raises(CaseError, match=r"case\.json: "):
            store.read_case(folder)
    case.unlink()
    with pytest.raises(CaseError, match="not found"):
        store.read_case(folder)


def test_a_changed_byte_that_still_decompresses_is_noticed(folder: Path) -> None:
    # Another array of the same shape and type, whole and sound, as a bad copy or a mixed-up folder may leave it.
    other = store.case_folder(folder.parents[1], "other")
    store.write_case(other, CASE, -IMAGE, LABELS ^ 1, TRUTH ^ 1)
    for name, read in (("image.b2nd", store.read_image), ("labels.b2nd", store.read_labels), ("truth.b2nd", store.read_truth)):
        (folder / name).write_bytes((other / name).read_bytes())
        with pytest.raises(CaseError, match=rf"{name}: holds bytes of checksum \w{{8}}, its case.json says \w{{8}}; ") as caught:
            read(folder)
        assert "\n" not in str(caught.value)
    # Crops are not checked: it would cost more than they do.
    assert np.array_equal(store.read_image(folder, (slice(0, 9),) * 3), -IMAGE[:, :9, :9, :9])


def test_a_case_of_an_earlier_version_has_no_checksums(folder: Path) -> None:
    path = folder / "case.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content.pop("crc32")) == {"image.b2nd", "labels.b2nd", "truth.b2nd"}
    store.write_json(path, content)
    assert store.read_case(folder) == CASE
    assert np.array_equal(store.read_image(folder), IMAGE)
    for wrong in ([], {"image.b2nd": 7}):
        store.write_json(path, content | {"crc32": wrong})
        with pytest.raises(CaseError, match="crc32"):
            store.read_case(folder)


def test_listing_skips_what_is_not_whole(tmp_path: Path, folder: Path) -> None:
    store.write_case(store.case_folder(tmp_path, "b"), CASE, IMAGE, None, None)
    (tmp_path / "cases" / "no case").mkdir()
    (tmp_path / "cases" / ".c.1.tmp").mkdir()
    (tmp_path / "cases" / ".c.1.tmp" / "case.json").write_text("{}")
    assert [p.name for p in store.list_cases(tmp_path)] == ["b", CASE.name]
    with pytest.raises(CaseError, match="holds no prepared case"):
        store.list_cases(tmp_path / "none")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "C:"])
def test_names_that_are_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaseError, match="cannot be a folder's"):
        store.case_folder(tmp_path, name)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        store.write_case(tmp_path / "file" / "a", CASE, IMAGE, None, None)
    with pytest.raises(OutputError, match="cannot be written"):
        store.write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(OutputError, match="cannot be written"):
        store.make_folder(tmp_path / "file")


def test_a_cohort_comes_back(tmp_path: Path) -> None:
    record = store.CohortRecord("c", "glioma", ("a", "b"), "brats2021", (("x", "why"),), "licence", "cite")
    split = Split((("a",), ("b",)), ("c",))
    store.write_cohort(tmp_path, record, split)
    assert store.read_cohort(tmp_path) == (record, split)
    assert json.loads((tmp_path / "splits.json").read_text()) == {"folds": [["a"], ["b"]], "train_only": ["c"]}
    (tmp_path / "cohort.json").write_text('{"name": "c"}')
    with pytest.raises(CaseError, match="damaged"):
        store.read_cohort(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folds": "a"}', '{"folds": [["a"], [1]]}', '{"folds": [], "train_only": {}}'])
def test_folds_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(CaseError, match=r"splits\.json: .*expected folds as"):
        store.read_split(path)


def test_a_case_is_in_one_fold(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"folds": [["a", "b"], ["c"]], "train_only": ["b"]}')
    with pytest.raises(CaseError, match="b stands in it more than once"):
        store.read_split(path)
