"""Images that are read ahead of the moment they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anymri.domain.case import Source
from anymri.errors import InputFileError
from anymri.segment.visit import read_images
from anymri.volumes.images import read_image, reading
from anymri.volumes.nifti import write_nifti
from anymri.volumes.volume import Grid, Volume


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.nii.gz" for name in "ab"]
    for path in paths:
        write_nifti(path, Volume(rng.normal(0, 1, (5, 6, 7)).astype(np.float32), Grid((5, 6, 7), np.eye(4))))
    return paths


def test_what_was_begun_is_what_would_be_read(files: list[Path]) -> None:
    begun = reading([Source(path) for path in files])
    for path in files:
        assert np.array_equal(begun[Source(path)].result().array, read_image(path).array)
    assert not reading([])


def test_nothing_is_read_twice_and_the_rest_is_read(files: list[Path]) -> None:
    begun = reading([Source(files[0])])
    expected = begun[Source(files[0])].result()
    files[0].unlink()
    found = read_images({"T1": Source(files[0]), "T2": Source(files[1])}, begun)
    assert found["T1"] is expected and list(found) == ["T1", "T2"]
    assert np.array_equal(found["T2"].array, read_image(files[1]).array)


def test_a_fault_waits_until_it_is_asked_for(tmp_path: Path) -> None:
    source = Source(tmp_path / "missing.nii.gz")
    begun = reading([source])
    with pytest.raises(InputFileError, match="not found"):
        read_images({"T1": source}, begun)
