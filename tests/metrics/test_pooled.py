from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from anymri.errors import UsageError
from anymri.metrics.pooled import contests, overall, pooled
from anymri.metrics.scores import Score, ScoreTable, sheet
from anymri.metrics.statistics import Bootstrap, differences, holm

FEW = Bootstrap(resamples=100)
SUBSETS, REGIONS = ("A", "B", "A+B"), ("outer", "inner")


def table(method: str, cases: range, *, seed: int = 0, shift: float = 0.0, noise: int = 1) -> ScoreTable:
    generator = np.random.default_rng(noise)
    return ScoreTable(
        tuple(
            Score(method, "c", f"case{c}", s, r, "dice", 0.5 + shift + 0.1 * generator.normal(), "1", seed, f"run{seed}", "anymri")
            for c, s, r in itertools.product(cases, SUBSETS, REGIONS)
        )
    )


def test_one_seed_is_its_own_sheet():
    found = pooled({0: table("m", range(4))}, "dice")
    assert found.sheet is found.by_seed[0]
    assert overall(found.sheet, "outer", bootstrap=FEW).value == pytest.approx(found.sheet.values[:, :, 0].mean())


def test_seeds_are_averaged_case_by_case_and_a_seed_without_a_case_does_not_count():
    first, second = table("m", range(4)), table("m", range(2, 6), seed=1, noise=2)
    found = pooled({0: first, 1: second}, "dice")
    a, b = sheet(first, "dice"), sheet(second, "dice")
    assert found.sheet.cases == tuple(f"case{c}" for c in range(6))
    assert np.allclose(found.sheet.values[2:4], (a.values[2:] + b.values[:2]) / 2)
    assert np.array_equal(found.sheet.values[:2], a.values[:2]) and np.array_equal(found.sheet.values[4:], b.values[2:])
    assert list(found.by_seed) == [0, 1] and found.sheet.measured.all()


def test_a_contest_is_what_differences_says_but_for_the_family():
    tables = {"m": table("m", range(8)), "n": table("n", range(2, 10), shift=0.05, noise=3)}
    sheets = {name: sheet(t, "dice") for name, t in tables.items()}
    known = differences(tables["m"], tables["n"], "dice", bootstrap=FEW)
    found = contests([("m", "n")], sheets, bootstrap=FEW)
    assert [(c.region, c.estimate, c.p, c.p_holm) for c in found] == [(d.region, d.estimate, d.p, d.p_holm) for d in known]
    assert found[0].estimate.cases == 6


def test_holm_corrects_over_all_pairs():
    sheets = {
        name: sheet(table(name, range(10), shift=s, noise=n), "dice")
        for n, (name, s) in enumerate((("a", 0), ("b", 0.4), ("c", 0.8)))
    }
    found = contests([("a", "b"), ("a", "c"), ("b", "c")], sheets, bootstrap=FEW)
    assert len(found) == 6 and all(c.p == 2 / 2**10 for c in found)
    assert all(c.p_holm == pytest.approx(6 * c.p) for c in found)
    assert all(c.estimate.high < 0 for c in found)


def test_methods_scored_by_different_protocols_are_compared_only_when_asked():
    one, other = table("m", range(4)), ScoreTable(tuple(dataclasses.replace(r, protocol="rfnet") for r in table("n", range(4))))
    sheets = {"m": sheet(one, "dice"), "n": sheet(other, "dice")}
    with pytest.raises(UsageError, match="different protocols cannot be compared: anymri, rfnet"):
        contests([("m", "n")], sheets, bootstrap=FEW)
    found = contests([("m", "n")], sheets, across_protocols=True, bootstrap=FEW)
    assert {c.protocol for c in found} == {"anymri against rfnet"}
    with pytest.raises(UsageError, match="different protocols"):
        pooled({0: one, 1: other}, "dice")
    assert pooled({0: other, 1: other}, "dice").sheet.protocol == "rfnet"


def test_methods_without_a_common_case_are_refused_by_name():
    sheets = {"m": sheet(table("m", range(3)), "dice"), "n": sheet(table("n", range(3, 6)), "dice")}
    with pytest.raises(UsageError, match="m and n share no case"):
        contests([("m", "n")], sheets, bootstrap=FEW)


def test_parts_are_compared_alone_and_are_one_family():
    tables = {name: table(name, range(8), shift=s, noise=n) for n, (name, s) in enumerate((("m", 0.0), ("n", 0.3)))}
    sheets = {name: sheet(t, "dice") for name, t in tables.items()}
    found = contests([("m", "n")], sheets, parts={"without B": ("A",), "with B": ("A+B", "B")}, bootstrap=FEW)
    assert [(c.part, c.region) for c in found] == list(itertools.product(("without B", "with B"), REGIONS))
    for contest in found:
        kept = [s for s in SUBSETS if ("B" in s) == (contest.part == "with B")]
        alone = {name: sheet(ScoreTable(tuple(r for r in t if r.subset in kept)), "dice") for name, t in tables.items()}
        (same,) = (c for c in contests([("m", "n")], alone, bootstrap=FEW) if c.region == contest.region)
        assert (contest.estimate, contest.p) == (same.estimate, same.p)
    assert [c.p_holm for c in found] == list(holm([c.p for c in found]))
    assert all(c.part == "" for c in contests([("m", "n")], sheets, bootstrap=FEW))
