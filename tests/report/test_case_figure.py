from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA, PROSTATE
from anymri.engine.model import WeightsHeader, write_weights
from anymri.engine.run import Window
from anymri.errors import CaseError, UsageError
from anymri.methods import method_named
from anymri.report.case_figure import CaseRequest, case_figure
from anymri.report.trainings import read_training
from anymri.volumes.store import case_folder

from ..material import write_made_case, write_made_cohort
from .made import write_run

METHOD = "dropout_unet"


def trained(folder: Path, task=GLIOMA, cases: tuple[str, ...] = ()):
    """Write a run folder with untrained weights and read it."""
    torch.manual_seed(0)
    config = method_named(METHOD).config.sized("tiny")
    header = WeightsHeader(
        name="untrained",
        method=METHOD,
        config=config.model_dump(mode="json"),
        task=task.name,
        window=Window(stride=1, size=(16, 24, 16)),
        training={"cases": cases},
    )
    write_run(folder, METHOD)
    write_weights(folder / "weights.safetensors", dict(config.build(task).state_dict()), header)
    return read_training(folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    write_made_cohort(folder, GLIOMA, folds=[["a"], ["b"]])
    write_made_case(folder / "cases" / "partly", GLIOMA, 5, modalities=("FLAIR", "T2"))
    write_made_case(folder / "cases" / "unknown", GLIOMA, 6, known=())
    return folder


def test_a_case_is_drawn_with_inputs_reference_and_predictions_in_the_colours_of_the_field(tmp_path, prepared):
    runs = [("first", trained(tmp_path / "one")), ("second", trained(tmp_path / "two", cases=("a",)))]
    found = case_figure(CaseRequest("a", prepared, ("T1c", "FLAIR+T2"), "cpu"), runs)
    assert found.name == "figure_case_a.png" and found.media_type == "image/png"
    assert "FLAIR, T1, T1c, T2 and the reference" in found.alternative and "second: T1c" in found.alternative
    assert "second was trained on this case, or chosen by it." in found.notes
    assert "green ED: whole tumour outside TC; red NCR: tumour core outside ET; yellow ET: enhancing tumour" in found.notes[0]
    path = tmp_path / "case.png"
    path.write_bytes(found.content)
    pixels = matplotlib.image.imread(path)[..., :3]
    third = pixels[: len(pixels) // 3]  # images and reference
    saturated = np.ptp(third, axis=-1) > 0.25
    right = saturated[:, int(0.8 * saturated.shape[1]) :]
    assert right.sum() > 100 and not saturated[:, : int(0.75 * saturated.shape[1])].any()
    red, green, blue = (third[saturated][:, c] for c in range(3))
    assert (green > red + 0.2).any() and (red > green + 0.2).any() and ((red > blue + 0.2) & (green > blue + 0.2)).any()


def test_without_a_choice_modalities_are_added_one_by_one(tmp_path, prepared):
    found = case_figure(CaseRequest("a", prepared, (), "cpu"), [("m", trained(tmp_path / "one"))])
    for subset in ("FLAIR ", "FLAIR+T1 ", "FLAIR+T1+T1c ", "FLAIR+T1+T1c+T2 "):
        assert f" {subset}" in found.alternative


def test_a_case_that_lacks_modalities_shows_what_it_has(tmp_path, prepared):
    run = [("m", trained(tmp_path / "one"))]
    assert "Images FLAIR, T2 and" in case_figure(CaseRequest("partly", prepared, (), "cpu"), run).alternative
    with pytest.raises(UsageError, match=r"--subset T1c: case partly has FLAIR\+T2 alone"):
        case_figure(CaseRequest("partly", prepared, ("T1c",), "cpu"), run)


def test_what_cannot_be_drawn_is_said_in_one_line(tmp_path, prepared):
    run = [("m", trained(tmp_path / "one"))]
    for name, error, said in (
        ("c", UsageError, "there is no such case"),
        ("unknown", CaseError, "no reference"),
        ("../a", CaseError, "cannot be a folder's"),
    ):
        with pytest.raises(error, match=said):
            case_figure(CaseRequest(name, prepared, (), "cpu"), run)
    with pytest.raises(UsageError, match="modality 'T9' is unknown"):
        case_figure(CaseRequest("a", prepared, ("T9",), "cpu"), run)
    with pytest.raises(UsageError, match="no run folder with weights"):
        case_figure(CaseRequest("a", prepared, (), "cpu"), [])
    with pytest.raises(UsageError, match="made for task prostate, the case for glioma"):
        case_figure(CaseRequest("a", prepared, (), "cpu"), [("m", trained(tmp_path / "other", PROSTATE))])
    assert case_folder(prepared, "a").is_dir()
