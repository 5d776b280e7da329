"""The tables of the shipped weights and of the U-Net beside them, from the scores in docs/measurements, as Markdown.

    python benchmarks/shipped_scores.py

They stand in docs/measurements.md and on the cards as this prints them; a test compares. No images are needed: every score of a
patient by weights that had not seen it is stored, and which fold a run left out is in ``runs.csv`` beside them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from anymri.metrics.robustness import robustness
from anymri.metrics.scores import ScoreTable, Sheet, read_scores, selected, sheet
from anymri.metrics.statistics import Difference, Estimate, differences, mean

STORED = Path(__file__).parents[1] / "docs" / "measurements"
REGIONS = ("WT", "TC", "ET")
TRIED_ON = (2, 3)  # The folds on which the recipe of ccsd-base was tried.
_DICE, _HD95 = "dice", "hausdorff_95_mm"
_WHOLES = ("all four", "mean of 15")
_MINUS = "−"


def main() -> None:
    """Print every table under its heading."""
    for heading, text in tables().items():
        print(f"{heading}\n\n{text}\n")


def tables() -> dict[str, str]:
    """Return heading → table."""
    base, small, unet = (read_scores(STORED / "shipped" / f"{n}.csv") for n in ("ccsd-base", "ccsd-small", "dropout_unet-base"))
    seen = read_scores(STORED / "learnt-by-heart" / "ccsd-base_fold1_on_fold0.csv")
    lengths = ("dropout_unet-base_minutes", "ccsd-base_half_fold3", "ccsd-base_double_fold3", "ccsd-base_restart_fold3")
    before = read_scores(STORED / "same-minutes" / "ccsd-small.csv")
    clean = read_scores(STORED / "ingredients" / "without-artefacts-small-fold3.csv")
    longer, half, double, restarted = (read_scores(STORED / "length" / f"{name}.csv") for name in lengths)
    return {
        "ccsd-base, every subset": subsets({"": base}),
        "ccsd-base, by fold": folds(base),
        "ccsd-base, all subsets": overall({"": base}),
        "ccsd-base against ccsd-small": paired("`ccsd-base` − `ccsd-small`", base, small),
        "ccsd-small, every subset": subsets({"": small}),
        "ccsd-small, by fold": folds(small),
        "ccsd-small, all subsets": overall({"": small}),
        "ccsd-small against the one before": paired("`ccsd-small` − the one before", small, before),
        "artefacts against none": paired("with artefacts − without", small, clean),
        "CCSD against the U-Net": paired("CCSD − U-Net", base, unet),
        "ccsd-small against the U-Net": paired("`ccsd-small` − U-Net of size `base`", small, unet),
        "ccsd-small and the U-Net, by fold": folds_beside({"`ccsd-small`": small, "U-Net": unet}),
        "CCSD and the U-Net, by fold": folds_beside({"CCSD": base, "U-Net": unet}),
        "CCSD and the U-Net, all subsets": overall({"CCSD": base, "U-Net": unet}),
        "CCSD and the U-Net in the same minutes, every subset": subsets({"CCSD": base, "U-Net": longer}),
        "CCSD against the U-Net in the same minutes": paired("CCSD − U-Net of as many minutes", base, longer),
        "CCSD and the U-Net in the same minutes, by fold": folds_beside({"CCSD": base, "U-Net": longer}),
        "CCSD and the U-Net in the same minutes, all subsets": overall({"CCSD": base, "U-Net": longer}),
        "the U-Net, minutes against steps": paired("U-Net, as many minutes − as many steps", longer, unet),
        "trained on against not seen": paired("trained on − not seen", seen, base),
        "half the length": paired("5,600 steps − 2,800", base, half),
        "twice the length": paired("11,200 steps − 5,600", double, base),
        "with a restart": paired("restarted − 5,600 steps", restarted, base),
        "twice the length against a restart": paired("11,200 steps − restarted", double, restarted),
    }


def subsets(methods: Mapping[str, ScoreTable]) -> str:
    """Return mean Dice in percent with an interval, a row for each subset and their mean."""
    sheets = [sheet(table, _DICE) for table in methods.values()]
    rows = [
        [subset, *(_interval(_over(s, region, [subset])) for s in sheets for region in REGIONS)] for subset in sheets[0].subsets
    ]
    last = ["mean of 15", *(_interval(_over(s, region, s.subsets)) for s in sheets for region in REGIONS)]
    return as_markdown(["modalities", *_columns(methods)], [*rows, last])


def folds(table: ScoreTable) -> str:
    """Return mean Dice in percent, a row for each fold, and with intervals for those without trials of the recipe and for all."""
    single, several = _groups([table])
    rows: list[list[str]] = []
    for group in [*single, *several]:
        estimates = [e for part in _wholes(_of_folds(table, group)) for e in part]
        rows.append([_listed(group), *(_percent(e.value) if len(group) == 1 else _interval(e) for e in estimates)])
    heads = [f"{what}: {REGIONS[0]}" if region == REGIONS[0] else region for what in _WHOLES for region in REGIONS]
    return as_markdown(["fold", *heads], rows)


def folds_beside(methods: Mapping[str, ScoreTable]) -> str:
    """Return mean Dice in percent of several methods, a row for each fold, for those without trials of the recipe and for all."""
    single, several = _groups(list(methods.values()))
    rows: list[list[str]] = []
    for group in [*single, *several]:
        parts = [part for table in methods.values() for part in _wholes(_of_folds(table, group))]
        rows.append([_listed(group), *(" / ".join(_percent(e.value) for e in part) for part in parts)])
    return as_markdown([f"fold, {' / '.join(REGIONS)}", *(f"{name}, {what}" for name in methods for what in _WHOLES)], rows)


def overall(methods: Mapping[str, ScoreTable]) -> str:
    """Return the area under the robustness curve in percent, and mean HD95 in mm."""
    areas, nearest, every = (list[str]() for _ in range(3))
    for table in methods.values():
        dice, far = sheet(table, _DICE), sheet(table, _HD95)
        normalised = {found.region: found.normalised for found in robustness(dice)}
        areas += [_percent(normalised[region].value) for region in REGIONS]
        nearest += [f"{_over(far, region, far.subsets[-1:]).value:.1f}" for region in REGIONS]
        every += [f"{_over(far, region, far.subsets).value:.1f}" for region in REGIONS]
    rows = (["AURC / (N − 1)", *areas], ["mean HD95 in mm, all four", *nearest], ["… of 15 subsets", *every])
    return as_markdown(["", *_columns(methods)], rows)


def paired(title: str, first: ScoreTable, second: ScoreTable) -> str:
    """Return differences of mean Dice in points over the patients that both were scored on; p after Holm in each row."""
    names = sheet(first, _DICE).subsets
    parts = {
        "mean of 15": names,
        "eight subsets with T1c": [n for n in names if "T1c" in n.split("+")],
        "seven subsets without": [n for n in names if "T1c" not in n.split("+")],
        "all four": names[-1:],
    }
    rows: list[list[str]] = []
    for part, of in parts.items():
        both = [selected(table, lambda row, of=of: row.subset in of) for table in (first, second)]
        found = {d.region: d for d in differences(both[0], both[1], _DICE)}
        rows.append([part, *(_difference(found[region]) for region in REGIONS)])
    patients = len({row.case for row in first} & {row.case for row in second})
    return as_markdown([f"{title}, {patients} patients", *REGIONS], rows)


def as_markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown, all columns but the first to the right."""
    align = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (heads, align, *rows))


def left_out() -> dict[str, int]:
    """Return run → the fold that it left out."""
    with (STORED / "shipped" / "runs.csv").open(encoding="utf-8", newline="") as stream:
        return {row["run"]: int(row["fold"]) for row in csv.DictReader(stream)}


def _columns(methods: Iterable[str]) -> list[str]:
    return [f"{name} {region}".strip() if region == REGIONS[0] else region for name in methods for region in REGIONS]


def _groups(tables_: Sequence[ScoreTable]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return the folds that are there by themselves, and those without trials and all, where these differ and are several."""
    fold_of = left_out()
    present = sorted({fold_of[row.run] for table in tables_ for row in table})
    several = dict.fromkeys([tuple(f for f in present if f not in TRIED_ON), tuple(present)])
    return [(fold,) for fold in present], [group for group in several if len(group) > 1]


def _of_folds(table: ScoreTable, group: Sequence[int]) -> Sheet:
    fold_of = left_out()
    return sheet(selected(table, lambda row: fold_of[row.run] in group), _DICE)


def _wholes(scores: Sheet) -> list[list[Estimate]]:
    """Return the regions with all sequences, and over all subsets."""
    return [[_over(scores, region, names) for region in REGIONS] for names in (scores.subsets[-1:], scores.subsets)]


def _over(scores: Sheet, region: str, names: Sequence[str]) -> Estimate:
    columns = [scores.subsets.index(name) for name in names]
    return mean(scores.values[:, columns, scores.regions.index(region)])


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(estimate: Estimate) -> str:
    return f"{_percent(estimate.value)} [{_percent(estimate.low)}, {_percent(estimate.high)}]"


def _difference(found: Difference) -> str:
    value, low, high = (_points(x) for x in (found.estimate.value, found.estimate.low, found.estimate.high))
    sign = "" if value.startswith(_MINUS) else "+"
    return f"{sign}{value} [{low}, {high}], p {_p(found.p_holm)}"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f}".replace("-", _MINUS)  # Without the sign that a rounded nought may keep.


def _p(value: float) -> str:
    return "< 0.001" if value < 1e-3 else f"{value:.3f}" if value < 9.5e-3 else f"{value:.2f}"


def _listed(group: Iterable[int]) -> str:
    *first, last = map(str, group)
    return f"{', '.join(first)} and {last}" if first else last


if __name__ == "__main__":
    main()
