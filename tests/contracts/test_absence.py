"""What every method owes to absence: every method × every task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from anymri.domain.modality import subsets
from anymri.methods.method import Method

from ..material import ALL_METHODS, ALL_TASKS, back_propagated, made_batch, measured, mixed_presence, tiny, with_absent

# Every value of every option that changes what is computed, so that a branch cannot break what the default keeps.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ALL_METHODS},
    "ccsd-zero": ("ccsd", {"absent": "zero"}),
    "ccsd-fused_skips": ("ccsd", {"skips": "fused"}),
    "ccsd-zero-fused_skips": ("ccsd", {"absent": "zero", "skips": "fused"}),
    "ccsd-residual": ("ccsd", {"residual": True}),
    "ccsd-shared": ("ccsd", {"distilled": "shared"}),
    "ccsd-specific": ("ccsd", {"distilled": "specific"}),
    "ccsd-gradient": ("ccsd", {"criticality": "gradient"}),
    "ccsd-rescore": ("ccsd", {"rescore": True}),
    "adamm-plain": ("adamm", {"adapters": False, "garm": False, "lgrm": False}),
    "adamm-no_garm": ("adamm", {"garm": False}),
    "adamm-factored": ("adamm", {"bank": "factored"}),
    "adamm-both": ("adamm", {"reproject": "both"}),
    "adamm-sigmoid": ("adamm", {"outputs": "sigmoid"}),
    "adamm-case": ("adamm", {"gate": "case"}),
    "adamm-attached": ("adamm", {"teacher": "attached"}),
    "adamm-frozen": ("adamm", {"teacher": "frozen"}),
    "adamm-absolute": ("adamm", {"style_scale": "absolute"}),
    "dropout_unet-no_presence": ("dropout_unet", {"presence": False}),
    "shaspec-first": ("shaspec", {"absent": "first"}),
    "shaspec-sigmoid": ("shaspec", {"outputs": "sigmoid"}),
    "shaspec-no_auxiliaries": ("shaspec", {"alignment": 0.0, "domain": 0.0}),
    "retrieval-centred": ("retrieval", {"similarity": "centred"}),
    "uhved-plain": ("uhved", {"divergence": 0.0, "reconstruction": 0.0}),
}
CASES = [(v, "glioma") for v in VARIANTS] + [(m, t) for m in ALL_METHODS for t in ALL_TASKS if t != "glioma"]
every_method_and_task = pytest.mark.parametrize(("variant", "task"), CASES, ids=["-".join(c) for c in CASES])


def made(variant: str, task: str) -> Method:
    method, options = VARIANTS[variant]
    return tiny(method, ALL_TASKS[task], **options)


@every_method_and_task
@torch.inference_mode()
def test_every_subset_is_decoded_as_if_it_were_all_there_is(variant: str, task: str) -> None:
    method, batch = made(variant, task).eval(), made_batch(ALL_TASKS[task], size=1)
    features = method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    for subset in method.supports():
        keep = torch.tensor([subset.mask])
        logits = method.decode(features, keep)
        assert logits.shape == (1, len(method.task.regions), 8, 8, 8)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
        alone = method(with_absent(replace(batch, present_BM=keep), torch.nan).image_BMDHW, keep, batch.origin_B3)
        assert torch.equal(logits, alone), f"{subset}: {(logits - alone).abs().max():.2e} apart"


@every_method_and_task
@torch.inference_mode()
def test_what_is_absent_cannot_matter(variant: str, task: str) -> None:
    method = made(variant, task).eval()
    batch = made_batch(ALL_TASKS[task], size=4, present=mixed_presence(ALL_TASKS[task]))
    logits = [
        method(with_absent(batch, value).image_BMDHW, batch.present_BM, batch.origin_B3)
        for value in (0.0, torch.nan, torch.randn(batch.image_BMDHW.shape))
    ]
    assert torch.isfinite(logits[0]).all()
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@every_method_and_task
def test_what_is_absent_teaches_nothing(variant: str, task: str) -> None:
    method = made(variant, task)
    batch = made_batch(ALL_TASKS[task], size=4, present=mixed_presence(ALL_TASKS[task]))
    for stage in method.stages:
        method.enter_stage(stage)
        terms, gradients = back_propagated(method, with_absent(batch, 0.0))
        for value in (torch.nan, torch.randn(batch.image_BMDHW.shape)):
            again, gradients_again = back_propagated(method, with_absent(batch, value))
            assert measured(terms) == measured(again)
            assert gradients.keys() == gradients_again.keys()
            assert all(torch.equal(g, gradients_again[n]) and torch.isfinite(g).all() for n, g in gradients.items())


@every_method_and_task
@torch.inference_mode()
def test_what_is_hidden_cannot_matter(variant: str, task: str) -> None:
    method, batch = made(variant, task).eval(), made_batch(ALL_TASKS[task], size=1)
    features = method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    for m, hidden in enumerate(method.task.modalities.names):
        image = batch.image_BMDHW.clone()
        image[:, m] = torch.nan
        spoilt = method.encode(image, batch.present_BM, batch.origin_B3)
        for subset in method.supports():
            if hidden not in subset:
                keep = torch.tensor([subset.mask])
                assert torch.equal(method.decode(features, keep), method.decode(spoilt, keep)), f"{subset} sees {hidden}"


@every_method_and_task
@torch.inference_mode()
def test_neighbours_cannot_matter(variant: str, task: str) -> None:
    method = made(variant, task).eval()
    keeps = torch.tensor(mixed_presence(ALL_TASKS[task]))
    batch = made_batch(ALL_TASKS[task], size=4, present=mixed_presence(ALL_TASKS[task]))
    together = method(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    for b in range(4):
        one = slice(b, b + 1)
        alone = method(batch.image_BMDHW[one], batch.present_BM[one], batch.origin_B3[one])
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)
    # The same where modalities are hidden rather than absent, differently in each sample.
    whole = made_batch(ALL_TASKS[task], size=4)
    decoded = method.decode(method.encode(whole.image_BMDHW, whole.present_BM, whole.origin_B3), keeps)
    torch.testing.assert_close(decoded, together, rtol=0, atol=1e-5)


def test_the_canonical_subsets_are_all_served() -> None:
    for name in ALL_METHODS:
        for task in ALL_TASKS.values():
            assert tiny(name, task).supports() == subsets(task.modalities)
