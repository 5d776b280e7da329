"""What is said of one patient: the Dice to expect, which regions not to rely on, and which missing modality would help most."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anymri.domain.modality import Subset
from anymri.trust.advice import Help, most_helpful
from anymri.trust.calibration import Calibration, soft_dice
from anymri.trust.counts import Array
from anymri.trust.expectation import LOW, Expected
from anymri.trust.observation import said_of
from anymri.trust.record import Trust

NOT_MEASURED = (
    "How far to trust these weights has not been measured: no Dice is expected of this mask, and probabilities are as the network "
    "gives them."
)


@dataclass(frozen=True)
class Statement:
    """What is said of one patient.

    Attributes:
        trust: What it rests on.
        subset: Modalities at hand.
        expected: Region → Dice to expect; None of an empty mask, and where too little was measured.
        helpful: Region → the missing modality that would help most, or None if none helps; without the regions
            whose mask is empty, and those of which too little was measured.
        empty: Regions of which nothing was found, outermost first.
        revealing: Of these, region → the missing modality that helps it most where some of it is found, if one does.
    """

    trust: Trust
    subset: Subset
    expected: Mapping[str, Expected | None]
    helpful: Mapping[str, Help | None]
    empty: tuple[str, ...] = ()
    revealing: Mapping[str, str] = field(default_factory=dict)

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Regions that should not be relied on, outermost first."""
        return tuple(region for region, dice in self.expected.items() if dice is not None and dice.doubtful)

    @property
    def uncertain(self) -> tuple[str, ...]:
        """Regions that may be wrong, outermost first; without those that should not be relied on."""
        return tuple(region for region, dice in self.expected.items() if dice is not None and dice.uncertain)

    def caution(self) -> str:
        """Return sentences on the regions that should not be relied on, and on those that may be wrong; empty if there are none."""
        told = {
            r: f"{r} (expected Dice {_printed(d)}; chance of {percent(d.poor)} that it is below {LOW})"
            for r, d in self.expected.items()
            if d is not None
        }
        doubtful, uncertain = (listed([told[r] for r in regions]) for regions in (self.doubtful, self.uncertain))
        firm = f"Do not rely on {doubtful}." if doubtful else ""
        soft = f"{uncertain} may be wrong: check the outline." if uncertain else ""
        return " ".join(line for line in (firm, soft) if line)

    def unfound(self) -> str:
        """Return sentences on the regions of which nothing was found, and how often that is right; empty if there are none."""
        record, told, unknown = self.trust.record, [], []
        outermost = next(iter(record.regions))
        for region in (outermost,) if outermost in self.empty else self.empty:  # Without it there is nothing inside it.
            seen = record.regions[region].belief.empty
            if not seen.masks:
                unknown.append(region)
                continue
            told.append(
                f"No {region} was found. Where trust was measured that was right in {seen.right} of {seen.masks} masks, "
                f"and {seen.without} of {record.cases} patients had no {region}."
            )
        if unknown:
            told.append(f"No {' and no '.join(unknown)} was found; how often that is right was not measured.")
        told += [
            f"Adding {name} may show some: where {listed(regions)} was found it improved the outline most."
            for name, regions in _gathered((best, region) for region, best in self.revealing.items()).items()
        ]
        return " ".join(told)

    def unmeasured(self) -> str:
        """Return a sentence on the regions that have a mask, and too little was measured of them; empty if there are none."""
        regions = [region for region, dice in self.expected.items() if dice is None and region not in self.empty]
        return f"Which Dice to expect of {listed(regions)} was not measured: too few patients had such a mask." if regions else ""

    def advice(self) -> str:
        """Return a sentence on what would help; empty if no modality is missing."""
        if not self.subset.missing:
            return ""
        gains = _gathered(
            (best.modality, f"{region} (Dice {_gain(best)})") for region, best in self.helpful.items() if best is not None
        )
        what = "; ".join(f"{name} for {listed(regions)}" for name, regions in gains.items())
        missing = self.subset.missing
        none = "It is not" if len(missing) == 1 else "None of them is"
        found = f" In other patients most was gained by {what}." if what else f" {none} known to help." if self.helpful else ""
        return f"Without {listed(missing)} the mask is less certain.{found}"

    def cautions(self) -> dict[str, Any]:
        """Return what summary.json says before the volumes."""
        return {"doubtful_regions": list(self.doubtful), "uncertain_regions": list(self.uncertain)}

    def expectations(self) -> dict[str, Any]:
        """Return what summary.json says after the volumes."""
        return {
            "expected_dice": {r: None if d is None else _rounded(d) for r, d in self.expected.items()},
            "poor_chance": {r: None if d is None else d.poor for r, d in self.expected.items()},
            "most_helpful": {r: None if best is None else _gained(best) for r, best in self.helpful.items() if self.subset.missing},
            "calibration": {
                region: {"temperature": how.temperature, "offset": how.offset, "error": self._error(region)}
                for region, how in calibrations(self.trust, self.subset).items()
            },
        }

    def _error(self, region: str) -> dict[str, float]:
        """Return by how much probabilities near the tumour were off: over patients with as many modalities, and in single ones."""
        checks, number = self.trust.record.regions[region].checks.calibration, str(len(self.subset))
        told = {"before": ("raw", number), "after": ("fitted", number), "single_patient": ("fitted", "patient")}
        known = {name: checks[way].band.get(of) for name, (way, of) in told.items() if way in checks}
        return {name: round(error, 4) for name, error in known.items() if error is not None}


def stated(trust: Trust, subset: Subset, logits_RDHW: Array, image_MDHW: Array, *, empty: Collection[str] = ()) -> Statement:
    """Return what is said of a patient.

    Args:
        trust: Of the weights.
        subset: Modalities at hand.
        logits_RDHW: What the model gave, on the prepared grid.
        image_MDHW: The image there, rows of absent modalities zero.
        empty: Regions whose mask on the patient's own grid holds no voxel.
    """
    expected: dict[str, Expected | None] = {}
    helpful: dict[str, Help | None] = {}
    revealing: dict[str, str] = {}
    for (region, measured), said in zip(trust.record.regions.items(), said_of(logits_RDHW, image_MDHW), strict=True):
        belief, formula = measured.belief, measured.belief.expectation
        soft = float(soft_dice(said, belief.calibration.of(str(subset))))
        expected[region] = None if formula is None or region in empty else formula.expected(soft, subset.names)
        best = most_helpful(belief.gains.get(str(subset), {}))
        if region in empty:
            revealing |= {region: best.modality} if best else {}
        elif str(subset) in belief.gains:
            helpful[region] = best
    return Statement(trust, subset, expected, helpful, tuple(region for region in expected if region in empty), revealing)


def percent(chance: float) -> str:
    """Return a chance as people read it; below and above what twenty quantiles of residuals can tell, no number is claimed."""
    least = 0.03
    return f"{least:.0%} or less" if chance <= least else f"{1 - least:.0%} or more" if chance >= 1 - least else f"{chance:.0%}"


def marked(summary: Mapping[str, Any], region: str) -> str:
    """Return what is to be read beside the volume of a region, after a comma; empty if nothing is.

    Args:
        summary: As summary.json holds it.
        region: Its name.
    """
    if region in summary.get("doubtful_regions", ()):
        return "do not rely on it"
    return "may be wrong" if region in summary.get("uncertain_regions", ()) else ""


def calibrations(trust: Trust | None, subset: Subset) -> dict[str, Calibration]:
    """Return region → how its logits become probabilities with these modalities at hand; empty without a trust file."""
    regions = {} if trust is None else trust.record.regions
    return {region: measured.belief.calibration.of(str(subset)) for region, measured in regions.items()}


def made_by(trust: Trust | None, weights: str) -> dict[str, Any] | None:
    """Return what a summary says of the trust file: None without one.

    Args:
        trust: The file.
        weights: SHA-256 of the weights.
    """
    if trust is None:
        return None
    record, lent = trust.record, weights not in trust.record.measured
    cautions = {region: measured.checks.caution for region, measured in record.regions.items()}
    unwarned = {region: {"poor": c.poor, "unwarned": c.unwarned} for region, c in cautions.items() if c is not None}
    told = {"sha256": trust.sha256, "cohort": record.cohort, "cases": record.cases, "level": record.level, "lent": lent}
    return told | {"poor_masks": unwarned}


def _gained(best: Help) -> dict[str, Any]:
    gain = best.gain
    bounds = {"gain": [round(gain.low, 3), round(gain.high, 3)], "mean": round(gain.mean, 3)}
    return {"modality": best.modality, **bounds, "best": round(gain.best, 3), "alike": list(best.alike)}


def _rounded(dice: Expected) -> list[float]:
    return [round(dice.low, 3), round(dice.high, 3)]


def _printed(dice: Expected) -> str:
    return " to ".join(f"{end:.2f}" for end in _rounded(dice))  # As whoever reads the summary will print it.


def _gain(best: Help) -> str:
    gain, others = best.gain, f"; {listed(best.alike)} about as much" if best.alike else ""
    return f"{signed(gain.mean)} on average, {signed(gain.low)} to {signed(gain.high)}{others}"


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return first → all seconds that came with it, in the order they came."""
    found: dict[str, list[str]] = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found


def signed(gain: float) -> str:
    """Return a gain in Dice as people read it."""
    return f"{round(round(gain, 3), 2) + 0.0:+.2f}"  # As whoever reads the summary will print it, a nought without a sign.


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
