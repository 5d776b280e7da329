"""Weights as a folder of ONNX graphs, one for each subset of modalities; all of them share one file of weights."""

from __future__ import annotations

import hashlib
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anymri.backends.graphs import IMAGE, LOGITS, NOTE, OPSET, graph_of
from anymri.backends.stored import FORMAT, MANIFEST, SHARED, file_name, sha256_of
from anymri.domain.modality import Subset
from anymri.engine.model import Model, read_model
from anymri.trust.record import copy_weights
from anymri.volumes.store import write_json
from anymri.volumes.writing import replacing, write_text

_WEIGHTS = "weights.safetensors"
_SMALL = 1024  # Bytes that may stay in the graph itself.


def write_graphs(weights: Path, out: Path) -> None:
    """Write the graphs of every subset that a method supports, the weights themselves, and a page on how to use them.

    Raises:
        UsageError: If onnx is not installed or the method cannot be written as a graph.
        WeightsError: If the file cannot be trusted.
        OutputError: If the folder cannot be written.
    """
    model = read_model(weights)
    with replacing(out, what="the export", advice="choose a folder that is writable and has room") as part:
        part.mkdir()
        copy_weights(weights, part / _WEIGHTS)
        subsets = model.method.supports()
        with closing(_Shared(part / SHARED)) as shared:
            outputs = [shared.write(part / file_name(keep), graph_of(model.method, keep.mask)) for keep in subsets][-1]
        hashes = {name: sha256_of(part / name) for name in (SHARED, *map(file_name, subsets))}
        write_json(part / MANIFEST, _manifest(model, subsets, outputs) | {"sha256": hashes})
        write_text(part / "README.md", _page(model, subsets, outputs))


class _Shared:
    """One file of weights that several graphs refer to; what is in it already is not written again."""

    def __init__(self, file: Path) -> None:
        self._name = file.name
        self._handle = file.open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}

    def write(self, file: Path, content: bytes) -> list[str]:
        """Write a graph without its weights, and return the names of its outputs."""
        import onnx
        from onnx.external_data_helper import set_external_data

        model = onnx.load_from_string(content)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > _SMALL:
                offset, length = self._place(tensor.raw_data)
                set_external_data(tensor, self._name, offset, length)
                tensor.ClearField("raw_data")
        file.write_bytes(model.SerializeToString())
        return [output.name for output in model.graph.output]

    def close(self) -> None:
        """Finish the file."""
        self._handle.close()

    def _place(self, data: bytes) -> tuple[int, int]:
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self._handle.write(b"\0" * (-self._handle.tell() % 64))  # Where a runtime may read it in place.
            self._places[key] = self._handle.tell(), len(data)
            self._handle.write(data)
        return self._places[key]


def _manifest(model: Model, subsets: tuple[Subset, ...], outputs: list[str]) -> dict[str, Any]:
    task, window = model.method.task, model.header.window
    return {
        "format": FORMAT,
        "name": model.header.name,
        "method": model.header.method,
        "task": task.name,
        "weights_sha256": model.sha256,
        "modalities": list(task.modalities.names),
        "regions": list(task.region_names),
        "graphs": {str(keep): file_name(keep) for keep in subsets},
        "input": IMAGE,
        "outputs": outputs,
        "spacing_mm": [s * window.stride for s in task.spacing_mm],
        "orientation": task.orientation,
        "multiple": model.method.multiple,
        "window": window.model_dump(mode="json"),
        "opset": OPSET,
        "versions": {"anymri": version("anymri"), "torch": version("torch"), "onnx": version("onnx")},
    }


def _page(model: Model, subsets: tuple[Subset, ...], outputs: list[str]) -> str:
    task, window = model.method.task, model.header.window
    example = subsets[min(len(task.modalities) + 1, len(subsets) - 1)]
    rows = "\n".join(f"| {', '.join(keep.names)} | `{file_name(keep)}` |" for keep in subsets)
    note = f"\n`{NOTE}`: what the method notes of each window, to finish a case with; see its `finish`." if NOTE in outputs else ""
    spacing = " × ".join(f"{s:g}" for s in task.spacing_mm)
    regions = " ⊃ ".join(task.region_names)
    scaled = (
        ""
        if window.intensity == "z_score"
        else "\nThen bring each image's foreground to 0 … 1: its darkest voxel to 0, its brightest to 1."
    )
    small = f"Components of {task.region_names[0]} smaller than {window.least_component:g} of the largest are left out.\n\n"
    return f"""# {model.header.name} as ONNX

Method `{model.header.method}`, task `{task.name}`. SHA-256 of the weights: `{model.sha256}`.
**Research use only. Not a medical device.**

One graph for each subset of the modalities; all of them read their weights from `{SHARED}`, which must lie beside them. Where
anymri is installed nothing of what follows is needed: `anymri segment --weights THIS_FOLDER --backend onnx` does it all.

| at hand | file |
| --- | --- |
{rows}

## Input and output

`{IMAGE}`: float32, (1, K, D, H, W): the K modalities of the file's name, in that order. Nothing stands for those that are missing.
D, H and W are multiples of {model.method.multiple}, at least {2 * model.method.multiple}; fill up with 0 at the far ends.

`{LOGITS}`: float32, (1, {len(task.regions)}, D, H, W): {regions}; above 0 is inside.
A voxel belongs to an inner region only if it does to every region around it.{note}

## What the images must be

1. Co-registered, skull-stripped, background 0; axes turned to {task.orientation}; resampled to {spacing} mm.
2. Cropped to the box of what is not 0 in any image at hand.
3. Each image by itself: subtract the mean of its foreground and divide by its standard deviation, both taken with the foreground
   pulled in to its 0.5 and 99.5 percentiles; clip to ±10; leave the background 0.{scaled}
4. Averaged over cubes of {window.stride} voxels.
5. A case larger than {" × ".join(map(str, window.size))} of these voxels is covered by windows of that size, which overlap by
   {window.overlap:g} at least and are blended by a Gaussian (σ an eighth of each edge).

{small if window.least_component else ""}Logits come back to the images' grid by trilinear interpolation.

## Example

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file_name(example)}")
image = np.zeros((1, {len(example)}, 32, 32, 32), np.float32)  # {", ".join(example.names)}, prepared as above
logits = session.run(None, {{"{IMAGE}": image}})[0]
inside = np.logical_and.accumulate(logits[0] > 0, axis=0)  # {", ".join(task.region_names)}
```
"""
