"""The loop: groups, stages, budgets, what stops it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import anymri.methods
from anymri.data.ahead import at_once
from anymri.data.augment import Augmentation, draw_augmentation
from anymri.data.patches import draw_patches, make_batch
from anymri.domain.task import GLIOMA
from anymri.engine.checkpoint import read_newest
from anymri.engine.run import RunFolder
from anymri.engine.state import Place, entered, first_state
from anymri.engine.step import back_propagate, make_step, schedule
from anymri.engine.supply import supply_of
from anymri.engine.training import Progress, fit
from anymri.errors import OutputError, TrainingError

from ..doubles import CRITIC, DUEL, PLACED, Duel, DuelConfig
from ..material import made_batch, made_patient, short_run, tiny

CPU = torch.device("cpu")
PATIENTS = [made_patient(GLIOMA, seed) for seed in range(3)]


@pytest.fixture(autouse=True)
def _with_the_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anymri.methods, "METHODS", (*anymri.methods.METHODS, DUEL, PLACED))


def logged(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.log.read_text().splitlines()]


def test_a_coarse_start_sees_patches_of_half_the_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    losses = Duel.losses

    def looked(self: Duel, batch: Any, **how: Any) -> Any:
        seen.append(tuple(batch.image_BMDHW.shape[2:]))
        return losses(self, batch, **how)

    monkeypatch.setattr(Duel, "losses", looked)
    run = short_run("duel", steps=40).model_copy(update={"coarse": 0.3})
    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    # 40 steps are 12.9 of work, as a coarse one is an eighth; a stage has half of it, and 0.3 of that, 1.94 and 1.77, is coarse.
    coarse, fine = (4, 4, 4), (8, 8, 8)
    assert seen == [coarse] * 16 + [fine] * 5 + [coarse] * 15 + [fine] * 4


# Groups and stages


def duel(stage: str) -> Duel:
    method = tiny("duel", GLIOMA)
    assert isinstance(method, Duel)
    method.enter_stage(stage)
    return method


def test_groups_do_not_leak_gradients_into_each_other() -> None:
    batch = made_batch(GLIOMA)
    method, twin = duel("duel"), duel("duel")
    back_propagate(method, batch, progress=0.0, generator=torch.Generator().manual_seed(0), precision="float32")
    terms = {t.name: t for t in twin.losses(batch, progress=0.0, generator=torch.Generator().manual_seed(0))}
    assert terms["judge"].group == CRITIC
    segmenter, critic = list(twin.segmenter.parameters()), list(twin.critic.parameters())
    # Both would reach the other's parameters.
    assert all(g.any() for g in torch.autograd.grad(terms["judge"].value, segmenter, retain_graph=True))
    assert all(g.any() for g in torch.autograd.grad(terms["fool"].value, critic, retain_graph=True))
    wanted = torch.autograd.grad(terms["judge"].value, critic)
    assert all(torch.equal(p.grad, g) for p, g in zip(method.critic.parameters(), wanted, strict=True))  # type: ignore[arg-type]
    wanted = torch.autograd.grad(terms["seg"].value + 0.5 * terms["fool"].value, segmenter)
    for parameter, gradient in zip(method.segmenter.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)


def test_stages_follow_each_other_and_train_what_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Duel] = []
    original = DuelConfig.build
    monkeypatch.setattr(DuelConfig, "build", lambda self, task: built.append(original(self, task)) or built[-1])
    weights: list[tuple[torch.Tensor, torch.Tensor]] = []

    def report(progress: Progress) -> None:
        weights.append((built[0].segmenter[0].weight.detach().clone(), built[0].critic.weight.detach().clone()))  # type: ignore[union-attr]

    run = short_run("duel", steps=8, candidates=(1.0,))
    method = fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU, report=report)
    assert built[0].progress == [(stage, share) for stage in ("alone", "duel") for share in (0.0, 0.25, 0.5, 0.75)]
    for step in range(1, 8):
        assert not torch.equal(weights[step][0], weights[step - 1][0])
        assert torch.equal(weights[step][1], weights[step - 1][1]) is (step < 4)
    assert method is built[0]
    assert method.drawn.item() == 8  # counted, not averaged
    (line,) = logged(RunFolder(tmp_path))
    assert line["step"] == 1 and set(line) == {"step", "seconds", "share", "running", "seg"}


def test_each_stage_warms_up_and_cools_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def spied(self: torch.optim.AdamW, *given: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", spied)
    fit(short_run("duel", steps=8, warm_up=0.25), PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    assert len(rates) == 12  # one optimiser in the first stage, two in the second
    assert rates[:4] == rates[4::2] == rates[5::2]
    assert rates[:4] == pytest.approx([1e-4, 1e-2, 7.5e-3, 2.5e-3])


def test_the_learning_rate_rises_then_falls_along_half_a_cosine() -> None:
    assert [schedule(s, 0.1) for s in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.01, 0.5, 1.0, 0.5, 0.0])
    assert schedule(0.0, 0.0) == 1.0


def test_or_to_the_power_of_nine_tenths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [schedule(s, 0.0, "poly") for s in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5**0.9, 0.0])
    assert schedule(0.55, 0.1, "poly") == pytest.approx(0.5**0.9)
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def spied(self: torch.optim.AdamW, *given: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", spied)
    run = short_run("placed", steps=4, warm_up=0.0, schedule="poly")
    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    assert rates == pytest.approx([1e-2 * (1 - i / 4) ** 0.9 for i in range(4)])


# One step


@pytest.mark.parametrize("method", ["ccsd", "dropout_unet"])
def test_batches_that_add_up_make_one_step_of_their_mean(method: str, tmp_path: Path) -> None:
    settings = {"accumulate": 3, "batch": 2, "steps": 1, "warm_up": 0.0, "optimiser": "sgd", "weight_decay": 0.0, "clip": 1e9}
    run = short_run(method, augmentation=Augmentation.none(), learning_rate=1e-3, seed=5, **settings)
    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    found = read_newest(tmp_path / "checkpoints")
    torch.manual_seed(5)
    network = run.method_config.build(GLIOMA)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    gradients = {n: torch.zeros_like(p) for n, p in network.named_parameters()}
    for part in range(3):
        draws = draw_patches(PATIENTS, run.patch, 2, tumour_share=run.tumour_share, weights=[1.0] * 3, seed=(5, 0, part))
        generator = torch.Generator().manual_seed(hash((5, 0, part)) & 0x7FFFFFFF)
        draw_augmentation(run.augmentation, 2, 4, generator)  # draws from the same generator first
        network.zero_grad()
        batch = make_batch(PATIENTS, draws, run.patch, 1)
        back_propagate(network, batch, progress=0.0, generator=generator, precision="float32")
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                gradients[name] += parameter.grad / 3
    assert found is not None
    for name, gradient in gradients.items():
        # The first step of Nesterov's momentum is 1 + 0.99 gradients.
        expected = before[name] - 1e-3 * 1.99 * gradient
        torch.testing.assert_close(found[0][f"method.{name}"], expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_every_optimiser_learns(optimiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymri.engine.training.LOG_EVERY", 1)
    run = short_run("dropout_unet", steps=40, optimiser=optimiser, batch=2, tumour_share=1.0, augmentation=Augmentation.none())
    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    losses = [line["seg"] for line in logged(RunFolder(tmp_path))]
    assert sum(losses[-8:]) < 0.85 * sum(losses[:8])


def test_the_same_seed_trains_the_same_and_another_another(tmp_path: Path) -> None:
    states = []
    for number, seed in enumerate((1, 1, 2)):
        run = short_run("ccsd", seed=seed, steps=3)
        states.append(fit(run, PATIENTS, RunFolder(tmp_path / str(number)), resume=False, device=CPU).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert not all(torch.equal(v, states[2][k]) for k, v in states[0].items())


# What stops it


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    spoilt = replace(PATIENTS[1], name="spoilt", image=np.full_like(PATIENTS[1].image, np.nan))
    run = short_run("dropout_unet", steps=40, checkpoint_minutes=0)
    steps: list[int] = []
    with pytest.raises(TrainingError) as caught:
        fit(run, [PATIENTS[0], spoilt], RunFolder(tmp_path), resume=False, device=CPU, report=lambda p: steps.append(p.step))
    message = str(caught.value)
    assert message.startswith("loss is not finite (seg nan) at step ") and "cases of the batch: spoilt;" in message
    assert f"at step {len(steps) + 1};" in message and "\n" not in message and "the last checkpoint is kept" in message
    if steps:
        found = read_newest(tmp_path / "checkpoints")
        assert found is not None and found[1]["step"] == steps[-1]
        assert all(torch.isfinite(v).all() for v in found[0].values())


def test_a_gradient_that_is_not_finite_stops(tmp_path: Path) -> None:
    run = short_run("placed", config={"cusp": True})
    with pytest.raises(
        TrainingError, match=r"^gradient of main is not finite at step 1; cases of the batch: case_\d; .*learning_rate=0.003 "
    ):
        fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    assert not (tmp_path / "checkpoints").exists()


def test_no_group_moves_if_the_gradient_of_another_is_not_finite() -> None:
    run = short_run("duel", steps=8)
    method = duel("duel")
    state = entered(first_state(method, run, CPU), run, Place(step=4, stage=1, stage_start=0.5))
    assert list(state.optimisers) == ["main", CRITIC]
    method.critic.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    with pytest.raises(TrainingError, match=r"^gradient of critic is not finite at step 5; cases of the batch: case_\d; "):
        make_step(state, run, supply_of(run, PATIENTS), progress=0.5)
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anymri.engine.checkpoint.save_file", full)
    with pytest.raises(OutputError, match="checkpoint cannot be written .*No space left") as caught:
        fit(short_run("placed", checkpoint_minutes=0), PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "checkpoints").iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        fit(short_run("placed"), PATIENTS, RunFolder(tmp_path / "file"), resume=False, device=CPU)


# Budgets, candidates, the log


def test_a_budget_of_minutes_ends_when_they_are_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr("anymri.engine.training.time", SimpleNamespace(monotonic=lambda: 0.5 * next(clock)))
    seen: list[Progress] = []
    run = short_run("placed", steps=None, minutes=0.1, candidates=(0.3, 0.6, 1.0))
    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU, report=seen.append)
    # Each step lasts half a second by this clock: twelve fit in six.
    assert [p.step for p in seen] == list(range(1, 13))
    assert [p.share for p in seen] == pytest.approx([(i + 1) / 12 for i in range(12)])
    assert seen[-1].seconds == 6.0
    names = sorted(p.name for p in (tmp_path / "candidates").iterdir())
    assert names == ["at_0.300.safetensors", "at_0.600.safetensors", "at_1.000.safetensors"]


def test_a_candidate_is_what_the_average_was_at_its_share(tmp_path: Path) -> None:
    averages: dict[int, torch.Tensor] = {}
    run = short_run("placed", steps=10, candidates=(0.25, 0.5, 1.0), checkpoint_minutes=0)

    def report(progress: Progress) -> None:
        found = read_newest(tmp_path / "checkpoints")
        if found is not None:
            averages[found[1]["step"]] = found[0]["averaged.bias"]

    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU, report=report)
    for share, step in (("0.250", 3), ("0.500", 5)):
        assert torch.equal(load_file(tmp_path / "candidates" / f"at_{share}.safetensors")["bias"], averages[step])


def test_checkpoints_are_as_far_apart_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr("anymri.engine.training.time", SimpleNamespace(monotonic=lambda: 10.0 * next(clock)))
    written: list[int] = []
    monkeypatch.setattr("anymri.engine.training.save", lambda state, folder: written.append(state.place.step))
    fit(short_run("placed", steps=20, checkpoint_minutes=2), PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    assert written[-1] == 20 and 2 < len(written) < 10


def test_the_log_has_every_term_and_their_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymri.engine.training.LOG_EVERY", 1)
    fit(short_run("ccsd", steps=5), PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    lines = logged(RunFolder(tmp_path))
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    terms = {"seg_full", "seg_subset", "hmsd", "dmcd"}
    assert all(set(line) == {"step", "seconds", "share", "running"} | terms for line in lines)
    running = sum(lines[0][t] for t in terms)
    for line in lines[1:]:
        running = 0.98 * running + 0.02 * sum(line[t] for t in terms)
        assert line["running"] == pytest.approx(running)


def test_what_is_kept_is_the_moving_average(tmp_path: Path) -> None:
    built = short_run("placed").method_config.build(GLIOMA)
    biases = [torch.zeros(3)]
    run = short_run("placed", steps=4, average=0.9)
    method = fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU)
    # By hand: AdamW on (bias − 1)², the same for every batch.
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.AdamW([parameter], run.learning_rate, weight_decay=run.weight_decay)
    average = torch.zeros(3)
    for step in range(4):
        optimiser.zero_grad()
        ((parameter - 1) ** 2).sum().backward()
        optimiser.param_groups[0]["lr"] = run.learning_rate * schedule(step / 4, run.warm_up)
        optimiser.step()
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * parameter.detach()
        biases.append(parameter.detach().clone())
    torch.testing.assert_close(method.state_dict()["bias"], average)
    assert built.state_dict().keys() == method.state_dict().keys()


def test_each_stage_begins_its_moving_average_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Duel] = []
    original = DuelConfig.build
    monkeypatch.setattr(DuelConfig, "build", lambda self, task: built.append(original(self, task)) or built[-1])
    lived: list[dict[str, torch.Tensor]] = []

    def report(progress: Progress) -> None:
        lived.append({name: value.detach().clone() for name, value in built[0].named_parameters()})

    run = short_run("duel", steps=8, average=0.99, candidates=(0.5, 0.625, 0.75))
    fit(run, PATIENTS, RunFolder(tmp_path), resume=False, device=CPU, report=report)
    kept = [load_file(tmp_path / "candidates" / f"at_{share:.3f}.safetensors") for share in run.candidates]
    # The second stage begins after step 4; what it trains was at its untrained start all through the first.
    for before, after, decay, step in ((kept[0], kept[1], 1 / 10, 5), (kept[1], kept[2], 2 / 11, 6)):
        for name, value in lived[step - 1].items():
            torch.testing.assert_close(after[name], decay * before[name] + (1 - decay) * value)


def test_cases_with_unknown_regions_are_drawn_as_rarely_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[float]] = []
    original = draw_patches

    def spied(patients: Any, size: Any, count: int, **options: Any) -> Any:
        given.append(options["weights"])
        return original(patients, size, count, **options)

    monkeypatch.setattr("anymri.engine.supply.draw_patches", spied)
    partly = replace(PATIENTS[0], known=np.array([True, False, False]))
    run = short_run("dropout_unet", steps=1, partial_weight=0.25)
    fit(run, [PATIENTS[1], partly], RunFolder(tmp_path), resume=False, device=CPU)
    assert given == [[1.0, 0.25]] * 2  # Of the step, and of the one made ahead.


@pytest.mark.parametrize("accumulate", [1, 3])
def test_parts_made_ahead_train_to_the_same_bits(accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = short_run("ccsd", steps=4, batch=2, accumulate=accumulate)
    ahead = fit(run, PATIENTS, RunFolder(tmp_path / "ahead"), resume=False, device=CPU)
    monkeypatch.setattr("anymri.engine.training.one_ahead", lambda: nullcontext(at_once))
    now = fit(run, PATIENTS, RunFolder(tmp_path / "now"), resume=False, device=CPU)
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in ahead.state_dict().items())
