"""The weights that come with the package, found by name; their hashes are in manifest.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from anymri.engine.model import Model, read_model
from anymri.errors import WeightsError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Shipped:
    """One line of the manifest.

    Attributes:
        name: The word on the command line.
        file: The safetensors file.
        card: What it was trained on, how well it does, and its limits.
        sha256: Of the file.
        task: Name of the task.
        default: Whether it is used when no weights are named.
    """

    name: str
    file: Path
    card: Path
    sha256: str
    task: str
    default: bool


def shipped() -> tuple[Shipped, ...]:
    """Return what comes with the package, in the manifest's order."""
    lines = json.loads((FOLDER / "manifest.json").read_text())["weights"]
    return tuple(
        Shipped(w["name"], FOLDER / w["file"], FOLDER / w["card"], w["sha256"], w["task"], w["default"]) for w in lines
    )


def load_model(name: str | Path | None = None) -> Model:
    """Return shipped weights by name, any weights file by path, or the default ones.

    Raises:
        WeightsError: If there are none of that name, or the file cannot be trusted.
    """
    lines = shipped()
    if name is None:
        chosen = next((w for w in lines if w.default), None)
        if chosen is None:
            raise WeightsError("no weights come with this installation; give a .safetensors file by --weights")
        return read_model(chosen.file, sha256=chosen.sha256)
    for line in lines:
        if str(name) == line.name:
            return read_model(line.file, sha256=line.sha256)
    path = Path(name)
    if path.is_dir() and (path / "weights.safetensors").is_file():
        path = path / "weights.safetensors"
    if not path.is_file():
        raise WeightsError(f"weights '{name}' are neither a file nor one of {', '.join(w.name for w in lines)}; see 'anymri weights list'")
    return read_model(path)
