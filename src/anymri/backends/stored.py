"""Graphs on disk: in a folder made by 'anymri export', or in the user's cache, where they are made when they are first needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anymri.backends.graphs import graph_of
from anymri.domain.modality import Subset
from anymri.engine.model import Model
from anymri.errors import WeightsError
from anymri.volumes.store import parsed_json
from anymri.volumes.writing import replacing

FORMAT = "anymri-graphs/2"
MANIFEST = "graphs.json"
SHARED = "weights.bin"  # What all graphs of a folder read their weights from.
AGAIN = "export the weights again with 'anymri export', or leave --backend out"


def cache_folder() -> Path:
    """Return where graphs are kept: $ANYMRI_CACHE, or the user's cache folder."""
    if "ANYMRI_CACHE" in os.environ:
        return Path(os.environ["ANYMRI_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anymri"


@dataclass(frozen=True)
class Exported:
    """A folder that 'anymri export' made of a model's weights.

    Attributes:
        folder: Where it is.
        sha256: Hash of each of its files that graphs consist of, by name, as its manifest has them.
    """

    folder: Path
    sha256: Mapping[str, str]

    def check(self, name: str) -> Path:
        """Return one of its files if that is what was exported.

        Raises:
            FileNotFoundError: If it is not there.
            WeightsError: If it cannot be read or is another.
        """
        file = self.folder / name
        try:
            found = sha256_of(file)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise WeightsError(f"{file}: cannot be read ({error.strerror or error}); {AGAIN}") from None
        if (expected := self.sha256.get(name)) is None:
            raise WeightsError(f"{file}: {MANIFEST} has no SHA-256 of it, it was not exported with the others; {AGAIN}")
        if found != expected:
            raise WeightsError(f"{file}: SHA-256 is {found}, {MANIFEST} has {expected}; it was changed or damaged; {AGAIN}")
        return file


def exported_graphs(folder: Path, model: Model) -> Exported | None:
    """Return a folder if it holds graphs that 'anymri export' made of a model's weights, None if it holds none.

    What all graphs share is compared with its hash here, a graph itself where it is asked for.

    Raises:
        WeightsError: If it does and they cannot be used: made by another version, incomplete, changed or damaged.
    """
    file = folder / MANIFEST
    try:
        content = parsed_json(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: cannot be read ({error}); {AGAIN}") from None
    found = str(content.get("format"))
    if not found.startswith(FORMAT.split("/")[0]) or content.get("weights_sha256", model.sha256) != model.sha256:
        return None
    if found != FORMAT:
        raise WeightsError(f"{file}: its format is {found}, this version of anymri reads {FORMAT}; {AGAIN}")
    versions = content.get("versions")
    made_by = versions.get("anymri") if isinstance(versions, dict) else None
    if made_by != version("anymri"):  # What a graph leaves to the method, another version may do otherwise.
        raise WeightsError(f"{file}: its graphs were made by anymri {made_by}, this is {version('anymri')}; {AGAIN}")
    exported = Exported(folder, _hashes(content.get("sha256"), file))
    try:
        exported.check(SHARED)
    except FileNotFoundError:
        raise WeightsError(f"{folder / SHARED}: not found; graphs read their weights from it; copy it too, or {AGAIN}") from None
    return exported


def graph_file(model: Model, keep: Subset, *, exported: Exported | None = None) -> Path:
    """Return the file of a model's graph for one subset; it is made if there is none.

    Args:
        model: What it is a graph of.
        keep: The subset.
        exported: What ``exported_graphs`` has found.

    Raises:
        UsageError: If it cannot be made.
        WeightsError: If it was exported, and changed or damaged since.
        OutputError: If the cache cannot be written.
    """
    if exported is not None:
        with suppress(FileNotFoundError):
            return exported.check(file_name(keep))
    file = _cached(model) / file_name(keep)
    if not file.is_file():
        write_graph(file, model, keep)
    return file


def write_graph(file: Path, model: Model, keep: Subset) -> None:
    """Make the graph of a model for one subset and write it, weights and all.

    Raises:
        UsageError: If it cannot be made.
        OutputError: If it cannot be written.
    """
    content = graph_of(model.method, keep.mask)
    with replacing(file, what="a graph", advice="set ANYMRI_CACHE to a folder that can be written") as part:
        part.write_bytes(content)


def file_name(keep: Subset) -> str:
    """Return what the file of a subset's graph is called."""
    return f"{keep}.onnx"


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: If it cannot be read.
    """
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _hashes(told: Any, file: Path) -> Mapping[str, str]:
    if not isinstance(told, dict):
        raise WeightsError(f"{file}: 'sha256' is {told!r:.40}, expected a hash for each file; {AGAIN}")
    return told


def _cached(model: Model) -> Path:
    """Return the folder of a model's graphs: other weights, and other versions of what makes graphs, have others."""
    made_with = f"anymri-{version('anymri')}-torch-{version('torch')}"
    return cache_folder() / "graphs" / made_with / (model.sha256 or _digest(model))[:32]


def _digest(model: Model) -> str:
    """Return a hash of the weights of a model that never was a file."""
    digest = hashlib.sha256(model.header.model_dump_json().encode())
    for name, tensor in model.method.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
