"""The baseline: its input, its levels, its loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.losses.segmentation import segmentation_loss
from anymri.methods.dropout_unet import DropoutUNet

from ..material import back_propagated, made_batch, tiny


def unet(**options: Any) -> DropoutUNet:
    method = tiny("dropout_unet", GLIOMA, **options)
    assert isinstance(method, DropoutUNet)
    return method


def test_presence_channels_without_weights_change_nothing() -> None:
    told, untold, batch = unet(), unet(presence=False), made_batch(GLIOMA, size=1)
    state = told.state_dict()
    first = "network.encoder.levels.0.0.0.weight"
    state[first][:, 4:] = 0
    untold.load_state_dict({**state, first: state[first][:, :4]})
    told.load_state_dict(state)
    keep = torch.tensor([[True, False, True, False]])
    decoded = [m.eval().decode(m.encode(batch.image_BMDHW, keep, batch.origin_B3), keep) for m in (told, untold)]
    torch.testing.assert_close(decoded[0], decoded[1])


def test_presence_tells_a_zero_image_from_none() -> None:
    method, batch = unet().eval(), made_batch(GLIOMA, size=1)
    image = batch.image_BMDHW.clone()
    image[:, 2] = 0
    whole, without = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[True, True, False, True]])
    blank = unet(presence=False).eval()
    for m, equal in ((method, False), (blank, True)):
        assert torch.equal(m(image, whole, batch.origin_B3), m(image, without, batch.origin_B3)) is equal


def test_zero_logits_cost_what_can_be_worked_out() -> None:
    method, batch = unet(widths=(4, 6, 8)), made_batch(GLIOMA, size=1)
    for head in method.network.heads:
        for parameter in head.parameters():
            torch.nn.init.zeros_(parameter)
    ((name, value),) = [(t.name, t.value.item()) for t in back_propagated(method, batch)[0]]
    dice = []
    for level, weight in ((1, 2 / 3), (2, 1 / 3)):
        target = batch.target_BRDHW[:, :, ::level, ::level, ::level]
        n = target[0, 0].numel()
        parts = [1 - (2 * p * t.sum() + 1) / (p * n + t.sum() + 1) for p, t in zip((0.75, 0.5, 0.25), target[0], strict=True)]
        dice.append(weight * float(sum(parts)) / 3)
    assert name == "seg"
    assert value == pytest.approx(math.log(4) + sum(dice), rel=1e-5)


def test_each_sample_is_trained_on_a_subset_of_its_own() -> None:
    method, batch = unet(), made_batch(GLIOMA, size=4)
    seen: list[torch.Tensor] = []
    method.network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    back_propagated(method, batch, seed=3)
    kept = seen[0][:, 4:, 0, 0, 0] > 0
    assert len({tuple(row) for row in kept.tolist()}) > 1
    assert torch.equal(seen[0][:, :4], torch.where(kept[:, :, None, None, None], batch.image_BMDHW, 0.0))
    logits = method.network(seen[0])
    expected = segmentation_loss(logits[0], batch.target_BRDHW, batch.known_BR, GLIOMA.membership)
    (term,) = back_propagated(method, batch, seed=3)[0]
    torch.testing.assert_close(term.value, expected.detach())


def test_the_head_of_a_level_without_weight_is_declared_frozen() -> None:
    method = unet(widths=(4, 4, 4, 4, 4))
    frozen = [name for name, p in method.named_parameters() if not p.requires_grad]
    assert frozen == ["network.heads.0.weight", "network.heads.0.bias"]
    assert all(p.requires_grad for p in unet(widths=(4, 4, 4, 4)).parameters())
