"""Dice, HD95 and surface Dice of 15 subsets and all regions of one case: anymri against MONAI's functions called per mask.

    python benchmarks/scoring.py --json scoring.json
    python benchmarks/scoring.py --case prepared/cases/NAME --threads 2

The case is a synthetic patient, or a prepared one with a reference. Its masks are the truth; those of a subset are made of them:
grown or shrunk, moved, with a ragged border and false islands, so that all differ. Both sides score the same masks, turn by turn
in one run, and must say the same. HD95 is MONAI's, the larger of two directed percentiles. CPU seconds beside wall seconds, since
others may compute on the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from measuring import described, timed, write_json
from scipy import ndimage

from anymri.cohorts.phantom import make_patient
from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.metrics.protocol import ANYMRI, prepare_case, score_case
from anymri.preparation.labels import region_bits
from anymri.volumes.store import read_truth
from anymri.volumes.volume import Spacing, bounding_box

Masks = dict[str, np.ndarray]
Values = list[tuple[float, float, float]]
METRICS = ("dice", "directed_hausdorff_95_mm", "surface_dice_1mm")
TOLERANCE_MM = 1.0
KINDS = ("wall", "cpu")
AT_MOST = 1e-6  # Relative difference of any value.
_MARGIN = 24  # Voxels around the truth in which predictions err.


def truth_of(case: Path | None) -> tuple[Masks, Spacing]:
    """Return the masks of a prepared case, or of the synthetic patient of seed 1, and the spacing of their grid."""
    if case is not None:
        volume = read_truth(case)
        bits, spacing = volume.array, volume.grid.spacing_mm
    else:
        bits, spacing = region_bits(make_patient(GLIOMA, 1).labels, GLIOMA.scheme(), GLIOMA), (1.0, 1.0, 1.0)
    masks = {name: (bits >> r & 1).astype(bool) for r, name in enumerate(GLIOMA.region_names)}
    return {name: mask for name, mask in masks.items() if mask.any()}, spacing


def predicted(truth: Masks, spacing: Spacing, size: int, seed: int) -> Masks:
    """Return masks such as a network makes of a patient: the fewer modalities, the further from the truth."""
    rng = np.random.default_rng(seed)
    error = 1.0 + 0.6 * (len(GLIOMA.modalities) - size)
    whole = bounding_box(np.logical_or.reduce(list(truth.values())))
    shape = next(iter(truth.values())).shape
    box = tuple(slice(max(s.start - _MARGIN, 0), min(s.stop + _MARGIN, n)) for s, n in zip(whole, shape, strict=True))
    made = {}
    for name, full in truth.items():
        mask = full[box]
        away = signed_mm(mask, spacing)
        coarse = [max(n // 6, 2) for n in mask.shape]
        ragged = ndimage.zoom(rng.standard_normal(coarse), [n / c for n, c in zip(mask.shape, coarse, strict=True)], order=1)
        border = away + error * (ragged + rng.uniform(-1, 1)) < 0.5
        made[name] = np.zeros_like(full)
        made[name][box] = np.roll(border | (ragged > 3.6), tuple(rng.integers(-1, 2, 3)), (0, 1, 2))
    return made


def signed_mm(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return how far each voxel lies outside a mask, negative inside."""
    outside, inside = (ndimage.distance_transform_edt(m, sampling=spacing) for m in (~mask, mask))
    return np.asarray(outside) - np.asarray(inside)


def by_anymri(truth: Masks, spacing: Spacing, guesses: list[Masks], threads: int) -> Values:
    """Return Dice, HD95 and surface Dice of every mask."""
    case = prepare_case(truth, spacing, ANYMRI)
    if threads == 1:
        scores = [score_case(masks, case) for masks in guesses]
    else:
        with ThreadPoolExecutor(threads) as pool:
            scores = list(pool.map(lambda masks: score_case(masks, case), guesses))
    return [(s[r][METRICS[0]], s[r][METRICS[1]], s[r][METRICS[2]]) for s in scores for r in truth]


def by_monai(truth: Masks, spacing: Spacing, guesses: list[Masks], threads: int) -> Values:
    """Return the same by one call per measure and mask, masks in as many threads."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_dice import compute_surface_dice

    def values(pair: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float]:
        here, there = (torch.from_numpy(mask)[None, None] for mask in pair)
        distance = compute_hausdorff_distance(here, there, include_background=True, percentile=95, spacing=list(spacing))
        share = compute_surface_dice(here, there, [TOLERANCE_MM], include_background=True, spacing=list(spacing))
        return float(compute_dice(here, there)), float(distance), float(share)

    pairs = [(masks[r], truth[r]) for masks in guesses for r in truth]
    if threads == 1:
        return [values(pair) for pair in pairs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(values, pairs))


def on_grid(mask: np.ndarray, factor: int) -> np.ndarray:
    """Return a mask on a grid with as many times the voxels along each axis; -2 keeps every second one."""
    if factor < 0:
        return np.ascontiguousarray(mask[::-factor, ::-factor, ::-factor])
    for axis in range(3):
        mask = np.repeat(mask, factor, axis)
    return mask


def growth(truth: Masks, spacing: Spacing, guesses: list[Masks]) -> list[dict[str, float]]:
    """Return CPU seconds of anymri against subsets, and against voxels of the grid on which the same masks lie."""
    rows: list[dict[str, float]] = []
    for factor, count in ((1, 1), (1, 5), (1, len(guesses)), (-2, 3), (1, 3), (2, 3)):
        finer = {r: on_grid(m, factor) for r, m in truth.items()}
        of_each = [{r: on_grid(m, factor) for r, m in masks.items()} for masks in guesses[:count]]
        scale = 1 / factor if factor > 0 else -factor
        d, h, w = (mm * scale for mm in spacing)
        cpu = min(timed(lambda f=finer, g=of_each, s=(d, h, w): by_anymri(f, s, g, 1))[2] for _ in range(2))
        voxels = next(iter(finer.values())).size
        rows.append({"subsets": count, "voxels": voxels, "cpu_seconds": cpu, "ms_per_mask": 1000 * cpu / (count * len(truth))})
    return rows


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, help="Folder of a prepared case with a reference.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", module="monai|torch")
    truth, spacing = truth_of(given.case)
    guesses = [predicted(truth, spacing, len(s.names), i) for i, s in enumerate(subsets(GLIOMA.modalities))]
    sides = {"anymri": by_anymri, "MONAI": by_monai}
    by_monai({r: m[:8, :8, :8] for r, m in truth.items()}, spacing, [{r: m[:8, :8, :8] for r, m in truth.items()}], 1)  # Imports.
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    values: dict[str, Values] = {}
    for round_ in range(given.rounds):
        for side in list(sides) if round_ % 2 else reversed(sides):
            values[side], wall, cpu = timed(lambda side=side: sides[side](truth, spacing, guesses, given.threads))
            found[side].append((wall, cpu))
    ours, theirs = (np.array(values[side]) for side in ("anymri", "MONAI"))
    # MONAI interpolates its percentile between float32 numbers at a place that is itself a float32.
    apart = float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)).max())
    pairs = list(zip(found["anymri"], found["MONAI"], strict=True))
    seconds = {side: [statistics.median(column) for column in zip(*times, strict=True)] for side, times in found.items()}
    ratio = [statistics.median(slow[i] / fast[i] for fast, slow in pairs) for i in (0, 1)]
    row = {
        "masks": len(guesses) * len(truth),
        "threads": given.threads,
        "seconds": {side: dict(zip(KINDS, both, strict=True)) for side, both in seconds.items()},
        "ratio": dict(zip(KINDS, ratio, strict=True)),
        "apart": apart,
        "growth": growth(truth, spacing, guesses),
    }
    print(f"{row['masks']} masks, {given.rounds} rounds, {given.threads} thread(s)\n{described()}")
    print(f"{'':<12}{'wall s':>10}{'CPU s':>10}")
    for side, (wall, cpu) in seconds.items():
        print(f"{side:<12}{wall:>10.2f}{cpu:>10.2f}")
    print(f"{'ratio':<12}{ratio[0]:>10.1f}{ratio[1]:>10.1f}")
    print(f"largest relative difference of any value: {apart:.1e}")
    print(f"\n{'subsets':<10}{'million voxels':>16}{'CPU s':>10}{'ms a mask':>12}")
    for grown in row["growth"]:
        print(f"{grown['subsets']:<10}{grown['voxels'] / 1e6:>16.1f}{grown['cpu_seconds']:>10.2f}{grown['ms_per_mask']:>12.1f}")
    write_json(given.json, row)
    if not apart <= AT_MOST:
        raise SystemExit(f"a value differs from MONAI's by {apart:.1e} of it; at most {AT_MOST:.0e} is rounding")


if __name__ == "__main__":
    main()
