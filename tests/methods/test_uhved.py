"""U-HVED against its description: products, divergences over all subsets, reconstructions, what a step keeps in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.losses.gaussians import subset_divergences
from anymri.methods.method import Term
from anymri.methods.uhved import UHVED, Features, UHVEDConfig

from ..material import back_propagated, held_by_graphs, in_one_pass, made_batch, task_with, tiny


def uhved(task: Task = GLIOMA, **options: Any) -> UHVED:
    method = tiny("uhved", task, **options)
    assert isinstance(method, UHVED)
    return method


def encoded(method: UHVED, batch: Batch) -> Features:
    return method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)


def terms_of(method: UHVED, batch: Batch, *, seed: int = 0) -> Iterator[Term]:
    return method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(seed))


def kept(*indices: int, modalities: int = 4) -> Tensor:
    return torch.tensor([[m in indices for m in range(modalities)]])


def speaking(mean: float, precision: float, modalities: int) -> Features:
    """Return features of one level and one sample of which every modality says the same."""
    said = torch.full((1, 1, 2, 2, 2), precision)
    return Features(((said,) * modalities,), ((said * mean,) * modalities,), torch.ones(1, modalities, dtype=torch.bool))


@pytest.mark.parametrize(
    ("size", "whole", "kept"), [("tiny", 9_040, 4_700), ("small", 1_397_240, 1_019_540), ("base", 5_577_960, 4_069_924)]
)
def test_parameters_are_those_of_the_first_implementation(size: Any, whole: int, kept: int) -> None:
    with torch.device("meta"):
        method = UHVEDConfig.sized(size).build(GLIOMA)
    assert sum(p.numel() for p in method.parameters()) == whole
    method.strip()
    assert sum(p.numel() for p in method.parameters()) == kept


def test_there_are_an_encoder_and_a_painter_for_each_modality() -> None:
    for task in (PROSTATE, GLIOMA, task_with(5)):
        method, n = uhved(task), len(task.modalities)
        assert len(method.encoders) == n and method.painters is not None and len(method.painters) == n
    assert UHVEDConfig.sized("small").widths == UHVEDConfig.sized("paper").widths == (8, 16, 32, 64)


def test_in_evaluation_the_mean_is_decoded() -> None:
    method, batch = uhved().eval(), made_batch(GLIOMA, size=1)
    seen: list[Tensor] = []
    method.segmenter.register_forward_pre_hook(lambda module, given: seen.extend([given[0], *given[1]]))
    with torch.inference_mode():
        features = encoded(method, batch)
        method.decode(features, kept(1, 2))
    for level, z in zip((1, 0), seen, strict=True):
        precision = 1 + features.precisions[level][1] + features.precisions[level][2]
        torch.testing.assert_close(z, (features.weighted[level][1] + features.weighted[level][2]) / precision)


def test_in_training_a_sample_of_a_drawn_subset_is_decoded_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymri.methods.uhved.draw_by_size", lambda present, generator: kept(1, 2))
    method, batch = uhved(), made_batch(GLIOMA, size=1)
    seen: list[list[Tensor]] = []
    assert method.painters is not None
    for decoder in (method.segmenter, *method.painters):
        decoder.register_forward_pre_hook(lambda module, given: seen.append([given[0], *given[1]]))
    back_propagated(method, batch, seed=5)
    mean, precision = encoded(method, batch).of(kept(1, 2))[0]
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(seen[0][1], (mean + noise / precision.sqrt()).detach())
    assert len(seen) == 5
    assert all(torch.equal(a, b) for later in seen[1:] for a, b in zip(later, seen[0], strict=True))


def test_all_subsets_cost_one_encoding() -> None:
    method, batch = uhved().eval(), made_batch(GLIOMA, size=1)
    runs: Counter[int] = Counter()
    for m, encoder in enumerate(method.encoders):
        encoder.register_forward_hook(lambda *_, m=m: runs.update([m]))
    with torch.inference_mode():
        features = encoded(method, batch)
        for subset in method.supports():
            method.decode(features, torch.tensor([subset.mask]))
        assert runs == {0: 1, 1: 1, 2: 1, 3: 1}
        method.encode(batch.image_BMDHW, kept(2), batch.origin_B3)
    assert runs == {0: 1, 1: 1, 2: 2, 3: 1}


def test_reconstructions_are_of_all_that_is_at_hand() -> None:
    # The first sample has all, the second two: each counts one half, and within it every modality alike.
    batch = made_batch(GLIOMA, size=2, present=((True,) * 4, (False, True, False, True)))
    method = uhved()
    assert method.painters is not None
    for painter in method.painters:
        for parameter in painter.head.parameters():  # type: ignore[union-attr]
            nn.init.zeros_(parameter)
    squares = batch.image_BMDHW.square().mean((2, 3, 4))
    found = [t for t in back_propagated(method, batch)[0] if t.name == "reconstruction"]
    expected = [squares[0, m] / 8 + (squares[1, m] / 4 if m in (1, 3) else 0) for m in range(4)]
    torch.testing.assert_close(torch.stack([t.value for t in found]), torch.stack(expected))
    assert all(t.weight == 0.1 for t in found)


def test_divergences_are_the_mean_over_levels() -> None:
    present = ((True,) * 3, (True, False, True))
    method, batch = uhved(PROSTATE), made_batch(PROSTATE, size=2, present=present)
    features = encoded(method, batch)
    terms = list(method._divergences(features))
    assert {(t.name, t.weight) for t in terms} == {("divergence", 0.1)}
    for level, term in enumerate(terms):
        whole = subset_divergences(features.precisions[level], features.weighted[level], batch.present_BM)
        torch.testing.assert_close(term.value, whole / 2)


def test_subsets_are_drawn_uniformly_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    original = Features.of
    monkeypatch.setattr(Features, "of", lambda self, keep: seen.append(keep) or original(self, keep))
    method, batch = uhved(), made_batch(GLIOMA, size=4)
    sizes: Counter[int] = Counter()
    for seed in range(60):
        next(terms_of(method, batch, seed=seed))
        sizes.update(seen.pop().sum(1).tolist())
    assert set(sizes) == {1, 2, 3, 4}
    assert sum((n - 60) ** 2 / 60 for n in sizes.values()) < 16.3  # 99.9 % with 3 degrees of freedom


def test_terms_that_are_switched_off_are_left_out() -> None:
    batch = made_batch(GLIOMA, size=1)
    for options, names in (
        ({}, {"seg": 1, "reconstruction": 4, "latent": 1, "divergence": 2, "encoders": 1}),
        ({"divergence": 0.0}, {"seg": 1, "reconstruction": 4, "latent": 1, "encoders": 1}),
        ({"reconstruction": 0.0}, {"seg": 1, "latent": 1, "divergence": 2, "encoders": 1}),
    ):
        method = uhved(**options)
        assert Counter(t.name for t in back_propagated(method, batch)[0]) == names
        assert (method.painters is None) is ("reconstruction" in options)


def test_a_stripped_method_segments_and_cannot_be_trained() -> None:
    method, batch = uhved(), made_batch(GLIOMA, size=1)
    with torch.inference_mode():
        before = method(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
        method.strip()
        assert torch.equal(before, method(batch.image_BMDHW, batch.present_BM, batch.origin_B3))
    assert not any(name.startswith("painters") for name in method.state_dict())
    with pytest.raises(RuntimeError, match="stripped"):
        next(terms_of(method, batch))


def test_the_last_terms_stand_for_one_backward_pass_through_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # so that objectives do not round in between
    method, batch = uhved().double(), made_batch(GLIOMA, size=2, present=((True,) * 4, (True, False, True, True)))
    batch = replace(batch, image_BMDHW=batch.image_BMDHW.double(), target_BRDHW=batch.target_BRDHW.double())
    terms, found = back_propagated(method, batch)
    assert [t.name for t in terms if not t.measured] == ["latent", "encoders"]
    ordinary = in_one_pass(method, batch, monkeypatch)
    assert ordinary.keys() == found.keys()
    for name, gradient in ordinary.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_memory_does_not_grow_with_the_number_of_subsets_and_reconstructions() -> None:
    """What graphs hold when a term is handed out: as much for the last of its kind as for the first."""
    method, batch = uhved(task_with(5)), made_batch(task_with(5), size=1)
    held = held_by_graphs(method, batch)
    assert len(held["divergence"]) == 2 and len(held["reconstruction"]) == 5
    assert len(set(held["reconstruction"])) == 1 and min(held["encoders"]) > 0
    assert held["encoders"][0] <= min(held["divergence"])
