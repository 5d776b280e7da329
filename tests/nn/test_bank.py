"""A bank against what can be worked out by hand: who is overwritten, who is asked, who answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from anymri.nn.bank import NOBODY, Bank, case_number


def bank(entries: Sequence[Sequence[Sequence[float]]], *, cases: Sequence[int] | None = None, nearest: int = 2) -> Bank:
    """Return a full bank of descriptors alone, [entry][modality][feature]."""
    features = torch.tensor(entries)
    made = Bank(len(features), features.shape[1], features.shape[2:], nearest=nearest, temperature=0.1)
    made.enter(features, torch.tensor(cases or range(1, 1 + len(features))))
    return made


def rows(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None].expand(-1, 2, 3)


def kept(*flags: bool) -> Tensor:
    return torch.tensor([flags])


def test_the_oldest_entry_is_overwritten() -> None:
    made = Bank(3, 2, (1, 2), nearest=1, temperature=0.1)
    assert not made.filled() and made.features.shape == (3, 2, 3)
    made.enter(rows(10.0, 20.0), torch.tensor([1, 2]))
    assert made.filled() and made.cases.tolist() == [1, 2, NOBODY] and made.features[:, 0, 0].tolist() == [10, 20, 0]
    made.enter(rows(30.0, 40.0), torch.tensor([3, 4]))
    assert made.cases.tolist() == [4, 2, 3] and made.features[:, 1, 2].tolist() == [40, 20, 30]
    made.enter(rows(50.0, 60.0, 70.0), torch.tensor([5, NOBODY, 7]))  # The row of nobody takes no place.
    assert made.cases.tolist() == [4, 5, 7] and made.features[:, 0, 0].tolist() == [40, 50, 70]
    made.enter(rows(*(float(n) for n in range(81, 86))), torch.arange(81, 86))  # More than there is room for: the last remain.
    assert made.written.item() == 11 and sorted(made.cases.tolist()) == [83, 84, 85]
    assert made.features[:, 0, 0].tolist() == made.cases.tolist()
    made.enter(rows(9.0), torch.tensor([NOBODY]))
    assert made.written.item() == 11
    # The next place follows from how many were written: the oldest there is.
    made.enter(rows(86.0), torch.tensor([86]))
    assert sorted(made.cases.tolist()) == [84, 85, 86]


def test_similarity_is_the_cosine_over_what_is_kept() -> None:
    entries = [[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 0.0], [0.0, 5.0]]]
    query = torch.tensor([[[2.0, 0.0], [0.0, 7.0], [1.0, 0.0]]])
    made = bank(entries)
    for keep, expected in (
        (kept(True, False, False), [1.0, 0.6]),
        (kept(False, True, False), [1.0, 0.0]),
        (kept(True, True, False), [1.0, 0.3]),
        (kept(True, True, True), [(2 + math.sqrt(0.5)) / 3, 0.2]),
    ):
        torch.testing.assert_close(made.similarity(query, keep), torch.tensor([expected]))
        # As one cosine of the concatenated vectors.
        m = keep[0]
        ours, theirs = (torch.nn.functional.normalize(x[..., m, :], dim=-1).flatten(-2) for x in (query, torch.tensor(entries)))
        torch.testing.assert_close(made.similarity(query, keep), torch.cosine_similarity(ours[:, None], theirs[None], dim=-1))


def test_the_nearest_answer_by_their_similarity() -> None:
    # Cosines with the first modality of the query: 1, 0.8, -1.
    entries = [[[1.0, 0.0], [10.0, 0.0]], [[0.8, 0.6], [20.0, 1.0]], [[-1.0, 0.0], [1000.0, 0.0]]]
    query = torch.tensor([[[5.0, 0.0], [torch.nan, torch.nan]]])
    found = bank(entries).answer(query, kept(True, False))
    first, second = (math.exp(c / 0.1) / (math.exp(10) + math.exp(8)) for c in (1.0, 0.8))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0], [10 * first + 20 * second, second]]]))
    every = bank(entries, nearest=5).answer(query, kept(True, False))  # More than there are.
    weights = torch.tensor([1.0, 0.8, -1.0]).div(0.1).softmax(0)
    torch.testing.assert_close(every[0, 1, 0], (weights * torch.tensor([10.0, 20.0, 1000.0])).sum())


def nearly_parallel(count: int, *, seed: int = 0) -> Tensor:
    """Return pooled features as a norm leaves them: a large part that all share, and a small one of their own."""
    generator = torch.Generator().manual_seed(seed)
    return 5 + 0.2 * torch.randn(count, 3, 16, generator=generator)


def test_without_the_mean_of_the_bank_neighbours_weigh_as_they_differ() -> None:
    features, query, keep = nearly_parallel(20), nearly_parallel(1, seed=1), kept(True, True, False)
    plain, centred = (Bank(32, 3, (16,), nearest=5, temperature=0.1, similarity=s) for s in ("cosine", "centred"))
    for made in (plain, centred):
        made.enter(features, torch.arange(1, 21))
    weights = [(m.similarity(query, keep)[:, :20] / 0.1).topk(5).values.softmax(1)[0] for m in (plain, centred)]
    assert weights[0].max() - weights[0].min() < 0.01 and weights[1].max() - weights[1].min() > 0.1
    # By hand: over the twenty entries there are, the twelve empty places aside.
    mean = features.mean(0)
    rest = [torch.nn.functional.normalize(x - mean, dim=-1)[:, :2].flatten(1) for x in (query, features)]
    torch.testing.assert_close(
        centred.similarity(query, keep)[:, :20], torch.cosine_similarity(rest[0][:, None], rest[1][None], dim=-1)
    )
    # What is lent are the features themselves.
    whole = Bank(20, 3, (16,), nearest=20, temperature=1e9, similarity="centred")
    whole.enter(features, torch.arange(1, 21))
    torch.testing.assert_close(whole.answer(query, keep)[0, 2], mean[2])


def test_a_centred_query_sees_nothing_absent_and_has_a_gradient() -> None:
    made = Bank(4, 3, (16,), nearest=2, temperature=0.1, similarity="centred")
    query, keep = nearly_parallel(2, seed=1), kept(True, False, True).expand(2, -1)
    query[:, 1] = torch.nan
    assert torch.isfinite(made.similarity(query, keep)).all()  # An empty bank.
    for count in (1, 4):
        made.enter(nearly_parallel(count), torch.arange(1, count + 1))
        asked = query.clone().requires_grad_()
        found = made.answer(asked, keep)
        (gradient,) = torch.autograd.grad(found.sum(), asked)
        assert torch.isfinite(found).all() and torch.isfinite(gradient).all()
    assert gradient[:, 0].any() and not gradient[:, 1].any()


def test_levels_above_the_bottleneck_are_lent_but_not_compared() -> None:
    made = Bank(2, 2, (1, 2), nearest=1, temperature=0.1)
    made.enter(torch.tensor([[[9.0, 1.0, 0.0], [3.0, 0.0, 0.0]], [[1.0, 0.0, 1.0], [4.0, 0.0, 0.0]]]), torch.tensor([1, 2]))
    found = made.answer(torch.tensor([[[1.0, 5.0, 0.0], [0.0, 0.0, 0.0]]]), kept(True, False))
    assert found.tolist() == [[[0, 0, 0], [3, 0, 0]]]


def test_a_case_does_not_answer_itself() -> None:
    entries = [[[1.0, 0.0], [10.0, 0.0]], [[0.0, 1.0], [20.0, 0.0]]]
    made, query = bank(entries, cases=(7, 8), nearest=1), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    for case, expected in ((None, 10), (7, 20), (8, 10), (9, 10)):
        found = made.answer(query, kept(True, False), None if case is None else torch.tensor([case]))
        assert found[0, 1, 0].item() == expected


@pytest.mark.parametrize("cases", [(7, 7), (NOBODY, NOBODY)])
def test_nobody_to_ask_is_zero_and_has_a_gradient(cases: tuple[int, int]) -> None:
    made = bank([[[1.0, 0.0], [10.0, 0.0]]] * 2, cases=cases)
    query = torch.ones(1, 2, 2, requires_grad=True)
    found = made.answer(query, kept(True, False), torch.tensor([7]))
    assert not found.any()
    found.sum().backward()
    assert query.grad is not None and not query.grad.any()


def test_the_order_of_entries_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    features, query = torch.randn(20, 3, 4, generator=generator), torch.randn(5, 3, 4, generator=generator)
    keep = torch.rand(5, 3, generator=generator) < 0.5
    keep[:, 0] = True
    order = torch.randperm(20, generator=generator)
    plain, mixed = (Bank(20, 3, (1, 3), nearest=5, temperature=0.1) for _ in range(2))
    plain.enter(features, torch.arange(1, 21))
    mixed.enter(features[order], 1 + order)
    cases = torch.arange(1, 6)
    assert torch.equal(plain.answer(query, keep, cases), mixed.answer(query, keep, cases))
    assert plain.answer(query, keep).any()


def test_queries_learn_and_entries_do_not() -> None:
    made, query = bank([[[1.0, 0.0], [1.0, 2.0]], [[0.6, 0.8], [3.0, 4.0]]]), torch.tensor([[[2.0, 1.0], [0.0, 0.0]]])
    query.requires_grad_()
    made.answer(query, kept(True, False)).sum().backward()
    assert query.grad is not None and query.grad[0, 0].any() and not query.grad[0, 1].any()
    assert not list(made.parameters()) and not made.features.requires_grad
    assert set(made.state_dict()) == {"features", "cases", "written"}


def test_the_number_of_a_case_is_always_the_same() -> None:
    # Of the names' SHA-256, not of Python's hash, which differs between processes.
    assert case_number("case_0") == 4243585986592399473
    numbers = [case_number(f"case_{i}") for i in range(1000)]
    assert len(set(numbers)) == 1000 and all(0 < n < 2**63 for n in numbers)
