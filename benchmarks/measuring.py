"""What every benchmark needs: seconds of a piece of work, the most memory a process held, and a description of the machine."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve")  # What decides which kernels run.


def machine() -> dict[str, Any]:
    """Return the processor, its cores and flags, threads of torch, and versions: what seconds must be quoted with."""
    fields = _processor()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "cores": usable,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "anymri": version("anymri"),
    }


def described() -> str:
    """Return the machine in one line."""
    found = machine()
    flags = f" with {', '.join(found['flags'])}" if found["flags"] else ""
    parts = (f"{found['processor']} ({found['architecture']}){flags}", f"{found['cores']} cores", f"{found['threads']} thread(s)")
    return "; ".join((*parts, f"torch {found['torch']}", f"anymri {found['anymri']}"))


def _processor() -> dict[str, str]:
    """Return what Linux says of the first processor; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def write_json(file: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures together with the machine they are of; nothing if no file is asked for."""
    if file is not None:
        file.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n", encoding="utf-8")


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """Return what the work returns, its wall seconds, and the CPU seconds of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = work()
    return value, time.perf_counter() - wall, time.process_time() - cpu


def held_mib(process: int | str) -> float:
    """Return the most MiB that a process has held so far, 0 where Linux does not tell; ru_maxrss would begin with its parent's."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), 0.0)


def peak_mib() -> float:
    """Return the most MiB that this process has held, on Linux without what the one that started it held."""
    if held := held_mib("self"):
        return held
    import resource  # Not on Windows.

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
