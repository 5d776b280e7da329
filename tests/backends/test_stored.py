"""Folders of exported graphs: which are taken, which are refused and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from anymri.backends import with_backend
from anymri.backends.stored import AGAIN, FORMAT, exported_graphs, graph_file
from anymri.domain.task import GLIOMA
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.errors import UsageError, WeightsError

from ..material import tiny

WHOLE = GLIOMA.modalities.full
OF_THESE = "a" * 64


@pytest.fixture
def model() -> Model:
    header = WeightsHeader(name="made", method="ccsd", config={}, task="glioma", window=Window(stride=1, size=(8, 8, 8)))
    return Model(tiny("ccsd", GLIOMA).eval(), header, OF_THESE)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder as 'anymri export' leaves it, but for what is in its graphs."""
    folder = tmp_path / "exported"
    folder.mkdir()
    told = {"format": FORMAT, "weights_sha256": OF_THESE, "versions": {"anymri": version("anymri")}}
    (folder / "graphs.json").write_text(json.dumps(told))
    (folder / "weights.bin").write_bytes(b"")
    (folder / f"{WHOLE}.onnx").write_bytes(b"a graph")
    return folder


def changed(folder: Path, **fields: Any) -> None:
    file = folder / "graphs.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_its_graphs_are_taken(model: Model, exported: Path) -> None:
    folder = exported_graphs(exported, model)
    assert folder == exported
    assert graph_file(model, WHOLE, exported=folder) == exported / f"{WHOLE}.onnx"


def test_what_is_no_export_of_these_weights_is_left_alone(model: Model, exported: Path, tmp_path: Path) -> None:
    assert exported_graphs(tmp_path, model) is None
    assert exported_graphs(exported, replace(model, sha256="b" * 64)) is None
    changed(exported, format="of another program")
    assert exported_graphs(exported, model) is None


def other_format(folder: Path) -> None:
    changed(folder, format="anymri-graphs/2")


def other_version(folder: Path) -> None:
    changed(folder, versions={"anymri": "0.0.1"})


def no_version(folder: Path) -> None:
    changed(folder, versions=[])


def damaged(folder: Path) -> None:
    (folder / "graphs.json").write_text("{")


def without_weights(folder: Path) -> None:
    (folder / "weights.bin").unlink()


@pytest.mark.parametrize(
    ("change", "file", "said"),
    [
        (other_format, "graphs.json", f"its format is anymri-graphs/2, this version of anymri reads {FORMAT}"),
        (other_version, "graphs.json", f"its graphs were made by anymri 0.0.1, this is {version('anymri')}"),
        (no_version, "graphs.json", "its graphs were made by anymri None"),
        (damaged, "graphs.json", "cannot be read"),
        (without_weights, "weights.bin", "not found; graphs read their weights from it; copy it too"),
    ],
)
def test_what_cannot_be_used_is_refused(model: Model, exported: Path, change: Callable[[Path], None], file: str, said: str) -> None:
    change(exported)
    with pytest.raises(WeightsError) as caught:
        exported_graphs(exported, model)
    line = str(caught.value)
    assert line.startswith(f"{exported / file}: {said}") and line.endswith(AGAIN)


def test_it_is_refused_before_an_image_is_read(model: Model, exported: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    other_version(exported)
    with pytest.raises(WeightsError):
        with_backend(model, "onnx", exported=exported)
    assert with_backend(model, "torch", exported=exported) is model


def test_a_damaged_graph_of_an_export_is_not_to_be_removed(model: Model, exported: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    engine = with_backend(model, "onnx", exported=exported).other_engine
    assert engine is not None
    with pytest.raises(UsageError, match="export the weights again") as caught:
        engine._opening(WHOLE)  # type: ignore[attr-defined]
    assert "remove" not in str(caught.value)
