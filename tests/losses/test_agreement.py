"""Agreement between a teacher and a student."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anymri.losses.agreement import cosine_scores, kl_divergence, kl_divergences


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_divergence_is_torchs_own(temperature: float) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 4, 3, 2, 5), torch.randn(2, 4, 3, 2, 5)
    pointwise = F.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1), log_target=True, reduction="none"
    )
    torch.testing.assert_close(kl_divergence(teacher, student, temperature=temperature), pointwise.sum(1).mean())
    torch.testing.assert_close(kl_divergences(teacher, student, temperature=temperature), pointwise.sum(1).mean((1, 2, 3)))


def test_divergence_by_hand() -> None:
    teacher = torch.tensor([0.5, 0.5]).log().reshape(1, 2, 1, 1, 1)
    student = torch.tensor([0.9, 0.1]).log().reshape(1, 2, 1, 1, 1)
    # ½ ln(0.5/0.9) + ½ ln(0.5/0.1)
    assert kl_divergence(teacher, student, temperature=1.0).item() == pytest.approx(0.5108256, rel=1e-5)
    assert kl_divergence(student, student, temperature=3.0).item() == 0


def test_nothing_flows_back_to_the_teacher() -> None:
    teacher, student = (torch.randn(1, 3, 2, 2, 2, requires_grad=True) for _ in range(2))
    kl_divergence(teacher, student, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.any()


def test_cosines_by_hand() -> None:
    features = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]])
    half = 0.5**0.5
    expected = torch.tensor([[1, half, -1, 0], [half, 1, -half, 0], [-1, -half, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(cosine_scores(features)[0], expected)
