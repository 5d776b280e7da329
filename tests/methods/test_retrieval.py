"""Retrieval against its description: what stands in for what is absent, who is asked, what is remembered of a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anymri.engine.step as engine_step
from anymri.data.batch import Batch
from anymri.data.generation.settings import synthetic_name
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.engine.checkpoint import read_newest
from anymri.engine.distributed import Processes
from anymri.engine.model import WeightsHeader, read_model, write_weights
from anymri.engine.run import RunFolder, Window
from anymri.engine.training import fit
from anymri.losses.regions import region_logits
from anymri.methods.retrieval import Features, Retrieval, RetrievalConfig
from anymri.nn.bank import NOBODY, Bank, case_number

from ..material import back_propagated, made_batch, made_patient, mixed_presence, short_run, task_with, tiny, with_absent

CPU = torch.device("cpu")


def retrieval(task: Task = GLIOMA, *, filled: bool = True, **options: Any) -> Retrieval:
    """Return the method; its bank full of other cases if asked."""
    method = tiny("retrieval", task, **options)
    assert isinstance(method, Retrieval)
    if filled:
        entries, generator = len(method.bank.cases), torch.Generator().manual_seed(1)
        method.bank.enter(torch.randn(method.bank.features.shape, generator=generator), torch.arange(1, entries + 1))
    return method


def encoded(method: Retrieval, batch: Batch) -> Features:
    return method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)


def side_by_side(method: Retrieval, batch: Batch, keep_BM: Tensor, lent_BMF: Tensor) -> Tensor:
    """Return the logits that the description gives: features concatenated over modalities, lent ones where nothing is kept."""
    every = [encoder(batch.image_BMDHW[:, m : m + 1]) for m, encoder in enumerate(method.encoders)]
    lent = lent_BMF.split(method.config.widths, -1)
    *skips, x = (
        torch.cat(
            [
                torch.where(keep_BM[:, m, None, None, None, None], f[level], lent[level][:, m, :, None, None, None])
                for m, f in enumerate(every)
            ],
            1,
        )
        for level in range(len(method.config.widths))
    )
    decoder = method.decoder
    for up, block, skip in zip(decoder.ups, decoder.blocks, reversed(skips), strict=True):
        x = block(torch.cat((up(x), skip), 1))
    return region_logits(decoder.heads[-1](x), method.task.membership)


@torch.inference_mode()
def test_an_empty_bank_leaves_absent_features_zero() -> None:
    method, batch = retrieval(filled=False).eval(), made_batch(GLIOMA, size=4)
    keep = torch.tensor(mixed_presence(GLIOMA))
    found = method.decode(encoded(method, batch), keep)
    expected = side_by_side(method, batch, keep, torch.zeros(4, 4, sum(method.config.widths)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_what_is_absent_is_lent_at_every_level() -> None:
    method, batch = retrieval().eval(), made_batch(GLIOMA, size=4)
    keep = torch.tensor(mixed_presence(GLIOMA))
    features = encoded(method, batch)
    lent = method.bank.answer(features.pooled, keep)
    assert all(part[~keep].any() for part in lent.split(method.config.widths, -1)) and not lent[keep].any()
    expected = side_by_side(method, batch, keep, lent)
    torch.testing.assert_close(method.decode(features, keep), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, side_by_side(method, batch, keep, torch.zeros_like(lent)), atol=1e-2)


@torch.inference_mode()
def test_the_descriptor_is_the_mean_of_the_deepest_features() -> None:
    method, batch = retrieval(), made_batch(GLIOMA, size=2, present=((True,) * 4, (False, True, True, False)))
    pooled = encoded(method, batch).pooled
    assert pooled.shape == (2, 4, 4 + 6)
    levels = method.encoders[1](batch.image_BMDHW[:, 1:2])
    torch.testing.assert_close(pooled[:, 1], torch.cat([f.mean((2, 3, 4)) for f in levels], 1))
    assert not pooled[1, 0].any() and pooled[1, 2].any()


@torch.inference_mode()
def test_all_modalities_never_touch_the_bank() -> None:
    method, batch = retrieval().eval(), made_batch(GLIOMA, size=2)
    before = method(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    method.bank.features.fill_(torch.nan)
    assert torch.equal(before, method(batch.image_BMDHW, batch.present_BM, batch.origin_B3))


@torch.inference_mode()
def test_the_order_of_entries_changes_nothing() -> None:
    method, batch = retrieval(entries=16, nearest=5).eval(), made_batch(GLIOMA, size=4)
    keep, features = torch.tensor(mixed_presence(GLIOMA)), encoded(method, batch)
    before, order = method.decode(features, keep), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    method.bank.features.copy_(method.bank.features[order])
    method.bank.cases.copy_(method.bank.cases[order])
    assert torch.equal(before, method.decode(features, keep))


@torch.inference_mode()
def test_neighbours_may_be_told_apart_by_what_is_their_own() -> None:
    batch, keep = made_batch(GLIOMA, size=2), torch.tensor([[True, False, True, True]] * 2)
    plain, centred = (retrieval(entries=16, nearest=5, similarity=s).eval() for s in ("cosine", "centred"))
    features = encoded(plain, batch)
    assert plain.bank.measure == "cosine" == RetrievalConfig().similarity and centred.bank.measure == "centred"
    assert plain.state_dict().keys() == centred.state_dict().keys()
    found = [m.decode(features, keep) for m in (plain, centred)]
    assert torch.isfinite(found[1]).all() and not torch.equal(*found)


@pytest.mark.parametrize("task", [PROSTATE, GLIOMA, task_with(5)], ids=lambda t: t.name)
@torch.inference_mode()
def test_a_full_bank_sees_nothing_absent_and_no_neighbour(task: Task) -> None:
    method = retrieval(task).eval()
    batch = made_batch(task, size=4, present=mixed_presence(task))
    logits = method(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    spoilt = with_absent(batch, torch.nan)
    assert torch.equal(logits, method(spoilt.image_BMDHW, spoilt.present_BM, spoilt.origin_B3))
    whole = made_batch(task, size=4)
    features = encoded(method, whole)
    for subset in method.supports():
        keep = torch.tensor([subset.mask] * 4)
        hidden = with_absent(replace(whole, present_BM=keep), torch.nan).image_BMDHW
        found = method.decode(features, keep)
        assert torch.equal(found, method.decode(method.encode(hidden, whole.present_BM, whole.origin_B3), keep))
        assert torch.equal(found, method(hidden, keep, whole.origin_B3))
        one = method(hidden[:1], keep[:1], whole.origin_B3[:1])
        torch.testing.assert_close(found[:1], one, rtol=0, atol=1e-5)


def test_all_subsets_cost_one_encoding() -> None:
    method, batch = retrieval().eval(), made_batch(GLIOMA, size=1)
    runs: Counter[int] = Counter()
    for m, encoder in enumerate(method.encoders):
        encoder.register_forward_hook(lambda *_, m=m: runs.update([m]))
    with torch.inference_mode():
        features = encoded(method, batch)
        for subset in method.supports():
            method.decode(features, torch.tensor([subset.mask]))
        assert runs == {0: 1, 1: 1, 2: 1, 3: 1}
        method.encode(batch.image_BMDHW, torch.tensor([[False, False, True, False]]), batch.origin_B3)
    assert runs == {0: 1, 1: 1, 2: 2, 3: 1}


def test_in_training_a_case_is_not_lent_its_own_features() -> None:
    batch = made_batch(GLIOMA, size=2)
    empty, own, others = (retrieval(filled=False) for _ in range(3))
    features = torch.randn(4, 4, 10, generator=torch.Generator().manual_seed(0))
    numbers = [case_number(name) for name in batch.names]
    own.bank.enter(features[:2], torch.tensor(numbers[:1] * 2))
    others.bank.enter(features[:2], torch.tensor([1, 2]))
    one = replace(batch, image_BMDHW=batch.image_BMDHW[:1], names=batch.names[:1])
    one = replace(one, present_BM=batch.present_BM[:1], target_BRDHW=batch.target_BRDHW[:1])
    one = replace(one, known_BR=batch.known_BR[:1], origin_B3=batch.origin_B3[:1])
    differ = 0
    for seed in range(6):  # One of the fifteen subsets drawn is the whole.
        nothing, itself, another = (back_propagated(m, one, seed=seed)[0][0].value for m in (empty, own, others))
        assert torch.equal(nothing, itself)
        differ += not torch.equal(nothing, another)
    assert differ >= 4


def test_complete_windows_are_observed_and_nothing_is_written_meanwhile() -> None:
    present = ((True,) * 4, (True, False, True, True), (True,) * 4)
    method, batch = retrieval(filled=False), made_batch(GLIOMA, size=3, present=present)
    back_propagated(method, batch)
    assert not method.bank.filled()
    observed = method.observed()
    assert observed["cases"].tolist() == [case_number(batch.names[0]), NOBODY, case_number(batch.names[2])]
    assert torch.equal(observed["features"], encoded(method, batch).pooled) and not observed["features"].requires_grad
    assert method.observed() == {}
    method.remember(observed)
    assert torch.equal(method.bank.features[:2], observed["features"][[0, 2]]) and method.bank.written.item() == 2
    # What was given up half-way leaves nothing behind but the last batch.
    back_propagated(method, batch)
    back_propagated(method, made_batch(GLIOMA, seed=5, size=1))
    assert len(method.observed()["cases"]) == 1


def test_a_synthetic_patient_is_nobody_in_the_bank() -> None:
    method, batch = retrieval(filled=False), made_batch(GLIOMA, size=3)
    back_propagated(method, replace(batch, names=("a", synthetic_name("head.nii.gz"), "b")))
    observed = method.observed()
    assert observed["cases"].tolist() == [case_number("a"), NOBODY, case_number("b")]
    method.remember(observed)
    assert method.bank.written.item() == 2 and case_number(synthetic_name("head.nii.gz")) not in method.bank.cases.tolist()


def trained(folder: Path, **settings: Any) -> tuple[Retrieval, dict[str, Tensor]]:
    """Return a trained network, and its last checkpoint, of three patients of which one is incomplete."""
    patients = [made_patient(GLIOMA, n, present=(True, n < 2, True, True)) for n in range(3)]
    method = fit(short_run("retrieval", **settings), patients, RunFolder(folder), resume=False, device=CPU)
    found = read_newest(RunFolder(folder).checkpoints)
    assert isinstance(method, Retrieval) and found is not None
    return method, found[0]


def test_training_fills_the_bank_with_complete_cases(tmp_path: Path) -> None:
    method, checkpoint = trained(tmp_path, steps=6, batch=3, accumulate=2)
    complete = {case_number("case_0"), case_number("case_1")}
    assert set(method.bank.cases.tolist()) <= complete and method.bank.filled()
    assert len(method.bank.cases) < method.bank.written.item() < 36
    # The bank is what was seen last, not an average of what was seen in the same place; weights are averaged.
    assert not any(name.startswith("averaged.bank") for name in checkpoint)
    for name in ("features", "cases", "written"):
        assert torch.equal(checkpoint[f"method.bank.{name}"], method.bank.state_dict()[name])
    weight = "decoder.heads.0.bias"
    assert not torch.equal(checkpoint[f"method.{weight}"], method.state_dict()[weight])


def test_a_step_is_remembered_in_the_order_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[int, Mapping[str, Tensor]] = {
        p: {"features": torch.full((2, 4, 10), 1.0 + p), "cases": torch.tensor([10 + p, NOBODY if p == 1 else 20 + p])}
        for p in range(4)
    }
    alone = retrieval(filled=False, entries=8)
    engine_step._remember(alone, parts, 4)
    assert alone.bank.cases.tolist() == [10, 20, 11, 12, 22, 13, 23, NOBODY]
    assert alone.bank.features[:7, 0, 0].tolist() == [1, 1, 2, 3, 3, 4, 4]
    for rank in range(2):  # Each of two processes knows every second part; the other's rows reach it by a sum.
        mine, theirs = ({p: parts[p] for p in range(r, 4, 2)} for r in (rank, 1 - rank))

        def sum_(self: Processes, tensors: Sequence[Tensor], others: Mapping[int, Mapping[str, Tensor]] = theirs) -> None:
            for tensor, name in zip(tensors, ("features", "cases"), strict=True):
                for part, rows in others.items():
                    tensor[part] += rows[name]

        monkeypatch.setattr(Processes, "sum_", sum_)
        shared = retrieval(filled=False, entries=8)
        engine_step._remember(shared, mine, 4)
        assert all(torch.equal(value, shared.bank.state_dict()[k]) for k, value in alone.bank.state_dict().items())


def test_methods_that_observe_nothing_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny("dropout_unet", GLIOMA)
    monkeypatch.setattr(Processes, "sum_", lambda *_: pytest.fail("there is nothing to add up"))
    engine_step._remember(method, {0: method.observed(), 2: {}}, 4)


@torch.inference_mode()
def test_weights_hold_the_bank_and_inference_leaves_it_as_it_is(tmp_path: Path) -> None:
    method, batch = retrieval().eval(), made_batch(GLIOMA, size=1)
    config = method.config.model_dump(mode="json")
    header = WeightsHeader(name="w", method="retrieval", config=config, task=GLIOMA.name, window=Window())
    method.strip()
    write_weights(tmp_path / "w.safetensors", method.state_dict(), header)
    read = read_model(tmp_path / "w.safetensors").method
    assert isinstance(read, Retrieval)
    before = {k: v.clone() for k, v in read.bank.state_dict().items()}
    torch.testing.assert_close(before["features"], method.bank.features, rtol=1e-3, atol=1e-4)
    assert torch.equal(before["cases"], method.bank.cases) and torch.equal(before["written"], method.bank.written)
    keep = torch.tensor([[True, False, True, False]])
    found, expected = (m.decode(encoded(m, batch), keep) for m in (read, method))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    assert all(torch.equal(v, read.bank.state_dict()[k]) for k, v in before.items())


def test_a_training_that_starts_from_weights_starts_from_their_bank(tmp_path: Path) -> None:
    method = retrieval()
    config = method.config.model_dump(mode="json")
    header = WeightsHeader(name="w", method="retrieval", config=config, task=GLIOMA.name, window=Window())
    write_weights(tmp_path / "w.safetensors", method.state_dict(), header)
    again, _ = trained(tmp_path / "run", init=str(tmp_path / "w.safetensors"), steps=1, batch=1)
    assert method.bank.written.item() <= again.bank.written.item() <= method.bank.written.item() + 1
    assert again.bank.cases.tolist()[1:] == method.bank.cases.tolist()[1:]


def test_every_size_has_the_bank_of_the_description() -> None:
    for size in ("small", "base", "paper"):
        config = RetrievalConfig.sized(size)
        assert (config.entries, config.nearest, config.temperature) == (512, 5, 0.1)
    assert RetrievalConfig.sized("base").widths[0] == 16 and RetrievalConfig.holds
    with torch.device("meta"):
        method = RetrievalConfig.sized("base").build(GLIOMA)
    assert isinstance(method, Retrieval) and isinstance(method.bank, Bank)
    assert len(method.encoders) == 4 and all(isinstance(e, nn.Module) for e in method.encoders)
    assert not list(method.bank.parameters()) and method.bank.features.shape == (512, 4, 16 + 32 + 64 + 128)
