"""What every method owes to training: every method × every task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anymri.domain.task import TASKS
from anymri.methods.method import Method

from ..material import ALL_METHODS, ALL_TASKS, back_propagated, made_batch, measured, mixed_presence, tiny, with_absent

every_task = pytest.mark.parametrize("task", ALL_TASKS)
every_method = pytest.mark.parametrize("name", ALL_METHODS)

# Every value of every option, the defaults left out.
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ccsd", {"absent": "zero"}),
    ("ccsd", {"skips": "fused"}),
    ("ccsd", {"residual": True}),
    ("ccsd", {"hmsd": 0.0}),
    ("ccsd", {"dmcd": 0.0}),
    ("ccsd", {"hmsd": 0.0, "dmcd": 0.0}),
    ("ccsd", {"distilled": "shared"}),
    ("ccsd", {"distilled": "specific"}),
    ("ccsd", {"path": "least_critical"}),
    ("ccsd", {"path": "random"}),
    ("ccsd", {"criticality": "gradient"}),
    ("ccsd", {"criticality": "gradient", "path": "least_critical", "rescore": True}),
    ("ccsd", {"rescore": True}),
    ("ccsd", {"absent": "zero", "skips": "fused", "residual": True, "distilled": "shared", "rescore": True}),
    ("ccsd", {"temperature": 1.0}),
    ("adamm", {"adapters": False, "garm": False}),
    ("adamm", {"garm": False}),
    ("adamm", {"lgrm": False}),
    ("adamm", {"output": 0.0, "content": 0.0, "style": 0.0, "adversarial": 0.0}),
    ("adamm", {"adversarial": 0.0}),
    ("adamm", {"style": 0.0, "content": 0.0}),
    ("adamm", {"adapters": False, "garm": False, "lgrm": False, "output": 0.0, "content": 0.0, "style": 0.0, "adversarial": 0.0}),
    ("adamm", {"style_scale": "absolute"}),
    ("adamm", {"bank": "factored"}),
    ("adamm", {"reproject": "both"}),
    ("adamm", {"outputs": "sigmoid"}),
    ("adamm", {"outputs": "sigmoid", "lgrm": False, "adversarial": 0.0}),
    ("adamm", {"teacher": "attached"}),
    ("adamm", {"teacher": "frozen"}),
    ("adamm", {"gate": "case"}),
    ("adamm", {"gate": "off", "dropout": 0.0}),
    ("dropout_unet", {"presence": False}),
    ("dropout_unet", {"drawing": "uniform_size"}),
    ("dropout_unet", {"drawing": "bernoulli", "keep_probability": 0.2}),
    ("dropout_unet", {"drawing": "targeted", "targets": (("T1+T1c+T2", 3.0), ("FLAIR", 1.0))}),
    ("dropout_unet", {"dice": "classes", "smooth": 1e-5}),
    ("dropout_unet", {"initialisation": "he"}),
    ("dropout_unet", {"widths": (4, 4, 4, 4, 4)}),  # so many levels that the coarsest has weight 0
    ("shaspec", {"absent": "first"}),
    ("shaspec", {"outputs": "sigmoid"}),
    ("shaspec", {"alignment": 0.0}),
    ("shaspec", {"domain": 0.0}),
    ("shaspec", {"alignment": 0.0, "domain": 0.0}),
    ("shaspec", {"complete": 0.0}),
    ("shaspec", {"complete": 1.0, "absent": "first"}),
    ("retrieval", {"similarity": "centred"}),
    ("synthesis", {"variance": 0.0}),
    ("uhved", {"divergence": 0.0}),
    ("uhved", {"reconstruction": 0.0}),
    ("uhved", {"divergence": 0.0, "reconstruction": 0.0}),
)

# Weights that belong to one subset are all trained sooner where there are few subsets.
TASK_OF = {"adamm": "made_up_2"}
# A trunk without norms takes smaller steps.
RATES = {"adamm": 3e-3}


@torch.no_grad()
def moved(method: Method, gradients: dict[str, Tensor]) -> None:
    """Go down a little: a branch that starts at zero has gradients behind it once it has moved."""
    for name, parameter in method.named_parameters():
        if name in gradients:
            parameter -= 0.01 * gradients[name] / gradients[name].norm().clamp(min=1e-6)


def _called(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(f"{k}={v}" for k, v in case[1].items())]).replace(" ", "")


def in_every_stage(name: str, task: str) -> Iterator[Method]:
    """Yield the method once for each stage of its training, freshly initialised."""
    for stage in tiny(name, ALL_TASKS[task]).stages:
        method = tiny(name, ALL_TASKS[task])
        method.enter_stage(stage)
        yield method


@every_method
@every_task
def test_every_trainable_parameter_gets_a_gradient(name: str, task: str) -> None:
    for method in in_every_stage(name, task):
        waiting = {n for n, p in method.named_parameters() if p.requires_grad}
        assert waiting
        for seed in range(150):
            _, gradients = back_propagated(method, made_batch(ALL_TASKS[task], seed=seed % 8, size=4), seed=seed)
            assert not any(g.any() for n, g in gradients.items() if not method.get_parameter(n).requires_grad)
            waiting -= {n for n, g in gradients.items() if g.abs().max() > 0}
            if not waiting:
                break
            moved(method, gradients)
        assert waiting == set()


@pytest.mark.parametrize("case", OPTIONS, ids=_called)
def test_every_option_trains_every_parameter_and_follows_from_the_seed(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    task = ALL_TASKS[TASK_OF.get(name, "glioma")]
    batch = made_batch(task, size=4, present=mixed_presence(task))
    if "widths" in options:
        batch = made_batch(task, edge=32)
    method, twin = (tiny(name, task, **options) for _ in range(2))
    waiting = {n for n, p in method.named_parameters() if p.requires_grad}
    for seed in range(6):
        terms, gradients = back_propagated(method, batch, seed=seed)
        again, gradients_again = back_propagated(twin, batch, seed=seed)
        assert measured(terms) == measured(again)
        assert gradients.keys() == gradients_again.keys()
        assert all(torch.equal(g, gradients_again[n]) for n, g in gradients.items())
        waiting -= {n for n, g in gradients.items() if g.abs().max() > 0}
        moved(method, gradients)
        moved(twin, gradients_again)
    assert waiting == set()
    assert tiny(name, task, **options).config == type(method.config).model_validate_json(method.config.model_dump_json())


@every_method
def test_another_seed_draws_other_subsets(name: str) -> None:
    batch = made_batch(ALL_TASKS["glioma"])
    for method in in_every_stage(name, "glioma"):
        assert len({str(measured(back_propagated(method, batch, seed=seed)[0])) for seed in range(4)}) > 1


@every_method
def test_the_generator_is_the_only_chance(name: str) -> None:
    batch = made_batch(ALL_TASKS["glioma"])
    for method in in_every_stage(name, "glioma"):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        back_propagated(method, batch)
        assert torch.equal(before, torch.get_rng_state())


@every_method
@every_task
def test_the_loss_falls_on_one_case(name: str, task: str) -> None:
    *_, method = in_every_stage(name, task)  # The last stage is the one that learns to segment.
    batch = made_batch(ALL_TASKS[task], size=1)
    optimiser = torch.optim.Adam(method.parameters(), RATES.get(name, 0.02))
    losses = []
    for step in range(30):
        terms, _ = back_propagated(method, batch, seed=step, progress=step / 30)
        optimiser.step()
        # Terms that compare networks with each other may well grow while both learn; those named seg compare with the reference.
        losses.append(sum(value for name, value in measured(terms) if name.startswith("seg")))
    assert sum(losses[-5:]) / 5 < 0.8 * sum(losses[:3]) / 3


@every_method
@every_task
def test_what_the_reference_does_not_tell_is_not_read(name: str, task: str) -> None:
    batch = made_batch(ALL_TASKS[task])
    known = torch.ones_like(batch.known_BR)
    known[0, 1:] = False  # such as a reference of the outermost region alone
    unknown = ~known[:, :, None, None, None]
    for method in in_every_stage(name, task):
        results = []
        for content in (batch.target_BRDHW, torch.nan, 1.0):
            target = torch.where(unknown, torch.as_tensor(content), batch.target_BRDHW)
            terms, gradients = back_propagated(method, replace(batch, target_BRDHW=target, known_BR=known))
            results.append((measured(terms), {n: g.clone() for n, g in gradients.items()}))
        (values, gradients), *others = results
        assert all(value == value for _, value in values)
        for other, gradients_again in others:
            assert other == values
            assert all(torch.equal(g, gradients_again[n]) for n, g in gradients.items())


@every_method
def test_a_batch_of_which_each_case_has_one_modality_can_be_learned_from(name: str) -> None:
    task = ALL_TASKS["glioma"]
    alone = (tuple(m == 0 for m in range(4)), tuple(m == 0 for m in range(4)))
    batch = with_absent(made_batch(task, present=alone), torch.nan)
    for method in in_every_stage(name, task.name):
        terms, gradients = back_propagated(method, batch)
        assert all(value == value for _, value in measured(terms))
        assert all(torch.isfinite(g).all() for g in gradients.values())


@every_method
def test_half_precision_leaves_finite_gradients_and_sees_nothing_absent(name: str) -> None:
    task = ALL_TASKS["glioma"]
    for method in in_every_stage(name, task.name):
        # Four voxels at the deepest level, as every run in bf16 has.
        batch = made_batch(task, size=4, edge=max(8, 4 * method.multiple), present=mixed_presence(task))
        results = []
        for value in (0.0, torch.nan):
            with torch.autocast("cpu", torch.bfloat16):
                results.append(back_propagated(method, with_absent(batch, value)))
        (terms, gradients), (again, gradients_again) = results
        assert measured(terms) == measured(again)
        assert all(torch.isfinite(g).all() and torch.equal(g, gradients_again[n]) for n, g in gradients.items())


@every_method
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_a_method_names_its_groups_and_stages(name: str, task: Any) -> None:
    method = tiny(name, task)
    for stage in method.stages:
        method.enter_stage(stage)
        grouped = [id(p) for group in method.parameter_groups().values() for p in group]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) == {id(p) for p in method.parameters() if p.requires_grad}
