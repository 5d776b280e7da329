from __future__ import annotations

import itertools

import numpy as np
import pytest

from anymri.metrics.pooled import pooled
from anymri.metrics.scores import read_scores
from anymri.metrics.statistics import paired_difference, wilcoxon
from anymri.report.contests import contest_table, without_contest_table
from anymri.report.measured import gather
from anymri.report.series import MeasuredSeries

from .made import FEW, cells, write_scored_run, write_table


def series_of(*paths) -> list[MeasuredSeries]:
    (arena,) = gather(paths).arenas
    return [MeasuredSeries(m, FEW) for m in arena.methods]


def compared(series: list[MeasuredSeries]) -> set[str]:
    table, _ = contest_table(series, name="t", title="T", bootstrap=FEW)
    assert table is not None
    return {row.label for row in table.rows}


def test_methods_are_compared_without_each_modality(measured):
    rows = {(r["section"], r["without"]): r for r in cells(measured / "table_tests_without.csv")}
    pairs = (
        "ccsd: as by default − ccsd: hmsd 0, dmcd 0",
        "ccsd: as by default − dropout_unet",
        "ccsd: hmsd 0, dmcd 0 − dropout_unet",
    )
    assert list(rows) == list(itertools.product(pairs, ("FLAIR", "T1", "T1c", "T2")))
    # By hand, for the seven subsets without T2: seeds first, then cases.
    runs = measured.parent
    both = pooled({seed: read_scores(runs / f"both_s{seed}.csv") for seed in (0, 1)}, "dice").sheet
    unet = pooled({0: read_scores(runs / "unet.csv")}, "dice").sheet
    kept = [i for i, s in enumerate(both.subsets) if "T2" not in s.split("+")]
    r = both.regions.index("ET")
    first, second = (s.values[:, kept, r] for s in (both, unet))
    row = rows[pairs[1], "T2"]
    difference = paired_difference(first, second, bootstrap=FEW)
    assert len(kept) == 7 and float(row["ET: difference"]) == pytest.approx(100 * difference.value)
    assert float(row["ET: p"]) == pytest.approx(wilcoxon((first - second).mean(axis=1)))
    # 3 pairs × 4 modalities × 3 regions are one family; the smallest p is multiplied by their number.
    p = np.array(
        [[float(row[f"{region}: {what}"]) for region in ("WT", "TC", "ET")] for row in rows.values() for what in ("p", "p Holm")]
    )
    assert p[1::2].min() == pytest.approx(min(1.0, 36 * p[::2].min()))
    text = (measured / "report.md").read_text(encoding="utf-8")
    assert "mean over the 7 subsets that lack the modality" in text and "corrected for all 36 tests of this table" in text


def test_without_all_subsets_there_is_no_test_without_a_modality(tmp_path):
    for name in "xy":
        write_table(tmp_path / f"{name}.csv", name)
    series = series_of(tmp_path / "x.csv", tmp_path / "y.csv")
    assert without_contest_table(series, name="t", title="T", bootstrap=FEW) is not None
    lines = (tmp_path / "y.csv").read_text().splitlines()
    (tmp_path / "y.csv").write_text("\n".join(line for line in lines if ",T1c," not in line) + "\n")
    series = series_of(tmp_path / "x.csv", tmp_path / "y.csv")
    assert without_contest_table(series, name="t", title="T", bootstrap=FEW) is None
    assert compared(series) == {"x − y"}
    assert without_contest_table(series[:1], name="t", title="T", bootstrap=FEW) is None


def test_of_many_variants_those_one_setting_apart_are_compared_too(tmp_path):
    for absent in ("zero", "shared_mean"):
        for name, losses in (("a_neither", {"hmsd": 0.0, "dmcd": 0.0}), ("b_hmsd", {"dmcd": 0.0}), ("c_both", {})):
            write_scored_run(tmp_path / f"{absent == 'shared_mean'}_{name}", absent=absent, **losses)
    write_table(tmp_path / "unet.csv", "dropout_unet")
    series = series_of(tmp_path)
    assert series[0].label == "ccsd: absent zero, hmsd 0, dmcd 0"
    found = compared(series)
    assert found == {
        # With the first:
        *("ccsd: absent zero, dmcd 0 − ccsd: absent zero, hmsd 0, dmcd 0", "ccsd: absent zero − ccsd: absent zero, hmsd 0, dmcd 0"),
        *("ccsd: dmcd 0 − ccsd: absent zero, hmsd 0, dmcd 0", "ccsd: as by default − ccsd: absent zero, hmsd 0, dmcd 0"),
        "dropout_unet − ccsd: absent zero, hmsd 0, dmcd 0",
        # One loss more, under either filling:
        "ccsd: absent zero − ccsd: absent zero, dmcd 0",
        *("ccsd: dmcd 0 − ccsd: hmsd 0, dmcd 0", "ccsd: as by default − ccsd: dmcd 0"),
        # The other filling, for every row; the first row is among those above:
        "ccsd: hmsd 0, dmcd 0 − ccsd: absent zero, hmsd 0, dmcd 0",
        *("ccsd: dmcd 0 − ccsd: absent zero, dmcd 0", "ccsd: as by default − ccsd: absent zero"),
    }
    table, _ = contest_table(series, name="t", title="T", bootstrap=FEW)
    assert table is not None and "variants of a method that differ in one setting with each other" in table.notes[-1]


def test_many_methods_without_records_are_compared_with_the_first(tmp_path):
    for name in "abcde":
        write_table(tmp_path / f"{name}.csv", name)
    assert compared(series_of(tmp_path)) == {f"{name} − a" for name in "bcde"}
