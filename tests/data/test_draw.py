"""How modalities are dropped: frequencies by a chi-square with a fixed seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import comb

import pytest
import torch
from scipy import stats
from torch import Tensor

from anymri.data.draw import draw_bernoulli, draw_by_size, draw_subsets, draw_weighted

Draw = Callable[[Tensor, torch.Generator], Tensor]
DRAWS: dict[str, Draw] = {
    "subsets": draw_subsets,
    "by size": draw_by_size,
    "bernoulli": partial(draw_bernoulli, keep_probability=0.3),
}
PRESENT = torch.tensor([[True, True, True, True], [True, False, True, True], [False, True, False, False]])
every_draw = pytest.mark.parametrize("name", DRAWS)


def frequencies(draw: Draw, present: list[bool], count: int = 3000) -> Counter[tuple[bool, ...]]:
    rows = torch.tensor([present]).expand(count, -1).contiguous()
    return Counter(tuple(row) for row in draw(rows, torch.Generator().manual_seed(0)).tolist())


def plausible(found: Counter[tuple[bool, ...]], expected: dict[tuple[bool, ...], float]) -> bool:
    """Return whether draws like these happen more than once in a thousand times."""
    assert set(found) <= set(expected)
    total = sum(found.values())
    observed = [found[key] for key in expected]
    return stats.chisquare(observed, [total * p for p in expected.values()]).pvalue > 1e-3


def chances(present: list[bool], weight: Callable[[int, int], float]) -> dict[tuple[bool, ...], float]:
    """Return the chance of every non-empty subset, proportional to a weight of its size and that of the whole."""
    at_hand = [m for m, p in enumerate(present) if p]
    raw = {}
    for code in range(1, 2 ** len(at_hand)):
        kept = {m for i, m in enumerate(at_hand) if code >> i & 1}
        raw[tuple(m in kept for m in range(len(present)))] = weight(len(kept), len(at_hand))
    return {key: value / sum(raw.values()) for key, value in raw.items()}


@pytest.mark.parametrize("present", [[True] * 4, [True, False, True, True], [False, True, True]])
def test_frequencies(present: list[bool]) -> None:
    assert plausible(frequencies(draw_subsets, present), chances(present, lambda k, n: 1.0))
    assert plausible(frequencies(draw_by_size, present), chances(present, lambda k, n: 1 / comb(n, k)))
    assert plausible(frequencies(DRAWS["bernoulli"], present), chances(present, lambda k, n: 0.3**k * 0.7 ** (n - k)))


@every_draw
def test_what_is_drawn_is_present_and_never_nothing(name: str) -> None:
    for seed in range(50):
        keep = DRAWS[name](PRESENT, torch.Generator().manual_seed(seed))
        assert keep.dtype == torch.bool and keep.shape == PRESENT.shape
        assert not (keep & ~PRESENT).any()
        assert keep.any(1).all()


@every_draw
def test_the_same_seed_draws_the_same(name: str) -> None:
    rows = torch.ones(20, 5, dtype=torch.bool)
    first, again, other = (DRAWS[name](rows, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert rows.all()  # what was given is left as it was


def test_a_sure_coin_keeps_everything() -> None:
    assert torch.equal(draw_bernoulli(PRESENT, torch.Generator(), keep_probability=1.0), PRESENT)


def test_targets_are_drawn_by_their_weights() -> None:
    first, both, last = (True, False, False), (True, True, False), (False, False, True)
    draw = partial(draw_weighted, weights={first: 1.0, both: 3.0, last: 4.0})
    assert plausible(frequencies(draw, [True] * 3), {first: 1 / 8, both: 3 / 8, last: 1 / 2})
    assert plausible(frequencies(draw, [True, True, False]), {first: 1 / 4, both: 3 / 4})
    # What has none of them is kept whole.
    assert frequencies(draw, [False, True, False], 10) == {(False, True, False): 10}
