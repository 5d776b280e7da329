"""Bytes changed at random: what comes of it is a value, or an error of one line; nothing else, and no memory to speak of."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anymri.domain.task import GLIOMA
from anymri.engine.model import read_model
from anymri.engine.run import RunFolder
from anymri.errors import AnymriError, one_line
from anymri.metrics.scores import COLUMNS, read_scores
from anymri.volumes.nifti import read_labels, read_nifti
from anymri.volumes.store import read_case, read_cohort, read_split

from ..material import write_made_case
from .conftest import limited, write_untrained
from .images import AFFINE, VARIANTS, brain, nifti, packed
from .test_corpus import PEAK

QUICK = settings(max_examples=100, derandomize=True, deadline=2000, database=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=3000, derandomize=False)
Change = tuple[int, int, bytes]


def changes(length: int, first: int = 0) -> st.SearchStrategy[list[Change]]:
    """Return a few replacements of some bytes by others, in places from the first on."""
    one = st.tuples(st.integers(first, length), st.integers(0, 8), st.binary(max_size=8))
    return st.lists(one, min_size=1, max_size=4)


def changed(content: bytes, how: list[Change]) -> bytes:
    """Return the content with bytes replaced."""
    for start, count, new in how:
        content = content[:start] + new + content[start + count :]
    return content


def read_or_refused(read: Callable[[Path], object], content: bytes, name: str) -> object | None:
    """Return what a reader makes of these bytes, or None if it refuses them as it should."""
    with tempfile.TemporaryDirectory() as folder, limited() as grown:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            found = read(path)
        except AnymriError as error:
            line, found = str(error), None
            assert line.isprintable() and len(line) <= 500
            assert folder in line
        assert grown() < PEAK
        assert os.listdir(folder) == [name]
    return found


def run_both(test: Callable[[Callable[..., None]], None]) -> Callable[..., None]:
    """Return a test that runs a property a hundred times, or thousands of times where it is marked slow."""
    return pytest.mark.parametrize(
        "effort", [pytest.param(QUICK, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]
    )(test)


@run_both
def test_nifti_headers(effort: settings) -> None:
    @effort
    @given(st.sampled_from(VARIANTS), st.data())
    def check(variant, data) -> None:
        content = nifti(variant=variant)
        found = read_or_refused(read_nifti, changed(content, data.draw(changes(variant.size + 8))), "a.nii")
        if found is not None:
            assert np.isfinite(found.array).all() and np.isfinite(found.grid.affine).all()
            assert found.array.min() < found.array.max()

    check()


@run_both
def test_gzip_data(effort: settings) -> None:
    content = packed(nifti())

    @effort
    @given(changes(len(content)))
    def check(how: list[Change]) -> None:
        found = read_or_refused(read_nifti, changed(content, how), "a.nii.gz")
        if found is not None:  # The sum at the end has it that nothing has changed.
            assert np.array_equal(found.array, brain())
            assert np.array_equal(found.grid.affine, AFFINE)

    check()


@run_both
def test_labels(effort: settings) -> None:
    content = nifti((brain() > 800).astype("f4"))

    @effort
    @given(changes(len(content)))
    def check(how: list[Change]) -> None:
        found = read_or_refused(read_labels, changed(content, how), "a.nii")
        assert found is None or found.array.dtype == np.int32

    check()


@cache
def record(name: str) -> bytes:
    """Return a sound record."""
    if name == "case.json":
        with tempfile.TemporaryDirectory() as folder:
            write_made_case(Path(folder) / "case", GLIOMA, 0)
            return (Path(folder) / "case" / name).read_bytes()
    contents = {
        "cohort.json": {
            "name": "a",
            "task": "glioma",
            "cases": ["a", "b"],
            "scheme": None,
            "left_out": [["x", "y"]],
            "licence": "",
            "citation": "",
        },
        "splits.json": {"folds": [["a"], ["b"]], "train_only": ["c"]},
        "run.json": {"run": {"method": "ccsd", "steps": 3, "patch": [32, 32, 32]}},
    }
    return json.dumps(contents[name]).encode()


def _cohort(path: Path) -> object:
    (path.parent / "splits.json").symlink_to(path)
    try:
        return read_cohort(path.parent)
    finally:
        (path.parent / "splits.json").unlink()


READERS: dict[str, Callable[[Path], object]] = {
    "case.json": lambda path: read_case(path.parent),
    "cohort.json": _cohort,
    "splits.json": read_split,
    "run.json": lambda path: RunFolder(path.parent).read_run(),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.integers(10**300, 10**310),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", READERS)
@run_both
def test_records_of_changed_bytes(effort: settings, name: str) -> None:
    @effort
    @given(changes(len(record(name))))
    def check(how: list[Change]) -> None:
        read_or_refused(READERS[name], changed(record(name), how), name)

    check()


@pytest.mark.parametrize("name", READERS)
@run_both
def test_records_of_other_values(effort: settings, name: str) -> None:
    sound = json.loads(record(name))

    @effort
    @given(st.dictionaries(st.sampled_from(sorted(sound)), VALUES, min_size=1))
    def check(other: dict[str, object]) -> None:
        read_or_refused(READERS[name], json.dumps(sound | other).encode(), name)

    check()


@run_both
def test_weights(effort: settings, tmp_path: Path) -> None:
    content = write_untrained(tmp_path / "sound.safetensors", GLIOMA).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")

    @effort
    @given(changes(end))
    def check(how: list[Change]) -> None:
        read_or_refused(read_model, changed(content, how), "a.safetensors")

    check()


@run_both
def test_score_tables(effort: settings) -> None:
    content = (",".join(COLUMNS) + "\nccsd,a,b,T1,WT,dice,0.5,1,0,abc,anymri\n").encode()

    @effort
    @given(changes(len(content)))
    def check(how: list[Change]) -> None:
        read_or_refused(read_scores, changed(content, how), "a.csv")

    check()


@QUICK
@given(st.text(max_size=2000) | st.binary(max_size=600).map(os.fsdecode))
def test_any_text_becomes_one_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable() and len(line) <= 1000
    line.encode()
    assert str(AnymriError(text)) == line
