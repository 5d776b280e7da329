"""What a method is trained with if nothing is said: the same for all, so that a comparison compares methods."""

from __future__ import annotations

from anymri.engine.run import Run


def default(method: str) -> Run:
    """Return a method's run at size base: patches of 128 mm at 2 mm, 20 000 steps of AdamW."""
    return Run.of(method, "base", {"steps": 20_000, "batch": 2})
