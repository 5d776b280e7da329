"""What each term of CCSD is by hand, which parameters it teaches, and what a step computes only once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anymri.domain.task import GLIOMA, Task
from anymri.methods import ccsd as module
from anymri.methods.ccsd import CCSD, Features
from anymri.nn.leaves import Leaves

from ..material import back_propagated, held_by_graphs, made_batch, task_with, tiny

LN2, LN3 = math.log(2), math.log(3)


def ccsd(task: Task = GLIOMA, **options: Any) -> CCSD:
    method = tiny("ccsd", task, **options)
    assert isinstance(method, CCSD)
    return method


def voxels(*values: float) -> tuple[Tensor, ...]:
    """Return one feature of one channel and one voxel per value."""
    return tuple(torch.full((1, 1, 1, 1, 1), v) for v in values)


def features(fused: tuple[Tensor, ...], shared: tuple[Tensor, ...], nothing: Tensor | None = None) -> Features:
    return Features(fused, shared, shared, (), torch.ones(1, len(fused), dtype=torch.bool), nothing)


# Everything below has τ = 2: a feature of 2 ln a weighs a among features of 0.


def test_dmcd_of_two_modalities_by_hand() -> None:
    fused, shared = voxels(2 * LN2, 0), voxels(9, 0)
    # σ(Z) of both: ⅔, ⅓. Without the first its slot is f_shared of the second, 0: ½, ½.
    found = ccsd(task_with(2))._dmcd(features(fused, shared), [[0, 1]])
    assert found.item() == pytest.approx(2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))
    # With the view of nothing in its place: ¾, ¼.
    method = ccsd(task_with(2), absent="zero")
    found = method._dmcd(features(fused, shared, torch.full((1, 1, 1, 1, 1), 2 * LN3)), [[0, 1]])
    assert found.item() == pytest.approx(2 / 3 * math.log(8 / 9) + 1 / 3 * math.log(4 / 3), rel=1e-5)


def test_dmcd_of_three_modalities_by_hand() -> None:
    # Full: ½, ¼, ¼. Without the first its slot is the mean of 2 ln 2 and −2 ln 2: ⅓ each. The third alone: ⅖, ⅖, ⅕.
    of = features(voxels(2 * LN2, 0, 0), voxels(9, -2 * LN2, 2 * LN2))
    first = 1 / 2 * math.log(3 / 2) + 1 / 2 * math.log(3 / 4)
    second = 2 / 3 * math.log(5 / 6) + 1 / 3 * math.log(5 / 3)
    method = ccsd(task_with(3))
    assert method._dmcd(of, [[0, 1, 2]]).item() == pytest.approx(first + second, rel=1e-5)
    # Of a batch it is the mean; a sample with nothing to remove counts as zero.
    two = of.mapped(lambda t: torch.cat((t, t)))
    assert method._dmcd(
        Features(two.fused, two.shared, two.specific, (), torch.tensor([[True] * 3, [False, True, False]])), [[0, 1, 2], [1]]
    ).item() == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("distilled", ["shared", "specific"])
def test_dmcd_of_other_features_has_zeros_where_a_modality_is_not_kept(distilled: str) -> None:
    # Full: ⅔, ⅓. Without the first: 0 and 0, so ½, ½.
    found = ccsd(task_with(2), distilled=distilled)._dmcd(features(voxels(7, 7), voxels(2 * LN2, 0)), [[0, 1]])
    assert found.item() == pytest.approx(2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))


def test_hmsd_of_two_modalities_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {(True, True): (2 * LN3, 0.0), (True, False): (0.0, 0.0), (False, True): (2 * LN3, 0.0)}
    monkeypatch.setattr(
        CCSD, "_class_logits", lambda self, f, keep: torch.tensor(said[tuple(keep[0].tolist())]).reshape(1, 2, 1, 1, 1)
    )
    method = ccsd(task_with(2), hmsd=0.5)
    of = features(voxels(0, 0), voxels(0, 0))
    teacher = method._class_logits(of, of.present)
    terms = list(method._hmsd(of, teacher, torch.Generator()))
    # The teacher says ¾, ¼, one student ½, ½, the other what the teacher says; the mean over both.
    expected = (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)) / 2
    assert [t.value.item() for t in terms] == pytest.approx([expected, 0.0], abs=1e-7)
    assert [t.weight for t in terms] == [0.5, 0.5]


def taught(method: CCSD, wanted: str) -> set[str]:
    """Return what gets a gradient other than zero from one kind of term, by part of the network and modality."""
    batch = made_batch(GLIOMA, size=1)
    method.zero_grad()
    for term in method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(0)):
        (term.value * (term.name in (wanted, "encoders"))).backward()
    found = set()
    for name, parameter in method.named_parameters():
        if parameter.grad is not None and parameter.grad.any():
            words = name.split(".")
            if words[0] == "encoders":
                found.add(words[1] if words[1] == "shared" else f"specific {words[2]}")
            else:
                found.add(f"skips {words[3]}" if words[0] == "reductions" else words[0])
    return found


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the drawn subset be 1 and 2, the only student 1, and the path 0, 1, 2, 3."""
    monkeypatch.setattr(module, "draw_subsets", lambda present, generator: torch.tensor([[False, True, True, False]]))
    student = torch.tensor([[False, True, False, False]]), torch.tensor([True])
    monkeypatch.setattr(module, "students_of", lambda present, generator: [student])
    monkeypatch.setattr(CCSD, "removal_order", lambda self, *given: [[0, 1, 2, 3]])


def every(*parts: str, of: tuple[int, ...] = (0, 1, 2, 3)) -> set[str]:
    """Return names of parts, those of each modality spelt out."""
    per_modality = {"specific", "skips"}
    return {f"{p} {m}" for p in parts if p in per_modality for m in of} | {p for p in parts if p not in per_modality}


ALL = ("shared", "specific", "skips", "compose", "decoder")


@pytest.mark.parametrize("absent", ["shared_mean", "zero"])
def test_each_term_teaches_what_it_should_and_nothing_else(fixed: None, absent: str) -> None:
    method = ccsd(absent=absent)
    with torch.no_grad():  # before training the shared encoder's view of nothing is nothing
        for name, parameter in method.encoders.shared.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    found = {name: taught(method, name) for name in ("seg_full", "seg_subset", "hmsd", "dmcd")}
    assert found["seg_full"] == every(*ALL)
    # The view of nothing stands in the skips of what is not kept.
    skips = (1, 2) if absent == "shared_mean" else (0, 1, 2, 3)
    assert found["seg_subset"] == every("shared", "compose", "decoder", "specific", of=(1, 2)) | every("skips", of=skips)
    # The teacher saw all four; its student has one.
    skips = (1,) if absent == "shared_mean" else (0, 1, 2, 3)
    assert found["hmsd"] == every("shared", "compose", "decoder", "specific", of=(1,)) | every("skips", of=skips)
    # The first modality is in no student; neither decoder nor skips are asked.
    assert found["dmcd"] == every("shared", "compose", "specific", of=(1, 2, 3))


@pytest.mark.parametrize(("distilled", "hmsd", "dmcd"), [("shared", {"shared"}, {"shared"}), ("specific", {1}, {1, 2, 3})])
def test_other_features_teach_their_encoders_alone(fixed: None, distilled: str, hmsd: set[Any], dmcd: set[Any]) -> None:
    method = ccsd(distilled=distilled)
    for name, parts in (("hmsd", hmsd), ("dmcd", dmcd)):
        assert taught(method, name) == {p if isinstance(p, str) else f"specific {p}" for p in parts}


def test_terms_that_are_off_teach_nothing(fixed: None) -> None:
    method = ccsd(hmsd=0.0, dmcd=0.0)
    assert taught(method, "hmsd") == taught(method, "dmcd") == set()


def calls(method: CCSD) -> Counter[str]:
    """Count how often each encoder, each share of a reduction, the composition and the decoder are asked from now on."""
    counter: Counter[str] = Counter()
    parts: dict[str, nn.Module] = {"shared": method.encoders.shared, "compose": method.compose, "decoder": method.decoder}
    parts |= {f"specific {m}": e for m, e in enumerate(method.encoders.specific)}
    parts |= {f"skips {m}": share for m, share in enumerate(method.reductions[0].shares)}  # type: ignore[arg-type, union-attr]
    for name, part in parts.items():
        part.register_forward_hook(lambda *given, name=name: counter.update([name]))
    return counter


def test_all_subsets_of_a_window_cost_one_encoding() -> None:
    method, batch = ccsd().eval(), made_batch(GLIOMA, size=1)
    counter = calls(method)
    with torch.inference_mode():
        encoded = method.encode(batch.image_BMDHW, batch.present_BM, batch.origin_B3)
        for size in (1, 2, 3, 4):
            for kept in combinations(range(4), size):
                method.decode(encoded, torch.tensor([[m in kept for m in range(4)]]))
    assert counter == {
        "shared": 4,
        "compose": 4,
        "decoder": 15,
        **{f"specific {m}": 1 for m in range(4)},
        **{f"skips {m}": 1 for m in range(4)},
    }


@pytest.mark.parametrize("criticality", ["cosine", "gradient"])
def test_a_step_encodes_once_whatever_it_distils(criticality: str) -> None:
    method, batch = ccsd(criticality=criticality), made_batch(GLIOMA, size=2)
    counter = calls(method)
    terms, _ = back_propagated(method, batch)
    students = sum(t.name == "hmsd" for t in terms)
    assert students in (4, 6)
    assert counter["shared"] == 4 and counter["compose"] == 4 and counter["decoder"] == 2 + students
    assert {counter[f"specific {m}"] for m in range(4)} == {counter[f"skips {m}"] for m in range(4)} == {1}


@pytest.mark.parametrize("skips", ["shared", "fused"])
def test_of_a_modality_that_nobody_has_nothing_is_computed(skips: str) -> None:
    present = ((True, False, True, False), (False, False, True, False))
    method, batch = ccsd(skips=skips), made_batch(GLIOMA, size=2, present=present)
    counter = calls(method)
    terms, gradients = back_propagated(method, batch)
    assert counter["shared"] == counter["compose"] == 2
    assert {n for n in counter if n.startswith(("specific", "skips"))} == {"specific 0", "specific 2", "skips 0", "skips 2"}
    assert not any(n.startswith(("encoders.specific.1.", "encoders.specific.3.")) for n in gradients)
    assert {t.name for t in terms} == {"seg_full", "seg_subset", "hmsd", "dmcd", "encoders"}


def test_an_incomplete_case_is_taught_by_the_set_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    present = ((True, True, False, True),)
    method, batch = ccsd(), made_batch(GLIOMA, size=1, present=present)
    asked: list[tuple[bool, ...]] = []
    original = CCSD._class_logits

    def spied(self: CCSD, of: Features, keep: Tensor) -> Tensor:
        asked.append(tuple(keep[0].tolist()))
        return original(self, of, keep)

    monkeypatch.setattr(CCSD, "_class_logits", spied)
    back_propagated(method, batch)
    assert asked[0] == present[0]
    students = asked[2:]  # behind the full and the drawn set
    assert len(students) == 3 and all(sum(s) in (1, 2) and not s[2] for s in students)


def halves(method: CCSD) -> Iterator[torch.dtype]:
    """Yield in what the sums of a step are kept while its features are in bf16."""
    kept: list[Leaves] = []
    original = Leaves.carried

    def spied(self: Leaves) -> Tensor:
        kept.append(self)
        return original(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Leaves, "carried", spied)
        batch = made_batch(GLIOMA, size=1, edge=16)
        for term in method.losses(batch, progress=0.5, generator=torch.Generator().manual_seed(0)):
            term.value.backward()
    for leaf in kept[0]._leaves:
        total = kept[0].gathered(leaf)
        if total is not None and leaf.dtype == torch.bfloat16:
            yield total.dtype


def test_what_students_leave_is_summed_in_single_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = list(halves(ccsd()))
    assert len(found) >= 8 and set(found) == {torch.float32}


@pytest.mark.parametrize("distilled", ["fused", "shared"])
def test_memory_does_not_grow_with_the_number_of_students(monkeypatch: pytest.MonkeyPatch, distilled: str) -> None:
    """What graphs hold when a student is handed out: as much for the last of ten as for the first, and for the only one."""
    pairs = [(torch.tensor([[m in kept for m in range(5)]]), torch.tensor([True])) for kept in combinations(range(5), 2)]
    held = {}
    for number in (1, len(pairs)):
        monkeypatch.setattr(module, "students_of", lambda present, generator, number=number: pairs[:number])
        held[number] = held_by_graphs(ccsd(task_with(5), distilled=distilled), made_batch(task_with(5), size=1))
    assert len(held[10]["hmsd"]) == 10 and held[1]["hmsd"][0] > 0
    assert set(held[10]["hmsd"]) == set(held[1]["hmsd"])
    assert held[10]["dmcd"] == held[1]["dmcd"] and held[10]["encoders"] == held[1]["encoders"]
