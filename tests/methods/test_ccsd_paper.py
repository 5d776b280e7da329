"""CCSD with ShaSpec's encoders: sizes of the paper, and all that holds of the other sizes at a fraction of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anymri.domain.task import GLIOMA, PROSTATE
from anymri.methods.ccsd import CCSD, CCSDConfig

from ..material import back_propagated, made_batch, measured, with_absent

CROP = (80, 160, 160)
# One bottleneck per stage, an eighth of the planes at most.
FRACTION: dict[str, Any] = {"encoder": "shaspec", "widths": (8, 4, 6, 8, 10), "depths": (1, 1, 1, 1, 1)}


def fraction(**options: Any) -> CCSD:
    torch.manual_seed(0)
    return CCSDConfig(**FRACTION, **options).build(GLIOMA)


def test_parameters_are_those_of_the_paper_part_by_part() -> None:
    with torch.device("meta"):
        method = CCSDConfig.sized("paper").build(GLIOMA)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()}
    assert counts["encoders"] == 5 * (35_127_872 - 512)  # without the norm of the pyramid's mean
    assert counts["compose"] == 512 * 256 * 27 + 2 * 256
    # As ShaSpec's decoder with its three outputs, and a fourth.
    assert counts["reductions"] + counts["decoder"] == 8_528_800 + 32
    assert sum(counts.values()) == 187_705_088


def test_the_crop_of_the_paper_comes_out_as_it_went_in() -> None:
    with torch.device("meta"):
        method = CCSDConfig.sized("paper").build(GLIOMA)
        levels = method.encoders.shared(torch.empty(1, 1, *CROP))
        fused = method.compose(torch.cat((levels[-1], levels[-1]), 1))
        skips = [reduce([level] * 4)[0] for reduce, level in zip(method.reductions, levels, strict=False)]
        logits = method.decoder(torch.cat([fused] * 4, 1), skips)
    assert tuple(fused.shape) == (1, 256, 5, 5, 5)
    assert [s.shape[1] for s in skips if s is not None] == [32, 64, 128, 256]
    assert tuple(logits.shape) == (1, 4, *CROP)
    assert CCSDConfig.sized("paper").multiples == (16, 32, 32) and method.multiple == 32


def test_other_tasks_have_as_many_encoders_as_modalities() -> None:
    with torch.device("meta"):
        three, four = (sum(p.numel() for p in CCSDConfig.sized("paper").build(t).parameters()) for t in (PROSTATE, GLIOMA))
    # An encoder, its share of the first upsampling and of the skips, and the last layer's classes.
    share = 256 * 256 * 8 + 64 * 32 + 256 * 64 + 512 * 128 + 1024 * 256
    assert four - three == 35_127_872 - 512 + share + 32 * (len(GLIOMA.classes) - len(PROSTATE.classes))


@pytest.mark.parametrize(
    "wrong",
    [
        {"widths": (8, 4, 6, 8), "depths": (1, 1, 1, 1)},
        {"widths": (8, 4, 6, 8, 10), "depths": (2, 1, 1, 1, 1)},
        {"widths": (7, 4, 6, 8, 10), "depths": (1, 1, 1, 1, 1)},
    ],
)
def test_what_is_no_such_encoder_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a stem of one convolution with an even width and 4 stages"):
        CCSDConfig(encoder="shaspec", **wrong)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"absent": "zero", "residual": True},
    {"skips": "fused", "criticality": "gradient"},
    {"absent": "zero", "skips": "fused", "distilled": "shared"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_fraction_of_it_learns_from_incomplete_cases(options: dict[str, Any]) -> None:
    method = fraction(**options)
    batch = made_batch(GLIOMA, size=2, edge=64, present=((True,) * 4, (True, False, True, True)))
    batch = replace(batch, image_BMDHW=batch.image_BMDHW[:, :, :32], target_BRDHW=batch.target_BRDHW[:, :, :32])
    terms, gradients = back_propagated(method, with_absent(batch, torch.nan))
    assert {t.name for t in terms} == {"seg_full", "seg_subset", "hmsd", "dmcd", "encoders"}
    assert all(torch.isfinite(torch.tensor(v)) for _, v in measured(terms))
    assert all(torch.isfinite(g).all() for g in gradients.values())
    # The mean of the pyramid is lost in the norm behind it; of specific encoders only the bottleneck may be used.
    without = {n for n, _ in method.named_parameters() if n not in gradients}
    assert not without


def test_a_fraction_of_it_never_sees_what_is_absent_or_hidden() -> None:
    method, batch = fraction().eval(), made_batch(GLIOMA, size=1, edge=64)
    image = batch.image_BMDHW[:, :, :32]
    keep = torch.tensor([[True, False, False, True]])
    spoilt = image.masked_fill(~keep[:, :, None, None, None], torch.nan)

    def said(of: Tensor, present: Tensor) -> Tensor:
        with torch.inference_mode():
            return method.decode(method.encode(of, present, batch.origin_B3), keep)

    hidden = said(spoilt, torch.ones_like(keep))
    assert hidden.shape == (1, 3, 32, 64, 64) and torch.isfinite(hidden).all()
    assert torch.equal(said(image, torch.ones_like(keep)), hidden)
    assert torch.equal(said(spoilt, keep), hidden) and torch.equal(said(image, keep), hidden)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_network_of_the_paper_takes_a_step() -> None:
    torch.manual_seed(0)
    method = CCSDConfig.sized("paper").build(GLIOMA)
    batch = made_batch(GLIOMA, size=1, edge=64)
    batch = replace(batch, image_BMDHW=batch.image_BMDHW[:, :, :32], target_BRDHW=batch.target_BRDHW[:, :, :32])
    with torch.inference_mode():
        assert method(batch.image_BMDHW, batch.present_BM, batch.origin_B3).shape == (1, 3, 32, 64, 64)
    before, _ = back_propagated(method, batch)
    torch.optim.SGD(method.parameters(), lr=1e-3).step()
    method.zero_grad(set_to_none=True)
    terms = method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(0))
    first = next(iter(terms)).value.item()
    assert first < before[0].value.item()
