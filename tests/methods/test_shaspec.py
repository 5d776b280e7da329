"""ShaSpec against its description: counts, what stands for an absent modality, what each loss sees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from anymri.data.batch import Batch
from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.methods.method import Term
from anymri.methods.shaspec import Features, ShaSpec, ShaSpecConfig
from anymri.nn.blocks import StandardisedConv
from anymri.nn.shared_specific import ModalityReduction, added

from ..material import back_propagated, in_one_pass, made_batch, measured, mixed_presence, tiny, with_absent

CROP = (80, 160, 160)
# One bottleneck per stage, an eighth of the planes at most.
FRACTION: dict[str, Any] = {"encoder": "shaspec", "widths": (8, 4, 6, 8, 10), "depths": (1, 1, 1, 1, 1)}


def shaspec(task: Task = GLIOMA, **options: Any) -> ShaSpec:
    method = tiny("shaspec", task, **options)
    assert isinstance(method, ShaSpec)
    return method


def paper(task: Task = GLIOMA, **options: Any) -> ShaSpec:
    with torch.device("meta"):
        return ShaSpecConfig.model_validate({**ShaSpecConfig.sized("paper").model_dump(), **options}).build(task)


def counted(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def encoded(method: ShaSpec, batch: Batch) -> Features:
    return method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)


def flat(batch: Batch) -> Batch:
    """Return the batch with half of its depth: sizes as the published encoder needs them."""
    half = batch.image_BMDHW.shape[2] // 2
    return replace(batch, image_BMDHW=batch.image_BMDHW[:, :, :half], target_BRDHW=batch.target_BRDHW[:, :, :half])


def kept(*indices: int, task: Task = GLIOMA) -> Tensor:
    return torch.tensor([[m in indices for m in range(len(task.modalities))]])


def terms_of(method: ShaSpec, batch: Batch, *, progress: float = 0.5, seed: int = 0) -> Iterator[Term]:
    return method.losses(batch, progress=progress, generator=torch.Generator().manual_seed(seed))


def test_parameters_are_those_of_the_paper_part_by_part() -> None:
    method = paper(outputs="sigmoid")
    counts = {name: counted(part) for name, part in method.named_children()}
    assert counts["encoders"] == 5 * (35_127_872 - 512)  # without the norm of the pyramid's mean
    assert counts["compose"] == 3_538_944
    assert counts["reductions"] + counts["decoder"] == 8_528_800
    assert counts["origin"] == 1_028
    assert sum(counts.values()) == 187_705_572
    # Classes in place of regions: one more output.
    assert counted(paper()) == 187_705_572 + 32
    method.strip()
    assert counted(method) == 187_705_572 - 1_028


def test_other_sizes_are_those_of_the_first_implementation() -> None:
    for size, expected in (("tiny", 7_592), ("small", 1_471_184), ("base", 5_876_504)):
        with torch.device("meta"):
            assert counted(ShaSpecConfig.sized(size).build(GLIOMA)) == expected  # type: ignore[arg-type]


def test_other_tasks_have_as_many_encoders_and_slots_as_modalities() -> None:
    # An encoder, its share of the first upsampling and of the skips, its line of the classifier, and the last layer's classes.
    share = 256 * 256 * 8 + 64 * 32 + 256 * 64 + 512 * 128 + 1024 * 256
    assert counted(paper()) - counted(paper(PROSTATE)) == 35_127_872 - 512 + share + 257 + 32


def test_the_crop_of_the_paper_comes_out_as_it_went_in_at_the_published_cost() -> None:
    method = paper()
    image = torch.empty(1, 1, *CROP, device="meta")
    with FlopCounterMode(display=False) as encoding:
        part = method._encoded(method.encoders.specific[0], image)
    assert part is not None and tuple(part.shared.shape) == (1, 256, 5, 5, 5)
    with FlopCounterMode(display=False) as decoding:
        own = [method.decoder.share(m, part.fused) for m in range(4)]
        skips = [reduce([part.finer[level]] * 4) for level, reduce in enumerate(method.reductions)]
        logits = method.decoder(added(own), [added(level) for level in skips])
    assert tuple(logits.shape) == (1, 4, *CROP)
    # Four modalities are encoded alike. The last layer has one more output than published.
    assert (4 * encoding.get_total_flops() + decoding.get_total_flops()) / 1e9 == pytest.approx(1_379, abs=0.5)
    assert ShaSpecConfig.sized("paper").multiples == (16, 32, 32) and method.multiple == 32


def test_the_composition_is_a_residual_with_nothing_behind_it() -> None:
    method, batch = shaspec(), made_batch(GLIOMA, size=1)
    image = batch.image_BMDHW[:, 2:3]
    with torch.no_grad():
        shared, specific = method.encoders.shared(image)[-1], method.encoders.specific[2](image)[-1]
        part = method._encoded(method.encoders.specific[2], image)
        assert part is not None
        torch.testing.assert_close(part.fused, shared + method.compose(torch.cat((shared, specific), 1)))
        torch.testing.assert_close(part.summary, specific.mean((2, 3, 4)))
        # Without its kernel what is left is the shared feature.
        for weight in method.compose.parameters():
            weight.zero_()
        part = method._encoded(method.encoders.specific[2], image)
        assert part is not None and torch.equal(part.fused, part.shared)


def by_hand(method: ShaSpec, batch: Batch, keep: tuple[int, ...]) -> Tensor:
    """Return the logits of one sample from Z and the skips, concatenated and convolved as a whole."""
    parts = {m: method._encoded(method.encoders.specific[m], batch.image_BMDHW[:, m : m + 1]) for m in keep}
    shared = {m: p.shared for m, p in parts.items() if p}
    mean = torch.stack(list(shared.values())).mean(0)
    filling = shared[keep[0]] if method.config.absent == "first" else mean
    z = torch.cat([p.fused if (p := parts.get(m)) else filling for m in range(4)], 1)
    weight = torch.cat([up.weight for up in method.decoder.ups])  # type: ignore[misc]
    skips = []
    for level, reduce in enumerate(method.reductions):
        assert isinstance(reduce, ModalityReduction)
        one = next(p for p in parts.values() if p).finer[level]
        whole = torch.cat([p.finer[level] if (p := parts.get(m)) else torch.zeros_like(one) for m in range(4)], 1)
        kernel = torch.cat([share.weight for share in reduce.shares], 1)  # type: ignore[misc]
        skips.append(nn.functional.conv3d(whole, kernel))
    return method.decoder(nn.functional.conv_transpose3d(z, weight, stride=2), skips)


@pytest.mark.parametrize("absent", ["shared_mean", "first"])
def test_every_subset_is_decoded_as_the_slots_say(absent: str) -> None:
    method, batch = shaspec(absent=absent, outputs="sigmoid").eval(), made_batch(GLIOMA, size=1)
    with torch.inference_mode():
        features = encoded(method, batch)
        for subset in subsets(GLIOMA.modalities):
            keep = tuple(m for m, inside in enumerate(subset.mask) if inside)
            expected = by_hand(method, batch, keep)
            torch.testing.assert_close(method.decode(features, kept(*keep)), expected, rtol=1e-4, atol=1e-4)


def test_the_first_one_lends_or_all_that_are_kept_do() -> None:
    batch, whole = made_batch(GLIOMA, size=1), torch.ones(1, 4, dtype=torch.bool)
    for absent, lenders in (("first", {1}), ("shared_mean", {1, 3})):
        method = shaspec(absent=absent)
        features = encoded(method, batch)
        zeroed = replace(features, shares=tuple(tuple(torch.zeros_like(f) for f in slot) for slot in features.shares))
        for lender in range(4):
            shares = [list(slot) for slot in zeroed.shares]
            shares[0][lender] = torch.ones_like(shares[0][lender])
            summed = method.upsampled(replace(zeroed, shares=tuple(map(tuple, shares))), kept(1, 3))
            assert summed.max().item() == (1 / len(lenders) if lender in lenders else 0)
            assert method.upsampled(zeroed, whole).max() == 0


def test_all_subsets_cost_one_encoding() -> None:
    method, batch = shaspec().eval(), made_batch(GLIOMA, size=1)
    runs: Counter[str] = Counter()
    for name, module in (("shared", method.encoders.shared), *((f"{m}", e) for m, e in enumerate(method.encoders.specific))):
        module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    for up in method.decoder.ups:
        up.register_forward_hook(lambda *_: runs.update(["up"]))
    with torch.inference_mode():
        features = encoded(method, batch)
        for subset in method.supports():
            method.decode(features, torch.tensor([subset.mask]))
        assert runs == {"shared": 4, "0": 1, "1": 1, "2": 1, "3": 1, "up": 16}
        runs.clear()
        method.encode(batch.image_BMDHW, kept(2), batch.origin_B3)
    assert runs == {"shared": 1, "2": 1, "up": 4}  # absent ones are not encoded


def test_the_scale_of_a_standardised_kernel_does_not_matter() -> None:
    torch.manual_seed(0)
    method = ShaSpecConfig(**FRACTION).build(GLIOMA).double().eval()
    batch = flat(made_batch(GLIOMA, size=1, edge=64))
    standardised = [m.weight for m in method.modules() if isinstance(m, StandardisedConv)]
    reduced = [[s.weight for s in m.shares] for m in method.modules() if isinstance(m, ModalityReduction)]
    plain = {name for name, m in method.named_modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)}
    plain -= {name for name, m in method.named_modules() if isinstance(m, StandardisedConv) or "reductions" in name}
    assert plain == {"decoder.rest.head", "decoder.ups.0", "decoder.ups.1", "decoder.ups.2", "decoder.ups.3"} | {
        f"decoder.rest.ups.{level}" for level in (1, 2, 3)
    }
    assert all(m.bias is None for m in method.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))
    keep = kept(0, 3)
    with torch.inference_mode():
        image = batch.image_BMDHW.double()
        before = method.decode(method.encode(image, batch.present_BM, batch.origin_B3), keep)
        for i, weight in enumerate(standardised):
            weight.mul_(30.0 if i % 2 else 0.05)
        for shares in reduced:  # One kernel, kept in as many parts as there are modalities.
            for weight in shares:
                weight.mul_(7.0)  # type: ignore[operator]
        after = method.decode(method.encode(image, batch.present_BM, batch.origin_B3), keep)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def test_equal_images_are_aligned() -> None:
    method, batch = shaspec(complete=1.0), made_batch(GLIOMA, size=2)
    same = replace(batch, image_BMDHW=batch.image_BMDHW[:, :1].expand(-1, 4, -1, -1, -1))
    (alignment,) = (t for t in back_propagated(method, same)[0] if t.name == "alignment")
    assert alignment.value == 0 and alignment.weight == 0.1
    (alignment,) = (t for t in back_propagated(method, batch)[0] if t.name == "alignment")
    assert alignment.value > 0


def test_a_classifier_that_knows_nothing_pays_the_logarithm_of_four() -> None:
    method, batch = shaspec(), made_batch(GLIOMA, size=2)
    assert method.origin is not None
    for parameter in method.origin.parameters():
        nn.init.zeros_(parameter)
    (domain,) = (t for t in back_propagated(method, batch)[0] if t.name == "domain")
    assert domain.value.item() == pytest.approx(math.log(4)) and domain.weight == 0.02


def test_zero_logits_cost_what_can_be_worked_out() -> None:
    method, batch = shaspec(outputs="sigmoid"), made_batch(GLIOMA, size=1)
    for parameter in method.decoder.rest.head.parameters():
        nn.init.zeros_(parameter)
    target = torch.ones(1, 3, 8, 8, 8)
    (seg,) = (t for t in back_propagated(method, replace(batch, target_BRDHW=target))[0] if t.name == "seg")
    assert seg.value.item() == pytest.approx(1 - 512 / (256 + 512 + 1) + 3 * math.log(2), rel=1e-5)


def test_auxiliary_losses_are_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # The draw is the second and fourth; the first and third are encoded nowhere and looked at nowhere.
    keep = kept(1, 3)
    monkeypatch.setattr("anymri.methods.shaspec.draw_by_size", lambda present, generator: keep)
    method, batch = shaspec(), made_batch(GLIOMA, size=1)
    whole = encoded(method, batch)
    spoilt = replace(batch, image_BMDHW=torch.where(keep[:, :, None, None, None], batch.image_BMDHW, torch.nan))
    terms = {t.name: t.value for t in back_propagated(method, spoilt)[0]}
    apart = (whole.shared[1] - whole.shared[3]).abs().mean()
    torch.testing.assert_close(terms["alignment"], 4 * apart.detach())
    assert method.origin is not None
    guesses = torch.cat([method.origin(whole.summary[m]) for m in (1, 3)])
    torch.testing.assert_close(terms["domain"], nn.functional.cross_entropy(guesses, torch.tensor([1, 3])).detach())


def test_a_single_modality_has_nothing_to_be_aligned_with() -> None:
    batch = made_batch(GLIOMA, size=1, present=((False, True, False, False),))
    assert [t.name for t in back_propagated(shaspec(), batch)[0]] == ["seg", "domain", "encoders"]


def test_nothing_is_dropped_in_the_first_part_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = shaspec(), made_batch(GLIOMA, size=4, present=mixed_presence(GLIOMA))
    seen: list[Tensor] = []
    original = ShaSpec.encode

    def spied(self: ShaSpec, image: Tensor, present: Tensor, origin: Tensor) -> Features:
        seen.append(present)
        return original(self, image, present, origin)

    monkeypatch.setattr(ShaSpec, "encode", spied)
    for progress in (0.0, 0.44):
        next(terms_of(method, batch, progress=progress))
    assert all(torch.equal(present, batch.present_BM) for present in seen)
    seen.clear()
    sizes: Counter[int] = Counter()
    whole = made_batch(GLIOMA, size=4)
    for seed in range(40):
        next(terms_of(method, whole, progress=0.45, seed=seed))
    for present in seen:
        sizes.update(present.sum(1).tolist())
    assert set(sizes) == {1, 2, 3, 4}
    assert sum((n - 40) ** 2 / 40 for n in sizes.values()) < 16.3  # uniform by size: 99.9 % with 3 degrees of freedom


def test_terms_that_are_switched_off_are_left_out() -> None:
    batch = made_batch(GLIOMA, size=1)
    for options, names in (
        ({}, ["seg", "alignment", "domain", "encoders"]),
        ({"alignment": 0.0}, ["seg", "domain", "encoders"]),
        ({"domain": 0.0}, ["seg", "alignment", "encoders"]),
    ):
        method = shaspec(complete=1.0, **options)
        assert [t.name for t in back_propagated(method, batch)[0]] == names
        assert (method.origin is None) is ("domain" in options)


def test_a_stripped_method_segments_and_cannot_be_trained() -> None:
    method, batch = shaspec(), made_batch(GLIOMA, size=1)
    with torch.inference_mode():
        before = method(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
        method.strip()
        assert torch.equal(before, method(batch.image_BMDHW, batch.present_BM, batch.origin_B3))
    assert not any(name.startswith("origin") for name in method.state_dict())
    with pytest.raises(RuntimeError, match="stripped"):
        next(terms_of(method, batch))


@pytest.mark.parametrize("options", [{}, {"absent": "first", "outputs": "sigmoid"}], ids=str)
def test_the_last_term_stands_for_one_backward_pass_through_everything(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # so that objectives do not round in between
    method, batch = shaspec(**options).double(), made_batch(GLIOMA, size=2, present=((True,) * 4, (True, False, True, True)))
    batch = replace(batch, image_BMDHW=batch.image_BMDHW.double(), target_BRDHW=batch.target_BRDHW.double())
    terms, found = back_propagated(method, batch, seed=3)
    assert [t.name for t in terms] == ["seg", "alignment", "domain", "encoders"]
    ordinary = in_one_pass(method, batch, monkeypatch, seed=3)
    assert ordinary.keys() == found.keys()
    for name, gradient in ordinary.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_domain_classification_reaches_no_shared_encoder_and_alignment_no_specific_one() -> None:
    batch = made_batch(GLIOMA, size=1)
    for name, untouched in (("domain", "encoders.shared"), ("alignment", "encoders.specific")):
        method = shaspec(complete=1.0)
        features = encoded(method, batch)
        if name == "domain":
            assert method.origin is not None
            sum(method.origin(u).sum() for u in features.summary).backward()  # type: ignore[union-attr]
        else:
            sum((a - b).abs().mean() for a, b in combinations(features.shared, 2)).backward()  # type: ignore[union-attr]
        assert not any(n.startswith(untouched) for n, p in method.named_parameters() if p.grad is not None)


@pytest.mark.parametrize("options", [{}, {"absent": "first", "outputs": "sigmoid"}], ids=str)
def test_a_fraction_of_the_published_network_learns_from_incomplete_cases(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    method = ShaSpecConfig(**FRACTION, **options).build(GLIOMA)
    batch = flat(made_batch(GLIOMA, size=2, edge=64, present=((True,) * 4, (True, False, True, True))))
    terms, gradients = back_propagated(method, with_absent(batch, torch.nan), progress=0.0)
    assert [t.name for t in terms] == ["seg", "alignment", "domain", "encoders"]
    assert all(math.isfinite(v) for _, v in measured(terms))
    assert all(torch.isfinite(g).all() for g in gradients.values())
    assert {n for n, _ in method.named_parameters()} == set(gradients)


def test_a_fraction_of_the_published_network_never_sees_what_is_absent_or_hidden() -> None:
    torch.manual_seed(0)
    method, batch = ShaSpecConfig(**FRACTION).build(GLIOMA).eval(), flat(made_batch(GLIOMA, size=1, edge=64))
    keep = kept(0, 3)
    spoilt = batch.image_BMDHW.masked_fill(~keep[:, :, None, None, None], torch.nan)

    def said(image: Tensor, present: Tensor) -> Tensor:
        with torch.inference_mode():
            return method.decode(method.encode(image, present, batch.origin_B3), keep)

    hidden = said(spoilt, torch.ones_like(keep))
    assert hidden.shape == (1, 3, 32, 64, 64) and torch.isfinite(hidden).all()
    assert torch.equal(said(batch.image_BMDHW, torch.ones_like(keep)), hidden)
    assert torch.equal(said(spoilt, keep), hidden)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_network_of_the_paper_takes_a_step() -> None:
    torch.manual_seed(0)
    method = ShaSpecConfig.sized("paper").build(GLIOMA)
    batch = flat(made_batch(GLIOMA, size=1, edge=64))
    before, _ = back_propagated(method, batch, progress=0.0)
    torch.optim.SGD(method.parameters(), lr=1e-3).step()
    method.zero_grad(set_to_none=True)
    assert next(terms_of(method, batch, progress=0.0)).value.item() < before[0].value.item()
