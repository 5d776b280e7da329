"""An ONNX graph in a file → a function of a window, by ONNX Runtime or by OpenVINO."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anymri.backends.graphs import IMAGE
from anymri.errors import UsageError

Arrays = list[NDArray[np.float32]]
Session = Callable[[NDArray[np.float32]], Arrays]  # (1, K, D, H, W) → the graph's outputs.


def onnx_session(file: Path) -> Session:
    """Return a graph as a function, by ONNX Runtime, in float32, with as many threads as torch has.

    Raises:
        UsageError: If ONNX Runtime is not installed.
        ValueError: If the file is no graph.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # Errors; they are raised as well.
    try:
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its errors have no base of their own.
        raise ValueError(_first_line(error)) from None
    return lambda image: [np.asarray(array) for array in session.run(None, {IMAGE: image})]


def openvino_session(file: Path, *, precision: str) -> Session:
    """Return a graph as a function, by OpenVINO, with as many threads as torch has.

    Left to itself it computes in bfloat16 wherever the processor can; here it does so only if that was asked for.

    Args:
        file: The graph.
        precision: float32 or bf16.

    Raises:
        UsageError: If OpenVINO is not installed, or the processor has no bfloat16.
        ValueError: If the file is no graph.
    """
    runtime = openvino()
    core, hint = runtime.Core(), {"float32": "f32", "bf16": "bf16"}[precision]
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError("--precision bf16: this processor has no bfloat16; give --precision float32")
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    try:
        with _signal_stack_kept():
            compiled = core.compile_model(core.read_model(file), "CPU", settings)
    except RuntimeError as error:
        raise ValueError(_first_line(error)) from None
    return lambda image: [np.array(array) for array in compiled([image]).values()]


def onnxruntime():
    """Return the module of ONNX Runtime.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("--backend onnx needs ONNX Runtime, which is not installed: pip install 'anymri[onnx]'") from None
    return onnxruntime


def openvino():
    """Return the module of OpenVINO.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise UsageError("--backend openvino needs OpenVINO, which is not installed: pip install 'anymri[openvino]'") from None
    return openvino


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Leave the stack on which this thread's signals are handled as it was.

    With AMX, OpenVINO gives the thread one of the model's own and puts back what it found when the model is freed. Of two models
    that are freed in the order in which they were made, the second puts back the stack of the first, which is gone: the next
    signal would end the process.
    """
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _SignalStack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
