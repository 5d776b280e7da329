"""The decoder for several encoders does what one over concatenated features does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anymri.nn.unet import PlainUNet, StreamDecoder


def concatenated(decoder: StreamDecoder, features: list[Tensor]) -> list[Tensor]:
    """Return the logits per level from features (B, S, C, D, H, W) per level, finest first, put side by side."""
    *skips, x = (f.flatten(1, 2) for f in features)
    outputs = []
    for up, block, head, skip in zip(decoder.ups, decoder.blocks, decoder.heads, reversed(skips), strict=True):
        x = block(torch.cat((up(x), skip), 1))
        outputs.append(head(x))
    return outputs[::-1]


@pytest.mark.parametrize("size", [(2, 1, 3), (1, 2, 5)])
def test_shares_add_up_to_the_concatenation(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    widths = (3, 5, 4)
    decoder = StreamDecoder(3, widths, 2)
    features = [torch.randn(2, 3, c, *(n * 2 ** (2 - level) for n in size)) for level, c in enumerate(widths)]
    constant = [torch.randn(2, 3, c) for c in widths]
    sums = []
    for level, (f, vectors) in enumerate(zip(features, constant, strict=True)):
        f[:, 1] = vectors[:, 1, :, None, None, None]  # The middle one is the same everywhere.
        vectors[:, [0, 2]] = 0
        shares = decoder.share(level, 0, f[:, 0]) + decoder.share(level, 2, f[:, 2])
        sums.append(shares + decoder.share_of_constants(level, vectors, shares.shape[2:]))
    found, expected = decoder(sums), concatenated(decoder, features)
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    decoder.eval()
    assert len(decoder(sums)) == 1 and torch.equal(decoder(sums)[0], found[0])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_constants_know_the_borders(size: int) -> None:
    torch.manual_seed(0)
    decoder, vectors = StreamDecoder(2, (3, 4), 2), torch.randn(1, 2, 3)
    whole = sum(decoder.share(0, s, vectors[:, s, :, None, None, None].expand(-1, -1, size, 7, size)) for s in range(2))
    torch.testing.assert_close(decoder.share_of_constants(0, vectors, (size, 7, size)), whole)


def test_one_stream_is_the_plain_network() -> None:
    torch.manual_seed(0)
    network, decoder = PlainUNet(2, (3, 4, 5), 2), StreamDecoder(1, (3, 4, 5), 2)
    decoder.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("encoder.")})
    x = torch.randn(2, 2, 8, 8, 8)
    features = network.encoder(x)
    sums = [decoder.share(level, 0, f) for level, f in enumerate(features)]
    for ours, theirs in zip(decoder(sums), network(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
