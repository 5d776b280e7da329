"""synthesis against its description: what is made, what each stage learns, what a step keeps in memory, what a training leaves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.engine.checkpoint import read_newest
from anymri.engine.run import Run, RunFolder
from anymri.engine.training import Progress, fit
from anymri.losses.deep_supervision import deep_segmentation_loss
from anymri.losses.regions import region_logits
from anymri.losses.synthesis import absolute_errors, latent_variances
from anymri.methods.dropout_unet import DropoutUNetConfig
from anymri.methods.synthesis import SEGMENTATION, SYNTHESIS, Features, Synthesis, SynthesisConfig
from anymri.nn.latents import largest

from ..material import back_propagated, held_by_graphs, in_one_pass, made_batch, made_patient, short_run, task_with, tiny

INCOMPLETE = ((True,) * 4, (True, False, True, False), (False, False, False, True))


def synthesis(task: Task = GLIOMA, stage: str = SYNTHESIS, **options: Any) -> Synthesis:
    method = tiny("synthesis", task, **options)
    assert isinstance(method, Synthesis)
    method.enter_stage(stage)
    return method


def encoded(method: Synthesis, batch: Batch) -> Features:
    return method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)


def kept(*indices: int, modalities: int = 4) -> Tensor:
    return torch.tensor([[m in indices for m in range(modalities)]])


@torch.no_grad()
def say(method: Synthesis, *values: float) -> None:
    """Make every branch paint one value, whatever it is given."""
    for branch, value in zip(method.branches, values, strict=True):
        last = list(branch.children())[-1]
        assert isinstance(last, nn.Conv3d) and last.bias is not None
        last.weight.zero_()
        last.bias.fill_(value)


# What is made


@torch.inference_mode()
def test_with_everything_at_hand_the_network_sees_the_real_images() -> None:
    method, batch = synthesis().eval(), made_batch(GLIOMA)
    direct = region_logits(method.network(batch.image_BMDHW)[0], GLIOMA.membership)
    assert torch.equal(method(batch.image_BMDHW, batch.present_BM, batch.origin_B3), direct)
    # And so does a sample that has everything beside one that has not.
    keep = torch.cat((kept(0, 1, 2, 3), kept(1)))
    assert torch.equal(method.completed(encoded(method, batch), keep)[0], batch.image_BMDHW[0])


@pytest.mark.parametrize("task", [PROSTATE, GLIOMA, task_with(5)], ids=lambda t: t.name)
@torch.inference_mode()
def test_one_modality_still_gives_all_channels(task: Task) -> None:
    method, batch, n = synthesis(task).eval(), made_batch(task, size=1), len(task.modalities)
    for m in range(n):
        features = encoded(method, batch)
        image = method.completed(features, kept(m, modalities=n))
        assert image.shape == batch.image_BMDHW.shape
        brain = batch.image_BMDHW[0, m] != 0
        for other in range(n):
            if other == m:
                assert torch.equal(image[0, m], batch.image_BMDHW[0, m])
            else:
                expected = method.branches[other](features.latents[m])[0, 0]
                assert torch.equal(image[0, other], torch.where(brain, expected, 0.0)) and image[0, other].any()


@torch.inference_mode()
def test_what_is_made_is_zero_where_nothing_kept_shows_anything() -> None:
    method, batch = synthesis().eval(), made_batch(GLIOMA, size=1)
    image = batch.image_BMDHW.clone()
    image[0, :, :4], image[0, 2, 1] = 0.0, 5.0
    say(method, 1, 2, 3, 4)
    features = method.encode(image, batch.present_BM, batch.origin_B3)
    without, together = (method.completed(features, keep)[0, 3] for keep in (kept(0, 1), kept(0, 2)))
    assert not without[:4].any() and torch.equal(without[4:] == 4, (image[0, :2, 4:] != 0).any(0))
    assert (together[1] == 4).all() and not together[[0, 2, 3]].any()


@torch.inference_mode()
def test_the_order_of_the_modalities_does_not_matter() -> None:
    method, batch = synthesis(), made_batch(GLIOMA, size=2)
    keep = torch.cat((kept(0, 3), kept(2)))
    made = method.completed(encoded(method, batch), keep)
    order = [2, 0, 3, 1]
    method.encoders, method.branches = (nn.ModuleList(part[m] for m in order) for part in (method.encoders, method.branches))
    permuted = replace(batch, image_BMDHW=batch.image_BMDHW[:, order])
    assert torch.equal(method.completed(encoded(method, permuted), keep[:, order]), made[:, order])


@torch.inference_mode()
def test_all_subsets_cost_one_encoding_and_only_absent_images_are_made() -> None:
    method, batch = synthesis().eval(), made_batch(GLIOMA, size=1)
    runs: Counter[str] = Counter()
    for kind, parts in (("encoder", method.encoders), ("branch", method.branches)):
        for m, part in enumerate(parts):
            part.register_forward_hook(lambda *_, called=f"{kind} {m}": runs.update([called]))
    features = encoded(method, batch)
    for subset in method.supports():
        method.decode(features, torch.tensor([subset.mask]))
    assert runs == {f"encoder {m}": 1 for m in range(4)} | {f"branch {m}": 7 for m in range(4)}
    method.encode(batch.image_BMDHW, kept(2), batch.origin_B3)
    assert [runs[f"encoder {m}"] for m in range(4)] == [1, 1, 2, 1]


def test_the_network_is_that_of_the_yardstick_at_each_size() -> None:
    for size in SynthesisConfig.sizes:
        with torch.device("meta"):
            ours = SynthesisConfig.sized(size).build(GLIOMA)
            theirs = DropoutUNetConfig.sized(size).model_copy(update={"presence": False}).build(GLIOMA)
        assert isinstance(ours, Synthesis)
        shapes = [{k: v.shape for k, v in method.network.state_dict().items()} for method in (ours, theirs)]
        assert shapes[0] == shapes[1]


def test_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="latent_depths .* must be as many as latent_widths"):
        SynthesisConfig(latent_depths=(2, 2))
    assert SynthesisConfig(widths=(4, 8), latent_widths=(4, 4, 4)).multiple == 4


# What the first stage learns


def test_the_losses_of_synthesis_by_hand() -> None:
    # The samples have four, two and one modality: 20, 6 and 2 L1, each of them 1/60, 1/18 and 1/6 of the loss.
    method, batch = synthesis(), made_batch(GLIOMA, size=3, present=INCOMPLETE)
    values = (0.5, -1.0, 2.0, 0.0)
    say(method, *values)
    terms, _ = back_propagated(method, batch)
    shown = torch.where(batch.present_BM[:, :, None, None, None], batch.image_BMDHW, 0.0)
    brain = (shown != 0).any(1)
    error = [[(shown[b, m] - v).abs()[brain[b]].mean() for m, v in enumerate(values)] for b in range(3)]
    once = [sum(error[b][m] * w for b, w in ((0, 1 / 60), (1, 1 / 18), (2, 1 / 6)) if INCOMPLETE[b][m]) for m in range(4)]
    found = {name: [t.value for t in terms if t.name == name] for name in ("fused", "single", "variance")}
    torch.testing.assert_close(torch.stack(found["fused"]), torch.stack([torch.as_tensor(x) for x in once]))
    # From single maps: of each sample as many times as it has modalities.
    single = sum(
        n * w * error[b][m] for b, n, w in ((0, 4, 1 / 60), (1, 2, 1 / 18), (2, 1, 1 / 6)) for m in range(4) if INCOMPLETE[b][m]
    )
    assert len(found["single"]) == 4 * 4
    torch.testing.assert_close(torch.stack(found["single"]).sum(), torch.as_tensor(single))
    latents = encoded(method, batch).latents
    apart = latent_variances(latents, batch.present_BM, brain).detach()
    assert apart[2] == 0
    torch.testing.assert_close(found["variance"], [apart[0] / 60 + apart[1] / 18])
    assert {t.weight for t in terms} == {1.0}


def test_the_map_of_a_drawn_subset_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = torch.cat((kept(1, 2), kept(0)))
    monkeypatch.setattr("anymri.methods.synthesis.draw_subsets", lambda present, generator: keep)
    method, batch = synthesis(), made_batch(GLIOMA)
    found = [t.value for t in back_propagated(method, batch)[0] if t.name == "fused"]
    fused = largest(encoded(method, batch).latents, keep)
    brain = (batch.image_BMDHW != 0).any(1)
    for m, branch in enumerate(method.branches):
        expected = absolute_errors(branch(fused)[:, 0], batch.image_BMDHW[:, m], brain).sum() / 40
        torch.testing.assert_close(found[m], expected.detach())


def test_a_batch_without_a_brain_and_one_without_a_pair_can_be_learned_from() -> None:
    method, batch = synthesis(), made_batch(GLIOMA)
    empty = replace(batch, image_BMDHW=torch.zeros_like(batch.image_BMDHW))
    terms, gradients = back_propagated(method, empty)
    assert all(t.value == 0 for t in terms) and not any(g.any() for g in gradients.values())
    alone = made_batch(GLIOMA, present=(INCOMPLETE[2],) * 2)
    assert Counter(t.name for t in back_propagated(method, alone)[0]) == {"fused": 1, "single": 1, "fusion": 1, "encoders": 1}
    assert "variance" not in {t.name for t in back_propagated(synthesis(variance=0.0), batch)[0]}


@pytest.mark.parametrize("task", [PROSTATE, GLIOMA], ids=lambda t: t.name)
def test_images_are_learned_from_those_at_hand(task: Task) -> None:
    method, batch = synthesis(task), made_batch(task, size=1)
    optimiser = torch.optim.Adam(method.parameters(), 0.01)
    n, brain = len(task.modalities), (batch.image_BMDHW != 0).any(1)[0]

    @torch.no_grad()
    def error() -> Tensor:
        made = [method.completed(encoded(method, batch), kept(m, modalities=n)) for m in range(n)]
        return torch.stack([(x - batch.image_BMDHW).abs()[0, :, brain].mean() for x in made]).mean()

    before = error()
    for step in range(40):
        back_propagated(method, batch, seed=step)
        optimiser.step()
    assert error() < 0.7 * before


def test_the_last_terms_stand_for_one_backward_pass_through_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # so that objectives do not round in between
    method, batch = synthesis().double(), made_batch(GLIOMA, size=3, present=INCOMPLETE)
    batch = replace(batch, image_BMDHW=batch.image_BMDHW.double())
    terms, found = back_propagated(method, batch)
    assert [t.name for t in terms if not t.measured] == ["fusion", "encoders"]
    ordinary = in_one_pass(method, batch, monkeypatch)
    assert ordinary.keys() == found.keys()
    for name, gradient in ordinary.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-12, msg=name)


def test_memory_does_not_grow_with_the_number_of_images_made() -> None:
    """What graphs hold when a term is handed out: as much for the last of its kind as for the first."""
    method, batch = synthesis(task_with(5)), made_batch(task_with(5), size=1)
    held = held_by_graphs(method, batch)
    assert len(held["fused"]) == 5 and len(held["single"]) == 25
    assert len(set(held["fused"])) == len(set(held["single"])) == 1


# What the second stage learns


def test_each_stage_trains_its_own_and_freezes_the_rest() -> None:
    batch = made_batch(GLIOMA)
    parts = {SYNTHESIS: {"encoders", "branches"}, SEGMENTATION: {"network"}}
    method = synthesis()
    assert method.stages == (SYNTHESIS, SEGMENTATION)
    for stage in (*method.stages, SYNTHESIS):
        method.enter_stage(stage)
        trainable = {n for n, p in method.named_parameters() if p.requires_grad}
        assert {n.split(".")[0] for n in trainable} == parts[stage]
        terms, gradients = back_propagated(method, batch)
        assert gradients.keys() == trainable
        assert ({t.name for t in terms} == {"seg"}) is (stage == SEGMENTATION)


def test_the_head_of_a_level_without_weight_is_never_trained() -> None:
    method = synthesis(widths=(4, 4, 4, 4, 4))
    for stage in method.stages:
        method.enter_stage(stage)
        assert not any(p.requires_grad for p in list(method.network.heads)[0].parameters())
    assert all(p.requires_grad for p in list(method.network.heads)[1].parameters())


def test_segmentation_is_learned_from_real_and_synthetic_images(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = torch.cat((kept(1, 2), kept(0, 1, 2, 3), kept(3)))
    monkeypatch.setattr("anymri.methods.synthesis.draw_subsets", lambda present, generator: keep)
    method, batch = synthesis(stage=SEGMENTATION), made_batch(GLIOMA, size=3)
    seen: list[Tensor] = []
    method.network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    runs: Counter[int] = Counter()
    for m, encoder in enumerate(method.encoders):
        encoder.register_forward_hook(lambda module, given, said, m=m: runs.update({m: len(said)}))
    (term,), _ = back_propagated(method, batch)
    assert runs == {0: 1, 1: 2, 2: 2, 3: 2}  # Nothing is computed of what is dropped.
    with torch.no_grad():
        image = method.completed(encoded(method, batch), keep)
        levels = method.network(image)
        expected = deep_segmentation_loss(levels, batch.target_BRDHW, batch.known_BR, GLIOMA.membership)
    torch.testing.assert_close(seen[0], image)
    torch.testing.assert_close(term.value, expected)
    real = (seen[0] == batch.image_BMDHW).flatten(2).all(2)
    assert torch.equal(real, keep)


# In the engine's hands

CPU = torch.device("cpu")
PATIENTS = [made_patient(GLIOMA, seed, present=present) for seed, present in enumerate(INCOMPLETE)]


class Broken(Exception):
    """Ends a training from outside."""


def run_of(**settings: Any) -> Run:
    return short_run("synthesis", **{"steps": 8, "batch": 2, "checkpoint_minutes": 0, **settings})


def checkpoint(folder: RunFolder) -> dict[str, Tensor]:
    newest = read_newest(folder.checkpoints)
    assert newest is not None
    return newest[0]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_resumed_in_either_stage_ends_where_an_unbroken_one_does(precision: str, tmp_path: Path) -> None:
    run = run_of(precision=precision)
    whole = fit(run, PATIENTS, RunFolder(tmp_path / "whole"), resume=False, device=CPU).state_dict()

    def trained(until: int | None) -> dict[str, Tensor]:
        def stop(progress: Progress) -> None:
            if progress.step == until:
                raise Broken

        return fit(run, PATIENTS, RunFolder(tmp_path / "parts"), resume=True, device=CPU, report=stop).state_dict()

    for step in (2, 4, 5, 7):  # Stages change after the fourth; the step that is broken off at is not saved.
        with pytest.raises(Broken):
            trained(step)
    parts = trained(None)
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
    ends = [checkpoint(RunFolder(tmp_path / name)) for name in ("whole", "parts")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(v, ends[1][k]) for k, v in ends[0].items())


def test_what_makes_images_is_not_touched_once_segmentation_is_learned(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    saved: dict[int, dict[str, Tensor]] = {}

    def look(progress: Progress) -> None:
        if progress.step in (2, 5):
            saved[progress.step - 1] = checkpoint(folder)

    fit(run_of(), PATIENTS, folder, resume=False, device=CPU, report=look)
    saved[8] = checkpoint(folder)
    names = [k for k in saved[8] if k.startswith("method.")]
    of = {part: [k for k in names if k.startswith(f"method.{part}.")] for part in ("encoders", "branches", "network")}
    assert all(of.values()) and sum(map(len, of.values())) == len(names)
    for part, begun, frozen in (("encoders", 1, 4), ("branches", 1, 4), ("network", 4, 1)):
        assert all(torch.equal(saved[4][k], saved[8 if frozen == 4 else 1][k]) for k in of[part])
        assert all(not torch.equal(saved[begun][k], saved[4 if begun == 1 else 8][k]) for k in of[part])
    assert {k.split(".")[1] for k in saved[8] if k.startswith("optimiser.")} == {"main"}
