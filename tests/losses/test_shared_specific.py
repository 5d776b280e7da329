"""ShaSpec's two auxiliary losses by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anymri.losses.shared_specific import alignment_loss, origin_loss


def constants(*values: float) -> list[Tensor]:
    return [torch.full((1, 2, 3, 3, 3), float(v)) for v in values]


def kept(*rows: str) -> Tensor:
    return torch.tensor([[c == "1" for c in row] for row in rows])


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("1111", 4 * (1 + 3 + 7 + 2 + 6 + 4) / 6),
        ("1011", 4 * (3 + 7 + 4) / 3),
        ("0101", 4 * 6),
    ],
)
def test_alignment_is_modalities_times_the_mean_over_kept_pairs(keep: str, expected: float) -> None:
    loss = alignment_loss(constants(0, 1, 3, 7), kept(keep))
    assert loss is not None and loss.item() == pytest.approx(expected)


def test_equal_features_are_aligned_and_a_single_one_has_nothing_to_be_aligned_with() -> None:
    assert alignment_loss(constants(5, 5, 5, 5), kept("1111")) == 0
    assert alignment_loss(constants(0, 1, 3, 7), kept("0010")) is None


def test_alignment_of_a_batch_is_the_mean_and_never_reads_what_is_not_kept() -> None:
    features = [torch.cat((f, f, f)) for f in constants(0, 1, 3)]
    features[1][1] = features[0][2] = features[2][2] = math.nan
    loss = alignment_loss(features, kept("111", "101", "010"))
    assert loss is not None and loss.item() == pytest.approx((3 * (1 + 3 + 2) / 3 + 3 * 3 + 0) / 3)


def test_guesses_without_knowledge_cost_the_logarithm_of_the_number_of_modalities() -> None:
    for keep in ("1111", "0010"):
        assert origin_loss([torch.zeros(1, 4)] * 4, kept(keep)).item() == pytest.approx(math.log(4))


def test_guesses_are_measured_over_what_is_kept() -> None:
    # Of three: the first says itself with odds 2 : 1 : 1, the second with 1 : 1 : 1, the third is not read there.
    guess = [torch.tensor([[math.log(2), 0, 0]] * 2), torch.zeros(2, 3), torch.tensor([[math.nan] * 3, [0, 0, math.log(6)]])]
    first, second = (math.log(2) + math.log(3)) / 2, math.log(8 / 6)
    assert origin_loss(guess, kept("110", "001")).item() == pytest.approx((first + second) / 2)
