"""What is said of a patient in whom a region, or all of the tumour, was not found."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymri import Options, write_segmentation
from anymri.domain.task import GLIOMA
from anymri.engine.inference import Answer, LeftOut
from anymri.engine.model import read_model
from anymri.segment import Visit, patient, segment_visit
from anymri.segment.cohort import Assignment, write_volumes
from anymri.trust.record import Trust
from anymri.weights import known, namesake

from ..trust.made import TRUTH, made_record


def segmented(
    prepared: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: int,
    *,
    intercept: float = 0.0,
    small: LeftOut = LeftOut(),  # noqa: B008
) -> Any:
    """Return what is said of a case in which a network has found these many regions, outermost first, and left small ones out."""
    model = read_model(weights)
    window = model.header.window.model_copy(update={"least_component": 0.1})
    model = replace(model, header=model.header.model_copy(update={"window": window}))

    def made(_: object, image: np.ndarray, *__: object, **___: object) -> list[Answer]:
        logits = np.full((len(GLIOMA.regions), *image.shape[1:]), -6.0, np.float32)
        logits[:found, 2:6, 2:6, 2:6] = 4.0
        return [Answer(logits, small)]

    monkeypatch.setattr(patient, "answers_of", made)
    options = Options(trust=Trust(made_record(GLIOMA, model.sha256, intercept=intercept), "cd"))
    return segment_visit(Visit("a", case=prepared / "cases" / "a"), model, options)


def test_of_a_region_that_was_not_found_no_dice_is_expected(
    prepared: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = segmented(prepared, weights, monkeypatch, 2)
    summary = result.summary
    assert summary["volumes_ml"]["ET"] == 0 < summary["volumes_ml"]["TC"]
    assert summary["expected_dice"]["ET"] is None and summary["expected_dice"]["TC"][0] > 0
    assert "No ET was found; how often that is right was not measured." in summary["warnings"]
    assert not any("proof" in line for line in summary["warnings"])
    write_segmentation(result, tmp_path / "out")
    assert "unknown" in (tmp_path / "out" / "report.html").read_text()


def test_what_a_summary_says_stands_in_the_table(
    prepared: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result, model = segmented(prepared, weights, monkeypatch, 2, intercept=-4.0), read_model(weights)
    assert result.summary["doubtful_regions"] == ["WT", "TC"]
    write_segmentation(result, tmp_path / "out" / "a")
    options = Options(trust=Trust(made_record(GLIOMA, model.sha256), "cd"))
    visits = (Visit("a", case=prepared / "cases" / "a"),)
    write_volumes(Assignment(visits, model, options, tmp_path / "out", {}))
    with (tmp_path / "out" / "volumes.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["status"] == "done"
    for region in ("WT", "TC"):
        assert row[f"{region}_caution"] == "do not rely on it" and float(row[f"{region}_poor_chance"]) >= 0.5
        assert 0 < float(row[f"{region}_expected_dice_low"]) < float(row[f"{region}_expected_dice_high"]) < 0.5
    assert row["ET_ml"] == "0.0"
    assert row["ET_caution"] == row["ET_expected_dice_low"] == row["ET_expected_dice_high"] == ""  # Of nothing none is expected.


@pytest.mark.parametrize("count, more", [(1, " was"), (2, " and 1 smaller one were"), (3, " and 2 smaller ones were")])
def test_lesions_that_were_left_out_are_told(
    prepared: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int, more: str
) -> None:
    few = segmented(prepared, weights, monkeypatch, 2, small=LeftOut(9, 900, 400)).summary
    assert few["left_out"] == {"components": 9, "volume_ml": 0.9, "largest_ml": 0.4, "below": 0.1}
    assert not any("left out" in line for line in few["warnings"])
    result = segmented(prepared, weights, monkeypatch, 2, small=LeftOut(count, 700, 600))
    (told,) = [line for line in result.summary["warnings"] if "left out" in line]
    assert told == f"A part of WT of 0.6 ml{more} left out, below 10% of the largest: look for further lesions."
    write_segmentation(result, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"smaller than 10% of the largest are left out: here {count}, 0.70 ml in all." in page


@pytest.mark.parametrize("trusted", [True, False])
def test_an_inner_region_is_never_the_likelier(
    prepared: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    model = read_model(weights)
    rng = np.random.default_rng(0)

    def made(_: object, image: np.ndarray, *__: object, **___: object) -> list[Answer]:
        return [Answer(rng.normal(0, 3, (len(GLIOMA.regions), *image.shape[1:])).astype(np.float32), LeftOut())]

    monkeypatch.setattr(patient, "answers_of", made)
    trust = Trust(made_record(GLIOMA, model.sha256), "cd") if trusted else None
    result = segment_visit(Visit("a", case=prepared / "cases" / "a"), model, Options(probabilities=True, trust=trust))
    whole, core, enhancing = (volume.array for volume in result.probabilities.values())
    assert (enhancing <= core).all() and (core <= whole).all() and (core < whole).any()
    edge = TRUTH.probability(np.zeros(1))[0] if trusted else 0.5
    for region, volume in result.probabilities.items():
        assert np.array_equal(volume.array > edge, result.regions[region].array)
        assert volume.array.dtype == np.float32


def test_of_a_patient_without_tumour_no_dice_is_expected(
    prepared: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = segmented(prepared, weights, monkeypatch, 0)
    summary = result.summary
    assert not any(summary["volumes_ml"].values()) and set(summary["expected_dice"].values()) == {None}
    assert summary["doubtful_regions"] == [] and summary["most_helpful"] == {}
    assert summary["warnings"] == [
        "Nothing was found. That is no proof that nothing is there.",
        "No WT was found; how often that is right was not measured.",
    ]
    write_segmentation(result, tmp_path / "out")


def test_weights_that_bear_the_name_of_others_are_told(prepared: Path, weights: Path) -> None:
    model = read_model(weights)
    visit = Visit("a", case=prepared / "cases" / "a")
    plain = segment_visit(visit, model, Options()).summary["warnings"]
    changed = replace(model, header=model.header.model_copy(update={"name": "ccsd-small"}))
    told = segment_visit(visit, changed, Options()).summary["warnings"]
    (line,) = set(told) - set(plain)
    assert line.startswith("These weights call themselves ccsd-small, but are not the ccsd-small of 'anymri weights list'")
    true = next(line for line in known() if line.name == "ccsd-small")
    assert namesake(replace(changed, sha256=true.sha256)) == ""
