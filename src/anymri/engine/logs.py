"""What a training says of itself on disk: JSON lines, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from anymri.engine.run import RunFolder

Logger = Callable[[Mapping[str, Any]], None]


def log(folder: RunFolder, line: Mapping[str, Any]) -> None:
    """Append one line to log.jsonl."""
    with open(folder.log, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(dict(line)) + "\n")


def logger_of(folder: RunFolder) -> Logger:
    """Return what logs a step: a line of JSON, and every number as a TensorBoard scalar if that package is at hand."""
    if find_spec("tensorboard") is None:
        return lambda line: log(folder, line)
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder.path / "tensorboard"))

    def both(line: Mapping[str, Any]) -> None:
        log(folder, line)
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step":
                writer.add_scalar(name, value, line["step"])
        writer.flush()

    return both
