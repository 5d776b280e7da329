"""Weights of narrow networks as a start for wider ones."""

from __future__ import annotations

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.widening import fits, widened
from anymri.methods import method_named
from anymri.methods.method import Method, Size

from ..material import ALL_METHODS

# Graphs of AdaMM have more nodes at base, so that it has other parts, not wider ones.
WIDER = tuple(name for name in ALL_METHODS if name != "adamm")


def made(name: str, size: Size, seed: int) -> Method:
    """Return a network whose biases and norms are no longer the same for all channels."""
    torch.manual_seed(seed)
    method = method_named(name).config.sized(size).build(GLIOMA)
    method.strip()
    with torch.no_grad():
        for p in method.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return method.eval()


@torch.inference_mode()
def predicted(method: Method, keep: tuple[bool, ...]) -> torch.Tensor:
    image = torch.randn((1, 4, 32, 32, 32), generator=torch.Generator().manual_seed(0))
    kept = torch.tensor([keep])
    return method.decode(method.encode(image, kept, torch.zeros((1, 3), dtype=torch.int64)), kept)


@pytest.mark.parametrize("name", WIDER)
def test_a_widened_network_predicts_what_the_narrow_one_does(name: str) -> None:
    narrow, wide = made(name, "small", 1), made(name, "base", 2)
    assert fits(narrow.state_dict(), wide) and not fits(wide.state_dict(), narrow)
    keep = (True, False, True, True)
    expected, before = predicted(narrow, keep), predicted(wide, keep)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    torch.testing.assert_close(predicted(wide, keep), expected, rtol=1e-4, atol=1e-3)
    assert (before - expected).abs().max() > 0.1


def test_every_channel_of_a_widened_network_learns() -> None:
    narrow, wide = made("ccsd", "small", 1), made("ccsd", "base", 2)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    optimiser = torch.optim.SGD(wide.parameters(), 1e-2)
    image, keep = torch.randn(1, 4, 16, 16, 16), torch.ones((1, 4), dtype=torch.bool)
    for _ in range(2):  # What reads the new channels learns in the first step, they themselves in the second.
        optimiser.zero_grad()
        wide.decode(wide.encode(image, keep, torch.zeros((1, 3), dtype=torch.int64)), keep).square().mean().backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.flatten(1).any(1).all() for p in wide.parameters() if p.ndim > 1)


def test_other_networks_do_not_fit() -> None:
    shallow = made("dropout_unet", "small", 1)
    assert not fits(shallow.state_dict(), made("ccsd", "base", 1))
    odd = {name: value[:3] for name, value in shallow.state_dict().items()}
    assert not fits(odd, made("dropout_unet", "base", 1))


def test_the_same_network_is_copied() -> None:
    one, other = made("ccsd", "small", 1), made("ccsd", "small", 2)
    state = widened(one.state_dict(), other)
    assert all(torch.equal(state[name], value) for name, value in one.state_dict().items())
