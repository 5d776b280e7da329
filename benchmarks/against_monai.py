"""A case through CCSD and through MONAI's SegResNet and DynUNet of similar size, each as its program would: seconds and memory.

    python benchmarks/against_monai.py --json against_monai.json
    python benchmarks/against_monai.py --extent 155 190 150 --size base --threads 2

Networks are drawn at random: only time is compared. CCSD goes through ``region_logits_of`` with the window of a default run (2 mm,
the whole brain at once, logits brought back to 1 mm). MONAI's networks take windows of 128³ at 1 mm through its
sliding_window_inference with overlap 0.5 and Gaussian weights, as published programs do; beside that they are given the same grid
of 2 mm, whole, so that network and window can be told apart. All take turns in one run; CPU seconds stand beside wall seconds.
Memory is what a process of its own held at most above what it held before, network and image included; MONAI's gives freed memory
back, as plain programs do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fifteen_subsets import settled_mib
from measuring import described, peak_mib, timed, write_json
from torch import Tensor, nn

from anymri.domain.task import GLIOMA
from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.nn.processor import keep_memory
from anymri.recipes.default import default

WINDOW, OVERLAP = 128, 0.5


def parameters(network: nn.Module) -> float:
    """Return millions of parameters."""
    return sum(p.numel() for p in network.parameters()) / 1e6


def nearest(make: Callable[[int], nn.Module], target: float) -> nn.Module:
    """Return the network whose width, a multiple of 8, brings it nearest to so many million parameters."""
    made = [make(width) for width in range(8, 49, 8)]
    return min(made, key=lambda network: abs(parameters(network) - target)).eval()


def dynunet(width: int) -> nn.Module:
    """Return MONAI's version of nnU-Net with five levels."""
    from monai.networks.nets.dynunet import DynUNet

    filters = [width * 2**level for level in range(5)]
    strides = [1, 2, 2, 2, 2]
    modalities, regions = len(GLIOMA.modalities), len(GLIOMA.regions)
    return DynUNet(3, modalities, regions, [3] * 5, strides, strides[1:], filters=filters, norm_name="instance")


def segresnet(width: int) -> nn.Module:
    """Return MONAI's SegResNet with its usual four levels."""
    from monai.networks.nets.segresnet import SegResNet

    modalities, regions = len(GLIOMA.modalities), len(GLIOMA.regions)
    return SegResNet(init_filters=width, in_channels=modalities, out_channels=regions)


def ccsd(size: str) -> Model:
    """Return CCSD with the window of its default run."""
    run = default("ccsd", size)
    method = run.method_config.build(GLIOMA).eval()
    header = WeightsHeader(name="random", method="ccsd", config=run.config, task=run.task, window=run.window)
    return Model(method, header)


@torch.inference_mode()
def by_windows(network: nn.Module, image: np.ndarray) -> Tensor:
    """Return logits of MONAI's network by its own sliding window."""
    from monai.inferers.utils import sliding_window_inference

    batch = torch.from_numpy(image)[None]
    found: Any = sliding_window_inference(batch, (WINDOW,) * 3, 1, network, overlap=OVERLAP, mode="gaussian")
    return found


@torch.inference_mode()
def whole_coarse(network: nn.Module, image: np.ndarray) -> Tensor:
    """Return logits of MONAI's network on the grid of 2 mm, taken whole and brought back."""
    multiple, extent = 16, image.shape[1:]
    coarse = nn.functional.avg_pool3d(torch.from_numpy(image)[None], 2, ceil_mode=True)
    pads = [p for n in reversed(coarse.shape[2:]) for p in (0, -n % multiple)]
    logits = network(nn.functional.pad(coarse, pads))
    fine = nn.functional.interpolate(logits, scale_factor=2, mode="trilinear", align_corners=False)
    return fine[..., : extent[0], : extent[1], : extent[2]]


OURS = "anymri ccsd"
NETWORKS: dict[str, Callable[[int], nn.Module]] = {"SegResNet": segresnet, "DynUNet": dynunet}
WAYS = {f"{WINDOW}³ windows": by_windows, "whole at 2 mm": whole_coarse}
SIDES = (OURS, *(f"{name}, {way}" for name in NETWORKS for way in WAYS))


def side_of(name: str, size: str) -> tuple[Callable[[np.ndarray], object], float]:
    """Return what takes an image through a network, and its millions of parameters; first calls are made."""
    torch.manual_seed(0)
    model = ccsd(size)
    target, everything = parameters(model.method), (True,) * len(GLIOMA.modalities)
    small = np.zeros((len(everything), 64, 64, 64), np.float32)
    if name == OURS:
        cpu = torch.device("cpu")

        def ours(image: np.ndarray) -> object:
            return list(region_logits_of(model, image, everything, [everything], device=cpu))

        ours(small)
        return ours, target
    kind, way = name.split(", ")
    network = nearest(NETWORKS[kind], target)
    by_windows(nn.Identity(), small[:, :8, :8, :8])
    whole_coarse(network, small)
    return partial(WAYS[way], network), parameters(network)


def grown(name: str, size: str, image: np.ndarray) -> float:
    """Return by how many MiB this process grew at most on one side."""
    work, _ = side_of(name, size)
    before = settled_mib()
    work(image)
    return peak_mib() - before


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "base"), default="base")
    parser.add_argument("--extent", type=int, nargs=3, default=(140, 172, 140), help="Box of the brain in voxels of 1 mm.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai|torch")
    if given.memory_of in (None, OURS):  # No plain program does so.
        keep_memory()
    torch.set_num_threads(given.threads)
    image = np.random.default_rng(0).standard_normal((len(GLIOMA.modalities), *given.extent), dtype=np.float32)
    if given.memory_of:
        print(grown(given.memory_of, given.size, image))
        return
    sides = {name: side_of(name, given.size) for name in SIDES}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for round_ in range(given.rounds):
        for name in SIDES if round_ % 2 else reversed(SIDES):
            found[name].append(timed(partial(sides[name][0], image))[1:])
    print(f"{'×'.join(map(str, given.extent))} voxels\n{described()}")
    print(f"{'':<28}{'M parameters':>14}{'wall s':>10}{'CPU s':>10}{'ratio CPU':>12}{'peak MiB':>10}")
    rows = []
    words = ["--size", given.size, "--extent", *map(str, given.extent), "--threads", str(given.threads), "--memory-of"]
    for name, times in found.items():
        ratio = statistics.median(c / ours for (_, c), (_, ours) in zip(times, found[OURS], strict=True))
        wall, cpu = (statistics.median(t[i] for t in times) for i in (0, 1))
        peak = float(subprocess.run([sys.executable, __file__, *words, name], check=True, stdout=subprocess.PIPE).stdout)
        rows.append({"name": name, "parameters": sides[name][1], "wall": wall, "cpu": cpu, "ratio": ratio, "MiB": peak})
        print(f"{name:<28}{sides[name][1]:>14.2f}{wall:>10.2f}{cpu:>10.2f}{ratio:>12.1f}{peak:>10.0f}", flush=True)
    write_json(given.json, {"extent": list(given.extent), "rows": rows})


if __name__ == "__main__":
    main()
