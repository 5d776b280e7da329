"""AdaMM in the engine's hands: groups, stages, resumption, what is shipped, and a case that is finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import anymri.engine.training
from anymri.domain.task import GLIOMA
from anymri.engine.checkpoint import read_newest
from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model, WeightsHeader, read_model
from anymri.engine.run import Run, RunFolder, Window
from anymri.engine.selection import choose
from anymri.engine.state import first_state
from anymri.engine.training import Progress, fit
from anymri.errors import WeightsError
from anymri.losses.presence import FLOOR
from anymri.methods import method_named
from anymri.methods.adamm import DISCRIMINATOR, AdaMM
from anymri.nn.adaptive_unet import Said

from ..material import made_patient, short_run, tiny

CPU = torch.device("cpu")
PATIENTS = [made_patient(GLIOMA, seed) for seed in range(3)]


class Broken(Exception):
    """Ends a training from outside."""


def run_of(**settings: Any) -> Run:
    config = method_named("adamm").config.sized("tiny").model_dump(mode="json") | settings
    return short_run("adamm", config=config, steps=6, batch=2, checkpoint_minutes=0, learning_rate=1e-3)


def trained(run: Run, path: Path, *, until: int | None = None, resume: bool = False) -> dict[str, Tensor]:
    def stop(progress: Progress) -> None:
        if progress.step == until:
            raise Broken

    method = fit(run, PATIENTS, RunFolder(path), resume=resume, device=CPU, report=stop)
    return method.state_dict()


@pytest.mark.parametrize("teacher", ["detached", "frozen"])
def test_a_resumed_training_ends_where_an_unbroken_one_does(teacher: str, tmp_path: Path) -> None:
    run = run_of(teacher=teacher)
    whole = trained(run, tmp_path / "whole")
    for step in (2, 5):
        with pytest.raises(Broken):
            trained(run, tmp_path / "parts", until=step, resume=True)
    parts = trained(run, tmp_path / "parts", resume=True)
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
    ends = [read_newest(RunFolder(tmp_path / name).checkpoints) for name in ("whole", "parts")]
    tensors = [end[0] for end in ends if end is not None]
    assert len(tensors) == 2 and tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(v, tensors[1][k]) for k, v in tensors[0].items())


def test_the_discriminator_keeps_its_optimiser_and_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[Any] = []
    original = anymri.engine.training.first_state

    def spied(*given: Any) -> Any:
        states.append(original(*given))
        return states[-1]

    monkeypatch.setattr("anymri.engine.training.first_state", spied)
    run = run_of()
    trained(run, tmp_path)
    own = states[0].optimisers[DISCRIMINATOR]
    assert isinstance(own, torch.optim.Adam)
    (group,) = own.param_groups
    assert group["betas"] == (0.9, 0.99) and group["weight_decay"] == 0
    assert own.defaults["lr"] == 1e-4 and states[0].optimisers["main"].defaults["lr"] == 1e-3
    assert group["lr"] / 1e-4 == pytest.approx(states[0].optimisers["main"].param_groups[0]["lr"] / 1e-3)
    steps = {int(s["step"]) for s in own.state.values()}
    assert len(steps) == 1 and 2 <= steps.pop() <= 6  # one step of Adam for every batch that had something to judge


def test_a_frozen_teacher_is_not_touched_in_the_second_stage(tmp_path: Path) -> None:
    state = first_state(tiny("adamm", GLIOMA, teacher="frozen"), run_of(teacher="frozen"), CPU)
    assert set(state.optimisers) == {"main"}
    folder = RunFolder(tmp_path)
    trained(run_of(teacher="frozen"), tmp_path)
    newest = read_newest(folder.checkpoints)
    assert newest is not None
    assert {k.split(".")[1] for k in newest[0] if k.startswith("optimiser.")} == {"main", DISCRIMINATOR}
    candidates = [load_file(folder.candidates / f"at_{share:.3f}.safetensors") for share in (0.5, 1.0)]
    begun = tiny("adamm", GLIOMA, teacher="frozen").state_dict()
    # The first candidate is kept when the teacher's stage ends: the student is as it began.
    assert all(torch.equal(candidates[0][k], v) for k, v in begun.items() if k.startswith("student."))
    assert any(not torch.equal(candidates[1][k], v) for k, v in begun.items() if k.startswith("student."))
    assert any(not torch.equal(candidates[0][k], v) for k, v in begun.items() if k.startswith("teacher."))


def test_what_is_shipped_holds_the_student_alone(tmp_path: Path) -> None:
    run, folder = run_of(), RunFolder(tmp_path / "run")
    trained(run, folder.path)
    folder.write_record(run, {})
    model = choose(run, folder, [], device=CPU)
    tensors = load_file(folder.weights)
    assert {k.split(".")[0] for k in tensors} == {"student"}
    assert isinstance(model.method, AdaMM) and model.method.teacher is None
    whole = load_file(folder.candidates / "at_1.000.safetensors")
    assert {k.split(".")[0] for k in whole} == {"student", "teacher", "discriminator"}
    assert all(torch.equal(v, whole[k].half()) for k, v in tensors.items())
    assert read_model(folder.weights).sha256 == model.sha256

    # Training goes on from such weights: what they lack starts afresh.
    begun = anymri.engine.training._first_method(run.model_copy(update={"init": str(folder.weights)})).state_dict()
    assert all(torch.equal(begun[k], v.float()) for k, v in tensors.items())
    assert any(k.startswith("teacher.") for k in begun)
    other = run_of(nodes=4).model_copy(update={"init": str(folder.weights)})
    with pytest.raises(WeightsError, match="its own method and settings"):
        anymri.engine.training._first_method(other)


def model_of(gate: str) -> Model:
    method = tiny("adamm", GLIOMA, gate=gate).eval()
    config = method.config.model_dump(mode="json")  # type: ignore[union-attr]
    return Model(
        method, WeightsHeader(name="w", method="adamm", config=config, task=GLIOMA.name, window=Window(stride=1, size=(8, 8, 8)))
    )


def show_what_is_bright(method: AdaMM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the presence head hold a window to have every class if there is a very bright voxel in it, and none else."""
    original = method.student.forward

    def forward(image: Tensor, keep: Tensor, generator: Any) -> Said:
        verdict = 1.0 if image[0, 0].amax() > 50 else -1.0
        return replace(original(image, keep, generator), presence=torch.full((1, 3), verdict))

    monkeypatch.setattr(method.student, "forward", forward)


@pytest.mark.parametrize(("gate", "erased"), [("off", 0), ("case", 0), ("window", 1)])
def test_a_case_is_finished_after_all_its_windows(gate: str, erased: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(gate)
    assert isinstance(model.method, AdaMM)
    show_what_is_bright(model.method, monkeypatch)
    image = np.random.default_rng(0).normal(size=(4, 8, 8, 20)).astype(np.float32)
    dark = image.copy()
    image[0, 0, 0, 0] = 100.0  # in the first window alone
    keeps = [GLIOMA.modalities.subset(GLIOMA.modalities.names).mask, (True, False, False, False)]
    present = keeps[0]
    bright, none = (list(region_logits_of(model, x, present, keeps, device=CPU)) for x in (image, dark))
    for logits in bright:
        assert logits.shape == (3, 8, 8, 20)
        assert (logits[..., :4] > FLOOR).all()
        assert (logits[..., -2:] < FLOOR + 0.01).all() == bool(erased)
    for logits in none:  # no window shows anything
        assert (logits < FLOOR + 0.01).all() == (gate != "off")
