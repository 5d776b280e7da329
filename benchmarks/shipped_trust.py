"""The tables of trust of the shipped weights, from the trust files beside them, as Markdown.

    python benchmarks/shipped_trust.py

They stand in docs/measurements.md and on the cards as this prints them; a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path

from shipped_scores import as_markdown

from anymri.trust.caution import ENDS, CautionCheck
from anymri.trust.checks import AdviceCheck, Checks, DiceCheck
from anymri.trust.record import TrustCheck, TrustRecord

STORED = Path(__file__).parents[1] / "docs" / "measurements" / "trust"
WEIGHTS = Path(__file__).parents[1] / "src" / "anymri" / "weights"
NAMES = ("ccsd-base", "ccsd-small")
HELD = ("ccsd-small_folds23_on_folds014", "ccsd-small_folds014_on_folds23")
_WAYS = ("raw", "pooled", "fitted")
_GROUPS = ("1", "2", "3", "4", "all", "each", "patient")


def main() -> None:
    """Print every table under its heading."""
    for name in NAMES:
        for heading, text in tables(name).items():
            print(f"{name}, {heading}\n\n{text}\n")
    for name in HELD:
        print(f"{name}\n\n{held(name)}\n")


def tables(name: str) -> dict[str, str]:
    """Return heading → table of one of the shipped weights; that of the card is under ``card``."""
    content = json.loads((WEIGHTS / f"{name}.trust.json").read_text(encoding="utf-8"))
    checks = {region: measured.checks for region, measured in TrustRecord.model_validate(content).regions.items()}
    return {
        "calibration": calibration(checks),
        "expected Dice": expected(checks),
        "warnings": warnings(checks),
        "chances": chances(checks),
        "advice": advice(checks),
        "card": card(checks),
        "card, warnings": card_warnings(checks),
    }


def calibration(checks: dict[str, Checks]) -> str:
    """Return expected calibration errors in percent: raw → pooled → of each subset, by number of modalities."""
    rows: list[list[str]] = []
    for domain, word in (("everywhere", "brain"), ("band", "band")):
        for region, found in checks.items():
            shares = [getattr(found.calibration[way], domain) for way in _WAYS]
            rows.append([f"{region}, {word}", *(" → ".join(f"{100 * share[group]:.2f}" for share in shares) for group in _GROUPS)])
    return as_markdown(["", *_GROUPS], rows)


def expected(checks: dict[str, Checks]) -> str:
    """Return how far the expected Dice held."""
    heads = ["mean absolute error of the expected Dice", "… with 1, 2, 3 and 4 modalities", "… from the modalities alone"]
    heads += ["correlation", "… within subsets"]
    rows: list[list[str]] = []
    for region, found in checks.items():
        dice = _dice(found)
        assert dice.by_modalities_alone is not None
        by_number = " / ".join(f"{error:.3f}" for error in dice.by_number.values())
        cells = [f"{dice.mean_absolute_error:.3f}", by_number, f"{dice.by_modalities_alone:.3f}"]
        cells += [f"{x:.2f}" for x in (dice.correlation, dice.within_subsets)]
        rows.append([region, *cells, f"{100 * dice.coverage:.0f} %", f"{dice.width:.2f}"])
    return as_markdown(["", *heads, "in the range, of 80 % meant", "width of the range"], rows)


def warnings(checks: dict[str, Checks]) -> str:
    """Return which poor masks were warned of, and how many warnings were right."""
    heads = ["masks", "Dice below 0.5", 'of these "do not rely on"', "either warning"]
    rows: list[list[str]] = []
    for region, found in checks.items():
        c = _caution(found)
        softer = f"{c.uncertain_poor} of {c.uncertain}" if c.uncertain else "none given"
        counts = map(str, (c.masks, c.poor, c.doubtful_poor, c.doubtful_poor + c.uncertain_poor))
        rows.append([region, *counts, f"{c.doubtful_poor} of {c.doubtful}", softer])
    return as_markdown(["", *heads, '"do not rely on" right', '"may be wrong" right'], rows)


def chances(checks: dict[str, Checks]) -> str:
    """Return, by the chance of a poor outline that was said, its mean, and the share of masks of which it came true."""
    ends, rows = (*ENDS, 1.0), list[list[str]]()
    for region, found in checks.items():
        cells = dict.fromkeys(ends, "")
        for group in _caution(found).chances:
            end = next(end for end in ends if group.said < end)
            cells[end] = f"{100 * group.said:.0f} → {100 * group.came_true:.0f} % of {group.masks}"
        rows.append([region, *cells.values()])
    return as_markdown(["said → came true", *(f"below {100 * end:.0f} %" for end in ends)], rows)


def advice(checks: dict[str, Checks]) -> str:
    """Return how often the advised modality was the best, and what it gained against always advising one / the advice there."""
    names = list(_advice(next(iter(checks.values()))).always)
    heads = ["", "named", "best", "within 0.01 of it", "gain", "possible", *(f"{name} always" for name in names)]
    rows: list[list[str]] = []
    for region, found in checks.items():
        a = _advice(found)
        cells = [f"{a.choices} of {a.choices + (a.unnamed or 0)}", f"{100 * a.best:.0f} %", f"{100 * a.near:.0f} %"]
        always = [f"{a.always[name].gain:.3f} / {a.always[name].advised:.3f}" for name in names]
        rows.append([region, *cells, f"{a.gain:.3f}", f"{a.possible:.3f}", *always])
    return as_markdown(heads, rows)


def card(checks: dict[str, Checks]) -> str:
    """Return the most important figures of every region."""
    heads = ["calibration error in the brain, before → after", "near the tumour", "expected Dice off by"]
    heads += ["correlation (within subsets)"]
    rows: list[list[str]] = []
    for region, found in checks.items():
        before, after, dice, a = found.calibration["raw"], found.calibration["fitted"], _dice(found), _advice(found)
        errors = [
            f"{100 * old['all']:.2f} → {100 * new['all']:.2f} %"
            for old, new in ((before.everywhere, after.everywhere), (before.band, after.band))
        ]
        cells = [
            f"{dice.mean_absolute_error:.3f}",
            f"{dice.correlation:.2f} ({dice.within_subsets:.2f})",
            f"{100 * dice.coverage:.0f} %",
        ]
        rows.append([region, *errors, *cells, f"{100 * a.best:.0f} % of {a.choices}"])
    return as_markdown(["", *heads, "in its range (80 % meant)", "advice was the best"], rows)


def card_warnings(checks: dict[str, Checks]) -> str:
    """Return which poor masks were warned of, and how many others."""
    rows: list[list[str]] = []
    for region, found in checks.items():
        c = _caution(found)
        warned = c.poor - c.unwarned
        rows.append([region, *map(str, (c.poor, warned, c.unwarned, c.doubtful + c.uncertain - warned))])
    masks = _caution(next(iter(checks.values()))).masks
    return as_markdown(
        [f"of {masks} masks each", "Dice below 0.5", "of these warned of", "passed without a word", "warned of in vain"], rows
    )


def held(name: str) -> str:
    """Return what came of a trust file on other folds than those it was measured on.

    Args:
        name: Of the check in ``docs/measurements/trust``.
    """
    content = json.loads((STORED / f"{name}.check.json").read_text(encoding="utf-8"))
    heads = [
        "calibration error, brain, each",
        "band, each",
        "band, patient",
        "mean absolute error of the expected Dice",
        "correlation",
    ]
    rows: list[list[str]] = []
    for region, found in TrustCheck.model_validate(content).regions.items():
        before, after = (found.checks.calibration[way] for way in ("raw", "fitted"))
        dice, c, a = _dice(found.checks), _caution(found.checks), _advice(found.checks)
        pairs = [(before.everywhere["each"], after.everywhere["each"])]
        pairs += [(before.band[name], after.band[name]) for name in ("each", "patient")]
        cells = [
            *(f"{100 * x:.2f} → {100 * y:.2f}" for x, y in pairs),
            f"{dice.mean_absolute_error:.3f}",
            f"{dice.correlation:.2f}",
        ]
        warned = f"{c.poor - c.unwarned} of {c.poor}"
        rows.append([region, *cells, f"{100 * dice.coverage:.0f} %", warned, f"{100 * a.best:.0f} % of {a.choices}"])
    return as_markdown(["", *heads, "in the range, of 80 % meant", "poor masks warned of", "advice the best"], rows)


def _dice(found: Checks) -> DiceCheck:
    assert found.dice is not None
    return found.dice


def _caution(found: Checks) -> CautionCheck:
    assert found.caution is not None
    return found.caution


def _advice(found: Checks) -> AdviceCheck:
    assert found.advice is not None
    return found.advice


if __name__ == "__main__":
    main()
