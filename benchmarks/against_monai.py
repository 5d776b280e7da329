"""A case through CCSD and through MONAI's SegResNet and DynUNet of similar size, each as its program would: seconds and memory.

    python benchmarks/against_monai.py --json against_monai.json
    python benchmarks/against_monai.py --extent 155 190 150 --size base --threads 2

Networks are drawn at random: only time is compared. CCSD goes through ``region_logits_of`` with the window of a default run (2 mm,
the whole brain at once, logits brought back to 1 mm). MONAI's networks take windows of 128³ at 1 mm through its
sliding_window_inference with overlap 0.5 and Gaussian weights, as published programs do; beside that they are given the same grid
of 2 mm, whole, so that network and window can be told apart. All take turns in one run; CPU seconds stand beside wall seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import described, timed, write_json
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


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "base"), default="base")
    parser.add_argument("--extent", type=int, nargs=3, default=(140, 172, 140), help="Box of the brain in voxels of 1 mm.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai|torch")
    keep_memory()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    image = np.random.default_rng(0).standard_normal((len(GLIOMA.modalities), *given.extent), dtype=np.float32)
    model = ccsd(given.size)
    target, everything = parameters(model.method), (True,) * len(GLIOMA.modalities)
    others = {"SegResNet": nearest(segresnet, target), "DynUNet": nearest(dynunet, target)}
    cpu = torch.device("cpu")
    works: dict[str, Callable[[], object]] = {
        "anymri ccsd": lambda: list(region_logits_of(model, image, everything, [everything], device=cpu))
    }
    for name, network in others.items():
        works[f"{name}, {WINDOW}³ windows"] = lambda network=network: by_windows(network, image)
        works[f"{name}, whole at 2 mm"] = lambda network=network: whole_coarse(network, image)
    sizes = {name: next((parameters(n) for o, n in others.items() if name.startswith(o)), target) for name in works}
    works["anymri ccsd"]()  # Imports and first calls.
    by_windows(nn.Identity(), image[:, :8, :8, :8])
    for network in others.values():
        whole_coarse(network, image[:, :64, :64, :64])
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for round_ in range(given.rounds):
        for name in list(works) if round_ % 2 else reversed(works):
            found[name].append(timed(works[name])[1:])
    print(f"{'×'.join(map(str, given.extent))} voxels\n{described()}")
    print(f"{'':<28}{'M parameters':>14}{'wall s':>10}{'CPU s':>10}{'ratio CPU':>12}")
    rows = []
    for name, times in found.items():
        ratio = statistics.median(c / ours for (_, c), (_, ours) in zip(times, found["anymri ccsd"], strict=True))
        wall, cpu_seconds = (statistics.median(t[i] for t in times) for i in (0, 1))
        rows.append({"name": name, "parameters": sizes[name], "wall": wall, "cpu": cpu_seconds, "ratio": ratio})
        print(f"{name:<28}{sizes[name]:>14.2f}{wall:>10.2f}{cpu_seconds:>10.2f}{ratio:>12.1f}")
    write_json(given.json, {"extent": list(given.extent), "rows": rows})


if __name__ == "__main__":
    main()
