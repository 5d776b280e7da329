"""Graphs on disk: in a folder made by 'anymri export', or in the user's cache, where they are made when they are first needed."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from anymri.backends.graphs import graph_of
from anymri.domain.modality import Subset
from anymri.engine.model import Model
from anymri.errors import WeightsError
from anymri.volumes.store import parsed_json
from anymri.volumes.writing import replacing

FORMAT = "anymri-graphs/1"
MANIFEST = "graphs.json"
SHARED = "weights.bin"  # What all graphs of a folder read their weights from.
AGAIN = "export the weights again with 'anymri export', or leave --backend out"


def cache_folder() -> Path:
    """Return where graphs are kept: $ANYMRI_CACHE, or the user's cache folder."""
    if "ANYMRI_CACHE" in os.environ:
        return Path(os.environ["ANYMRI_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anymri"


def exported_graphs(folder: Path, model: Model) -> Path | None:
    """Return a folder if it holds graphs that 'anymri export' made of a model's weights, None if it holds none.

    Raises:
        WeightsError: If it does and they cannot be used: made by another version, or incomplete.
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
    if not (folder / SHARED).is_file():
        raise WeightsError(
            f"{folder / SHARED}: not found; graphs read their weights from it; copy it too, or {AGAIN}"
        )
    return folder


def graph_file(model: Model, keep: Subset, *, exported: Path | None = None) -> Path:
    """Return the file of a model's graph for one subset; it is made if there is none.

    Args:
        model: What it is a graph of.
        keep: The subset.
        exported: A folder that ``exported_graphs`` has found to be usable.

    Raises:
        UsageError: If it cannot be made.
        OutputError: If the cache cannot be written.
    """
    if exported is not None and (file := exported / file_name(keep)).is_file():
        return file
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
