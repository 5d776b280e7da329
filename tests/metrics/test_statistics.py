from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anymri.errors import UsageError
from anymri.metrics.scores import Score, ScoreTable, selected
from anymri.metrics.statistics import Bootstrap, differences, holm, mean, paired_difference, weighted, wilcoxon

NAN = math.nan


def values(cases: int = 25, subsets: int = 15, seed: int = 0) -> np.ndarray:
    """Return shares that differ more between patients than between subsets, as real ones do."""
    generator = np.random.default_rng(seed)
    return np.clip(0.7 + 0.15 * generator.standard_normal((cases, 1)) + 0.05 * generator.standard_normal((cases, subsets)), 0, 1)


def table(values_CSR: np.ndarray, method: str = "m", protocol: str = "anymri") -> ScoreTable:
    return ScoreTable(
        tuple(
            Score(method, "c", f"case{c}", "ABCDEFGHIJKLMNO"[s], f"region{r}", "dice", float(v), "1", 0, "r", protocol)
            for (c, s, r), v in np.ndenumerate(values_CSR)
        )
    )


def test_the_mean_is_the_mean_and_its_seed_decides_the_interval():
    data = values()
    one, again, other = (mean(data, bootstrap=Bootstrap(seed=s)) for s in (0, 0, 1))
    assert one.value == pytest.approx(data.mean())
    assert one == again and one != other
    assert one.low < one.value < one.high
    assert (one.cases, one.undefined) == (25, 0)


def test_the_interval_is_that_of_scipy_over_cases():
    data = values()
    found = mean(data, bootstrap=Bootstrap(resamples=9999))
    expected = stats.bootstrap((data.mean(axis=1),), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1))
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.005)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.005)


def test_cases_are_drawn_and_not_rows():
    data = values()
    by_case = mean(data)
    by_row = mean(data.reshape(-1, 1))
    assert by_case.value == pytest.approx(by_row.value)
    assert by_case.high - by_case.low > 2 * (by_row.high - by_row.low)


def test_the_draws_are_those_of_a_plain_loop():
    data = values(cases=6, subsets=3)
    data[0, 1] = data[2, 0] = NAN
    settled = Bootstrap(resamples=50, seed=3)
    found = mean(data, bootstrap=settled)
    draws = []
    generator = np.random.default_rng(3)
    for times in generator.multinomial(6, [1 / 6] * 6, size=50):
        drawn = [data[c] for c, n in enumerate(times) for _ in range(n)]
        columns = [[row[k] for row in drawn if not math.isnan(row[k])] for k in range(3)]
        if all(columns):
            draws.append(sum(sum(c) / len(c) for c in columns) / 3)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])))


def test_a_nan_is_left_out_and_counted():
    data = np.array([[0.5, 0.9], [0.7, NAN], [NAN, NAN]])
    found = mean(data)
    assert found.value == pytest.approx((0.6 + 0.9) / 2)
    assert (found.cases, found.undefined) == (2, 3)
    measured = np.array([[True, True], [True, False], [True, False]])
    assert mean(data, measured=measured).undefined == 1


def test_a_column_without_any_value_makes_the_mean_unknown():
    found = mean(np.array([[0.5, NAN], [0.7, NAN]]))
    assert math.isnan(found.value) and math.isnan(found.low) and found.cases == 2
    nothing = mean(np.empty((0, 3)))
    assert math.isnan(nothing.value) and nothing.cases == 0


def test_one_case_has_no_interval():
    found = mean(np.array([[0.5, 0.7]]))
    assert found.value == pytest.approx(0.6) and math.isnan(found.low) and math.isnan(found.high)


def test_infinite_values_are_refused():
    with pytest.raises(UsageError, match="infinite"):
        mean(np.array([[1.0], [math.inf]]))
    with pytest.raises(UsageError, match="infinite"):
        paired_difference(np.array([[math.inf]]), np.array([[math.inf]]))


def test_weighted_sums_leave_alone_what_has_no_weight():
    data = np.array([[1.0, 2.0, NAN], [3.0, 4.0, NAN]])
    first, both = weighted(data, np.array([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0]]))
    assert first.value == pytest.approx(2.0) and both.value == pytest.approx(1.0 + 6.0)
    assert first.undefined == both.undefined == 0


def test_a_paired_interval_is_narrower_than_two_of_its_own():
    one = values()
    other = one - 0.02 + 0.005 * np.random.default_rng(1).standard_normal(one.shape)
    found = paired_difference(one, other)
    assert found.value == pytest.approx((one - other).mean())
    assert 0 < found.low < found.high and found.high - found.low < 0.1 * (mean(one).high - mean(one).low)
    with pytest.raises(UsageError, match="same cases"):
        paired_difference(one, other[1:])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_keeps_the_order_and_rejects_step_by_step(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[i] * (len(p_values) - rank) > level:
                break
            rejected.add(i)
        assert {i for i, c in enumerate(corrected) if c <= level} == rejected


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.02, NAN, 0.5])[:1] == pytest.approx((0.04,)) and math.isnan(holm([0.02, NAN, 0.5])[1])


def test_wilcoxon_by_table_and_at_its_ends():
    # Five differences of one sign: 2 of the 32 patterns of signs are as extreme.
    assert wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)
    assert wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0, NAN])) == pytest.approx(2 / 32)
    assert wilcoxon(np.zeros(4)) == 1.0
    assert math.isnan(wilcoxon(np.array([NAN])))
    many = values(60, 2)
    assert wilcoxon(many[:, 0] - many[:, 1]) == pytest.approx(stats.wilcoxon(many[:, 0], many[:, 1]).pvalue)


def test_two_methods_are_compared_on_what_both_were_scored_on():
    one = np.random.default_rng(0).random((20, 3, 2))
    other = one.copy()
    other[:, :, 0] -= 0.1
    first = table(one)
    second = selected(table(other, method="n"), lambda r: r.case != "case0" and r.subset != "B")
    worse, same = differences(first, second, "dice")
    assert (worse.region, same.region) == ("region0", "region1")
    assert worse.estimate.value == pytest.approx(0.1) and worse.estimate.cases == 19 and worse.estimate.undefined == 0
    assert worse.p < 1e-4 and worse.p_holm == pytest.approx(2 * worse.p)
    assert same.estimate.value == 0.0 and same.p == same.p_holm == 1.0
    back = differences(second, first, "dice")[0]
    assert back.estimate.value == pytest.approx(-0.1)
    assert (back.estimate.low, back.estimate.high) == pytest.approx((-worse.estimate.high, -worse.estimate.low))


def test_what_cannot_be_paired_is_refused():
    one = np.full((3, 1, 1), 0.5)
    with pytest.raises(UsageError, match="different protocols"):
        differences(table(one), table(one, protocol="other"), "dice")
    asked = differences(table(one), table(one, protocol="other"), "dice", across_protocols=True)
    assert asked[0].estimate.value == 0.0 and asked[0].protocol == "anymri against other"
    assert differences(table(one), table(one), "dice")[0].protocol == "anymri"
    with pytest.raises(UsageError, match="share no case"):
        differences(table(one), selected(table(np.full((4, 1, 1), 0.5)), lambda r: r.case == "case3"), "dice")
