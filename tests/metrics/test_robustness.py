from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA, TASKS
from anymri.errors import UsageError
from anymri.metrics.robustness import aurc, curve_of, robustness
from anymri.metrics.scores import Sheet
from anymri.metrics.statistics import Bootstrap


def made(modalities, cases: int = 12, regions: int = 2, seed: int = 0) -> Sheet:
    names = tuple(str(s) for s in subsets(modalities))
    data = np.random.default_rng(seed).random((cases, len(names), regions))
    return Sheet(
        "dice", "1", tuple(map(str, range(cases))), names, ("outer", "inner")[:regions], data, np.ones(data.shape, dtype=bool)
    )


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_curve_and_area_are_those_of_the_means(task):
    sheet = made(task.modalities)
    n = len(task.modalities)
    for r, found in enumerate(robustness(sheet)):
        means = dict(zip(sheet.subsets, sheet.values[:, :, r].mean(axis=0), strict=True))
        curve = curve_of(means)
        assert [e.value for e in found.curve] == pytest.approx(curve)
        assert found.subsets == tuple(math.comb(n, k) for k in range(1, n + 1))
        assert found.aurc.value == pytest.approx(aurc(curve)) == pytest.approx(integrate.trapezoid(curve))
        assert found.normalised.value == pytest.approx(aurc(curve) / (n - 1))
        assert found.normalised.low == pytest.approx(found.aurc.low / (n - 1))
        assert all(e.low < e.value < e.high for e in (*found.curve, found.aurc))


def test_a_level_curve_has_its_own_height():
    assert aurc([0.8] * 4) == pytest.approx(2.4)
    assert aurc([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.5 + 2 + 3 + 2)
    assert aurc([0.7]) == 0.0


def test_a_size_without_subsets_has_no_point_and_no_area():
    sheet = made(GLIOMA.modalities)
    keep = [i for i, s in enumerate(sheet.subsets) if s.count("+") != 1]
    short = Sheet(
        "dice",
        "1",
        sheet.cases,
        tuple(sheet.subsets[i] for i in keep),
        sheet.regions,
        sheet.values[:, keep],
        sheet.measured[:, keep],
    )
    found = robustness(short)[0]
    assert [math.isnan(e.value) for e in found.curve] == [False, True, False, False]
    assert math.isnan(found.aurc.value) and math.isnan(found.normalised.value)
    with pytest.raises(UsageError, match="none of 2"):
        curve_of({"A": 1.0, "A+B+C": 1.0})
    with pytest.raises(UsageError, match="at least one"):
        curve_of({})


def test_one_modality_is_a_point():
    sheet = Sheet("dice", "1", ("a", "b"), ("T1",), ("lesion",), np.array([[[0.5]], [[0.7]]]), np.ones((2, 1, 1), dtype=bool))
    found = robustness(sheet, bootstrap=Bootstrap(resamples=10))[0]
    assert found.curve[0].value == pytest.approx(0.6) and math.isnan(found.aurc.value)
