"""A model whose windows are computed by ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast, final, get_args

import torch
from torch import Tensor

from anymri.backends.runtimes import Session, onnx_session, onnxruntime, openvino, openvino_session
from anymri.backends.stored import AGAIN, Exported, exported_graphs, graph_file
from anymri.domain.modality import Subset
from anymri.engine.model import Model
from anymri.errors import UsageError
from anymri.methods.method import Method, Note

Backend = Literal["torch", "onnx", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def backend_named(name: str) -> Backend:
    """Return the back end of that name.

    Raises:
        UsageError: If there is none.
    """
    if name not in BACKENDS:
        raise UsageError(f"backend '{name}' is unknown; expected one of {', '.join(BACKENDS)}")
    return cast(Backend, name)


def version_of(backend: Backend) -> dict[str, str]:
    """Return the name and version of what a back end needs beside torch.

    Raises:
        UsageError: If it is not installed.
    """
    if backend == "onnx":
        return {"onnxruntime": onnxruntime().__version__}
    return {"openvino": openvino().__version__} if backend == "openvino" else {}


@dataclass(frozen=True, eq=False)
class _Window:
    image_BMDHW: Tensor


@final
class GraphEngine:
    """Computes windows by graphs, one for each subset that is asked for, opened when it first is. Early fusion: it encodes nothing.

    Args:
        method: What the graphs were made of; it still finishes a case.
        backend: Which back end opens them.
        precision: In which precision.
        opening: Opens the graph of a subset.
    """

    def __init__(self, method: Method, backend: Backend, precision: str, opening: Callable[[Subset], Session]) -> None:
        self.backend = backend
        self.precision = precision
        self._method = method
        self._opening = opening
        self._sessions: dict[Subset, Session] = {}

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> _Window:
        """Return the image itself."""
        return _Window(image_BMDHW)

    def decode_window(self, features: _Window, keep_BM: Tensor) -> tuple[Tensor, Note]:
        """Return what windows are blended of, and a note of the window if the method makes one."""
        image = features.image_BMDHW.expand(len(keep_BM), -1, -1, -1, -1)
        found = [self._computed(image[b : b + 1], keep) for b, keep in enumerate(keep_BM)]
        logits, *notes = (torch.cat(rows) for rows in zip(*found, strict=True))
        return logits, notes[0] if notes else None

    def finish(self, blended: Tensor, notes: Sequence[Note]) -> Tensor:
        """Return logits_BRDHW of a case as the method does."""
        return self._method.finish(blended, notes)

    def _computed(self, image: Tensor, keep_M: Tensor) -> list[Tensor]:
        modalities = self._method.task.modalities
        subset = modalities.subset([n for n, kept in zip(modalities.names, keep_M.tolist(), strict=True) if kept])
        if subset not in self._sessions:
            self._sessions[subset] = self._opening(subset)
        outputs = self._sessions[subset](image[:, keep_M].float().contiguous().numpy())
        return [torch.from_numpy(array) for array in outputs]


def with_backend(model: Model, backend: Backend, *, precision: str = "auto", exported: Path | None = None) -> Model:
    """Return the model with its windows computed by a back end; the same model if they are already.

    Args:
        model: What predicts.
        backend: torch, onnx or openvino.
        precision: float32, bf16 (openvino alone), or auto: float32.
        exported: A folder that may have been made by 'anymri export' of these weights: its graphs are taken, none are made.

    Raises:
        UsageError: If the back end is not installed or cannot compute in that precision.
        WeightsError: If the folder holds graphs that cannot be used.
    """
    if backend == "torch":
        return model if model.other_engine is None else replace(model, other_engine=None)
    version_of(backend)
    precision = "float32" if precision == "auto" else precision
    if backend == "onnx" and precision != "float32":
        raise UsageError(f"--backend onnx computes in float32; {precision} needs --backend openvino or torch")
    there = model.other_engine
    if isinstance(there, GraphEngine) and (there.backend, there.precision) == (backend, precision):
        return model
    taken = None if exported is None else exported_graphs(exported, model)
    opened = onnx_session if backend == "onnx" else partial(openvino_session, precision=precision)
    engine = GraphEngine(model.method, backend, precision, lambda keep: _opened(model, keep, opened, taken))
    return replace(model, other_engine=engine)


def _opened(model: Model, keep: Subset, opened: Callable[[Path], Session], exported: Exported | None) -> Session:
    file = graph_file(model, keep, exported=exported)
    try:
        return opened(file)
    except ValueError as error:
        advice = AGAIN if exported is not None and file.parent == exported.folder else "remove it, so that it is made again"
        raise UsageError(f"{file}: is no graph that can be used ({error}); {advice}") from None
