"""Weights are asked about cases that they were not trained on, and about no others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.evaluation import evaluate
from anymri.engine.model import Model, Training, WeightsHeader, read_model, write_weights
from anymri.engine.run import Window
from anymri.errors import CaseError, UsageError
from anymri.methods import method_named
from anymri.metrics.protocol import DICE, protocol_named
from anymri.metrics.scores import sheet
from anymri.trust import measurement
from anymri.trust.counts import BAND, EVERYWHERE, INSIDE, TRUE, TRUE_BAND
from anymri.trust.measurement import assigned, measure
from anymri.trust.observation import observe
from anymri.volumes.store import case_folder, read_case, read_labels

from ..material import write_made_case, write_made_cohort

torch.set_num_threads(1)
FOLDS = (("a", "b", "c"), ("d", "e", "f"))
CPU = torch.device("cpu")
WINDOW = Window(stride=1, size=(16, 16, 16))
OTHERWISE = (  # What else a model may be that cannot share a trust file, and how that is said.
    ({"config": {}}, "have config.widths unset, 'run0' .*"),
    ({"window": WINDOW.model_copy(update={"stride": 2})}, "have window.stride 2, 'run0' 1"),
    ({"window": WINDOW.model_copy(update={"intensity": "min_max"})}, "have window.intensity min_max, 'run0' z_score"),
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=FOLDS, partly=("z",))
    return tmp_path / "prepared"


def made_model(folder: Path, name: str, *, seed: int = 0, **training: object) -> Model:
    torch.manual_seed(seed)
    config = method_named("dropout_unet").config.sized("tiny")
    header = WeightsHeader(
        name=name,
        method="dropout_unet",
        config=config.model_dump(mode="json"),
        task="glioma",
        window=WINDOW,
        training=Training.model_validate({"cohort": {"name": "made_up"}, **training}),
    )
    write_weights(folder / f"{name}.safetensors", dict(config.build(GLIOMA).state_dict()), header)
    return read_model(folder / f"{name}.safetensors")


@pytest.fixture
def runs(tmp_path: Path) -> list[Model]:
    """Two folds: each was trained on what the other is asked about."""
    return [made_model(tmp_path, f"run{k}", seed=k, fold=k, cases=FOLDS[1 - k]) for k in range(2)]


def names(pairs: measurement.Assigned) -> list[tuple[str, str]]:
    return [(model.header.name, folder.name) for model, folder in pairs]


def test_each_case_goes_to_who_was_not_trained_on_it(prepared: Path, runs: list[Model]) -> None:
    expected = [("run0", n) for n in FOLDS[0]] + [("run1", n) for n in FOLDS[1]]
    assert names(assigned(runs, prepared)) == expected


def test_of_another_cohort_all_new_cases_are_asked_about(prepared: Path, tmp_path: Path) -> None:
    model = made_model(tmp_path, "foreign", cohort={"name": "another"}, fold=1, cases=("a",))
    assert [n for _, n in names(assigned([model], prepared))] == ["b", "c", "d", "e", "f"]
    model = made_model(tmp_path, "namesake", fold=1, cases=("g", "h", "i"))  # Its cohort is called as this one.
    assert [n for _, n in names(assigned([model], prepared))] == [n for fold in FOLDS for n in fold]


def test_what_cannot_be_measured_is_refused(prepared: Path, runs: list[Model], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 cases of .* are new to these weights"):
        assigned(runs[:1], prepared)
    with pytest.raises(UsageError, match="were trained on 3 cases of fold 1, d among them"):
        assigned(runs[:1], prepared, fold=1)
    with pytest.raises(UsageError, match="do not say which cases"):
        assigned([made_model(tmp_path, "silent")], prepared)
    other = replace(runs[1], header=runs[1].header.model_copy(update={"method": "ccsd"}))
    with pytest.raises(UsageError, match="give folds of one method"):
        assigned([runs[0], other], prepared)
    for update, words in OTHERWISE:
        other = replace(runs[1], header=runs[1].header.model_copy(update=update))
        with pytest.raises(UsageError, match=words):
            assigned([runs[0], other], prepared)
    write_made_case(case_folder(prepared, "e"), GLIOMA, 1, modalities=GLIOMA.modalities.names[:2])
    with pytest.raises(CaseError, match="e: has FLAIR, T1 and a reference of WT, TC, ET; expected FLAIR, T1, T1c, T2"):
        assigned(runs, prepared)


def test_a_case_is_observed_as_it_is_evaluated(prepared: Path, runs: list[Model], tmp_path: Path) -> None:
    folder = case_folder(prepared, "a")
    seen = observe(runs[0], folder, device=CPU)
    scored = sheet(evaluate(runs[0], [folder], tmp_path / "s.csv", protocol=protocol_named("anymri"), device=CPU), DICE)
    assert seen.subsets == scored.subsets and seen.dice_SR == pytest.approx(scored.values[0])
    assert seen.empty_SR.shape == seen.dice_SR.shape and np.isin(seen.dice_SR[seen.empty_SR], (0.0, 1.0)).all()
    truth = read_labels(folder)
    in_region = [int((truth >> r & 1).sum()) for r in range(3)]
    totals = seen.counts_SRNK.sum(-1)
    everywhere, inside, true, band, true_band = (totals[..., n] for n in (EVERYWHERE, INSIDE, TRUE, BAND, TRUE_BAND))
    assert (true <= in_region).all() and (true_band <= band).all() and (band <= everywhere).all() and (inside <= everywhere).all()
    assert (everywhere <= np.prod(read_case(folder).grid.shape)).all() and (everywhere > 0).all()


def test_a_measurement_goes_on_where_it_was(prepared: Path, runs: list[Model], tmp_path: Path, monkeypatch) -> None:
    pairs, parts, asked = assigned(runs, prepared), tmp_path / "parts", []
    observed = measurement.observe

    def counting(model: Model, folder: Path, *, device: torch.device) -> object:
        asked.append(folder.name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return observed(model, folder, device=device)

    monkeypatch.setattr(measurement, "observe", counting)
    with pytest.raises(KeyboardInterrupt):
        measure(pairs, [], parts=parts, device=CPU)
    (parts / "b.safetensors").write_bytes(b"cut short")
    record = measure(pairs, [], parts=parts, device=CPU)
    assert asked == ["a", "b", "c", "d", "b", "d", "e", "f"]
    assert record.cases == 6 and record.cohort == "made_up" and list(record.regions) == list(GLIOMA.region_names)
    assert record.weights == record.measured == tuple(m.sha256 for m in runs)


def test_weights_trained_on_all_may_share_the_record(prepared: Path, runs: list[Model], tmp_path: Path) -> None:
    whole = made_model(tmp_path, "whole", seed=5, cases=(*FOLDS[0], *FOLDS[1]))
    record = measure(assigned(runs, prepared), [whole], parts=tmp_path / "parts", device=CPU)
    assert record.weights == (*record.measured, whole.sha256) and whole.sha256 not in record.measured
    assert whole.sha256 == hashlib.sha256((tmp_path / "whole.safetensors").read_bytes()).hexdigest()
    for update, words in OTHERWISE:
        other = replace(whole, header=whole.header.model_copy(update=update))
        with pytest.raises(UsageError, match=f"{words}; leave out --for whole"):
            measure(assigned(runs, prepared), [other], parts=tmp_path / "parts", device=CPU)
