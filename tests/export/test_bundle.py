"""A MONAI bundle segments a patient as ``anymri segment`` does, whichever images are missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.errors import CaseError, UsageError
from anymri.export import export
from anymri.export.running import Evaluator, PatientNetwork, Preparation, Restoration
from anymri.segment import Options, segment


@pytest.fixture(scope="module")
def bundle(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "bundle"
    export(weights, "bundle", out)
    return out


def mask_of(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)  # type: ignore[attr-defined]


def test_what_is_in_a_bundle(bundle: Path, weights: Path) -> None:
    files = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert files == {"configs/metadata.json", "configs/inference.json", "docs/README.md", "models/model.safetensors", "LICENSE"}
    assert (bundle / "models" / "model.safetensors").read_bytes() == weights.read_bytes()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    assert [text.partition(";")[0] for text in channels.values()] == list(GLIOMA.modalities.names)
    assert "Apache License" in (bundle / "LICENSE").read_text()


def test_what_is_known_of_trust_goes_along(tmp_path: Path) -> None:
    from anymri.trust.record import beside
    from anymri.weights import named

    shipped = named(None).file
    export(shipped, "bundle", tmp_path / "bundle")
    assert beside(tmp_path / "bundle" / "models" / "model.safetensors").read_bytes() == beside(shipped).read_bytes()


def test_its_parts_make_the_mask_that_segment_makes(weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    patient = {"FLAIR": None, "T1": "", "T1c": str(images["t1c"]), "T2": str(images["t2"]), "name": "a"}
    prepared = Preparation("glioma")(patient)
    assert prepared["image"].isnan().flatten(1).all(1).tolist() == [True, True, False, False]
    assert not prepared["image"][2:].isnan().any()
    network = PatientNetwork(weights, precision="float32")
    restoration = Restoration("glioma", tmp_path)
    Evaluator([prepared], network, lambda image, net: net(image), restoration).run()
    expected = segment({"T1c": images["t1c"], "T2": images["t2"]}, weights=weights, options=Options(precision="float32"))
    assert np.array_equal(mask_of(tmp_path / "a.nii.gz"), expected.mask.array)
    for name, said in (("a", "two patients are called 'a'"), ("../b", "'../b' cannot be a folder's")):
        with pytest.raises(CaseError, match=said):
            restoration({**prepared, "name": name})
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_network_of_nothing() -> None:
    from anymri.weights import named

    network = PatientNetwork(named(None).file)
    with pytest.raises(UsageError, match="every channel is NaN"):
        network(torch.full((1, 4, 8, 8, 8), torch.nan))


def test_export_refuses_in_one_line(run: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, said in (
        ((weights, "--format", "onnx", "--out", weights.parent), "new folder"),
        ((weights, "--format", "bundle", "--out", "."), "new folder"),
        ((weights, "--format", "tiff", "--out", tmp_path / "out"), "onnx, bundle"),
        ((tmp_path / "nothing", "--format", "onnx", "--out", tmp_path / "out"), "neither a file"),
    ):
        done = run("export", *words)
        assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_monai_runs_it(bundle: Path, weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="MONAI is not installed")
    pytest.importorskip("fire", reason="fire, which MONAI's command line needs, is not installed")
    words: list[Any] = ["--config_file", "configs/inference.json", "--output_dir", tmp_path / "out"]
    words += ["--images#FLAIR", images["flair"], "--images#T1c", images["t1c"], "--images#name", "someone"]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *map(str, words)], cwd=bundle, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = segment({"FLAIR": images["flair"], "T1c": images["t1c"]}, weights=weights)
    assert np.array_equal(mask_of(tmp_path / "out" / "someone.nii.gz"), expected.mask.array)
