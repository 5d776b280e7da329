"""A folder of ONNX graphs: what is in it, and that it stands by itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.weights import load_model

pytest.importorskip("onnx", reason="the extras onnx and openvino are not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.slow  # Fifteen graphs are made.


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from anymri.export import export

    out = tmp_path_factory.mktemp("exported") / "graphs"
    export(weights, "onnx", out)
    return out


def test_there_is_a_graph_for_every_subset(exported: Path, weights: Path) -> None:
    manifest = json.loads((exported / "graphs.json").read_text())
    assert list(manifest["graphs"]) == [str(s) for s in subsets(GLIOMA.modalities)]
    there = {p.name for p in exported.iterdir()}
    assert there == {*manifest["graphs"].values(), "graphs.json", "README.md", "weights.bin", "weights.safetensors"}
    assert manifest["weights_sha256"] == load_model(weights).sha256
    assert (exported / "weights.safetensors").read_bytes() == weights.read_bytes()


def test_weights_are_there_once(exported: Path, weights: Path) -> None:
    model = load_model(weights)
    total = sum(p.numel() * 4 for p in model.method.parameters())
    assert (exported / "weights.bin").stat().st_size < 1.2 * total
    # A graph holds nothing of absent modalities.
    assert (exported / "FLAIR.onnx").stat().st_size < (exported / "FLAIR+T1+T1c+T2.onnx").stat().st_size


@pytest.mark.parametrize("keep", [(True,) * 4, (False, True, False, False)])
def test_a_graph_reads_what_it_shares(exported: Path, weights: Path, keep: tuple[bool, ...]) -> None:
    method = load_model(weights).method
    file = exported / f"{'+'.join(n for n, k in zip(GLIOMA.modalities.names, keep, strict=True) if k)}.onnx"
    image = torch.randn((1, 4, 8, 12, 16), generator=torch.Generator().manual_seed(0))
    (logits,) = onnxruntime.InferenceSession(str(file)).run(None, {"image": image[:, list(keep)].contiguous().numpy()})
    with torch.inference_mode():
        expected = method(image, torch.tensor([keep]), torch.zeros((1, 3), dtype=torch.int64))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-3)


def test_segment_takes_its_graphs_and_makes_none(
    exported: Path, cache: Path, run: Any, images: dict[str, Path], tmp_path: Path
) -> None:
    done = run("segment", "--t1c", images["t1c"], "--weights", exported, "--backend", "onnx", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert not list(cache.rglob("*.onnx"))


def other_bits(folder: Path) -> Path:
    file = folder / "weights.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)
    return file


def cut_short(folder: Path) -> Path:
    file = folder / "weights.bin"
    file.write_bytes(file.read_bytes()[:-100])
    return file


def swapped(folder: Path) -> Path:
    file = folder / "T1c.onnx"
    file.write_bytes((folder / "FLAIR.onnx").read_bytes())
    return file


@pytest.mark.parametrize("change", [other_bits, cut_short, swapped])
def test_segment_refuses_what_was_altered(
    exported: Path, change: Callable[[Path], Path], run: Any, images: dict[str, Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    file = change(copy)
    done = run("segment", "--t1c", images["t1c"], "--weights", copy, "--backend", "onnx", "--out", tmp_path / "out")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and not (tmp_path / "out").exists()
    assert done.err.startswith(f"error: {file}: SHA-256 is ") and "export the weights again" in done.err


def test_the_example_on_its_page_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(exported)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["inside"].shape == (3, 32, 32, 32)
