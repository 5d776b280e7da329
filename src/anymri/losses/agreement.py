"""How far a student is from its teacher."""

from __future__ import annotations

from torch import Tensor


def kl_divergence(teacher_BCDHW: Tensor, student_BCDHW: Tensor, *, temperature: float) -> Tensor:
    """Return KL(softmax(teacher/τ) ‖ softmax(student/τ)), summed over channels, mean over voxels and batch.

    No gradient reaches the teacher.
    """
    return kl_divergences(teacher_BCDHW, student_BCDHW, temperature=temperature).mean()


def kl_divergences(teacher_BCDHW: Tensor, student_BCDHW: Tensor, *, temperature: float) -> Tensor:
    """Return the same of every sample, shape (B,)."""
    teacher = (teacher_BCDHW.detach().float() / temperature).log_softmax(1)
    student = (student_BCDHW.float() / temperature).log_softmax(1)
    return (teacher.exp() * (teacher - student)).sum(1).flatten(1).mean(1)


def cosine_scores(features_BMF: Tensor) -> Tensor:
    """Return the matrix (B, M, M) of cosine similarities between the flattened features of each pair of modalities."""
    unit = features_BMF.float() / features_BMF.float().norm(dim=2, keepdim=True).clamp(min=1e-12)
    return unit @ unit.transpose(1, 2)
