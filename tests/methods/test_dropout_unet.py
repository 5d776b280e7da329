"""The baseline: its input, its levels, its loss."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA
from anymri.errors import UsageError
from anymri.losses.deep_supervision import deep_segmentation_loss
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


def kept_in(method: DropoutUNet, batch: Batch, seeds: int) -> list[tuple[bool, ...]]:
    """Return the subsets that were drawn, as the presence channels tell them."""
    seen: list[torch.Tensor] = []
    hook = method.network.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 4:, 0, 0, 0] > 0))
    for seed in range(seeds):
        back_propagated(method, batch, seed=seed)
    hook.remove()
    return [tuple(row) for rows in seen for row in rows.tolist()]


def test_targeted_dropout_draws_what_is_named() -> None:
    method = unet(drawing="targeted", targets=(("T1c+T1+T2", 3), ("FLAIR", 1)))
    present = ((True,) * 4,) * 4
    found = Counter(kept_in(method, made_batch(GLIOMA, size=4, present=present), 25))
    without, alone = (False, True, True, True), (True, False, False, False)
    assert set(found) == {without, alone} and 60 <= found[without] <= 90
    lacking = (False, True, True, False)
    found = Counter(kept_in(method, made_batch(GLIOMA, size=2, present=(lacking, (True, True, False, False))), 5))
    assert found == {lacking: 5, alone: 5}  # Neither target is within the first: all is kept.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drawing": "targeted"}, "drawing 'targeted' with 0 targets"),
        ({"targets": (("FLAIR", 1),)}, "drawing 'uniform_subset' with 1 targets"),
        ({"drawing": "targeted", "targets": (("FLAIR", 0),)}, "greater than 0"),
        ({"drawing": "targeted", "targets": (("FLAIR", float("nan")),)}, "greater than 0|finite"),
        ({"drawing": "targeted", "targets": (("PET", 1),)}, "modality 'PET' is unknown; expected one of FLAIR"),
        ({"drawing": "targeted", "targets": (("T1+T2", 1), ("T2+T1", 1))}, "name a subset more than once"),
    ],
)
def test_targets_that_say_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, UsageError), match=said):
        unet(**options)


def test_the_loss_of_nnunet_is_over_classes() -> None:
    method, batch = unet(dice="classes", smooth=1e-5), made_batch(GLIOMA, size=2)
    levels: list[torch.Tensor] = []
    method.network.register_forward_hook(lambda module, given, found: levels.extend(found))
    (term,) = back_propagated(method, batch)[0]
    arguments = ([x.detach() for x in levels], batch.target_BRDHW, batch.known_BR, GLIOMA.membership)
    torch.testing.assert_close(term.value, deep_segmentation_loss(*arguments, dice="classes", smooth=1e-5))
    assert not torch.isclose(term.value, deep_segmentation_loss(*arguments))


def test_kernels_may_begin_as_he_has_them() -> None:
    method = unet(initialisation="he", widths=(8, 16, 32))
    for module in method.network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            _, fan_in = module.weight.shape[:2]
            fan_in *= module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / fan_in) ** 0.5, rel=0.3)
            assert module.bias is not None and not module.bias.any()
