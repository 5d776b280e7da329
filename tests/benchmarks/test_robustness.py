"""The measurement of robustness: what is scored, on what, beside what; and that it goes on where it was."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anymri.cohorts import find_cohort
from anymri.cohorts.phantom import write_phantoms
from anymri.domain.case import Cohort, Source, Split, Study
from anymri.domain.task import GLIOMA
from anymri.engine.evaluation import evaluate
from anymri.engine.model import read_model
from anymri.errors import ImageContentError, UsageError
from anymri.metrics.protocol import ANYMRI
from anymri.metrics.scores import Score, ScoreTable, read_scores
from anymri.preparation.pipeline import prepare_cohort
from anymri.volumes.store import list_cases
from anymri.volumes.volume import Grid, Volume

from ..cli.conftest import weights
from ..material import benchmark

__all__ = ["weights"]
script = benchmark("robustness")
by_name = {d.name: d for d in script.DISTURBANCES}
FULL = [script.parsed(s, GLIOMA) for s in script.SUBSETS]


def patient(turn: str = "T1c", modalities: tuple[str, ...] = GLIOMA.modalities.names) -> script.Patient:
    grid = Grid((4, 4, 9), np.diag([-1.0, -1.0, 1.0, 1.0]))
    array = np.zeros((4, 4, 9), np.float32)
    array[1:3, 1:3, :] = 1.0
    truth = {r: array > 0 for r in GLIOMA.region_names}
    study = Study("a", {n: Source(Path(n)) for n in modalities})
    return script.Patient(study, {n: Volume(array, grid) for n in modalities}, truth, grid, turn)


def row(case: str, value: float, *, subset: str = "T1c", region: str = "WT") -> Score:
    return Score("m", "c", case, subset, region, "dice", value, "1", 0, "r", "anymri")


def test_what_happens_to_one_image_is_scored_where_it_is_used() -> None:
    kept = [str(s) for s in script.kept_subsets(patient("T1c"), by_name["no_top_in_one"], FULL)]
    assert kept == ["FLAIR+T1+T1c+T2", "FLAIR+T1c", "T1c"]
    # One image alone is registered with itself.
    kept = [str(s) for s in script.kept_subsets(patient("FLAIR"), by_name["misregistered_2mm"], FULL)]
    assert kept == ["FLAIR+T1+T1c+T2", "FLAIR+T1c"]
    kept = [str(s) for s in script.kept_subsets(patient("T1", ("T1", "T1c")), by_name["noise_5"], FULL)]
    assert kept == ["T1c"]


def test_of_one_disturbed_image_the_others_stay_as_they_are() -> None:
    one = patient("T2")
    found = script.disturbed(one, by_name["no_bottom_in_one"], 0).images
    assert tuple(found) == GLIOMA.modalities.names
    assert [n for n in found if found[n] is not one.images[n]] == ["T2"]
    assert not found["T2"].array[:, :, :3].any() and found["T2"].array[:, :, 3:].any()


def test_one_modality_can_be_the_one_in_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    case = SimpleNamespace(modalities=GLIOMA.modalities.names, known_regions=())
    truth = SimpleNamespace(array=np.zeros((2, 2, 2), np.uint8), grid=None)
    monkeypatch.setattr(script, "prepare_study", lambda study, task: SimpleNamespace(case=case, truth=truth))
    monkeypatch.setattr(script, "read_images", lambda sources: dict.fromkeys(sources))
    study = Study("a", {n: Source(Path(n)) for n in GLIOMA.modalities.names})
    assert [script.read_patient(study, GLIOMA, n).turn for n in range(5)] == ["FLAIR", "T1", "T1c", "T2", "FLAIR"]
    assert [script.read_patient(study, GLIOMA, n, turn="T1c").turn for n in range(5)] == ["T1c"] * 5
    without = patient("T1c", ("FLAIR", "T2"))  # Of images that are not there nothing happens to one.
    assert script.disturbed(without, by_name["no_top_in_one"], 0).images == without.images


def test_only_what_was_imaged_counts() -> None:
    one = patient()
    whole, box = one.reference(None)
    assert whole.shape == (4, 4, 9) and box == (slice(0, 4), slice(0, 4), slice(0, 9))
    left = script.disturbed(one, by_name["no_bottom"], 0).heights
    part, box = one.reference(left)
    assert part.shape == (4, 4, 6) and box[2] == slice(3, 9)


def test_draws_follow_from_seed_case_and_disturbance() -> None:
    one = patient()
    first, again, other = (script.disturbed(one, by_name["bias_20"], s).images["T1"].array for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    renamed = replace(one, study=replace(one.study, name="b"))
    assert (script.disturbed(renamed, by_name["bias_20"], 0).images["T1"].array != first).any()


def test_differences_are_paired_and_beside_the_same_part() -> None:
    tables = {
        "undisturbed": ScoreTable((row("a", 0.9), row("b", 0.7), row("c", 0.1))),
        "undisturbed_no_top": ScoreTable((row("a", 0.8), row("b", 0.8))),
        "noise_5": ScoreTable((row("a", 0.8), row("b", 0.6))),
        "no_top": ScoreTable((row("a", 0.9), row("b", 0.9))),
        "no_top_in_one": ScoreTable(()),
    }
    chosen = [by_name[n] for n in ("undisturbed", "noise_5", "no_top", "no_top_in_one")]
    table = script.subset_table(tables, chosen, "T1c", ["WT"])
    assert table.rows == (
        ("undisturbed", "3", "56.7", ""),
        ("Rician noise of 5 %", "2", "70.0", "−10.0 [−10.0, −10.0]"),
        ("top third missing in all", "2", "90.0", "+10.0 [+10.0, +10.0]"),
    )


def test_cases_that_the_weights_have_not_seen_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    studies = tuple(Study(n, {}, Source(Path(n)) if n != "d" else None, "s") for n in "abcd")
    cohort = Cohort("made", studies, split=Split((("a", "b"), ("c",))))
    first, second = (SimpleNamespace(header=SimpleNamespace(training=SimpleNamespace(cases=seen))) for seen in (("a",), ("b", "c")))
    given = Namespace(studies="S", cases=None, fold=None, splits=None)
    assert script.chosen_cases(cohort, [first], given) == {"b": first, "c": first}
    assert script.chosen_cases(cohort, [second, first], given) == {"a": second, "b": first, "c": first}
    assert script.chosen_cases(cohort, [second, first], Namespace(**vars(given) | {"fold": 1})) == {"c": first}
    with pytest.raises(UsageError, match="no case d with a reference"):
        script.chosen_cases(cohort, [first], Namespace(**vars(given) | {"cases": ["d"]}))
    with pytest.raises(UsageError, match="--splits"):
        script.chosen_cases(replace(cohort, split=None), [first], Namespace(**vars(given) | {"fold": 0}))
    first.header.training.cases = ("a", "b", "c")
    with pytest.raises(UsageError, match="all cases were in the training"):
        script.chosen_cases(cohort, [first], given)
    assert script.chosen_cases(cohort, [first], Namespace(**vars(given) | {"cases": ["b"]})) == {"b": first}
    assert "note: 1 of these 1 cases" in capsys.readouterr().err


def test_another_measurement_is_not_added_to(tmp_path: Path) -> None:
    settings = script.Settings((("w", "0"),), "c", ("T1c",), 0)
    script.check_same(settings, tmp_path / "out")
    script.check_same(settings, tmp_path / "out")
    with pytest.raises(UsageError, match="other seed"):
        script.check_same(replace(settings, seed=1), tmp_path / "out")
    with pytest.raises(UsageError, match="other turn"):
        script.check_same(replace(settings, turn="T1c"), tmp_path / "out")


@pytest.mark.slow
def test_undisturbed_is_what_evaluate_gives_and_a_header_changes_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = tmp_path / "studies"
    write_phantoms(studies, GLIOMA, seeds=[0], shape=(48, 48, 40), spacing_mm=(4.0, 4.0, 4.0))
    out = tmp_path / "out"
    words = [str(studies), "--weights", str(weights), "--out", str(out), "--only", "header_20deg_30mm", "no_bottom", "noise_5"]

    def refused(images: script.Images, rng: np.random.Generator) -> script.Disturbed:
        raise ImageContentError("no image")

    noisy = replace(by_name["noise_5"], apply=refused)
    monkeypatch.setattr(script, "DISTURBANCES", tuple(noisy if d.name == "noise_5" else d for d in script.DISTURBANCES))
    script.main(words)
    printed = capsys.readouterr().out
    assert "Rician noise of 5 %: 1 cases refused, the first: no image" in printed
    tables = {name: read_scores(out / f"{name}.csv") for name in ("undisturbed", "header_20deg_30mm", "undisturbed_no_bottom")}
    assert tables["header_20deg_30mm"] == tables["undisturbed"]
    prepare_cohort(find_cohort(studies, GLIOMA), GLIOMA, tmp_path / "prepared")
    cases = list_cases(tmp_path / "prepared")
    whole = evaluate(read_model(weights), cases, tmp_path / "scores.csv", protocol=ANYMRI, device=torch.device("cpu"))
    wanted = [r for subset in script.SUBSETS for r in whole if r.subset == subset]
    assert [(r.subset, r.region, r.metric, r.value) for r in tables["undisturbed"]] == [
        (r.subset, r.region, r.metric, r.value) for r in wanted
    ]
    volumes = {(r.subset, r.region): r.value for r in tables["undisturbed"] if r.metric == "reference_volume_ml"}
    part = {(r.subset, r.region): r.value for r in tables["undisturbed_no_bottom"] if r.metric == "reference_volume_ml"}
    assert all(0 <= part[key] <= volumes[key] for key in volumes)
    # What is there is not computed again.
    monkeypatch.setattr(script, "read_patient", None)
    script.main(words)
    assert "Rician noise of 5 %: 1 cases refused" in capsys.readouterr().out
    assert {r.metric for r in read_scores(out / "dice" / "undisturbed.csv")} == {"dice"}
