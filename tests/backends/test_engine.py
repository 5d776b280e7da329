"""A patient segmented by ONNX Runtime or OpenVINO is segmented as by torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymri.backends import with_backend
from anymri.backends.stored import graph_file
from anymri.domain.task import GLIOMA
from anymri.engine.inference import nested, region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.errors import UsageError
from anymri.weights import load_model

from ..material import made_patient, tiny

pytest.importorskip("onnx", reason="the extras onnx and openvino are not installed")
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
CPU = torch.device("cpu")


@pytest.fixture(params=RUNTIMES)
def backend(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(RUNTIMES[request.param], reason=f"the extra {request.param} is not installed")
    return request.param


def tiny_model(method: str = "ccsd", **options: Any) -> Model:
    window = Window(stride=1, size=(8, 8, 8), overlap=0.5)
    header = WeightsHeader(name="m", method=method, config={}, task="glioma", window=window)
    return Model(tiny(method, GLIOMA, **options).eval(), header)


def logits_of(model: Model, image: np.ndarray, keep: tuple[bool, ...]) -> np.ndarray:
    (logits,) = region_logits_of(model, image, keep, [keep], device=CPU, precision="float32")
    return logits


@pytest.mark.parametrize(("method", "options"), [("ccsd", {}), ("adamm", {"gate": "case"})])
def test_windows_are_blended_as_by_torch(backend: Any, method: str, options: dict[str, Any]) -> None:
    model = tiny_model(method, **options)
    image = made_patient(GLIOMA, 0, extent=(14, 9, 8)).image.astype(np.float32)
    keep = (True, False, True, False)
    image[[1, 3]] = np.nan
    expected = logits_of(model, image, keep)
    np.testing.assert_allclose(logits_of(with_backend(model, backend), image, keep), expected, atol=1e-3)


def test_several_subsets_of_one_window(backend: Any) -> None:
    model = with_backend(tiny_model(), backend)
    image = torch.randn((1, 4, 8, 8, 8))
    keeps = torch.tensor([[True, True, True, True], [False, True, False, False]])
    together, note = model.engine.decode_window(model.engine.encode(image, keeps[:1], torch.zeros((1, 3))), keeps)
    assert note is None
    with torch.inference_mode():
        features = model.method.encode(image, keeps[:1], torch.zeros((1, 3), dtype=torch.int64))
        apart = torch.cat([model.method.decode(features, k[None]) for k in keeps])
    np.testing.assert_allclose(together.numpy(), apart.numpy(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [(True,) * 4, (False, False, True, False), (True, True, False, False)])
def test_the_shipped_weights_give_the_same_logits_and_mask(backend: Any, keep: tuple[bool, ...], phantom: np.ndarray) -> None:
    model = load_model()
    expected = logits_of(model, phantom, keep)
    found = logits_of(with_backend(model, backend), phantom, keep)
    assert np.abs(found - expected).max() <= 1e-3
    assert (nested(found) != nested(expected)).sum() <= 10
    assert nested(expected)[0].sum() > 1000


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    from anymri.cohorts import find_cohort
    from anymri.cohorts.phantom import write_phantoms
    from anymri.segment.visit import Visit, opened_images, read_images

    folder = tmp_path_factory.mktemp("phantom")
    write_phantoms(folder, GLIOMA, seeds=range(1), shape=(80, 80, 64), spacing_mm=(2.0, 2.0, 2.0))
    (study,) = find_cohort(folder, GLIOMA).studies
    return opened_images(Visit(study.name, study.images), read_images(study.images), GLIOMA).image_MDHW


def test_graphs_are_made_once(backend: Any, cache: Path) -> None:
    model = with_backend(tiny_model(), backend)
    assert with_backend(model, backend) is model
    assert with_backend(model, "torch").other_engine is None
    image = made_patient(GLIOMA, 0, extent=(8, 8, 8)).image.astype(np.float32)
    first = logits_of(model, image, (True,) * 4)
    (file,) = cache.rglob("*.onnx")
    written = file.stat().st_mtime_ns
    again = logits_of(with_backend(replace(model, other_engine=None), backend), image, (True,) * 4)
    assert np.array_equal(first, again) and file.stat().st_mtime_ns == written
    assert [p for p in cache.rglob("*") if p.is_file()] == [file]


def test_other_weights_have_other_graphs(cache: Path) -> None:
    one, other = tiny_model(), replace(tiny_model(), method=tiny("ccsd", GLIOMA, seed=1).eval())
    whole = GLIOMA.modalities.full
    assert graph_file(one, whole) != graph_file(other, whole)


def test_a_damaged_graph_is_named(backend: Any) -> None:
    model = tiny_model()
    file = graph_file(model, GLIOMA.modalities.full)
    file.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="remove it") as caught:
        logits_of(with_backend(model, backend), np.zeros((4, 8, 8, 8), np.float32), (True,) * 4)
    assert str(file) in str(caught.value)


def test_onnx_runtime_has_one_precision() -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    with pytest.raises(UsageError, match="float32"):
        with_backend(tiny_model(), "onnx", precision="bf16")


def test_openvino_computes_in_float32_unless_asked(tmp_path: Path) -> None:
    """Left to itself it takes bfloat16 where the processor has it, which is off in the third digit."""
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    file = graph_file(tiny_model(), GLIOMA.modalities.full)
    model, image = tiny_model(), made_patient(GLIOMA, 0, extent=(8, 8, 8)).image.astype(np.float32)
    assert file.is_file()
    expected = logits_of(model, image, (True,) * 4)
    apart = {
        p: np.abs(logits_of(with_backend(model, "openvino", precision=p), image, (True,) * 4) - expected).max() for p in PRECISIONS
    }
    assert apart["auto"] == apart["float32"] < 1e-4
    # Where the processor has none, bf16 may as well be computed in float32.
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert apart["bf16"] > 1e-4


PRECISIONS = ("auto", "float32", "bf16")


@pytest.mark.parametrize(("backend_name", "missing", "extra"), [("onnx", "onnxruntime", "onnx"), ("openvino",) * 3])
def test_a_missing_extra_is_named(
    backend_name: Any, missing: str, extra: str, run: Any, weights: Path, images: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    out = tmp_path / "out"
    done = run("segment", "--t1c", images["t1c"], "--weights", weights, "--backend", backend_name, "--out", out)
    assert done.code == 2 and len(done.err.splitlines()) == 1
    assert f"anymri[{extra}]" in done.err and not out.exists()


def test_segment_by_another_engine(backend: Any, run: Any, weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    words = ("segment", "--t1c", images["t1c"], "--flair", images["flair"], "--weights", weights)
    for name in ("torch", backend):
        done = run(*words, "--backend", name, "--out", tmp_path / name)
        assert done.code == 0, done.err
    one, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("torch", backend))
    assert other["options"]["backend"] == backend and RUNTIMES[backend] in other["versions"]
    for region, ml in one["volumes_ml"].items():
        assert abs(other["volumes_ml"][region] - ml) <= 0.5


def test_what_contradicts_a_back_end(run: Any, weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    words = ("segment", "--t1c", images["t1c"], "--weights", weights, "--out", tmp_path / "out")
    done = run(*words, "--backend", "abacus")
    assert done.code == 2 and "torch, onnx, openvino" in done.err
    done = run(*words, "--backend", "onnx", "--precision", "bf16")
    assert done.code == 2 and "float32" in done.err


def test_a_signal_is_handled_after_sessions_were_closed(cache: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    file = graph_file(tiny_model(), GLIOMA.modalities.subset(("T1",)))
    program = (
        "import os, pathlib, signal\n"
        "from anymri.backends.runtimes import openvino_session\n"
        f"opened = [openvino_session(pathlib.Path({str(file)!r}), precision='float32') for _ in range(3)]\n"
        "while opened:\n"
        "    del opened[0]\n"  # In the order in which they were made.
        "signal.signal(signal.SIGTERM, lambda number, frame: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
