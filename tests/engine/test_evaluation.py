"""Every subset, hidden by the engine, scored on the patient's own grid."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anymri.engine.evaluation as evaluation
from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.engine.evaluation import evaluate
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.errors import CaseError, OutputError, UsageError
from anymri.metrics.masks import dice
from anymri.metrics.protocol import ANYMRI, UNITS
from anymri.metrics.scores import ScoreTable, read_scores, write_scores
from anymri.volumes.store import read_case, read_image, read_truth
from anymri.volumes.volume import Grid, Volume, resampled

from ..doubles import PlacedConfig
from ..material import write_made_case, write_made_cohort

CPU = torch.device("cpu")


def model_with(bias: float, *, sha256: str = "0123456789abcdef") -> Model:
    method = PlacedConfig(slope=0.0).build(GLIOMA)
    method.load_state_dict({"bias": torch.full((3,), bias)})
    window = Window(stride=1, size=(32, 32, 32))
    header = WeightsHeader(name="m", method="placed", config={}, task="glioma", window=window)
    return Model(method.eval(), header, sha256)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a", "b"), ("c",)))
    return tmp_path / "prepared"


def folders(prepared: Path, names: str) -> list[Path]:
    return [prepared / "cases" / name for name in names]


def scored(prepared: Path, names: str, out: Path, **options: Any) -> ScoreTable:
    return evaluate(options.pop("model", model_with(-1.0)), folders(prepared, names), out, protocol=ANYMRI, device=CPU, **options)


def test_a_row_for_every_subset_region_and_metric(prepared: Path, tmp_path: Path) -> None:
    table = scored(prepared, "ab", tmp_path / "scores.csv")
    assert len(table) == 2 * 15 * 3 * 8
    assert Counter(row.case for row in table) == {"a": 360, "b": 360}
    for case in "ab":
        found = [(r.subset, r.region, r.metric) for r in table if r.case == case]
        assert found == [(str(s), r, m) for s in subsets(GLIOMA.modalities) for r in GLIOMA.region_names for m in UNITS]
    row = table.rows[0]
    assert (row.method, row.cohort, row.run, row.protocol, row.seed) == ("placed", "made_up", "0123456789ab", "anymri", None)
    assert read_scores(tmp_path / "scores.csv") == table
    assert sorted(p.name for p in tmp_path.iterdir()) == ["prepared", "scores.csv"]


def test_values_are_those_of_the_patients_own_grid(prepared: Path, tmp_path: Path) -> None:
    table = scored(prepared, "a", tmp_path / "scores.csv")
    (path,) = folders(prepared, "a")
    grid, truth = Grid.from_lattice(read_case(path).grid), read_truth(path)
    image = read_image(path)
    values = {(r.subset, r.region): r.value for r in table if r.metric == "dice"}
    volumes = {(r.subset, r.region): r.value for r in table if r.metric == "volume_ml"}
    for subset in subsets(GLIOMA.modalities):
        logits = Volume(image[list(subset.mask)].mean(0) - 1.0, grid)
        mask = resampled(logits, truth.grid, order=1, fill=-30.0).array > 0
        assert mask.shape == truth.array.shape != grid.shape
        for r, region in enumerate(GLIOMA.region_names):
            expected = dice(mask, (truth.array >> r & 1).astype(bool))
            assert values[str(subset), region] == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-6)
            assert volumes[str(subset), region] == pytest.approx(mask.sum() * truth.grid.voxel_ml)


def test_a_case_that_lacks_modalities_or_regions(prepared: Path, tmp_path: Path) -> None:
    write_made_case(prepared / "cases" / "a", GLIOMA, 0, modalities=("T1", "T1c", "T2"))
    write_made_case(prepared / "cases" / "b", GLIOMA, 1, modalities=("FLAIR",), known=("WT",))
    table = scored(prepared, "ab", tmp_path / "scores.csv")
    a, b = ([r for r in table if r.case == case] for case in "ab")
    assert len(a) == 7 * 3 * 8 and not any("FLAIR" in r.subset for r in a)
    assert len(b) == 8 and {(r.subset, r.region) for r in b} == {("FLAIR", "WT")}


class Broken(Exception):
    """Ends an evaluation from outside."""


def test_an_interrupted_evaluation_goes_on_where_it_was(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored(prepared, "abc", tmp_path / "whole.csv")
    made: list[str] = []
    original = evaluation._scored

    def spied(model: Model, folder: Path, *given: Any) -> ScoreTable:
        made.append(folder.name)
        return original(model, folder, *given)

    def report(done: int, total: int, name: str) -> None:
        assert total == 3
        if name == "b":
            raise Broken

    monkeypatch.setattr(evaluation, "_scored", spied)
    out = tmp_path / "broken.csv"
    with pytest.raises(Broken):
        scored(prepared, "abc", out, report=report)
    assert made == ["a", "b"] and not out.exists()
    seen: list[tuple[int, int, str]] = []
    again = scored(prepared, "abc", out, report=lambda *said: seen.append(said))
    assert made == ["a", "b", "c"] and seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    assert again == whole and out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("damage", ["other weights", "no hash", "torn"])
def test_what_other_weights_left_is_not_taken(prepared: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "scores.csv"

    def stop(*said: Any) -> None:
        raise Broken

    first = {"other weights": model_with(5.0, sha256="f" * 64), "no hash": model_with(5.0, sha256=""), "torn": model_with(-1.0)}
    with pytest.raises(Broken):
        scored(prepared, "a", out, model=first[damage], report=stop)
    (part,) = (tmp_path / ".scores.csv.parts").iterdir()
    if damage == "torn":
        part.write_bytes(part.read_bytes()[:-40])
    second = model_with(-1.0, sha256="" if damage == "no hash" else "0123456789abcdef")
    expected = scored(prepared, "a", tmp_path / "fresh.csv", model=second)
    assert scored(prepared, "a", out, model=second) == expected


def test_cases_that_cannot_be_scored_are_refused_before_any_is(prepared: Path, tmp_path: Path) -> None:
    write_made_case(prepared / "cases" / "b", GLIOMA, 1, known=())
    seen: list[Any] = []
    with pytest.raises(CaseError, match=r"b: has no reference segmentation; leave it out") as caught:
        scored(prepared, "ab", tmp_path / "scores.csv", report=lambda *said: seen.append(said))
    assert "\n" not in str(caught.value) and not seen
    write_made_case(prepared / "cases" / "b", PROSTATE, 1)
    with pytest.raises(CaseError, match=r"b: prepared for task prostate, the weights are for glioma"):
        scored(prepared, "ab", tmp_path / "scores.csv")
    with pytest.raises(CaseError, match=r"nobody.case\.json: not found"):
        evaluate(model_with(0.0), [prepared / "cases" / "nobody"], tmp_path / "s.csv", protocol=ANYMRI, device=CPU)
    with pytest.raises(UsageError, match="there is no case to score"):
        evaluate(model_with(0.0), [], tmp_path / "s.csv", protocol=ANYMRI, device=CPU)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        scored(prepared, "a", tmp_path / "file" / "scores.csv")


def test_the_same_weights_under_other_settings_have_another_name(prepared: Path, tmp_path: Path) -> None:
    plain = model_with(-1.0)
    other, out = replace(plain, changed={"slope": 0.5}), tmp_path / "scores.csv"
    write_scores(tmp_path / ".scores.csv.parts" / "a.csv", scored(prepared, "a", tmp_path / "plain.csv", model=plain))
    table = scored(prepared, "a", out, model=other)  # Goes on with nothing of what the plain one left.
    assert {(row.method, row.run) for row in table} == {("placed (slope=0.5)", plain.sha256[:12])}


def test_hidden_images_are_hidden(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores of a subset are those of a case that has nothing else."""
    whole = scored(prepared, "a", tmp_path / "whole.csv")
    original = evaluation.full_image

    def spoilt(path: Path, task: Any) -> np.ndarray:
        image = original(path, task)
        image[task.modalities.index("T2")] = np.nan
        return image

    monkeypatch.setattr(evaluation, "full_image", spoilt)
    again = scored(prepared, "a", tmp_path / "again.csv")
    without = [(a, b) for a, b in zip(whole, again, strict=True) if "T2" not in a.subset.split("+")]
    assert len(without) == 7 * 24 and all(a == b for a, b in without)
