"""Weights for use elsewhere: a folder of ONNX graphs, or a MONAI bundle."""

from __future__ import annotations

from pathlib import Path

from anymri.engine.interruption import keeping
from anymri.errors import UsageError
from anymri.export.bundle import write_bundle
from anymri.export.graphs import write_graphs

FORMATS = {"onnx": write_graphs, "bundle": write_bundle}


def export(weights: Path, format: str, out: Path) -> None:
    """Write weights in a format into a new folder; all of it or nothing.

    Args:
        weights: A weights file.
        format: onnx or bundle.
        out: The folder; it must not hold anything yet.

    Raises:
        UsageError: If the format is unknown, the folder is not empty, or the method cannot be exported.
        WeightsError: If the file cannot be trusted.
        OutputError: If the folder cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(f"format '{format}' is unknown; expected one of {', '.join(FORMATS)}")
    if not out.name or (out.exists() and (not out.is_dir() or any(out.iterdir()))):  # No name: where one is.
        raise UsageError(f"{out}: is there already; choose a new folder")
    with keeping("nothing was written, an export starts from the beginning"):
        FORMATS[format](weights, out)


__all__ = ["FORMATS", "export"]
