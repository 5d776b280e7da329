"""CCSD against its equations, worked out by hand on tiny tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from math import comb
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.losses.subsets import students_of
from anymri.methods.ccsd import CCSD, Features
from anymri.methods.method import Term
from anymri.nn.leaves import Leaves

from ..material import back_propagated, in_one_pass, made_batch, task_with, tiny


def ccsd(task: Task = GLIOMA, **options: Any) -> CCSD:
    method = tiny("ccsd", task, **options)
    assert isinstance(method, CCSD)
    return method


def features_of(fused: list[list[float]], present: list[bool] | None = None) -> Features:
    """Return features whose f_fused are these vectors, one sample."""
    vectors = tuple(torch.tensor(v).reshape(1, -1, 1, 1, 1) for v in fused)
    return Features(vectors, vectors, vectors, (), torch.tensor([present or [True] * len(fused)]))


def encoded(method: CCSD, batch: Batch) -> Features:
    return method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)


def terms_of(method: CCSD, batch: Batch, seed: int = 0) -> Iterator[Term]:
    return method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(seed))


def divergence(teacher: Tensor, student: Tensor, temperature: float = 2.0) -> Tensor:
    """Return KL of softmax over channels, mean over voxels, by torch, of one sample."""
    p, q = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    return F.kl_div(q, p, log_target=True, reduction="none").sum(1).mean()


def kept(task: Task, indices: tuple[int, ...]) -> Tensor:
    return torch.tensor([[m in indices for m in range(len(task.modalities))]])


def direction(degrees: float, length: float) -> list[float]:
    return [length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))]


# Cosines: 01 → 0.643, 02 → −0.342, 03 → −0.940, 12 → 0.5, 13 → −0.866, 23 → 0.
FOUR = [direction(0, 1), direction(50, 5), direction(110, 2), direction(200, 0.1)]


def test_criticality_by_hand() -> None:
    method = ccsd()
    features = features_of(FOUR)
    scores = method.criticality(features, features.present, None)
    torch.testing.assert_close(scores, torch.tensor([[0.6389, -0.2768, -0.1580, 1.8057]]), rtol=0, atol=1e-4)


def test_criticality_is_among_the_kept_alone() -> None:
    method = ccsd()
    features = features_of(FOUR)
    features.fused[2].fill_(torch.nan)
    scores = method.criticality(features, torch.tensor([[True, True, False, True]]), None)
    torch.testing.assert_close(scores[0, [0, 1, 3]], torch.tensor([0.2969, 0.2232, 1.8057]), rtol=0, atol=1e-4)
    assert scores[0, 2] == -torch.inf


def test_gradient_criticality_is_a_norm() -> None:
    method = ccsd(criticality="gradient")
    leaves, whole = Leaves(), features_of(FOUR)
    features = whole.mapped(leaves.cut)
    # What a term leaves: (3, 4), (0, 1), nothing at all, (5, 12).
    ((features.fused[0].flatten() @ torch.tensor([3.0, 4.0])) + features.fused[1].flatten()[1]).backward()
    (features.fused[3].flatten() @ torch.tensor([5.0, 12.0])).backward()
    leaves.gather()
    scores = method.criticality(features, torch.tensor([[True, True, True, False]]), method._gradient_scores(features, leaves))
    torch.testing.assert_close(scores, torch.tensor([[5.0, 1.0, 0.0, -torch.inf]]))


@pytest.mark.parametrize(
    ("options", "present", "order"),
    [
        ({"path": "most_critical"}, None, [3, 0, 2, 1]),
        ({"path": "least_critical"}, None, [1, 2, 0, 3]),
        # Without 3: 0 → −0.30, 1 → −1.14, 2 → −0.16: 2 goes. Then 0 and 1 tie, and over the full set 0 has the higher score.
        ({"path": "most_critical", "rescore": True}, None, [3, 2, 0, 1]),
        # Without 1: 0 → 1.28, 2 → 0.34, 3 → 0.94: 2 goes. Then 0 and 3 tie, and over the full set 0 has the lower score.
        ({"path": "least_critical", "rescore": True}, None, [1, 2, 0, 3]),
        ({"path": "most_critical"}, [True, True, True, False], [2, 0, 1]),
        ({"path": "least_critical"}, [True, True, True, False], [1, 0, 2]),
        ({"path": "most_critical", "rescore": True}, [True, True, True, False], [2, 0, 1]),
        ({"path": "most_critical"}, [False, True, False, False], [1]),
        ({"path": "most_critical", "rescore": True}, [False, True, False, False], [1]),
    ],
)
def test_removal_order(options: dict[str, Any], present: list[bool] | None, order: list[int]) -> None:
    found = ccsd(**options).removal_order(features_of(FOUR, present), None, torch.Generator())
    assert found == [order]


def test_ties_of_the_last_two_are_decided_by_the_full_set_however_numbers_round() -> None:
    method = ccsd(path="most_critical", rescore=True)
    for seed in range(20):
        vectors = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed))
        features = features_of(vectors.tolist())
        (order,) = method.removal_order(features, None, torch.Generator())
        full = method.criticality(features, features.present, None)[0]
        assert full[order[2]] >= full[order[3]]


def test_each_sample_has_its_own_path() -> None:
    one, other = features_of(FOUR), features_of(FOUR[::-1])
    both = Features(*[tuple(torch.cat(pair) for pair in zip(one.fused, other.fused, strict=True))] * 3, (), torch.ones(2, 4) > 0)
    assert ccsd().removal_order(both, None, torch.Generator()) == [[3, 0, 2, 1], [0, 3, 1, 2]]


def test_a_random_path_is_uniform_over_the_orders_of_what_is_present() -> None:
    method, generator = ccsd(path="random"), torch.Generator().manual_seed(0)
    features = features_of(FOUR, [True, False, True, True])
    found = Counter(tuple(method.removal_order(features, None, generator)[0]) for _ in range(600))
    assert len(found) == 6 and set(next(iter(found))) == {0, 2, 3}
    chi_square = sum((n - 100) ** 2 / 100 for n in found.values())
    assert chi_square < 20.5  # 99.9 % with 5 degrees of freedom


@pytest.mark.parametrize("absent", ["shared_mean", "zero"])
def test_what_stands_for_an_absent_modality(absent: str) -> None:
    method, batch = ccsd(absent=absent), made_batch(GLIOMA, size=1)
    features = encoded(method, batch)
    width = features.fused[0].shape[1]
    z = method.combined(features, kept(GLIOMA, (1, 3))).split(width, 1)
    assert torch.equal(z[1], features.fused[1]) and torch.equal(z[3], features.fused[3])
    filling = (features.shared[1] + features.shared[3]) / 2
    if absent == "zero":
        filling = method.encoders.shared(torch.zeros(1, 1, 8, 8, 8))[-1]
    torch.testing.assert_close(z[0], filling)
    torch.testing.assert_close(z[2], filling)


def test_the_composition_may_keep_what_is_shared() -> None:
    batch = made_batch(GLIOMA, size=1)
    plain, residual = encoded(ccsd(), batch), encoded(ccsd(residual=True), batch)
    for without, shared, found in zip(plain.fused, plain.shared, residual.fused, strict=True):
        torch.testing.assert_close(found, without + shared)


def test_skips_may_carry_what_is_specific() -> None:
    assert ccsd(skips="fused").reductions[0].shares[0].in_channels == 2 * ccsd().reductions[0].shares[0].in_channels  # type: ignore[union-attr, index]


@pytest.mark.parametrize("modalities", [2, 4, 5])
def test_students_are_all_subsets_of_a_drawn_size(modalities: int) -> None:
    present, generator = torch.ones(1, modalities, dtype=torch.bool), torch.Generator().manual_seed(1)
    sizes: Counter[int] = Counter()
    for _ in range(300):
        students = students_of(present, generator)
        (k,) = {int(keep.sum()) for keep, _ in students}
        sizes[k] += 1
        assert len(students) == comb(modalities, k)
        assert {tuple(keep[0].nonzero()[:, 0].tolist()) for keep, _ in students} == set(combinations(range(modalities), k))
    assert set(sizes) == set(range(1, modalities))
    expected = 300 / (modalities - 1)
    assert sum((n - expected) ** 2 / expected for n in sizes.values()) < 16.3  # 99.9 % with 3 degrees of freedom


def test_students_of_incomplete_cases_have_less_than_their_teacher() -> None:
    present = torch.tensor([[True] * 4, [True, False, True, False], [False, False, True, False], [False, True, True, True]])
    for seed in range(10):
        students = students_of(present, torch.Generator().manual_seed(seed))
        per_sample: list[list[tuple[bool, ...]]] = [[] for _ in range(4)]
        for keep, rows in students:
            for b, row in zip(rows.nonzero()[:, 0].tolist(), keep.tolist(), strict=True):
                per_sample[b].append(tuple(row))
        assert per_sample[2] == []  # one modality: nobody to teach
        assert sorted(per_sample[1]) == [(False, False, True, False), (True, False, False, False)]
        assert len(per_sample[0]) in (4, 6) and len(per_sample[3]) == 3
        for b, subsets in enumerate(per_sample):
            for subset in subsets:
                assert torch.tensor(subset).sum() < present[b].sum() and not (torch.tensor(subset) & ~present[b]).any()


def test_hmsd_is_the_mean_over_each_samplesstudents_of() -> None:
    # Of three modalities one or two make three students each, of two one makes two, of one there is none.
    present = ((True, True, True), (True, False, True), (False, True, False))
    method, batch = ccsd(PROSTATE, dmcd=0.0, hmsd=0.5), made_batch(PROSTATE, size=3, present=present)
    terms = [t for t in terms_of_backward(method, batch) if t.name == "hmsd"]
    assert len(terms) == 3 and all(t.weight == 0.5 for t in terms)
    whole: dict[int, list[Tensor]] = {}
    with torch.no_grad():
        for b, at_hand in ((0, (0, 1, 2)), (1, (0, 2))):
            one = slice(b, b + 1)
            features = method.encode(batch.image_BMDHW[one], batch.present_BM[one], batch.origin_B3[one])
            teacher = method._class_logits(features, batch.present_BM[one])
            for k in range(1, len(at_hand)):
                students = [method._class_logits(features, kept(PROSTATE, s)) for s in combinations(at_hand, k)]
                whole.setdefault(b, []).append(torch.stack([divergence(teacher, s) for s in students]).mean())
    found = sum(t.value for t in terms)
    assert any(torch.allclose(found, (first + whole[1][0]) / 3, rtol=1e-4) for first in whole[0])


def terms_of_backward(method: CCSD, batch: Batch, seed: int = 0) -> list[Term]:
    """Return every term, back-propagated as it comes."""
    return back_propagated(method, batch, seed=seed)[0]


@pytest.mark.parametrize("path", ["most_critical", "least_critical", "random"])
@pytest.mark.parametrize("absent", ["shared_mean", "zero"])
def test_dmcd_is_the_sum_along_the_path(path: str, absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    present = ((True, True, True, True), (True, False, True, True), (False, True, False, False))
    method, batch = ccsd(path=path, absent=absent, temperature=3.0), made_batch(GLIOMA, size=3, present=present)
    orders: list[list[list[int]]] = []
    original = CCSD.removal_order

    def spied(self: CCSD, *given: Any) -> list[list[int]]:
        orders.append(original(self, *given))
        return orders[-1]

    monkeypatch.setattr(CCSD, "removal_order", spied)
    (term,) = (t for t in terms_of_backward(method, batch) if t.name == "dmcd")
    expected = torch.zeros(())
    for b, order in enumerate(orders[0]):
        assert sorted(order) == [m for m, p in enumerate(present[b]) if p]
        one = slice(b, b + 1)
        features = method.encode(batch.image_BMDHW[one], batch.present_BM[one], batch.origin_B3[one])
        z = [method.combined(features, kept(GLIOMA, tuple(order[i:]))) for i in range(len(order))]
        expected = expected + sum(divergence(larger, smaller, 3.0) for larger, smaller in pairwise(z))
    torch.testing.assert_close(term.value, expected.detach() / 3, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distilled", ["shared", "specific"])
def test_other_features_may_be_distilled(distilled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = ccsd(task_with(2), distilled=distilled), made_batch(task_with(2), size=1)
    features = encoded(method, batch)
    first, second = features.shared if distilled == "shared" else features.specific
    zero = torch.zeros_like(first)
    teacher, students = torch.cat((first, second), 1), (torch.cat((first, zero), 1), torch.cat((zero, second), 1))
    terms = terms_of_backward(method, batch)
    hmsd = sum(t.value for t in terms if t.name == "hmsd")
    torch.testing.assert_close(hmsd, sum(divergence(teacher, s) for s in students).detach() / 2, rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]
    (dmcd,) = (t.value for t in terms if t.name == "dmcd")
    assert any(torch.allclose(dmcd, divergence(teacher, s), rtol=1e-4) for s in students)


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> list[Features]:
    """Return a list to which the detached features of every step are added."""
    seen: list[Features] = []
    original = Features.mapped

    def spied(self: Features, change: Any) -> Features:
        seen.append(original(self, change))
        return seen[-1]

    monkeypatch.setattr(Features, "mapped", spied)
    return seen


def tensors(features: Features) -> list[Tensor]:
    """Return every feature."""
    found: list[Tensor] = []
    features.mapped(lambda t: found.append(t) or t)
    return found


def test_nothing_flows_back_to_the_teachers(leaves: list[Features]) -> None:
    task = task_with(2)
    method, batch = ccsd(task), made_batch(task, size=1)
    checked = Counter[str]()
    for term in terms_of(method, batch):
        for leaf in tensors(leaves[0]):
            leaf.grad = None
        term.value.backward()
        if term.name in ("hmsd", "dmcd"):
            # The student has one of two modalities; what belongs to the other is seen by the teacher alone.
            touched = [[t.grad is not None and bool(t.grad.any()) for t in of] for of in (leaves[0].fused, leaves[0].shared)]
            assert sum(touched[0]) == 1 and touched[0] == touched[1]
            checked[term.name] += 1
        if term.name == "dmcd":
            break
    assert checked == {"hmsd": 2, "dmcd": 1}


def test_gradient_criticality_reads_what_the_full_set_left(leaves: list[Features], monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = ccsd(criticality="gradient"), made_batch(GLIOMA, size=1)
    given: list[Tensor] = []
    original = CCSD.removal_order

    def spied(self: CCSD, features: Features, gradient: Tensor, generator: torch.Generator) -> list[list[int]]:
        given.append(gradient)
        return original(self, features, gradient, generator)

    monkeypatch.setattr(CCSD, "removal_order", spied)
    expected: list[Tensor] = []
    for term in terms_of(method, batch):
        if term.name == "seg_full":
            expected = list(torch.autograd.grad(term.value, leaves[0].fused, retain_graph=True))
        (term.value * term.weight).backward()
    norms = torch.stack([g.norm() for g in expected])
    torch.testing.assert_close(given[0], norms[None])
    assert len(set(norms.tolist())) == 4


def test_gradient_criticality_needs_terms_that_are_back_propagated_as_they_come() -> None:
    method = ccsd(criticality="gradient")
    with pytest.raises(RuntimeError, match="back-propagate each term"):
        list(terms_of(method, made_batch(GLIOMA, size=1)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"absent": "zero", "skips": "fused"},
        {"skips": "fused", "residual": True},
        {"distilled": "shared"},
        {"distilled": "specific", "path": "least_critical", "rescore": True},
    ],
    ids=str,
)
def test_the_last_term_stands_for_one_backward_pass_through_everything(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # so that objectives do not round in between
    method, batch = ccsd(**options).double(), made_batch(GLIOMA, size=2, present=((True,) * 4, (True, False, True, True)))
    batch = replace(batch, image_BMDHW=batch.image_BMDHW.double(), target_BRDHW=batch.target_BRDHW.double())
    terms, found = back_propagated(method, batch)
    assert [t.name for t in terms][-1] == "encoders"
    ordinary = in_one_pass(method, batch, monkeypatch)
    assert ordinary.keys() == found.keys()
    for name, gradient in ordinary.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_terms_that_are_switched_off_are_left_out() -> None:
    batch = made_batch(GLIOMA, size=1)
    names = {t.name for t in terms_of_backward(ccsd(hmsd=0.0, dmcd=0.0), batch)}
    assert names == {"seg_full", "seg_subset", "encoders"}
    assert {t.name for t in terms_of_backward(ccsd(hmsd=0.0), batch)} == names | {"dmcd"}
    assert {t.name for t in terms_of_backward(ccsd(dmcd=0.0), batch)} == names | {"hmsd"}
    alone = made_batch(GLIOMA, size=1, present=((False, True, False, False),))
    assert {t.name for t in terms_of_backward(ccsd(), alone)} == names  # nobody to learn from


def test_with_an_absent_slot_of_zero_dmcd_teaches_the_view_of_nothing_alone(leaves: list[Features]) -> None:
    """Note b of the method's description: a removed slot's teacher can only pull at E_shared(0)."""
    method, batch = ccsd(absent="zero", hmsd=0.0), made_batch(GLIOMA, size=1)
    for term in terms_of(method, batch):
        for leaf in tensors(leaves[0]):
            leaf.grad = None
        term.value.backward()
        if term.name == "dmcd":
            break
    assert leaves[0].nothing is not None and leaves[0].nothing.grad is not None and leaves[0].nothing.grad.any()
    assert all(s.grad is None or not s.grad.any() for s in leaves[0].shared)
