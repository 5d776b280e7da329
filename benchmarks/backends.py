"""One window by torch, ONNX Runtime and OpenVINO in turn, float32: seconds, ratios, and how far logits are apart.

    python benchmarks/backends.py --json backends.json
    python benchmarks/backends.py --weights ccsd-small --window 72 88 72 --keep FLAIR T1c --rounds 5 --threads 2

The back ends take turns in one run; CPU seconds stand beside wall seconds, since others may compute on the same machine. What is
measured is what ``anymri segment`` does between the prepared image and its logits, on noise with an empty border. The first pass
stands apart: it makes the graph, or reads it from the cache, and compiles it. OpenVINO in bf16 is shown where the processor has it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import described, timed, write_json

from anymri.backends import Backend, version_of, with_backend
from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model
from anymri.errors import UsageError
from anymri.nn.processor import keep_memory
from anymri.weights import load_model

Logits = np.ndarray[Any, np.dtype[np.float32]]
SIDES: tuple[tuple[Backend, str], ...] = (("torch", "float32"), ("onnx", "float32"), ("openvino", "float32"), ("openvino", "bf16"))
CPU = torch.device("cpu")
AT_MOST = 1e-3  # Difference of any logit in float32.


def noise(model: Model, window: tuple[int, int, int]) -> Logits:
    """Return an image (M, D, H, W) on the task's grid that fills a window, zero outside an ellipsoid as a brain's is."""
    extent = [n * model.header.window.stride for n in window]
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in extent), indexing="ij")
    brain = np.square(axes).sum(0) < 0.9
    image = np.random.default_rng(0).normal(0, 1, (len(model.method.task.modalities), *extent))
    return np.where(brain, image, 0).astype(np.float32)


def passed(model: Model, image: Logits, keep: tuple[bool, ...], precision: str) -> tuple[Logits, float, float]:
    """Return the logits of a pass, its wall seconds and its CPU seconds."""
    asked = precision if model.other_engine is None else "float32"
    (logits,), wall, cpu = timed(lambda: list(region_logits_of(model, image, keep, [keep], device=CPU, precision=asked)))
    return logits, wall, cpu


def opened(model: Model, image: Logits, keep: tuple[bool, ...]) -> dict[str, tuple[Model, str, Logits, float]]:
    """Return each side that can be had here: its model, precision, logits of a first pass and the seconds of that."""
    found = {}
    for backend, precision in SIDES:
        try:
            ready = with_backend(model, backend, precision=precision)
            logits, wall, _ = passed(ready, image, keep, precision)
        except UsageError as error:
            print(f"left out: {backend} {precision}: {error}")
            continue
        found[f"{backend} {precision}"] = (ready, precision, logits, wall)
    return found


def measured(model: Model, image: Logits, keep: tuple[bool, ...], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each side: medians over rounds in which all take turns."""
    sides = opened(model, image, keep)
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (ready, precision, *_) in sides.items():
            runs[name].append(passed(ready, image, keep, precision)[1:])
    expected = sides["torch float32"][2]
    rows = []
    for name, (*_, logits, first) in sides.items():
        wall, cpu = (statistics.median(seconds) for seconds in zip(*runs[name], strict=True))
        row = {"side": name, "wall_seconds": wall, "cpu_seconds": cpu, "first_pass_seconds": first}
        row |= {f"{kind}_ratio": statistics.median(t[i] / o[i] for t, o in zip(runs["torch float32"], runs[name], strict=True))
                for i, kind in enumerate(("wall", "cpu"))}  # fmt: skip
        rows.append(row | {"largest_difference": float(np.abs(logits - expected).max())})
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="name or file; the default ones if none are given")
    parser.add_argument("--window", type=int, nargs=3, default=(72, 88, 72), help="in the model's voxels")
    parser.add_argument("--keep", nargs="+", help="modalities at hand; all if none are given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    keep_memory()  # As the command does.
    torch.set_num_threads(words.threads)
    model = load_model(words.weights)
    modalities = model.method.task.modalities
    subset = modalities.subset(words.keep or modalities.names)
    rows = measured(model, noise(model, tuple(words.window)), subset.mask, words.rounds)
    print(f"{described()}\n{model.header.name}, {subset}, window {' × '.join(map(str, words.window))}")
    print(f"{'':<18}{'wall s':>9}{'CPU s':>9}{'× wall':>9}{'× CPU':>9}{'first s':>9}{'apart':>10}")
    for row in rows:
        print(
            f"{row['side']:<18}{row['wall_seconds']:>9.2f}{row['cpu_seconds']:>9.2f}{row['wall_ratio']:>9.2f}"
            f"{row['cpu_ratio']:>9.2f}{row['first_pass_seconds']:>9.2f}{row['largest_difference']:>10.1e}"
        )
    if words.json:
        versions: dict[str, str] = {}
        for backend in {row["side"].split()[0] for row in rows}:
            versions |= version_of(backend)
        told = {"weights": model.header.name, "subset": str(subset), "window": list(words.window)}
        write_json(words.json, told | {"versions": versions, "rows": rows})
    if missed := [row for row in rows if row["side"].endswith("float32") and not row["largest_difference"] <= AT_MOST]:
        side, apart = missed[0]["side"], missed[0]["largest_difference"]
        raise SystemExit(f"a logit of {side} differs from torch's by {apart:.1e}; at most {AT_MOST:.0e} is rounding")


if __name__ == "__main__":
    main()
