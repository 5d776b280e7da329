"""The choice of a checkpoint: by validation cases alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import anymri.methods
from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Run, RunFolder, Window
from anymri.engine.selection import choose, full_image, mean_dice
from anymri.errors import TrainingError
from anymri.metrics.masks import dice
from anymri.volumes.store import read_image, read_labels

from ..doubles import PLACED, PlacedConfig
from ..material import short_run, write_made_case, write_made_cohort

CPU = torch.device("cpu")
WINDOW = Window(stride=1, size=(32, 32, 32))


@pytest.fixture(autouse=True)
def _with_the_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anymri.methods, "METHODS", (*anymri.methods.METHODS, PLACED))


@pytest.fixture
def cases(tmp_path: Path) -> list[Path]:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a", "b"),))
    return [tmp_path / "prepared" / "cases" / name for name in "ab"]


def run() -> Run:
    return short_run("placed", config={"slope": 0.0}, window=WINDOW)


def folder_with(path: Path, **biases: float) -> RunFolder:
    """Return a run folder with a candidate for each bias."""
    folder = RunFolder(path)
    folder.candidates.mkdir(parents=True)
    folder.write_record(run(), {"cohort": {"name": "made_up"}})
    for name, bias in biases.items():
        save_file({"bias": torch.full((3,), bias)}, folder.candidates / f"{name}.safetensors")
    return folder


def model_with(bias: float) -> Model:
    method = PlacedConfig(slope=0.0).build(GLIOMA)
    method.load_state_dict({"bias": torch.full((3,), bias)})
    return Model(method.eval(), WeightsHeader(name="m", method="placed", config={}, task="glioma", window=WINDOW))


def test_the_mean_is_over_cases_subsets_and_regions(cases: list[Path]) -> None:
    found = mean_dice(model_with(-1.0), cases, device=CPU)
    values = []
    for path in cases:
        image, bits = read_image(path), read_labels(path)
        for subset in subsets(GLIOMA.modalities):
            mask = image[list(subset.mask)].mean(0) - 1.0 > 0
            values += [dice(mask, (bits >> r & 1).astype(bool)) for r in range(3)]
    assert found == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_both_empty_counts_as_found(tmp_path: Path) -> None:
    write_made_case(tmp_path / "a", GLIOMA, 0)
    import anymri.engine.selection as selection

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(selection, "read_labels", lambda path: read_labels(path) * 0)
        assert mean_dice(model_with(-100.0), [tmp_path / "a"], device=CPU) == 1.0
        assert mean_dice(model_with(100.0), [tmp_path / "a"], device=CPU) == 0.0


def test_regions_and_subsets_that_a_case_lacks_do_not_count(tmp_path: Path) -> None:
    write_made_case(tmp_path / "a", GLIOMA, 0, modalities=("FLAIR",), known=("WT",))
    image, bits = full_image(tmp_path / "a", GLIOMA), read_labels(tmp_path / "a")
    assert image.shape[0] == 4 and not image[1:].any()
    expected = dice(image[0] - 0.5 > 0, (bits & 1).astype(bool))
    assert mean_dice(model_with(-0.5), [tmp_path / "a"], device=CPU) == pytest.approx(expected)


def test_the_best_candidate_is_chosen(cases: list[Path], tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", at_0_5=50.0, at_0_7=-50.0, at_1_0=-1.0)
    model = choose(run(), folder, cases, device=CPU)
    record = json.loads(folder.selection.read_text())
    scores = {
        name: mean_dice(model_with(b), cases, device=CPU) for name, b in (("at_0_5", 50.0), ("at_0_7", -50.0), ("at_1_0", -1.0))
    }
    assert record["scores"] == scores and scores["at_0_7"] == 0
    assert record["chosen"] == max(scores, key=lambda name: scores[name]) == "at_0_5" and record["cases"] == ["a", "b"]
    assert model.method.state_dict()["bias"].tolist() == [50.0] * 3
    assert model.sha256 and folder.weights.is_file() and model.header.name == "run"
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [line["candidate"] for line in lines] == ["at_0_5", "at_0_7", "at_1_0"]


def test_of_equals_the_last_is_chosen(cases: list[Path], tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", at_0_5=-50.0, at_0_7=-60.0)
    choose(run(), folder, cases, device=CPU)
    assert json.loads(folder.selection.read_text())["chosen"] == "at_0_7"


def test_without_validation_the_last_is_taken(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", at_0_5=-1.0, at_1_0=2.0)
    model = choose(run(), folder, [], device=CPU)
    assert model.method.state_dict()["bias"].tolist() == [2.0] * 3
    assert json.loads(folder.selection.read_text())["scores"] == {}


def test_one_candidate_needs_no_scores(cases: list[Path], tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", at_1_0=2.0)
    choose(run(), folder, cases, device=CPU)
    assert json.loads(folder.selection.read_text())["scores"] == {} and not folder.log.exists()


def test_no_candidate_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no candidate weights; the training has not come to its end, resume it"):
        choose(run(), folder_with(tmp_path / "run"), [], device=CPU)
