"""CCSD as the package infers with it against the same network in plain code, which shares nothing between subsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.engine.inference import region_logits_of
from anymri.engine.model import Model, WeightsHeader
from anymri.engine.run import Window
from anymri.methods.ccsd import CCSD, CCSDConfig

from ..material import benchmark

ALL = (True,) * 4
KEEPS = [s.mask for s in subsets(GLIOMA.modalities)]
EXTENT = (16, 12, 14)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return benchmark("reference")


def method_of(**settings: Any) -> CCSD:
    torch.manual_seed(0)
    method = CCSDConfig.sized("tiny").model_copy(update=settings).build(GLIOMA).eval()
    assert isinstance(method, CCSD)
    return method


def noise(*extent: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, *extent)).astype(np.float32)


def inferred(method: CCSD, image: np.ndarray, keeps: list[tuple[bool, ...]]) -> list[np.ndarray]:
    window = Window(stride=1, size=EXTENT, overlap=0.5)
    model = Model(method, WeightsHeader(name="m", method="ccsd", config={}, task="glioma", window=window))
    return list(region_logits_of(model, image, ALL, keeps, device=torch.device("cpu")))


@pytest.mark.parametrize("absent", ["shared_mean", "zero"])
@pytest.mark.parametrize("skips", ["shared", "fused"])
@pytest.mark.parametrize("residual", [False, True])
def test_every_subset_is_that_of_a_full_pass(reference: ModuleType, absent: str, skips: str, residual: bool) -> None:
    method, image = method_of(absent=absent, skips=skips, residual=residual), noise(*EXTENT)
    found = inferred(method, image, KEEPS)
    batch = torch.from_numpy(image)[None]
    with torch.inference_mode():
        for keep, logits in zip(KEEPS, found, strict=True):
            flags = torch.tensor([keep])
            for forward in (reference.logits_of_all_encoders, reference.logits_of_kept_encoders):
                np.testing.assert_allclose(logits, forward(method, batch, flags)[0].numpy(), atol=1e-4)


def test_a_full_pass_is_what_training_computes(reference: ModuleType) -> None:
    method, image = method_of(absent="zero"), torch.from_numpy(noise(*EXTENT))[None].repeat(2, 1, 1, 1, 1)
    keep = torch.tensor([KEEPS[3], KEEPS[10]])
    everywhere, origin = torch.ones_like(keep), torch.zeros(2, 3, dtype=torch.int64)
    expected = method.decode(method.encode(image, everywhere, origin), keep)
    assert expected.requires_grad
    torch.testing.assert_close(reference.logits_of_kept_encoders(method, image, keep), expected, atol=1e-4, rtol=1e-4)


def test_plain_code_knows_the_encoders_of_a_u_net_alone(reference: ModuleType) -> None:
    method = method_of(encoder="shaspec", widths=(4, 4, 4, 4, 4), depths=(1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="3D U-Net alone"):
        reference.class_logits(method, torch.zeros(1, 4, 16, 16, 16), torch.tensor([ALL]), skip_absent=True)


# What a zero volume looks like


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Sizes of the zero volumes that the shared encoder has seen."""
    from anymri.nn.shared_specific import ModalityEncoders

    seen: list[tuple[int, ...]] = []
    plain = ModalityEncoders.of_nothing

    def watched(self: ModalityEncoders, size: Any, like: torch.Tensor) -> list[torch.Tensor]:
        seen.append(tuple(size))
        return plain(self, size, like)

    monkeypatch.setattr(ModalityEncoders, "of_nothing", watched)
    yield seen


def test_a_zero_volume_is_looked_at_once_for_each_size_of_window(shown: list[tuple[int, ...]]) -> None:
    method = method_of(absent="zero")
    inferred(method, noise(32, 12, 14), KEEPS[:2])  # three windows
    inferred(method, noise(*EXTENT), KEEPS[:2])
    assert shown == [EXTENT]
    inferred(method, noise(8, 8, 8), KEEPS[:2])
    assert shown == [EXTENT, (8, 8, 8)]


def in_place(weight: torch.nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(1.5)


def behind_its_back(weight: torch.nn.Parameter) -> None:
    weight.data.mul_(1.5)


def as_numpy(weight: torch.nn.Parameter) -> None:
    weight.detach().numpy()[:] *= 1.5


def put_in_its_place(weight: torch.nn.Parameter) -> None:
    weight.data = weight.data * 1.5


def by_an_optimiser(weight: torch.nn.Parameter) -> None:
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.5, fused=True).step()


@pytest.mark.parametrize("change", [in_place, behind_its_back, as_numpy, put_in_its_place, by_an_optimiser])
def test_it_is_looked_at_again_when_a_weight_changes(
    reference: ModuleType, shown: list[tuple[int, ...]], change: Callable[[torch.nn.Parameter], None]
) -> None:
    method, image = method_of(absent="zero"), noise(*EXTENT)
    inferred(method, image, KEEPS[:1])
    change(next(method.encoders.shared.parameters()))
    (logits,) = inferred(method, image, KEEPS[:1])
    assert len(shown) == 2
    with torch.inference_mode():
        expected = reference.logits_of_kept_encoders(method, torch.from_numpy(image)[None], torch.tensor(KEEPS[:1]))
    np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-4)
    other = method_of(absent="zero").state_dict()
    method.load_state_dict(other)
    inferred(method, image, KEEPS[:1])
    assert len(shown) == 3


def test_with_gradients_nothing_is_kept(shown: list[tuple[int, ...]]) -> None:
    method, image = method_of(absent="zero"), torch.from_numpy(noise(8, 8, 8))[None]
    inferred(method, image[0].numpy(), KEEPS[:1])
    origin, present = torch.zeros(1, 3, dtype=torch.int64), torch.tensor([ALL])
    for _ in range(2):
        features = method.encode(image, present, origin)
        assert features.nothing is not None and features.nothing.requires_grad
    assert len(shown) == 3
