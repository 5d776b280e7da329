"""Losses of synthesis against what can be worked out by hand."""

from __future__ import annotations

import torch

from anymri.losses.synthesis import absolute_errors, latent_variances


def line(*rows: list[float]) -> torch.Tensor:
    """Return (B, 1, 1, n)."""
    return torch.tensor(rows)[:, None, None, :]


def test_errors_are_means_over_the_brain_of_each_sample() -> None:
    made, image = line([1.0, 2.0, 9.0], [0.0, 0.0, 4.0], [5.0, 5.0, 5.0]), line([0.0, 4.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    brain = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])[:, None, None, :]
    torch.testing.assert_close(absolute_errors(made, image, brain), torch.tensor([1.5, 5 / 3, 0.0]))


def test_what_lies_outside_the_brain_has_no_gradient() -> None:
    made = line([1.0, 2.0]).requires_grad_()
    absolute_errors(made, line([0.0, torch.nan]), torch.tensor([[[[True, False]]]])).sum().backward()
    assert made.grad is not None and made.grad.flatten().tolist() == [1, 0]


def test_variances_by_hand() -> None:
    # Two channels, two voxels, the second outside the brain. Channel 0 says 1, 3, 8 and channel 1 says 2, 2, 2.
    latents = [torch.tensor([[[v, 50.0 * m], [2.0, 1.0 * m]]] * 3).reshape(3, 2, 1, 1, 2) for m, v in enumerate((1.0, 3.0, 8.0))]
    present = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
    brain = torch.tensor([True, False]).reshape(1, 1, 1, 2).expand(3, 1, 1, 2)
    # 1, 3: mean 2, variance 1. 1, 3, 8: mean 4, variance 26/3. One alone: 0. The second channel has none.
    torch.testing.assert_close(latent_variances(latents, present, brain), torch.tensor([0.5, 13 / 3, 0.0]))


def test_maps_of_what_is_absent_are_not_looked_at() -> None:
    latents = [torch.randn(1, 2, 2, 2, 2, requires_grad=True) for _ in range(3)]
    brain = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    present = torch.tensor([[True, False, True]])
    spoilt = [latents[0], torch.full_like(latents[1], torch.nan).requires_grad_(), latents[2]]
    value = latent_variances(spoilt, present, brain)
    assert torch.equal(value, latent_variances(latents, present, brain))
    value.sum().backward()
    assert spoilt[1].grad is not None and not spoilt[1].grad.any()
    assert latents[0].grad is not None and latents[0].grad.any()
