"""From patients to masks: one by one, or a whole cohort over many workers."""

from __future__ import annotations

from anymri.segment.patient import (
    Options,
    Segmentation,
    attempted,
    check_writable,
    checked_options,
    ready,
    segment,
    segment_visit,
    write_segmentation,
)
from anymri.segment.visit import Visit

__all__ = [
    "Options",
    "Segmentation",
    "Visit",
    "attempted",
    "check_writable",
    "checked_options",
    "ready",
    "segment",
    "segment_visit",
    "write_segmentation",
]
