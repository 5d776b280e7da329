"""Tell an image that still has its skull from one that was stripped."""

from __future__ import annotations

from anymri.volumes.volume import Array


def check_stripped(array: Array, foreground: Array, *, file: str) -> None:
    """Refuse an image that still has its skull."""
