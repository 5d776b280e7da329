"""The state of a training on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from anymri.errors import TrainingError
from anymri.volumes.writing import replacing

KEPT = 2
ADVICE = "free some space and resume"


def write_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint under a temporary name, rename it, and remove all but the newest ones; return its path.

    Raises:
        OutputError: If it cannot be written.
    """
    target = folder / f"step_{step:08d}"
    with replacing(target, what="checkpoint", advice=ADVICE) as part:
        part.mkdir()
        _save(tensors, part / "tensors.safetensors")
        digest = hashlib.sha256((part / "tensors.safetensors").read_bytes()).hexdigest()
        own = {"sha256": digest, "facts_sha256": _digest_of(facts)}
        (part / "facts.json").write_text(json.dumps({**facts, **own}))
    for old in [*sorted(folder.glob("step_*"))[:-KEPT], *folder.glob(".step_*.tmp")]:  # The latter: of a process that was killed.
        shutil.rmtree(old, ignore_errors=True)
    return target


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(path, what="weights", advice=ADVICE) as part:
        _save(tensors, part, metadata)


def _save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    try:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    except SafetensorError as error:  # Its word for a disk that is full.
        raise OSError(str(error)) from error


def _digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def read_newest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
    """Return tensors and facts of the newest checkpoint that can be read, with a line for each that cannot; None if there is none.

    Raises:
        TrainingError: If there are checkpoints and none can be read.
    """
    spoilt = []
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            facts = json.loads((path / "facts.json").read_text())
            content = (path / "tensors.safetensors").read_bytes()
            if hashlib.sha256(content).hexdigest() != facts.pop("sha256"):
                raise ValueError("its bytes are not those that were written")
            own = facts.pop("facts_sha256", None)  # Checkpoints of earlier versions have none.
            if own not in (None, _digest_of(facts)):
                raise ValueError("its facts are not those that were written")
            return load(content), facts, spoilt
        except Exception as error:  # noqa: BLE001  (safetensors raises its own type; a half-written file must never end a restart)
            spoilt.append(f"{path}: cannot be read ({error}); the one before it is used")
    if spoilt:
        raise TrainingError(f"{spoilt[-1].split(';')[0]}; no readable checkpoint is left, start again without --resume")
    return None


def optimiser_tensors(optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the state of the optimisers as flat names → tensors."""
    flat = {}
    for group, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                if value is not None:
                    flat[f"optimiser.{group}.{index}.{key}"] = torch.as_tensor(value)
    return flat


def restore_optimisers(optimisers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimiser_tensors`` returned."""
    for group, optimiser in optimisers.items():
        parameters = [p for part in optimiser.param_groups for p in part["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        prefix = f"optimiser.{group}."
        for name, value in tensors.items():
            if name.startswith(prefix):
                index, key = name.removeprefix(prefix).split(".", 1)
                state.setdefault(int(index), {})[key] = laid_out_as(parameters[int(index)], value)
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def laid_out_as(like: Tensor, value: Tensor) -> Tensor:
    """Return the value on the device and in the memory layout of a tensor of its shape; others as they are.

    Files hold every tensor row by row. Where the layouts of their operands differ, kernels take a slower path, which need not round
    as the fast one does.
    """
    if like.shape != value.shape:
        return value
    return torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)
