"""Folders of exported graphs: which are taken, which are refused and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
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

WHOLE, OF_TWO = GLIOMA.modalities.full, GLIOMA.modalities.subset(("FLAIR", "T1c"))
OF_THESE = "a" * 64
SHA_OF_WEIGHTS = sha256(b"some weights").hexdigest()


@pytest.fixture
def model() -> Model:
    header = WeightsHeader(name="made", method="ccsd", config={}, task="glioma", window=Window(stride=1, size=(8, 8, 8)))
    return Model(tiny("ccsd", GLIOMA).eval(), header, OF_THESE)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder as 'anymri export' leaves it, but for what is in its graphs."""
    folder = tmp_path / "exported"
    folder.mkdir()
    files = {"weights.bin": b"some weights", f"{WHOLE}.onnx": b"a graph", f"{OF_TWO}.onnx": b"another graph"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
    told = {"format": FORMAT, "weights_sha256": OF_THESE, "versions": {"anymri": version("anymri")}, "sha256": hashes}
    (folder / "graphs.json").write_text(json.dumps(told))
    return folder


def changed(folder: Path, **fields: Any) -> None:
    file = folder / "graphs.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_its_graphs_are_taken(model: Model, exported: Path) -> None:
    found = exported_graphs(exported, model)
    assert found is not None and found.folder == exported
    assert graph_file(model, WHOLE, exported=found) == exported / f"{WHOLE}.onnx"


def test_one_that_is_not_there_is_made_elsewhere(
    model: Model, exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (exported / f"{OF_TWO}.onnx").unlink()
    monkeypatch.setattr("anymri.backends.stored.graph_of", lambda method, keep: b"a new graph")
    file = graph_file(model, OF_TWO, exported=exported_graphs(exported, model))
    assert file.is_relative_to(cache) and file.read_bytes() == b"a new graph"


def test_what_is_no_export_of_these_weights_is_left_alone(model: Model, exported: Path, tmp_path: Path) -> None:
    assert exported_graphs(tmp_path, model) is None
    assert exported_graphs(exported, replace(model, sha256="b" * 64)) is None
    changed(exported, format="of another program")
    assert exported_graphs(exported, model) is None


def other_format(folder: Path) -> None:
    changed(folder, format="anymri-graphs/1")


def other_version(folder: Path) -> None:
    changed(folder, versions={"anymri": "0.0.1"})


def no_version(folder: Path) -> None:
    changed(folder, versions=[])


def damaged(folder: Path) -> None:
    (folder / "graphs.json").write_text("{")


def without_weights(folder: Path) -> None:
    (folder / "weights.bin").unlink()


def without_hashes(folder: Path) -> None:
    changed(folder, sha256=None)


def flipped(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"come weights")


def truncated(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"some")


def not_of_this_export(folder: Path) -> None:
    changed(folder, sha256={})


@pytest.mark.parametrize(
    ("change", "file", "said"),
    [
        (other_format, "graphs.json", f"its format is anymri-graphs/1, this version of anymri reads {FORMAT}"),
        (other_version, "graphs.json", f"its graphs were made by anymri 0.0.1, this is {version('anymri')}"),
        (no_version, "graphs.json", "its graphs were made by anymri None"),
        (damaged, "graphs.json", "cannot be read"),
        (without_weights, "weights.bin", "not found; graphs read their weights from it; copy it too"),
        (without_hashes, "graphs.json", "'sha256' is None, expected a hash for each file"),
        (
            flipped,
            "weights.bin",
            f"SHA-256 is {sha256(b'come weights').hexdigest()}, graphs.json has {SHA_OF_WEIGHTS}; it was changed",
        ),
        (truncated, "weights.bin", f"SHA-256 is {sha256(b'some').hexdigest()}, graphs.json has {SHA_OF_WEIGHTS}; it was changed"),
        (not_of_this_export, "weights.bin", "graphs.json has no SHA-256 of it"),
    ],
)
def test_what_cannot_be_used_is_refused(model: Model, exported: Path, change: Callable[[Path], None], file: str, said: str) -> None:
    change(exported)
    with pytest.raises(WeightsError) as caught:
        exported_graphs(exported, model)
    line = str(caught.value)
    assert line.startswith(f"{exported / file}: {said}") and line.endswith(AGAIN)


def test_a_graph_in_the_place_of_another_is_refused(model: Model, exported: Path) -> None:
    found = exported_graphs(exported, model)
    one, other = (exported / f"{keep}.onnx" for keep in (WHOLE, OF_TWO))
    one.write_bytes(other.read_bytes())
    assert graph_file(model, OF_TWO, exported=found) == other  # What is not used need not be whole.
    with pytest.raises(WeightsError) as caught:
        graph_file(model, WHOLE, exported=found)
    expected = f"{one}: SHA-256 is {sha256(b'another graph').hexdigest()}, graphs.json has {sha256(b'a graph').hexdigest()}; it was"
    assert str(caught.value).startswith(expected) and str(caught.value).endswith(AGAIN)


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
