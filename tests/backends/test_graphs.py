"""What a graph computes is what the method computes, for every method, whatever the size of the window."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymri.backends.graphs import graph_of
from anymri.backends.runtimes import Session, onnx_session
from anymri.domain.task import GLIOMA
from anymri.errors import UsageError
from anymri.methods.method import Method

from ..material import ALL_METHODS, tiny

pytest.importorskip("onnx", reason="the extras onnx and openvino are not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ALL_METHODS),
    ("adamm", {"gate": "case"}),
]


def session_of(method: Method, keep: tuple[bool, ...], folder: Path) -> Session:
    file = folder / "graph.onnx"
    file.write_bytes(graph_of(method, keep))
    return onnx_session(file)


def decoded(method: Method, image: torch.Tensor, keep: tuple[bool, ...]) -> tuple[torch.Tensor, Any]:
    keep_BM = torch.tensor([keep])
    with torch.inference_mode():
        return method.decode_window(method.encode(image, keep_BM, torch.zeros((1, 3), dtype=torch.int64)), keep_BM)


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values())))
@pytest.mark.parametrize(
    "keep",
    [pytest.param((True,) * 4, marks=pytest.mark.slow, id="all"), pytest.param((False, False, True, False), id="one")],
)
def test_a_graph_computes_what_the_method_does(name: str, options: dict[str, Any], keep: tuple[bool, ...], tmp_path: Path) -> None:
    method = tiny(name, GLIOMA, **options).eval()
    session = session_of(method, keep, tmp_path)
    m = method.multiple
    image = torch.randn((1, 4, 2 * m, 4 * m, 3 * m), generator=torch.Generator().manual_seed(1))
    expected, note = decoded(method, image, keep)
    outputs = session(image[:, list(keep)].numpy())
    assert outputs[0].dtype == np.float32
    np.testing.assert_allclose(outputs[0], expected.numpy(), atol=1e-4)
    if note is None:
        assert len(outputs) == 1
    else:
        np.testing.assert_allclose(outputs[1], note.numpy(), atol=1e-4)


@pytest.mark.slow
def test_constants_of_a_size_are_not_kept_in_a_graph(tmp_path: Path) -> None:
    """In a process of its own: while a graph is traced sizes are tensors, which the type hints that tests check do not expect."""
    code = """
import sys
from pathlib import Path
import numpy as np, torch
from anymri.backends.graphs import graph_of
from anymri.backends.runtimes import onnx_session
from anymri.domain.task import GLIOMA
from anymri.methods import method_named
config = method_named('ccsd').config
method = config.model_validate({**config.sized('tiny').model_dump(), 'absent': 'zero'}).build(GLIOMA).eval()
keep, image = torch.tensor([[True, False, True, False]]), torch.randn((1, 4, 4, 8, 6))
with torch.inference_mode():
    expected = [method(image[..., :n], keep, torch.zeros((1, 3), dtype=torch.int64)).numpy() for n in (6, 4)]
    Path(sys.argv[1]).write_bytes(graph_of(method, keep[0].tolist()))
session = onnx_session(Path(sys.argv[1]))
for n, logits in zip((6, 4), expected):
    np.testing.assert_allclose(session(image[:, keep[0], ..., :n].contiguous().numpy())[0], logits, atol=1e-4)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "graph.onnx"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_method_is_left_as_it_was(tmp_path: Path) -> None:
    method = tiny("ccsd", GLIOMA).eval()
    before = [type(m) for m in method.modules()]
    graph_of(method, (True,) * 4)
    assert [type(m) for m in method.modules()] == before
    assert all(p.requires_grad for p in method.parameters())


def test_what_no_graph_can_hold_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny("ccsd", GLIOMA).eval()
    monkeypatch.setattr(type(method), "decode_window", lambda self, features, keep: (self.decode(features, keep), {"seen": 1}))
    with pytest.raises(UsageError, match="cannot be written as an ONNX graph .*no tensor.*; use torch") as caught:
        graph_of(method, (True,) * 4)
    assert "\n" not in str(caught.value)
