"""Latent maps: their scale, their maximum, the way back to an image."""

from __future__ import annotations

import pytest
import torch

from anymri.nn.latents import ImageBranch, LatentEncoder, largest


def test_a_map_is_as_fine_as_its_image_and_has_no_scale_of_its_own() -> None:
    torch.manual_seed(0)
    encoder = LatentEncoder((4, 6, 8), (2, 1, 1))
    latent = encoder(torch.randn(2, 1, 8, 12, 4))
    assert latent.shape == (2, 4, 8, 12, 4)
    torch.testing.assert_close(latent.mean((2, 3, 4)), torch.zeros(2, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(latent.var((2, 3, 4), correction=0), torch.ones(2, 4), rtol=0, atol=1e-3)
    assert not any(name.startswith("norm") for name, _ in encoder.named_parameters())


def test_a_branch_has_two_convolutions_and_one_of_a_voxel() -> None:
    branch = ImageBranch(16)
    assert branch(torch.randn(1, 16, 2, 3, 4)).shape == (1, 1, 2, 3, 4)
    assert sum(p.numel() for p in branch.parameters()) == 2 * (16 * 16 * 27 + 16) + 17


def maps(*values: float) -> list[torch.Tensor]:
    return [torch.full((2, 1, 1, 1, 1), float(v)) for v in values]


def test_the_largest_of_what_is_kept_by_hand() -> None:
    keep = torch.tensor([[True, True, False], [False, True, True]])
    assert largest(maps(3, -1, 7), keep).flatten().tolist() == [3, 7]
    assert largest(maps(-3, -1, -7), keep).flatten().tolist() == [-1, -1]
    assert largest(maps(3, torch.nan, 7), torch.tensor([[True, False, False]] * 2)).flatten().tolist() == [3, 3]


def test_what_is_not_kept_is_not_looked_at_and_gets_no_gradient() -> None:
    keep = torch.tensor([[True, False, True], [False, False, True]])
    latents = [z.requires_grad_() for z in maps(3, 9, 1)]
    with torch.no_grad():
        latents[0][1] = torch.nan
    largest(latents, keep).sum().backward()
    assert latents[1].grad is None
    assert latents[0].grad is not None and latents[0].grad.flatten().tolist() == [1, 0]
    assert latents[2].grad is not None and latents[2].grad.flatten().tolist() == [0, 1]


def test_the_order_does_not_matter() -> None:
    latents = list(torch.randn(4, 2, 3, 2, 2, 2))
    keep = torch.tensor([[True, False, True, True], [False, True, True, False]])
    for order in ([3, 1, 0, 2], [2, 3, 1, 0]):
        assert torch.equal(largest(latents, keep), largest([latents[m] for m in order], keep[:, order]))


def test_nothing_kept_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing is kept"):
        largest(maps(1, 2), torch.zeros(2, 2, dtype=torch.bool))
