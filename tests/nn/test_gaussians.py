"""Modalities that speak in Gaussians: what a product is, by hand, and what cannot matter to it."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from anymri.nn.gaussians import EXTREME, GaussianEncoder, drawn, product


def voices(modalities: int = 4, samples: int = 2) -> tuple[list[Tensor], list[Tensor]]:
    """Return precisions and weighted means."""
    generator = torch.Generator().manual_seed(0)
    shape = (samples, 2, 3, 4, 2)
    precisions = [torch.rand(shape, generator=generator) * 5 for _ in range(modalities)]
    return precisions, [p * torch.randn(shape, generator=generator) for p in precisions]


def kept(indices: tuple[int, ...], modalities: int = 4, samples: int = 2) -> Tensor:
    return torch.tensor([[m in indices for m in range(modalities)]] * samples)


def one(value: float) -> list[Tensor]:
    return [torch.full((1, 1, 1, 1, 1), value)]


@pytest.mark.parametrize(
    ("mean", "variance", "expected_mean", "expected_precision"), [(2.0, 1.0, 1.0, 2.0), (3.0, 0.5, 2.0, 3.0), (5.0, 4.0, 1.0, 1.25)]
)
def test_a_single_voice_by_hand(mean: float, variance: float, expected_mean: float, expected_precision: float) -> None:
    mean_of, precision = product(one(1 / variance), one(mean / variance), torch.ones(1, 1, dtype=torch.bool))
    assert mean_of.item() == pytest.approx(expected_mean) and precision.item() == pytest.approx(expected_precision)


def test_two_voices_by_hand() -> None:
    # N(2, 1), N(−1, ½) and the prior: Λ = 1 + 1 + 2, Λμ = 2 − 2.
    mean, precision = product([*one(1), *one(2)], [*one(2), *one(-2)], torch.ones(1, 2, dtype=torch.bool))
    assert precision.item() == 4 and mean.item() == 0


def test_the_order_of_voices_does_not_matter() -> None:
    precisions, weighted = voices(3)
    expected = product(precisions, weighted, kept((0, 1, 2), 3))
    for order in permutations(range(3)):
        found = product([precisions[m] for m in order], [weighted[m] for m in order], kept((0, 1, 2), 3))
        torch.testing.assert_close(found, expected)
        # The same of a subset, whichever places its members have.
        pair = product([precisions[m] for m in order], [weighted[m] for m in order], torch.tensor([[m != 1 for m in order]] * 2))
        torch.testing.assert_close(pair, product(precisions, weighted, kept((0, 2), 3)))


def test_another_voice_never_lowers_the_precision() -> None:
    precisions, weighted = voices()
    for size in range(1, 4):
        for subset in combinations(range(4), size):
            fewer = product(precisions, weighted, kept(subset))[1]
            for m in set(range(4)) - set(subset):
                assert (product(precisions, weighted, kept((*subset, m)))[1] >= fewer).all()


def test_a_voice_that_knows_nothing_is_absent() -> None:
    precisions, weighted = voices()
    mean = weighted[1] / precisions[1]
    expected = product(precisions, weighted, kept((0, 3)))
    for log_variance, tolerance in ((20.0, 1e-6), (100.0, 0.0)):
        precisions[1] = torch.full_like(mean, math.exp(-log_variance))
        weighted[1] = mean * precisions[1]
        torch.testing.assert_close(product(precisions, weighted, kept((0, 1, 3))), expected, rtol=tolerance, atol=tolerance)


def test_what_is_not_kept_is_not_looked_at() -> None:
    precisions, weighted = voices()
    expected = product(precisions, weighted, kept((0, 3)))
    for of in (precisions, weighted):
        of[1], of[2] = torch.full_like(of[1], math.nan), torch.full_like(of[2], math.inf)
    found = product(precisions, weighted, kept((0, 3)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_each_sample_has_its_own_subset() -> None:
    precisions, weighted = voices()
    both = product(precisions, weighted, torch.tensor([[True, False, True, False], [False, True, True, True]]))
    for b, subset in enumerate(((0, 2), (1, 2, 3))):
        alone = product([p[b : b + 1] for p in precisions], [w[b : b + 1] for w in weighted], kept(subset, samples=1))
        for together, single in zip(both, alone, strict=True):
            torch.testing.assert_close(together[b : b + 1], single)


def test_samples_have_the_moments_of_their_gaussian() -> None:
    mean, precision = torch.full((1, 1, 40, 40, 40), 3.0), torch.full((1, 1, 40, 40, 40), 4.0)
    z = drawn(mean, precision, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(3, abs=0.01) and z.std().item() == pytest.approx(0.5, abs=0.01)
    again = drawn(mean, precision, torch.Generator().manual_seed(0))
    other = drawn(mean.contiguous(memory_format=torch.channels_last_3d), precision, torch.Generator().manual_seed(0))
    assert torch.equal(z, again) and torch.equal(z, other)


def test_an_encoder_speaks_at_every_level_within_bounds() -> None:
    torch.manual_seed(0)
    encoder, x = GaussianEncoder((3, 5), (1, 2)), torch.randn(2, 1, 8, 4, 6)
    levels = encoder(x)
    assert [tuple(p.shape) for p, _ in levels] == [(2, 3, 8, 4, 6), (2, 5, 4, 2, 3)]
    assert all(p.shape == w.shape and p.dtype == w.dtype == torch.float32 for p, w in levels)
    # Mean 2 and log-variance ∓1000, by the biases of a head without weights.
    for far, bound in ((-1000.0, math.exp(EXTREME)), (1000.0, math.exp(-EXTREME))):
        with torch.no_grad():
            for parameter in encoder.heads[0].parameters():
                parameter.zero_()
            bias: Tensor = encoder.heads[0].bias  # type: ignore[assignment]
            bias[:3], bias[3:] = 2.0, far
        precision, weighted = encoder(x)[0]
        torch.testing.assert_close(precision, torch.full_like(precision, bound))
        torch.testing.assert_close(weighted, 2 * precision)
