from __future__ import annotations

import csv
import io
import itertools
from importlib.resources import files

import pytest

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.errors import UsageError
from anymri.metrics.robustness import aurc
from anymri.published.reading import HD95, MEAN, published_named, published_tables

# Section 4.6 of CCSD: areas under the robustness curves of its Table 1, in percent.
AURC = {
    "CCSD": {"ET": 197.92, "TC": 240.02, "WT": 263.00},
    "ShaSpec": {"ET": 191.55, "TC": 238.66, "WT": 260.23},
    "M3AE": {"ET": 189.05, "TC": 236.88, "WT": 260.65},
    "mmFormer": {"ET": 190.49, "TC": 226.24, "WT": 253.27},
    "MIFPN": {"ET": 191.86, "TC": 231.52, "WT": 258.50},
}


def test_every_number_of_the_files_is_in_a_table_once():
    rows = 0
    for name in ("ccsd.csv", "others.csv"):
        text = files("anymri.published").joinpath(name).read_text(encoding="utf-8")
        rows += sum(1 for _ in csv.DictReader(io.StringIO(text)))
    assert rows == sum(len(t.scores) for t in published_tables()) == 564
    for table in published_tables():
        keys = [(s.method, s.subset, s.region, s.metric) for s in table.scores]
        assert keys and len(set(keys)) == len(keys), table.name


@pytest.mark.parametrize("method", AURC)
def test_areas_under_the_curves_are_those_of_the_paper(method):
    (table,) = published_named("ccsd-table-1")
    found = {region: round(100 * aurc(table.curve(method, region)), 2) for region in AURC[method]}
    assert found == AURC[method]


def test_table_1_has_the_subsets_in_canonical_order_and_names_of_the_task():
    (table,) = published_named("ccsd-table-1")
    assert table.subsets == tuple(str(s) for s in subsets(GLIOMA.modalities))
    assert table.value("CCSD", "FLAIR", "ET") == pytest.approx(0.4548)
    assert {s.region for t in published_tables() for s in t.scores} == set(GLIOMA.region_names)


def test_printed_means_are_kept_and_the_one_that_differs_has_a_footnote():
    (table,) = published_named("ccsd-table-1")
    for method, region in itertools.product(table.methods, GLIOMA.region_names):
        rows = [table.value(method, s, region) for s in table.subsets]
        own = 100 * sum(v for v in rows if v is not None) / 15
        odd = (method, region) == ("MIFPN", "TC")
        assert (abs(own - 100 * (table.mean(method, region) or 0)) > 0.02) == odd
        assert any(n.concerns(method, region) for n in table.footnotes) == odd
    assert 100 * (table.mean("MIFPN", "TC") or 0) == pytest.approx(74.63)


def test_units_are_ours():
    (table,) = published_named("ccsd-table-2")
    assert table.value("CCSD", MEAN, "ET") == pytest.approx(0.6593)
    assert table.value("CCSD", MEAN, "ET", HD95) == 5.9
    assert {(s.metric, s.unit) for s in table.scores} == {("dice", "1"), (HD95, "mm")}
    assert table.value("CCSD", "FLAIR", "ET") is None and table.curve("CCSD", "ET") == ()


def test_a_mean_that_was_not_printed_is_that_of_the_subsets():
    (table,) = published_named("ccsd-table-5")
    assert len(table.subsets) == 7 and not any("T2" in s for s in table.subsets)
    values = [table.value("CCSD random path", s, "WT") or 0 for s in table.subsets]
    assert table.mean("CCSD random path", "WT") == pytest.approx(sum(values) / 7)


def test_the_footnote_of_table_2_follows_from_its_printed_means():
    (table,) = published_named("ccsd-table-2")
    means = {m: 100 * sum(table.mean(m, r) or 0 for r in GLIOMA.region_names) / 3 for m in table.methods}
    (note,) = table.footnotes
    assert f"TMFormer is closer (mean Dice gain {means['CCSD'] - means['TMFormer']:.2f}, " in note.text
    assert f"not {means['CCSD'] - means['M3AE']:.2f})" in note.text
    distances = {(m, r): table.mean(m, r, HD95) for m in table.methods for r in GLIOMA.region_names}
    assert f"ET HD95 {distances['CCSD', 'ET']:.2f} is behind M3AE's {distances['M3AE', 'ET']:.2f}" in note.text
    assert "WT HD95 ties with TMFormer" in note.text and distances["CCSD", "WT"] == distances["TMFormer", "WT"]


def test_a_data_set_names_all_its_tables():
    found = published_named("brats2018")
    assert [t.name for t in found][:6] == [f"ccsd-table-{i}" for i in (1, 3, 4, 5, 6)] + ["rfnet-2018"]
    assert {t.data for t in found} == {"BraTS 2018"}
    assert {t.name for t in published_tables() if not t.verified} == {
        *("prisms-2018", "simmlm-2018", "demoseg-2020-superseded", "imfuse-2023")
    }


def test_every_source_says_what_it_is_and_footnotes_concern_what_exists():
    names = [t.name for t in published_tables()]
    assert len(set(names)) == len(names)
    for table in published_tables():
        assert table.citation and table.protocol and table.kind in ("methods", "ablation")
        told = {m for note in table.footnotes if not note.regions for m in note.methods}
        assert table.verified or told == set(table.methods), table.name
        for note in table.footnotes:
            assert note.methods and set(note.methods) <= set(table.methods), note
            assert set(note.regions) <= set(GLIOMA.region_names), note


def test_an_unknown_table_names_those_that_exist():
    with pytest.raises(UsageError, match=r"'brats2019' does not exist; .*brats2018.*ccsd-table-1") as raised:
        published_named("brats2019")
    assert "\n" not in str(raised.value)
