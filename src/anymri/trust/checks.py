"""How far the beliefs held on cases that they were not fitted on: each case by what was fitted on all the others.

What is said of a case is said before its reference is looked at; a test poisons the reference to prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from anymri.trust import advice, calibration, expectation
from anymri.trust.advice import LEAST_GAIN, Step
from anymri.trust.calibration import Calibrations
from anymri.trust.caution import CautionCheck, caution
from anymri.trust.counts import DOMAINS, EVERYWHERE, TRUE, Array, Floats
from anymri.trust.expectation import Expected
from anymri.trust.fitting import LEAST_CASES, Belief, Sample, calibrated, fitted, weighed

_RIDGE = 10.0  # For the advice by patient: one slope per modality on a few dozen rows.
Shares = dict[str, float]


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CalibrationCheck(_Figures):
    """Expected calibration error: cases in two halves, each by what the other taught, and the mean of both.

    Errors are pooled over cases, where too high and too low cancel. That of each case by all others would cancel too well: what
    all others teach is all but fitted to it.

    Attributes:
        everywhere: Number of modalities, or ``all`` → error, over the brain, pooled over cases and subsets; ``each``: pooled over
            cases alone, and the mean over subsets; ``patient``: of single masks, and the mean over cases and subsets.
        band: The same within the outermost region and 10 mm around it.
        cross_entropy: Over the brain, nats per voxel, mean over cases and subsets.
    """

    everywhere: Shares
    band: Shares
    cross_entropy: float


class DiceCheck(_Figures):
    """The expected Dice against the Dice that was reached, by masks that are not empty.

    Attributes:
        mean_absolute_error: Over cases and subsets.
        by_number: Number of modalities → the same error of its subsets.
        by_modalities_alone: The same error of a formula that knows what is at hand and nothing of the patient; None if a case with
            a mask is the only one.
        correlation: Pearson's, over cases and subsets.
        within_subsets: Pearson's after each subset's mean is taken off both: what is known of the patient.
        coverage: Share of cases and subsets whose Dice lay in the range.
        width: Mean width of the range.
    """

    mean_absolute_error: float
    by_number: Shares
    by_modalities_alone: float | None
    correlation: float
    within_subsets: float
    coverage: float
    width: float


class Always(_Figures):
    """Advising one modality wherever it is missing and another is, too, against the advice there.

    Attributes:
        gain: Mean gain in Dice of that modality.
        advised: The same of the advice.
        best: Share of the choices there in which no other modality gained more.
        advised_best: The same share of the advice.
    """

    gain: float
    advised: float
    best: float
    advised_best: float


class AdviceCheck(_Figures):
    """What came of the advice wherever at least two modalities were missing, the mask was not empty, and one was named.

    Attributes:
        choices: Cases times subsets.
        best: Share of them in which no other modality gained more.
        near: Share in which none gained 0.01 more.
        gain: Mean gain in Dice.
        possible: The same of the best choice, which nobody knows beforehand.
        always: Modality → what came of advising it always, and of the advice there.
        by_patient: Mean gain of a choice among all steps that looks at the model's uncertainty as well.
        by_patient_error: Standard error, over cases, of the difference between that and the advice.
        coverage: Share of all gains, named or not, that lay in their range.
        unnamed: Choices beside these where none was known to help, so that none was named.
    """

    choices: int
    best: float
    near: float
    gain: float
    possible: float
    always: dict[str, Always]
    by_patient: float
    by_patient_error: float
    coverage: float
    unnamed: int


class Checks(_Figures):
    """All figures of one region.

    Attributes:
        calibration: ``raw``, ``temperature`` of each subset without an offset, ``pooled`` over subsets, ``fitted`` to each →
            figures. Of what is believed after other cases there is no ``temperature``.
        dice: Of the expected Dice; None where too few masks were not empty.
        advice: Of the advice; None where one is named in fewer than two cases.
        caution: Of the warnings; None where no Dice is expected.
    """

    calibration: dict[str, CalibrationCheck]
    dice: DiceCheck | None
    advice: AdviceCheck | None
    caution: CautionCheck | None


@dataclass(frozen=True, eq=False)
class Said:
    """What was said of one case by what the others taught.

    Attributes:
        expected: Subset by subset; None where the mask is empty or too little was seen.
        by_modalities: The middle of what would be expected without a look at the patient, (S,).
        gains: Step by step: mean, low, high, (steps, 3); NaN where too little was seen.
        helps: Whether the step may be advised, (steps,).
        gains_by_patient: What is expected of each step in this patient, (steps,).
    """

    expected: tuple[Expected | None, ...]
    by_modalities: Floats
    gains: Floats
    helps: Array
    gains_by_patient: Floats


def said_of(sample: Sample, case: int, *, belief: Belief | None = None) -> Said:
    """Return what the other cases say of one. Of that one, only what the model said is looked at.

    Args:
        sample: All cases.
        case: Which of them.
        belief: What is believed after others than these. What it is compared with is still what the other cases teach.
    """
    rest, alone = sample.without([case]), sample.taken([case])
    belief, walk = belief or fitted(rest, least=LEAST_CASES - 1), advice.steps(sample.subsets, sample.modalities)
    how = belief.calibration
    soft = alone.soft_dice(how)[0]
    cells = [belief.gains.get(sample.subsets[s.without], {}).get(s.modality) for s in walk]
    gains = np.array([[np.nan] * 3 if c is None else [c.mean, c.low, c.high] for c in cells]).reshape(-1, 3)
    formula, rows = belief.expectation, zip(soft, sample.at_hand, alone.empty_CS[0], strict=True)
    expected = (None if formula is None or empty else formula.expected(float(d), names) for d, names, empty in rows)
    return Said(
        expected=tuple(expected),
        by_modalities=_by_modalities(rest),
        gains=gains,
        helps=np.array([c is not None and c.helps for c in cells], bool),
        gains_by_patient=gains[:, 0] + _by_patient(rest, walk, soft, how),
    )


def _by_modalities(rest: Sample) -> Floats:
    """Return the middle of what a formula expects that knows nothing of a patient, (S,)."""
    reached = rest.rows(rest.dice_CS)
    if not len(reached):
        return np.full(len(rest.subsets), np.nan)
    blind = expectation.fitted(np.full(len(reached), 0.5), reached, rest.at_hand_of_rows)
    return np.array([blind.expected(0.5, names).middle for names in rest.at_hand])


def _by_patient(rest: Sample, walk: Sequence[Step], soft_S: Floats, how: Calibrations) -> Floats:
    """Return by how much each step's gain is expected to differ from the mean, for a patient with these soft Dice."""
    known, seen = rest.soft_dice(how), ~rest.empty_CS
    if not seen.any():
        return np.zeros(len(walk))
    centre, spread = _means(known, seen), rest.rows(known).std() or 1.0
    rows, mine = np.where(seen, known - centre, 0) / spread, (soft_S - centre) / spread
    gains, of_steps = advice.gained(rest.dice_CS, walk), seen[:, [s.without for s in walk]]
    gains = np.where(of_steps, gains - _means(gains, of_steps), 0)
    slopes: dict[str, float] = {}
    for name in dict.fromkeys(s.modality for s in walk):
        of = [k for k, s in enumerate(walk) if s.modality == name]
        x = rows[:, [walk[k].without for k in of]]
        slopes[name] = float((x * gains[:, of]).sum() / ((x**2).sum() + _RIDGE))
    return np.array([slopes[s.modality] * mine[s.without] for s in walk])


def _means(values_CN: Floats, seen_CN: Array) -> Floats:
    """Return the mean over the cases that were seen, (N,); 0 where there are none."""
    return np.where(seen_CN, values_CN, 0).sum(0) / np.maximum(seen_CN.sum(0), 1)


def checked(sample: Sample, *, belief: Belief | None = None) -> Checks:
    """Return the figures of a region, each case by what the others taught, or all by what is believed after others than these."""
    said = [said_of(sample, c, belief=belief) for c in range(len(sample))]
    return Checks(
        calibration=_calibration(sample, belief),
        dice=_dice(sample, said),
        advice=_advice(sample, said),
        caution=caution([s.expected for s in said], sample.dice_CS),
    )


def taught(rest: Sample) -> dict[str, Calibrations]:
    """Return way → the calibrations that some cases teach."""
    how = calibrated(rest)
    warmth = {n: calibration.fitted_temperature(*counts) for n, *counts in zip(rest.subsets, *weighed(rest), strict=True)}
    return {
        "raw": Calibrations(),
        "temperature": Calibrations(subsets=warmth),
        "pooled": Calibrations(pooled=how.pooled),
        "fitted": how,
    }


def _calibration(sample: Sample, belief: Belief | None) -> dict[str, CalibrationCheck]:
    if belief is None:
        return halved(sample, taught)
    ways = {"raw": Calibrations(), "pooled": Calibrations(pooled=belief.calibration.pooled), "fitted": belief.calibration}
    return {way: _errors(sample, how) for way, how in ways.items()}


def halved(sample: Sample, teach: Callable[[Sample], Mapping[str, Calibrations]]) -> dict[str, CalibrationCheck]:
    """Return way → calibration errors: every other case by what the rest teaches, the rest by these, and the mean of both."""
    cases = range(len(sample))
    halves = [cases[0::2], cases[1::2]]
    found = [{way: _errors(sample.taken(h), how) for way, how in teach(sample.without(h)).items()} for h in halves]
    return {way: _mean([checks[way] for checks in found]) for way in found[0]}


def _mean(checks: Sequence[CalibrationCheck]) -> CalibrationCheck:
    first = checks[0]
    return CalibrationCheck(
        everywhere={name: float(np.mean([c.everywhere[name] for c in checks])) for name in first.everywhere},
        band={name: float(np.mean([c.band[name] for c in checks])) for name in first.band},
        cross_entropy=float(np.mean([c.cross_entropy for c in checks])),
    )


def _errors(sample: Sample, calibrations: Calibrations) -> CalibrationCheck:
    sizes = np.array([len(names) for names in sample.at_hand])
    groups = {str(k): sizes == k for k in sorted(set(sizes.tolist()))} | {"all": sizes > 0}
    ways = [calibrations.of(subset) for subset in sample.subsets]
    shares: dict[str, Shares] = {}
    for domain, (voxels, true) in DOMAINS.items():
        counts = sample.counts_CSNK
        rows = [[calibration.gaps(n[voxels], n[true], how) for n, how in zip(row, ways, strict=True)] for row in counts]
        off_CSB, total_CS = np.array(rows), counts[:, :, voxels].sum(-1).astype(np.float64)
        total_S = total_CS.sum(0)
        shares[domain] = {
            name: float(np.abs(off_CSB[:, of].sum((0, 1))).sum() / total_S[of].sum())
            for name, of in groups.items()
            if total_S[of].sum()
        }
        for name, off, total in (("each", off_CSB.sum(0), total_S), ("patient", off_CSB, total_CS)):
            shares[domain][name] = float((np.abs(off).sum(-1)[total > 0] / total[total > 0]).mean())
    pairs = [(n, how) for row in sample.counts_CSNK for n, how in zip(row, ways, strict=True)]
    surprise = [calibration.cross_entropy(n[EVERYWHERE], n[TRUE], how) for n, how in pairs]
    return CalibrationCheck(everywhere=shares["everywhere"], band=shares["band"], cross_entropy=float(np.mean(surprise)))


def _dice(sample: Sample, said: Sequence[Said]) -> DiceCheck | None:
    none = Expected(np.nan, np.nan, np.nan, np.nan)
    low, middle, high, _ = np.moveaxis(np.array([[none if e is None else e for e in s.expected] for s in said]), -1, 0)
    known, reached, blind = np.isfinite(middle), sample.dice_CS, np.stack([s.by_modalities for s in said])
    if not known.any():
        return None
    apart = [(x - _means(x, known))[known] for x in (middle, reached)]
    sizes = np.array([len(names) for names in sample.at_hand])
    error_of = {str(k): np.abs(middle - reached)[:, sizes == k][known[:, sizes == k]] for k in sorted(set(sizes.tolist()))}
    low, middle, high, reached, blind = (x[known] for x in (low, middle, high, reached, blind))
    return DiceCheck(
        mean_absolute_error=float(np.abs(middle - reached).mean()),
        by_number={k: float(errors.mean()) for k, errors in error_of.items() if len(errors)},
        by_modalities_alone=float(np.abs(blind - reached).mean()) if np.isfinite(blind).all() else None,
        correlation=expectation.correlation(middle, reached),
        within_subsets=expectation.correlation(*apart),
        coverage=float(((low <= reached) & (reached <= high)).mean()),
        width=float((high - low).mean()),
    )


def _advice(sample: Sample, said: Sequence[Said]) -> AdviceCheck | None:
    walk = advice.steps(sample.subsets, sample.modalities)
    options = {s: [k for k, step in enumerate(walk) if step.without == s] for s in range(len(sample.subsets))}
    choices = [steps for steps in options.values() if len(steps) > 1]
    if not choices:
        return None
    gains, told = advice.gained(sample.dice_CS, walk), np.stack([s.gains for s in said])
    known = np.isfinite(told[:, :, 0]) & ~sample.empty_CS[:, [step.without for step in walk]]
    helps = known & np.stack([s.helps for s in said])
    arisen, counted = (np.stack([flags[:, of].any(1) for of in choices], 1) for flags in (known, helps))
    if counted.any(1).sum() < 2:
        return None
    chosen = _chosen(np.where(helps, told[:, :, 0], np.nan), choices)
    other = _chosen(np.stack([s.gains_by_patient for s in said]), choices)
    reached, otherwise = np.take_along_axis(gains, chosen, 1), np.take_along_axis(gains, other, 1)
    possible = np.stack([gains[:, of].max(1) for of in choices], 1)
    differences = _means((otherwise - reached).T, counted.T)[counted.any(1)]
    always: dict[str, Always] = {}
    for name in sample.modalities.names:
        of = [(n, k) for n, steps in enumerate(choices) for k in steps if walk[k].modality == name]
        places = [n for n, _ in of]
        if (where := counted[:, places]).any():
            own, instead, most = (x[where] for x in (gains[:, [k for _, k in of]], reached[:, places], possible[:, places]))
            always[name] = Always(
                gain=float(own.mean()),
                advised=float(instead.mean()),
                best=float((own >= most).mean()),
                advised_best=float((instead >= most).mean()),
            )
    gap = (possible - reached)[counted]
    return AdviceCheck(
        choices=int(counted.sum()),
        best=float((gap <= 0).mean()),
        near=float((gap <= LEAST_GAIN).mean()),
        gain=float(reached[counted].mean()),
        possible=float(possible[counted].mean()),
        always=always,
        by_patient=float(otherwise[counted].mean()),
        by_patient_error=float(differences.std(ddof=1) / np.sqrt(len(differences))),
        coverage=float(((told[:, :, 1] <= gains) & (gains <= told[:, :, 2]))[known].mean()),
        unnamed=int((arisen & ~counted).sum()),
    )


def _chosen(expected: Floats, choices: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the step that each choice falls on, (C, choices); what is not known is not chosen."""
    ranked = np.nan_to_num(expected, nan=-np.inf)
    return np.stack([np.array(of)[ranked[:, of].argmax(1)] for of in choices], axis=1)
