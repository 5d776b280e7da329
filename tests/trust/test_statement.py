from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymri.domain.task import GLIOMA
from anymri.trust.calibration import soft_dice
from anymri.trust.expectation import Expected
from anymri.trust.fitting import EmptyMasks
from anymri.trust.observation import said_of
from anymri.trust.record import Trust
from anymri.trust.statement import Statement, calibrations, made_by, marked, percent, stated

from .made import OWN, TRUTH, made_record


def statement(names: tuple[str, ...], *, intercept: float = 0.0, empty: tuple[str, ...] = ()) -> Statement:
    logits = np.full((3, 4, 4, 4), -20.0, np.float32)
    for r, edge in enumerate((3, 2, 1)):
        logits[r, :edge, :edge, :edge] = 6.0 - 2 * r
    image = np.ones((4, 4, 4, 4), np.float32)
    trust = Trust(made_record(GLIOMA, "ab", intercept=intercept), "cd")
    return stated(trust, GLIOMA.modalities.subset(names), logits, image, empty=empty)


def test_the_dice_to_expect_comes_from_the_models_own_probabilities() -> None:
    logits = np.full((3, 4, 4, 4), -20.0, np.float32)
    for r, edge in enumerate((3, 2, 1)):
        logits[r, :edge, :edge, :edge] = 6.0 - 2 * r
    said = said_of(logits, np.ones((4, 4, 4, 4), np.float32))
    found = statement(("T2",)).expected
    for r, region in enumerate(GLIOMA.region_names):
        assert found[region].middle == pytest.approx(min(max(soft_dice(said[r], TRUTH), 0.02), 0.98))
        assert found[region].low < found[region].middle < found[region].high
    assert found["WT"].middle > found["ET"].middle


def test_what_is_not_to_be_relied_on_is_said() -> None:
    said = statement(("FLAIR", "T1"), intercept=-4.0)
    assert said.doubtful == GLIOMA.region_names
    assert said.caution().startswith("Do not rely on WT (expected Dice ") and " and ET (expected Dice " in said.caution()
    sure = statement(("FLAIR", "T1"), intercept=4.0)
    assert sure.doubtful == () and sure.caution() == ""


def test_of_one_missing_modality_one_is_spoken_of() -> None:
    none = dict.fromkeys(GLIOMA.region_names)
    trust = Trust(made_record(GLIOMA, "ab"), "cd")
    for names, words in ((("FLAIR", "T1", "T2"), "It is not known to help."), (("T1",), "None of them is known to help.")):
        assert Statement(trust, GLIOMA.modalities.subset(names), {}, none).advice().endswith(f"the mask is less certain. {words}")


def test_what_may_be_wrong_is_said_in_softer_words() -> None:
    ranges = {"WT": Expected(0.7, 0.8, 0.9, 0.03), "TC": Expected(0.15, 0.6, 0.87, 0.3), "ET": Expected(0.05, 0.2, 0.4, 0.9)}
    subset = GLIOMA.modalities.subset(["FLAIR"])
    said = Statement(Trust(made_record(GLIOMA, "ab"), "cd"), subset, ranges, {})
    assert said.doubtful == ("ET",) and said.uncertain == ("TC",)
    firm = "Do not rely on ET (expected Dice 0.05 to 0.40; chance of 90% that it is below 0.5)."
    soft = "TC (expected Dice 0.15 to 0.87; chance of 30% that it is below 0.5) may be wrong: check the outline."
    assert said.caution() == f"{firm} {soft}"
    assert said.expectations()["poor_chance"] == {"WT": 0.03, "TC": 0.3, "ET": 0.9}
    assert [marked(said.cautions(), region) for region in ranges] == ["", "may be wrong", "do not rely on it"]
    assert Statement(said.trust, subset, {**ranges, "ET": None}, {}).caution() == soft
    edge = Statement(said.trust, subset, {"TC": Expected(0.12, 0.6, 0.83501, 0.2)}, {})  # Printed as the summary's 0.835 is.
    assert edge.caution().startswith("TC (expected Dice 0.12 to 0.83; ") and edge.expectations()["expected_dice"]["TC"][1] == 0.835
    assert marked({}, "ET") == ""  # Without a trust file nothing is claimed.


def test_no_chance_is_said_to_be_surer_than_it_was_measured() -> None:
    assert [percent(p) for p in (0.02, 0.03, 0.04, 0.5, 0.96, 0.97)] == [
        "3% or less",
        "3% or less",
        "4%",
        "50%",
        "96%",
        "97% or more",
    ]


def test_what_would_help_is_said() -> None:
    said = statement(("FLAIR", "T1"))
    gain = "(Dice +0.10 on average, +0.05 to +0.15)"
    expected = f"In other patients most was gained by T2 for WT {gain}, TC {gain} and ET {gain}."
    assert said.advice() == f"Without T1c and T2 the mask is less certain. {expected}"
    assert said.expectations()["most_helpful"]["ET"] == {
        "modality": "T2",
        "gain": [0.05, 0.15],
        "mean": 0.1,
        "best": 0.1,
        "alike": [],
    }
    told = said.helpful["ET"]
    assert told is not None
    close = Statement(said.trust, said.subset, said.expected, {"ET": replace(told, alike=("T1c",))})
    assert close.advice().endswith("by T2 for ET (Dice +0.10 on average, +0.05 to +0.15; T1c about as much).")
    whole = statement(GLIOMA.modalities.names)
    assert whole.advice() == "" and whole.expectations()["most_helpful"] == {}


def test_of_an_empty_mask_no_dice_is_expected() -> None:
    said = statement(("FLAIR", "T1"), intercept=-4.0, empty=("ET",))
    assert said.expected["ET"] is None and said.doubtful == ("WT", "TC") and "ET" not in said.caution() + said.advice()
    some = "Adding T2 may show some: where ET was found it improved the outline most."
    assert said.unfound() == f"No ET was found; how often that is right was not measured. {some}"
    summary = said.expectations()
    assert summary["expected_dice"]["ET"] is None and "ET" not in summary["most_helpful"]
    said = statement(("FLAIR", "T1"), empty=GLIOMA.region_names)
    assert said.unfound().startswith(
        "No WT was found; how often that is right was not measured. Adding T2 may show some: where WT, TC and ET was"
    )
    assert said.caution() == said.unmeasured() == "" and said.advice() == "Without T1c and T2 the mask is less certain."
    assert statement(("FLAIR", "T1")).unfound() == ""


def test_how_often_an_empty_mask_was_right_is_said() -> None:
    record = made_record(GLIOMA, "ab")
    counted = EmptyMasks(masks=6, right=2, cases=3, without=1)
    measured = record.regions["ET"].model_copy(update={"belief": record.regions["ET"].belief.model_copy(update={"empty": counted})})
    trust = Trust(record.model_copy(update={"regions": record.regions | {"ET": measured}}), "cd")
    said = Statement(trust, GLIOMA.modalities.subset(["T1"]), {"WT": None, "ET": None}, {}, ("ET",))
    assert said.unfound() == (
        "No ET was found. Where trust was measured that was right in 2 of 6 masks, and 1 of 17 patients had no ET."
    )
    assert said.unmeasured() == "Which Dice to expect of WT was not measured: too few patients had such a mask."


def test_the_summary_is_plain_numbers() -> None:
    said = statement(("T1",), intercept=-4.0)
    summary = said.cautions() | said.expectations()
    assert list(summary["expected_dice"]) == list(GLIOMA.region_names)
    low, high = summary["expected_dice"]["ET"]
    assert 0 <= low < high <= 1 and summary["doubtful_regions"] == list(GLIOMA.region_names)


def test_without_a_trust_file_nothing_is_said_of_it() -> None:
    assert made_by(None, "ab") is None and calibrations(None, GLIOMA.modalities.subset(["T1"])) == {}
    told = made_by(Trust(made_record(GLIOMA, "ab"), "cd"), "ab")
    missed = dict.fromkeys(GLIOMA.region_names, {"poor": 6, "unwarned": 2})
    assert told == {"sha256": "cd", "cohort": "made_up", "cases": 17, "level": 0.8, "lent": False, "poor_masks": missed}
    lent = made_by(Trust(made_record(GLIOMA, "ab"), "cd"), "ef")
    assert lent is not None and lent["lent"]


def test_what_is_at_hand_has_a_calibration_of_its_own() -> None:
    trust = Trust(made_record(GLIOMA, "ab"), "cd")
    logits, image = np.full((3, 4, 4, 4), -2.0, np.float32), np.ones((4, 4, 4, 4), np.float32)
    logits[:, 1:, 1:, 1:] = 2.0
    for names, how in ((["T1"], OWN), (["T1", "T2"], TRUTH)):
        said = stated(trust, GLIOMA.modalities.subset(names), logits, image)
        assert said.expected["TC"].middle == pytest.approx(float(soft_dice(said_of(logits, image)[1], how)))
        off = {1: 0.03, 2: 0.02}[len(names)]
        told = {**how.model_dump(), "error": {"before": off, "after": off, "single_patient": 0.05}}
        assert said.expectations()["calibration"] == dict.fromkeys(GLIOMA.region_names, told)
        assert calibrations(trust, GLIOMA.modalities.subset(names)) == dict.fromkeys(GLIOMA.region_names, how)
