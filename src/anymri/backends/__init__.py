"""Other engines for the windows of a model: ONNX Runtime and OpenVINO, given the method as one ONNX graph per subset."""

from __future__ import annotations

from anymri.backends.engine import BACKENDS, Backend, backend_named, version_of, with_backend

__all__ = ["BACKENDS", "Backend", "backend_named", "version_of", "with_backend"]
