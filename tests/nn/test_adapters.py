"""Adapters, the bank, and who goes through what."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from anymri.nn.adapters import Adapter, AdapterBank, AdapterSet, AdapterShape, Route, adapted, routed, taken
from anymri.nn.residual_unet import dropped

PAPER = AdapterShape((16, 32, 64, 128), 64, 0.2)
SMALL = AdapterShape((8, 8, 16), 4, 0.0)


def counted(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_a_set_has_as_many_parameters_as_published() -> None:
    one = AdapterSet(PAPER)
    assert counted(one) == 134_288
    assert counted(one.entries) + counted(one.aside) == 45_664
    assert counted(one.ups) == 14_640
    assert (counted(one.bottleneck.style), counted(one.bottleneck.fuse)) == (41_088, 32_896)
    assert counted(AdapterBank(4, PAPER, factored=False)) == 1_880_032 == 14 * 134_288


def test_a_fresh_adapter_is_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 4, 5)
    adapter = Adapter(8, 4, 0.5)
    assert torch.equal(adapted(x, [adapter], None), x)
    assert torch.equal(adapted(x, [adapter], torch.Generator()), x)
    nn.init.ones_(adapter.widen.weight)
    assert not torch.equal(adapted(x, [adapter], None), x)


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_there_is_a_set_for_every_subset_but_the_full_one(modalities: int) -> None:
    bank = AdapterBank(modalities, SMALL, factored=False)
    assert len(bank.sets) == 2**modalities - 2
    found = set()
    for kept in product((False, True), repeat=modalities):
        if all(kept):
            assert bank.sets_of(kept) == ()
        elif any(kept):
            (one,) = bank.sets_of(kept)
            found.add(id(one))
    assert len(found) == 2**modalities - 2


def test_a_subset_without_a_set_is_an_error() -> None:
    for factored in (False, True):
        bank = AdapterBank(3, SMALL, factored=factored)
        with pytest.raises(ValueError, match="no adapters for the subset"):
            bank.routes(torch.tensor([[True, True, False], [False, False, False]]))
        with pytest.raises(ValueError, match="no adapters"):
            bank.sets_of((True, False))


def test_a_factored_bank_has_a_set_per_modality_and_adds_those_of_what_is_absent() -> None:
    bank = AdapterBank(7, SMALL, factored=True)
    assert len(bank.sets) == 7
    kept = (True, False, True, True, False, True, True)
    first, second = bank.sets_of(kept)
    assert (first, second) == (bank.sets[1], bank.sets[4])
    torch.manual_seed(0)
    x = torch.randn(1, 8, 2, 2, 2)
    adapters = [s.entries[0] for s in (first, second)]
    for adapter in adapters:
        nn.init.normal_(adapter.widen.weight)
    torch.testing.assert_close(adapted(x, adapters, None), x + adapters[0](x, None) + adapters[1](x, None))


def test_each_sample_goes_its_own_way_and_comes_back_to_its_place() -> None:
    bank = AdapterBank(2, SMALL, factored=False)
    keep = torch.tensor([[True, False], [True, True], [False, True], [True, False], [True, True]])
    routes = bank.routes(keep)
    assert [(r.rows.tolist(), len(r.sets)) for r in routes] == [([0, 3], 1), ([1, 4], 0), ([2], 1)]
    x = torch.arange(5.0).reshape(5, 1)
    factors = {0: 10.0, 1: 1.0, 2: 100.0}

    def multiplied(route: Route) -> torch.Tensor:
        return taken(x, route) * factors[int(route.rows[0])]

    assert routed(routes, multiplied)[:, 0].tolist() == [0, 1, 200, 30, 4]
    (alone,) = bank.routes(keep[[0, 3]])
    assert taken(x[:2], alone).data_ptr() == x.data_ptr()  # no copy where all go one way


def test_what_is_dropped_follows_from_the_generator_alone_in_any_layout() -> None:
    x = torch.rand(2, 8, 6, 6, 6) + 1
    first = dropped(x, 0.2, torch.Generator().manual_seed(3))
    again = dropped(x.to(memory_format=torch.channels_last_3d), 0.2, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    kept = first != 0
    torch.testing.assert_close(first[kept], x[kept] / 0.8)
    assert 0.17 < 1 - kept.float().mean() < 0.23
    assert dropped(x, 0.2, None) is x and dropped(x, 0.0, torch.Generator()) is x
