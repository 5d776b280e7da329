"""A raw study → a prepared case."""

from anymri.preparation.labels import labels_from_bits, region_bits
from anymri.preparation.pipeline import Failure, PreparedCase, PreparedImages, prepare_cohort, prepare_images, prepare_study

__all__ = [
    "Failure",
    "PreparedCase",
    "PreparedImages",
    "labels_from_bits",
    "prepare_cohort",
    "prepare_images",
    "prepare_study",
    "region_bits",
]
