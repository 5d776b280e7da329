"""Encoders that run on what is present, sums that stand for a convolution over a concatenation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anymri.nn.shared_specific import ModalityEncoders, ModalityReduction, SumDecoder, chosen, placed, spread, unet_backbone


def made(*, every_level: bool = True) -> ModalityEncoders:
    torch.manual_seed(0)
    return ModalityEncoders(3, unet_backbone((2, 4), (1, 1)), every_level=every_level)


def test_encoders_run_on_present_images_alone() -> None:
    encoders = made()
    present = torch.tensor([[True, False, False], [True, True, False]])
    image = torch.randn(2, 3, 4, 4, 4).masked_fill(~present[:, :, None, None, None], torch.nan)
    seen: list[tuple[int, ...]] = []
    encoders.shared.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    shared, specific = encoders(image, present)
    assert seen == [(2, 1, 4, 4, 4), (1, 1, 4, 4, 4)]  # both samples of the first, one of the second, none of the third
    for pyramids, encoder_of in ((shared, lambda m: encoders.shared), (specific, lambda m: encoders.specific[m])):
        assert pyramids[2] == []
        for m, samples in ((0, (0, 1)), (1, (1,))):
            for level in range(2):
                feature = pyramids[m][level]
                assert feature.shape == (len(samples), (2, 4)[level], *(4 // 2**level,) * 3)
                for row, b in enumerate(samples):
                    torch.testing.assert_close(feature[row : row + 1], encoder_of(m)(image[b : b + 1, m : m + 1])[level])


def test_specific_features_of_the_last_level_alone() -> None:
    present = torch.ones(1, 3, dtype=torch.bool)
    image = torch.randn(1, 3, 4, 4, 4)
    shared, specific = made(every_level=False)(image, present)
    assert [len(p) for p in shared] == [2, 2, 2] and [len(p) for p in specific] == [1, 1, 1]
    assert torch.equal(specific[1][-1], made()(image, present)[1][1][-1])


def test_features_are_spread_over_the_batch() -> None:
    present = torch.tensor([[True, False, False], [True, True, False]])
    first, second = torch.randn(2, 4, 3, 3, 3), torch.randn(1, 4, 3, 3, 3)
    whole = spread([first, second, None], present)
    assert all(f.shape == (2, 4, 3, 3, 3) for f in whole) and whole[0] is first
    assert torch.equal(whole[1][1:], second) and not whole[1][0].any() and not whole[2].any()
    assert whole[2].untyped_storage().nbytes() == 4  # one zero stands for all


def test_the_view_of_nothing_is_that_of_a_zero_volume() -> None:
    encoders = made()
    nothing = encoders.of_nothing((4, 4, 4), torch.empty(0))
    expected = encoders.shared(torch.zeros(1, 1, 4, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(nothing, expected, strict=True))


def test_a_sum_of_shares_is_one_convolution_over_all() -> None:
    torch.manual_seed(0)
    reduction = ModalityReduction(3, 2, 4)
    features = [torch.randn(1, 2, 3, 3, 3) for _ in range(3)]
    weight = torch.cat([share.weight for share in reduction.shares], 1)  # type: ignore[misc]
    shares = reduction(features)
    torch.testing.assert_close(sum(shares), F.conv3d(torch.cat(features, 1), weight))  # type: ignore[arg-type]
    without = F.conv3d(torch.cat([features[0], torch.zeros_like(features[1]), features[2]], 1), weight)
    first, nothing, third = reduction([features[0], None, features[2]])
    assert nothing is None
    torch.testing.assert_close(first + third, without)  # type: ignore[operator]


def test_shares_are_standardised_as_one_convolution() -> None:
    torch.manual_seed(0)
    reduction = ModalityReduction(3, 2, 4, standardised=True)
    features = [torch.randn(1, 2, 3, 3, 3) for _ in range(3)]
    with torch.no_grad():
        reduction.shares[1].weight.mul_(5).add_(1)  # type: ignore[operator, union-attr]
    weight = torch.cat([share.weight for share in reduction.shares], 1).flatten(1)  # type: ignore[misc]
    weight = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)
    expected = F.conv3d(torch.cat(features, 1), weight[:, :, None, None, None])
    torch.testing.assert_close(sum(reduction(features)), expected)  # type: ignore[arg-type]


def test_shares_start_as_one_convolution_would() -> None:
    torch.manual_seed(0)
    reduction, whole = ModalityReduction(4, 64, 64), torch.nn.Conv3d(4 * 64, 64, 1)
    share = next(reduction.shares[0].parameters())
    assert share.abs().max().item() == pytest.approx(whole.weight.abs().max().item(), rel=0.02)


def test_rows_are_placed_where_they_belong() -> None:
    flat = torch.arange(4.0).reshape(2, 2, 1, 1, 1).requires_grad_()
    rows = torch.tensor([False, True, True])
    out = placed(flat, rows)
    assert out[:, :, 0, 0, 0].tolist() == [[0, 0], [0, 1], [2, 3]]
    out.sum().backward()
    assert flat.grad is not None and (flat.grad == 1).all()
    assert placed(flat, torch.tensor([True, True])) is flat
    assert placed(flat[:0], torch.tensor([False, False])).tolist() == torch.zeros(2, 2, 1, 1, 1).tolist()


def test_what_is_not_chosen_is_not_looked_at() -> None:
    feature = torch.ones(2, 1, 1, 1, 1)
    feature[1] = torch.nan
    assert chosen(feature, [True, False], None).flatten().tolist() == [1, 0]  # type: ignore[union-attr]
    other = torch.full((1, 1, 1, 1, 1), 7.0)
    assert chosen(feature, [True, False], other).flatten().tolist() == [1, 7]  # type: ignore[union-attr]
    assert chosen(feature, [True, True], other) is feature
    assert chosen(feature, [False, False], None) is None
    assert chosen(feature, [False, False], other).flatten().tolist() == [7, 7]  # type: ignore[union-attr]


def test_a_decoder_ends_at_the_finest_skip() -> None:
    decoder = SumDecoder(6, (2, 4), 3)
    assert decoder(torch.randn(1, 6, 2, 2, 2), [torch.randn(1, 2, 8, 8, 8), torch.randn(1, 4, 4, 4, 4)]).shape == (1, 3, 8, 8, 8)


def test_a_decoder_may_end_at_a_finer_grid_than_its_finest_skip() -> None:
    decoder = SumDecoder(6, (2, 4), 3, finest=(1, 2, 2), standardised=True)
    assert decoder.head.bias is None
    logits = decoder(torch.randn(1, 6, 2, 2, 2), [torch.randn(1, 2, 8, 8, 8), torch.randn(1, 4, 4, 4, 4)])
    assert logits.shape == (1, 3, 8, 16, 16)
