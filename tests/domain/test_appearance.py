"""What is told of how tissues look: by names that exist, in an order that readers of images know."""

from __future__ import annotations

import pytest

from anymri.domain.appearance import OUTSIDE, TISSUES, appearance_of, ring_classes
from anymri.domain.task import GLIOMA, METASTASIS, PROSTATE, Task

from ..material import task_with


def test_every_label_belongs_to_one_tissue() -> None:
    labels = [label for tissue in TISSUES for label in tissue.labels]
    assert len(set(labels)) == len(labels) and not OUTSIDE & set(labels)


@pytest.mark.parametrize("task", [GLIOMA, METASTASIS])
def test_looks_are_told_for_every_tissue_and_class(task: Task) -> None:
    found = appearance_of(task)
    assert found is not None and set(found.looks) == set(task.modalities.names)
    names = {t.name for t in TISSUES} | set(task.classes[1:])
    assert all(set(looks) == names for looks in found.looks.values())
    assert set(found.scheme.known) == set(task.region_names)


def test_tissues_lie_in_the_order_that_is_known_of_them() -> None:
    found = appearance_of(GLIOMA)
    assert found is not None
    flair, t1, t1c, t2 = (found.looks[name] for name in ("FLAIR", "T1", "T1c", "T2"))
    assert t1["white"].mean > t1["cortex"].mean > t1["ventricle"].mean
    assert t2["white"].mean < t2["cortex"].mean < t2["ventricle"].mean
    assert flair["ventricle"].mean < flair["white"].mean < flair["ED"].mean
    assert t1["NCR"].mean < t1["white"].mean < t1c["ET"].mean and t2["ED"].mean > t2["cortex"].mean


def test_rings_are_classes_between_regions() -> None:
    assert ring_classes(GLIOMA) == ("ED", "NCR", "ET")
    assert ring_classes(task_with(2)) == ("shell", "core")


def test_only_brains_have_an_appearance() -> None:
    assert appearance_of(PROSTATE) is None
    made_up = appearance_of(task_with(5))
    assert made_up is not None and not made_up.looks
