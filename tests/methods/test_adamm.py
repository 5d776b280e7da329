"""AdaMM against what its specification asks, on tiny tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.losses.alignment import ramped
from anymri.losses.presence import FLOOR
from anymri.methods.adamm import DISCRIMINATOR, AdaMM, AdaMMConfig
from anymri.methods.method import MAIN, Adam, Term
from anymri.nn.adaptive_unet import AdaptiveUNet, Said

from ..material import back_propagated, made_batch, tiny

NOTHING_DISTILLED = {"output": 0.0, "content": 0.0, "style": 0.0, "adversarial": 0.0}
PART, FULL = [True, False, True, False], [True] * 4


def adamm(task: Task = GLIOMA, **options: Any) -> AdaMM:
    method = tiny("adamm", task, **options)
    assert isinstance(method, AdaMM)
    return method


@torch.no_grad()
def stirred(method: AdaMM) -> AdaMM:
    """Move every parameter, so that adapters do something."""
    generator = torch.Generator().manual_seed(7)
    for parameter in method.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return method


def said(method: AdaMM, batch: Batch, keep: list[list[bool]]) -> Said:
    return method.student(batch.image_BMDHW, torch.tensor(keep), None)


def terms_of(method: AdaMM, batch: Batch, keep: list[list[bool]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Term]:
    monkeypatch.setattr("anymri.methods.adamm.draw_subsets", lambda present, generator: torch.tensor(keep))
    return method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(0))


def counted(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        method = AdaMMConfig.sized("paper").build(GLIOMA)
    assert counted(method.student) == 6_785_191
    assert counted(method.teacher) == 4_785_223
    assert method.student.bank is not None and counted(method.student.bank) == 1_880_032
    assert counted(method.student.refinement) == 119_936 and counted(method.student.presence) == 7_011
    assert counted(method.student.unet) == 4_778_212


def test_one_pass_of_the_student_costs_what_is_published() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    method, counter = AdaMMConfig.sized("paper").build(GLIOMA), FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        method.student(torch.zeros(1, 4, 32, 32, 32), torch.tensor([PART]), None)
    assert counter.get_total_flops() * (80 / 32) ** 3 / 1e9 == pytest.approx(83, abs=1)


def test_the_full_set_ignores_bank_and_refinement() -> None:
    method, batch = adamm().eval(), made_batch(GLIOMA)
    keep = torch.tensor([FULL, PART])
    features = method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    with torch.inference_mode():
        before = method.decode(features, keep)
        for module in (method.student.bank, method.student.refinement):
            assert module is not None
            for parameter in module.parameters():
                parameter.fill_(0.3)
        after = method.decode(features, keep)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


def test_a_full_sample_is_decoded_as_the_teacher_would() -> None:
    method, batch = adamm(), made_batch(GLIOMA)
    assert method.teacher is not None
    method.teacher.load_state_dict({k: v for k, v in method.student.state_dict().items() if not k.startswith(("bank", "refine"))})
    taught = method.teacher(batch.image_BMDHW, batch.present_BM, None)
    for own, theirs in zip(said(method, batch, [FULL, FULL]).tensors(), taught.tensors(), strict=True):
        torch.testing.assert_close(own, theirs)


def test_an_untrained_bank_leaves_the_main_path_as_it_is() -> None:
    method, batch = adamm(garm=False), made_batch(GLIOMA, size=1)
    bare = AdaptiveUNet(method.student.unet, presence=method.student.presence)
    image, keep = batch.image_BMDHW, torch.tensor([PART])
    ours, plain = method.student(image, keep, None), bare(image, keep, None)
    assert torch.equal(ours.content, plain.content) and torch.equal(ours.style, plain.style)
    assert not torch.equal(ours.z, plain.z)  # CF has its own 1×1×1 convolutions


def test_what_the_bottleneck_is_made_of() -> None:
    method, batch = stirred(adamm(garm=False)), made_batch(GLIOMA, size=1)
    network = method.student
    assert network.bank is not None
    (own,) = network.bank.sets_of(PART)
    keep = torch.tensor([PART])
    image = torch.where(keep[:, :, None, None, None], batch.image_BMDHW, 0.0)
    encoder = network.unet.encoder
    c1 = encoder.levels[0][0](encoder.entries[0](image))  # type: ignore[index]
    c1d = encoder.entries[1](c1)
    e1 = c1d + own.entries[0](c1d, None)
    c2 = encoder.levels[1][0](e1)  # type: ignore[index]
    c2d = encoder.entries[2](c2)
    e2 = c2d + own.entries[1](c2d, None)
    c3 = encoder.levels[2][0](e2)  # type: ignore[index]
    content = encoder.levels[2][1](c3)  # type: ignore[index]
    e3 = c3 + own.aside(c3, None)
    style, general = network.unet.bottleneck((c1d, c2d), content, None)
    aware = own.bottleneck((e1, e2), e3, None)[1]
    found = said(method, batch, [PART])
    torch.testing.assert_close(found.style, style)
    torch.testing.assert_close(found.content, content)
    torch.testing.assert_close(found.z, (general + aware) / 2)
    refined = stirred(adamm())
    assert refined.student.refinement is not None
    refined.student.load_state_dict({**refined.student.state_dict(), **network.state_dict()})
    torch.testing.assert_close(said(refined, batch, [PART]).z, refined.student.refinement(aware, general))


@pytest.mark.parametrize("bank", ["subset", "factored"])
def test_each_sample_has_the_adapters_of_its_own_subset(bank: str) -> None:
    method = stirred(adamm(bank=bank)).eval()
    keeps = [FULL, PART, [False, True, False, False], PART, [True, True, True, False]]
    batch = made_batch(GLIOMA, size=5)
    together = said(method, batch, keeps)
    for b, keep in enumerate(keeps):
        one = replace(batch, image_BMDHW=batch.image_BMDHW[b : b + 1])
        for whole, alone in zip(together.tensors(), said(method, one, [keep]).tensors(), strict=True):
            torch.testing.assert_close(whole[b : b + 1], alone, rtol=1e-4, atol=1e-5)


def test_only_the_sets_of_drawn_subsets_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = stirred(adamm(PROSTATE)), made_batch(PROSTATE, size=1)
    for term in terms_of(method, batch, [[True, False, True]], monkeypatch):
        (term.value * term.weight).backward()
    bank = method.student.bank
    assert bank is not None
    (drawn,) = bank.sets_of((True, False, True))
    for one in bank.sets:
        assert all((p.grad is not None and bool(p.grad.any())) == (one is drawn) for p in one.parameters())
    others = [p for n, p in method.named_parameters() if ".bank." not in n]
    assert all(p.grad is not None and p.grad.any() for p in others)


def test_keeping_nothing_is_an_error() -> None:
    method, batch = adamm(), made_batch(GLIOMA, size=1)
    with pytest.raises(ValueError, match="no adapters"):
        said(method, batch, [[False] * 4])


def test_a_channel_that_is_hidden_may_hold_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = stirred(adamm()).eval(), made_batch(GLIOMA, size=1)
    spoilt = batch.image_BMDHW.clone()
    spoilt[:, [1, 3]] = torch.nan
    there, gone = said(method, batch, [PART]), said(method, replace(batch, image_BMDHW=spoilt), [PART])
    assert all(torch.equal(a, b) for a, b in zip(there.tensors(), gone.tensors(), strict=True))


OBJECTIVE = {
    "presence_teacher": 1.0, "seg_teacher": 0.4, "presence_student": 1.0, "seg_student": 0.6,
    "output": 10.0, "content": 0.2, "style": 1.0, "adversary": 2e-4, "discriminator": 1.0,
}  # fmt: skip


def test_the_objective_has_the_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = adamm(), made_batch(GLIOMA, size=1)
    monkeypatch.setattr("anymri.methods.adamm.draw_subsets", lambda present, generator: torch.tensor([PART]))
    terms, _ = back_propagated(method, batch, progress=0.5)
    assert {t.name: t.weight for t in terms if t.measured} == OBJECTIVE
    assert {t.name: t.group for t in terms if t.group != MAIN} == {"discriminator": DISCRIMINATOR}
    early, _ = back_propagated(method, batch, progress=0.05)
    assert next(t.weight for t in early if t.name == "output") == pytest.approx(2.8650, abs=1e-4)
    assert 10 * ramped(0.0, 0.1) == pytest.approx(0.0674, abs=1e-4)


def test_terms_are_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout every term can be computed from what the two networks say."""
    method, batch = stirred(adamm(dropout=0.0, style_scale="absolute")), made_batch(GLIOMA)
    assert method.teacher is not None and method.discriminator is not None
    with torch.no_grad():
        t, s = method.teacher(batch.image_BMDHW, batch.present_BM, None), said(method, batch, [PART, FULL])
        real, made = method.discriminator(t.z[:1]), method.discriminator(s.z[:1])
    found = {x.name: x.value.detach() for x in _taken(terms_of(method, batch, [PART, FULL], monkeypatch))}
    # The second sample has everything: nothing is distilled from it, and it counts in the mean.
    expected = {
        "output": (t.logits.softmax(1) - s.logits.softmax(1))[0].square().mean() / 2,
        "content": (t.content - s.content)[0].square().mean() / 2,
        "adversary": nn.functional.softplus(-made).sum() / 2,
        "discriminator": (nn.functional.softplus(-real) + nn.functional.softplus(made)).sum() / 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    pairs = [(x.style[0].flatten(1), x.decoded[0].flatten(1), x.z[0].flatten(1)) for x in (t, s)]
    style = torch.zeros(())
    for i, j in ((0, 1), (0, 2), (1, 2)):
        theirs, ours = (m[i] @ m[j].T / m[i].shape[1] for m in pairs)
        style = style + (theirs - ours).square().mean() / 4
    torch.testing.assert_close(found["style"], style / 2, rtol=1e-3, atol=1e-6)


def _taken(terms: Iterator[Term]) -> Iterator[Term]:
    for term in terms:
        (term.value * term.weight).backward()
        yield term


def test_where_everything_is_kept_nothing_is_distilled(monkeypatch: pytest.MonkeyPatch) -> None:
    present = (tuple(FULL), tuple(PART))
    batch = made_batch(GLIOMA, present=present)
    names = [t.name for t in _taken(terms_of(adamm(), batch, [FULL, PART], monkeypatch)) if t.measured]
    assert names == ["presence_teacher", "seg_teacher", "presence_student", "seg_student"]


@pytest.mark.parametrize(("teacher", "reached"), [("detached", False), ("attached", True)])
def test_whether_distillation_reaches_the_teacher(teacher: str, reached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = stirred(adamm(teacher=teacher)), made_batch(GLIOMA, size=1)
    assert method.teacher is not None
    gradients = []
    for distilled in (True, False):
        method.zero_grad(set_to_none=True)
        for term in terms_of(method, batch, [PART], monkeypatch):
            if distilled or term.name not in ("output", "content", "style", "adversary", "discriminator"):
                (term.value * term.weight).backward()
        gradients.append([p.grad.clone() for p in method.teacher.parameters() if p.grad is not None])
    with_, without = gradients
    assert len(with_) == len(without) > 0
    assert any(not torch.equal(a, b) for a, b in zip(with_, without, strict=True)) == reached


def test_the_discriminator_and_its_adversary_keep_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = stirred(adamm()), made_batch(GLIOMA, size=1)
    for term in terms_of(method, batch, [PART], monkeypatch):
        method.zero_grad(set_to_none=True)
        (term.value * term.weight).backward()
        touched = {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        if term.name == "discriminator":
            assert touched == {"discriminator"}  # what it judges is detached
        elif term.name == "adversary":
            assert touched == {"discriminator"}  # taken away by the engine; the student's share comes with its own term
        elif term.name in ("teacher", "student"):
            assert touched == {term.name}
        else:
            assert touched == set()  # gathered at the leaves


def test_the_discriminator_has_an_optimiser_of_its_own() -> None:
    groups = adamm().parameter_groups()
    assert set(groups) == {MAIN, DISCRIMINATOR}
    assert adamm().own_optimisers() == {DISCRIMINATOR: Adam(1e-4, betas=(0.9, 0.99), weight_decay=0.0)}
    assert set(adamm(adversarial=0.0).parameter_groups()) == {MAIN}


def test_a_frozen_teacher_is_taught_first(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = stirred(adamm(teacher="frozen")), made_batch(GLIOMA, size=1)
    assert adamm().stages == (MAIN,) and method.stages == ("teacher", "student")
    trained = {"teacher": {"teacher"}, "student": {"student", "discriminator"}}
    for stage in method.stages:
        method.enter_stage(stage)
        method.zero_grad(set_to_none=True)
        names = {t.name for t in _taken(terms_of(method, batch, [PART], monkeypatch)) if t.measured}
        assert {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None} == trained[stage]
        teacher_terms = {"presence_teacher", "seg_teacher"}
        assert names == (teacher_terms if stage == "teacher" else set(OBJECTIVE) - teacher_terms)


def presence_set_to(method: AdaMM, logits: list[float]) -> None:
    """Make the head say these logits whatever it sees."""
    head = method.student.presence
    assert head is not None
    last = list(head.children())[-1]
    assert isinstance(last, nn.Conv3d) and last.bias is not None
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(logits))


@pytest.mark.parametrize("outputs", ["softmax", "sigmoid"])
@torch.inference_mode()
def test_a_class_that_is_held_to_be_absent_is_taken_out(outputs: str) -> None:
    method, batch = adamm(outputs=outputs).eval(), made_batch(GLIOMA, size=1)
    free = adamm(outputs=outputs, gate="off").eval()
    nested = [GLIOMA.classes[1:].index(c) for c in ("ED", "NCR", "ET")]
    given = (batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    for verdict in product((-1.0, 1.0), repeat=3):
        order = [0.0] * 3
        for place, v in zip(nested, verdict, strict=True):
            order[place] = v
        for network in (method, free):
            presence_set_to(network, order)
        gated, ungated = method(*given)[0], free(*given)[0]
        ring_out = [v < 0 for v in verdict]
        for region in range(3):
            assert (gated[region] == FLOOR).all() == all(ring_out[region:])
        assert (verdict != (1.0, 1.0, 1.0)) or torch.equal(gated, ungated)
        assert torch.equal(method.train()(*given)[0], ungated)  # in evaluation alone
        method.eval()


@torch.inference_mode()
def test_one_half_is_absent() -> None:
    method, batch = adamm().eval(), made_batch(GLIOMA, size=1)
    presence_set_to(method, [0.0, 0.0, 0.0])
    assert (method(batch.image_BMDHW, batch.present_BM, batch.origin_B3) == FLOOR).all()


@pytest.mark.parametrize("outputs", ["softmax", "sigmoid"])
@torch.inference_mode()
def test_a_case_is_gated_by_the_window_that_shows_most(outputs: str) -> None:
    method, batch = adamm(outputs=outputs, gate="case").eval(), made_batch(GLIOMA, size=1)
    free = adamm(outputs=outputs, gate="off").eval()
    features = method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    keep = torch.tensor([PART])
    ungated = free.decode(features, keep)
    assert torch.equal(method.decode(features, keep), ungated)  # one window does not decide
    presence_set_to(method, [-3.0, -2.0, -1.0])
    logits, seen = method.decode_window(features, keep)
    assert logits.shape[1] == len(GLIOMA.classes)
    assert (method.finish(logits, [seen]) == FLOOR).all()
    elsewhere = seen + 4
    assert torch.equal(method.finish(logits, [seen, elsewhere]), ungated)


def test_outputs_of_the_published_program() -> None:
    method, batch = adamm(outputs="sigmoid", gate="off").eval(), made_batch(GLIOMA, size=1)
    logits = said(method, batch, [PART]).logits[0]
    regions = method.decode(method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3), torch.tensor([PART]))[0]
    names = GLIOMA.classes
    cut = {c: logits[names.index(c)].sigmoid() > 0.5 for c in ("NCR", "ED", "ET")}
    assert torch.equal(regions[0] > 0, cut["NCR"] | cut["ED"] | cut["ET"])
    assert torch.equal(regions[1] > 0, cut["NCR"] | cut["ET"])
    assert torch.equal(regions[2] > 0, cut["ET"])


def test_modules_can_be_switched_off() -> None:
    bare = adamm(adapters=False, garm=False, lgrm=False, **NOTHING_DISTILLED)
    assert bare.student.bank is bare.student.refinement is bare.student.presence is bare.teacher is bare.discriminator is None
    assert adamm(garm=False).student.refinement is None and adamm(garm=False).student.bank is not None
    assert adamm(lgrm=False).teacher is not None
    assert adamm(style=0.0, content=0.0, output=0.0).teacher is not None  # the discriminator compares with it
    assert adamm(adversarial=0.0).discriminator is None


@pytest.mark.parametrize(
    ("wrong", "said_of_it"),
    [
        ({"adapters": False}, "garm refines what the adapters make"),
        ({"teacher": "frozen", **NOTHING_DISTILLED}, "frozen teacher"),
        ({"widths": (8, 12, 16)}, "multiples of 8"),
        ({"depths": (1, 1, 1)}, "the last at least 2"),
        ({"depths": (1, 2)}, "as many as widths"),
        ({"widths": (8, 16)}, "at least 3"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        AdaMMConfig.model_validate({**AdaMMConfig.sized("tiny").model_dump(), **wrong})


def test_what_is_stripped_segments_as_before_and_cannot_be_trained() -> None:
    method, batch = stirred(adamm()).eval(), made_batch(GLIOMA, size=1)
    given = (batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    before = method(*given)
    method.strip()
    assert torch.equal(method(*given), before)
    assert {k.split(".")[0] for k in method.state_dict()} == {"student"}
    with pytest.raises(RuntimeError, match="stripped"):
        next(method.losses(batch, progress=0.5, generator=torch.Generator()))


def test_dropout_is_drawn_in_training_alone() -> None:
    method, batch = adamm(dropout=0.5), made_batch(GLIOMA, size=1)
    given: tuple[Tensor, Tensor] = (batch.image_BMDHW, torch.tensor([PART]))
    quiet = method.student(*given, None)
    first, again, other = (method.student(*given, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first.z, again.z) and not torch.equal(first.z, other.z) and not torch.equal(first.z, quiet.z)
