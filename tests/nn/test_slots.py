"""The decoder with one slot per modality is one with all slots concatenated; which encoders there are."""

from __future__ import annotations

import pytest
import torch

from anymri.nn.resnet import ResNetEncoder
from anymri.nn.shared_specific import SumDecoder, added, backbone_of, unet_backbone
from anymri.nn.slots import SlotDecoder, with_summary


def test_shares_of_slots_add_up_to_the_decoder_of_their_concatenation() -> None:
    torch.manual_seed(0)
    backbone = unet_backbone((4, 6), (1, 1))
    decoder = SlotDecoder(3, backbone, 2).double()
    slots = torch.randn(3, 1, 6, 2, 3, 4, dtype=torch.float64).unbind()
    skip = torch.randn(1, 4, 4, 6, 8, dtype=torch.float64)
    summed = added([decoder.share(m, slot) for m, slot in enumerate(slots)])
    whole = SumDecoder(18, (4,), 2).double()
    state = {k.removeprefix("rest."): v for k, v in decoder.state_dict().items() if k.startswith("rest.")}
    state["ups.0.weight"] = torch.cat([up.weight for up in decoder.ups])  # type: ignore[misc]
    whole.load_state_dict(state)
    torch.testing.assert_close(decoder(summed, [skip]), whole(torch.cat(slots, 1), [skip]))


def test_what_is_not_there_is_not_added() -> None:
    one, two = torch.ones(2), torch.full((2,), 3.0)
    assert torch.equal(added([None, one, None, two]), one + two)
    assert added([None, one]) is one


def test_the_summary_is_taken_before_the_pyramid() -> None:
    torch.manual_seed(0)
    encoder, x = ResNetEncoder(1, (4, 2, 3, 4, 5), (1, 1, 1, 1), 4), torch.randn(2, 1, 32, 64, 32)
    levels, summary = with_summary(encoder, x)
    assert all(torch.equal(a, b) for a, b in zip(levels, encoder(x), strict=True))
    torch.testing.assert_close(summary, encoder.trunk(x)[-1].mean((2, 3, 4)))
    plain = unet_backbone((4, 6), (1, 1)).encoder()
    levels, summary = with_summary(plain, x)
    torch.testing.assert_close(summary, levels[-1].mean((2, 3, 4)))


def test_encoders_are_found_by_name() -> None:
    assert backbone_of("unet", (4, 6, 8), (1, 2, 1)).multiples == (4, 4, 4)
    assert backbone_of("shaspec", (8, 4, 6, 8, 10), (1, 1, 1, 1, 1)).multiples == (16, 32, 32)


@pytest.mark.parametrize(
    ("encoder", "widths", "depths", "words"),
    [
        ("unet", (4, 6), (1,), "must be as many as"),
        ("shaspec", (8, 4, 6, 8), (1, 1, 1, 1), "an even width and 4 stages"),
        ("shaspec", (8, 4, 6, 8, 10), (2, 1, 1, 1, 1), "a stem of one convolution"),
        ("shaspec", (7, 4, 6, 8, 10), (1, 1, 1, 1, 1), "an even width"),
    ],
)
def test_what_makes_no_encoder_is_refused(encoder: str, widths: tuple[int, ...], depths: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backbone_of(encoder, widths, depths)
