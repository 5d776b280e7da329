from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from anymri.errors import AnymriError
from anymri.metrics.scores import read_scores
from anymri.published.reading import published_tables
from anymri.report.page import write_report
from anymri.report.series import PublishedSeries

from .made import FEW, SUBSETS, cells, write_run, write_scored_run, write_table
from .test_table import check_latex

AURC = {
    "CCSD": ("197.92", "240.02", "263.00"),
    "ShaSpec": ("191.55", "238.66", "260.23"),
    "M3AE": ("189.05", "236.88", "260.65"),
    "mmFormer": ("190.49", "226.24", "253.27"),
    "MIFPN": ("191.86", "231.52", "258.50"),
}
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Collects what a page refers to, its tables' cells, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.anchors: list[str] = []
        self.texts: list[str] = []
        self.alternatives: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.addresses += [of[a] for a in ("src", "href") if a in of]
        self.anchors += [of["id"]] if "id" in of else []
        if tag == "img":
            self.alternatives.append(of["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_published_numbers_alone_give_the_areas_of_the_paper(published):
    page = Page((published / "index.html").read_text(encoding="utf-8"))
    rows = {r["method"]: r for r in cells(published / "table_aurc_brats2018.csv")}
    for method, areas in AURC.items():
        assert set(areas) <= set(page.texts)
        found = [f"{float(rows[method][f'AURC, % × modalities: {r}']):.2f}" for r in ("ET", "TC", "WT")]
        assert tuple(found) == areas
        normalised = float(rows[method]["AURC / (N − 1), %: WT"])
        assert normalised == pytest.approx(float(areas[2]) / 3, abs=0.01)


def test_published_tables_have_their_footnotes_and_sources(published):
    text = (published / "report.md").read_text(encoding="utf-8")
    for said in (
        "MIFPN's printed TC mean 74.63 differs from the mean of its printed rows, 74.92",
        "HMSD alone is below neither loss on WT and ET",
        "WT 86.47 here against 86.44 in Tables 3 and 4",
        "arXiv:2511.14599v2",
        "the first 20 % of the sorted names are the test cases",
    ):
        assert said in text
    assert re.search(r"74\.63 \(a\)", text)


@pytest.mark.parametrize("name", ["measured", "published"])
def test_the_page_is_well_formed_and_stands_by_itself(name, request):
    folder = request.getfixturevalue(name)
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert page.open == [] and page.addresses
    assert all(a.startswith(("data:image/svg+xml;base64,", "#")) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.anchors)
    assert len(set(page.anchors)) == len(page.anchors)
    assert all(len(text) > 40 for text in page.alternatives)


@pytest.mark.parametrize("name", ["measured", "published"])
def test_every_table_is_latex_and_csv_and_every_figure_is_svg(name, request):
    folder = request.getfixturevalue(name)
    tables = sorted(folder.glob("table_*.tex"))
    assert len(tables) > 5
    for path in tables:
        check_latex(path.read_text(encoding="utf-8"))
        assert cells(path.with_suffix(".csv"))
    figures = sorted(folder.glob("figure_*.svg"))
    assert len(figures) == (3 if name == "measured" else 2)
    for path in figures:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert {p.name for p in folder.iterdir()} == {
        *("index.html", "report.md"),
        *(p.name for path in tables for p in (path, path.with_suffix(".csv"))),
        *(p.name for p in figures),
    }


def test_measured_and_published_stand_side_by_side(measured):
    rows = cells(measured / "table_subsets_et.csv")
    assert [r["modalities"] for r in rows] == [*SUBSETS, "mean"]
    columns = list(rows[0])
    group = "ET, measured: knowledge distillation"
    assert f"{group}: ccsd: as by default" in columns and f"{group}: ccsd: as by default, low" in columns
    assert "ET, measured: robustness enhancement: dropout_unet" in columns
    assert "ET, published on BraTS 2018: CCSD, Table 1: MIFPN" in columns
    assert rows[0]["ET, published on BraTS 2018: CCSD, Table 1: CCSD"] == "45.48"
    means = {r["method"]: r for r in cells(measured / "table_means.csv")}
    assert (
        means["ccsd: as by default"]["empty masks b/m/i: ET"] == "0/0/30" and means["RFNet"]["empty masks b/m/i: ET"] == "not told"
    )
    assert float(means["dropout_unet"]["HD95, mm: WT"]) == pytest.approx(9, abs=0.1)


def test_the_best_is_bold_among_what_may_be_compared(measured):
    text = (measured / "report.md").read_text(encoding="utf-8")
    table = text[text.index("**Dice, phantoms, protocol anymri: ET**") :]
    mean = next(line for line in table.splitlines() if line.startswith("| mean"))
    bold = [c.strip() for c in mean.split("|")[2:-1] if c.strip().startswith("**")]
    assert len(bold) == 2 and bold[1] == "**62.70**"  # one measured, one published


def test_a_footnote_stands_where_its_region_is_shown(measured):
    assert (
        "74.92" in (measured / "table_subsets_tc.tex").read_text()
        and "74.92" not in (measured / "table_subsets_et.tex").read_text()
    )


def test_paired_tests_are_of_measured_methods_with_intervals_and_correction(measured):
    rows = {r["methods"]: r for r in cells(measured / "table_tests.csv")}
    assert len(rows) == 3
    row = rows["ccsd: as by default − ccsd: hmsd 0, dmcd 0"]
    assert 8 < float(row["WT: difference"]) < 12 and float(row["WT: difference, low"]) > 0 and row["WT: cases"] == "6"
    assert float(row["WT: p"]) == pytest.approx(2 / 2**6) and float(row["WT: p Holm"]) == pytest.approx(9 * 2 / 2**6)


def test_variants_are_an_ablation_with_the_settings_in_which_they_differ(measured):
    rows = {r["variant"]: r for r in cells(measured / "table_ablation_ccsd.csv")}
    row = rows["ccsd: hmsd 0, dmcd 0"]
    assert (
        row["settings in which they differ: hmsd"] == "0"
        and rows["ccsd: as by default"]["settings in which they differ: dmcd"] == "1"
    )
    assert row["seeds"] == "0, 1"
    seeds = cells(measured / "table_seeds.csv")
    assert [r["seed"] for r in seeds] == ["seed 0", "seed 1", "largest − smallest"] * 2


def test_empty_masks_are_counted(measured):
    rows = {(r["section"], r["region"]): r for r in cells(measured / "table_empties.csv")}
    row = rows["dropout_unet", "ET"]
    assert (row["masks"], row["reference empty"], row["found where nothing is"], row["missed"]) == ("90", "15", "15", "0")


def test_the_same_numbers_give_the_same_report(measured, tmp_path):
    write_report([measured.parent / "unet.csv"], tmp_path / "a", published=["ccsd-table-1"], bootstrap=FEW)
    write_report([measured.parent / "unet.csv"], tmp_path / "b", published=["ccsd-table-1"], bootstrap=FEW)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_beside_distances_stand_those_of_masks_where_neither_is_empty(measured, tmp_path):
    table = tmp_path / "a.csv"
    write_table(table)  # the innermost region of case 0 is empty in the reference and found there
    lines = [
        re.sub(r"(,ET,hausdorff_95_mm,)[^,]*", r"\g<1>373.0", line) if ",case0," in line else line
        for line in table.read_text().splitlines()
    ]
    table.write_text("\n".join(lines) + "\n")
    write_report([table], tmp_path / "out", bootstrap=FEW)
    (row,) = cells(tmp_path / "out" / "table_means.csv")
    assert float(row["HD95, mm: ET"]) == pytest.approx((373 + 5 * 9) / 6, abs=0.1)
    assert float(row["HD95 where neither is empty, mm: ET"]) == pytest.approx(9, abs=0.1)
    assert row["HD95 where neither is empty, mm: WT"] == row["HD95, mm: WT"]
    rows = {r["method"]: r for r in cells(measured / "table_means.csv")}
    assert rows["RFNet"]["HD95 where neither is empty, mm: ET"] == "–"
    # Methods that miss different tumours have it over different masks: no best.
    line = next(
        x for x in (measured / "report.md").read_text(encoding="utf-8").splitlines() if x.startswith("| dropout") and "0/0/15" in x
    )
    assert not any(c.strip().startswith("**") for c in line.split("|")[10:14])


def test_means_without_a_modality_are_those_of_table_5(published, measured):
    rows = {r["method"]: r for r in cells(published / "table_without_brats2018.csv")}
    found = {r: f"{float(rows['CCSD'][f'{r}: Dice without, %: T2']):.2f}" for r in ("ET", "TC", "WT")}
    # Table 5 has the same seven subsets of the same weights, most critical first.
    assert found == {"ET": "62.80", "TC": "77.34", "WT": "83.90"}
    rows = {r["method"]: r for r in cells(measured / "table_without.csv")}
    assert "RFNet" not in rows  # its subsets were not published
    unet = read_scores(measured.parent / "unet.csv")
    values = [r.value for r in unet if (r.metric, r.region) == ("dice", "WT") and "T1c" not in r.subset.split("+")]
    assert len(values) == 6 * 7
    assert float(rows["dropout_unet"]["WT: Dice without, %: T1c"]) == pytest.approx(100 * sum(values) / len(values))


def test_a_protocol_of_fractions_is_told_to_be_shown_in_percent(tmp_path):
    write_report([write_table(tmp_path / "a.csv", protocol="nnunet")], tmp_path / "out", bootstrap=FEW)
    assert "shown as fractions, but in percent here" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_methods_without_a_common_subset_are_not_tested(tmp_path):
    files = [write_table(tmp_path / f"{n}.csv", n) for n in "xy"]
    for file, keep in zip(files, (",FLAIR,", ",T2,"), strict=True):
        lines = file.read_text().splitlines()
        file.write_text("\n".join([lines[0], *(line for line in lines if keep in line)]) + "\n")
    write_report(files, tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "x and y were scored on different subsets: they are not compared." in text
    assert not list((tmp_path / "out").glob("table_without*"))


def test_what_may_not_be_compared_is_in_sections_of_its_own(tmp_path):
    files = [write_table(tmp_path / "a.csv", "x"), write_table(tmp_path / "b.csv", "y", protocol="other")]
    write_report(files, tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "## Means: phantoms, protocol anymri" in text and "## Means: phantoms, protocol other" in text
    assert not list((tmp_path / "out").glob("table_tests*"))
    assert "are not compared with each other" in text


def test_methods_on_different_cases_are_not_tested(tmp_path):
    files = [write_table(tmp_path / "a.csv", "x", cases=range(3)), write_table(tmp_path / "b.csv", "y", cases=range(3, 6))]
    write_report(files, tmp_path / "out", bootstrap=FEW)
    assert "x and y were scored on different cases: they are not compared." in (tmp_path / "out" / "report.md").read_text()


def test_runs_without_scores_show_their_training(tmp_path):
    write_report([write_run(tmp_path / "one")], tmp_path / "out", bootstrap=FEW)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("index.html", "report.md", "table_trainings.csv", "table_trainings.tex", "figure_training.svg")
    }


def test_an_older_report_is_replaced_whole_and_nothing_else_is(tmp_path):
    out = tmp_path / "out"
    write_report([], out, published=["brats2018"], bootstrap=FEW)
    write_report([], out, published=["ccsd-table-6"], bootstrap=FEW)
    assert not (out / "table_subsets_brats2018.csv").exists() and (out / "table_ccsd_table_6.csv").exists()
    (out / "thesis.docx").write_text("years of work")
    with pytest.raises(AnymriError, match="holds 'thesis.docx', which is no part of a report"):
        write_report([], out, published=["ccsd-table-6"], bootstrap=FEW)
    assert (out / "thesis.docx").exists()


def test_markup_in_names_is_shown_and_not_obeyed(tmp_path):
    write_report([write_table(tmp_path / "a.csv", "<script>x</script>")], tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text


def test_markdown_takes_names_as_they_are_outside_of_tables_too(tmp_path):
    files = [write_table(tmp_path / f"{n}.csv", n, cohort="data <b>*x*</b>", protocol=n) for n in ("anymri", "nnunet")]
    write_report(files, tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert r"## Means: data \<b\>\*x\*\</b\>, protocol anymri" in text and r"on cohort data \<b\>\*x\*\</b\> by" in text
    assert r"**Mean Dice by number of modalities, data \<b\>\*x\*\</b\>, protocol anymri**" in text
    assert not re.search(r"(?<!\\)(<|>)|[^\\]\*x", text)


def test_infinite_distances_have_no_mean_and_the_table_says_so(tmp_path):
    table = tmp_path / "a.csv"
    write_table(table)
    lines = table.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if ",hausdorff_95_mm," in line)
    start, _, end = lines[place].partition(",hausdorff_95_mm,")
    lines[place] = f"{start},hausdorff_95_mm,inf,{end.partition(',')[2]}"
    table.write_text("\n".join(lines) + "\n")
    write_report([table], tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "m: no mean of HD95, some of its values are infinite." in text and "HD95, mm" not in text


def test_a_method_that_finds_nothing_has_a_report_without_warnings(tmp_path):
    table = write_table(tmp_path / "a.csv")
    table.write_text(re.sub(r"(,ET,dice,)[^,]*", r"\g<1>0.0", table.read_text()))
    write_report([table], tmp_path / "out", bootstrap=FEW)
    (row,) = cells(tmp_path / "out" / "table_aurc.csv")
    assert float(row["AURC, % × modalities: ET"]) == 0.0


def test_values_without_a_number_are_counted(tmp_path):
    table = tmp_path / "a.csv"
    write_table(table)
    lines = table.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if ",dice," in line)
    start, _, end = lines[place].partition(",dice,")
    lines[place] = f"{start},dice,nan,{end.partition(',')[2]}"
    table.write_text("\n".join(lines) + "\n")
    write_report([table], tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "m: 1 values of Dice have no number under this protocol and are in no mean." in text


def test_the_best_is_not_chosen_among_different_cases(tmp_path):
    files = [write_table(tmp_path / "a.csv", "x", cases=range(3)), write_table(tmp_path / "b.csv", "y", cases=range(4))]
    write_report(files, tmp_path / "out", bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if line.startswith("|") and "**" in line]


def test_methods_stand_under_the_names_of_their_categories(tmp_path):
    for method in ("ccsd", "uhved", "adamm", "masks_of_others"):  # adamm is of the category of ccsd
        write_table(tmp_path / f"{method}.csv", method, run=method)
    files = [tmp_path / f"{m}.csv" for m in ("ccsd", "uhved", "adamm", "masks_of_others")]
    write_report(files, tmp_path / "out", bootstrap=FEW)
    out, kd, mt = tmp_path / "out", "measured: knowledge distillation", "measured: multi-task learning"
    for name, corner in (("methods", "label"), ("means", "method"), ("aurc", "method"), ("without", "method")):
        rows = [(r["section"], r[corner]) for r in cells(out / f"table_{name}.csv")]
        assert rows == [(kd, "ccsd"), (kd, "adamm"), (mt, "uhved"), ("measured", "masks_of_others")]
    columns = [c for c in cells(out / "table_subsets.csv")[0] if c.startswith("WT") and not c.endswith(("low", "high"))]
    assert columns == [f"WT, {kd}: ccsd", f"WT, {kd}: adamm", f"WT, {mt}: uhved", "WT, measured: masks_of_others"]
    latex, text = (out / "table_subsets.tex").read_text(), (out / "report.md").read_text(encoding="utf-8")
    heads = [
        rf"\multicolumn{{{n}}}{{c}}{{\shortstack[c]{{{words}}}}}"
        for n, words in ((2, r"WT, measured: knowledge\\distillation"), (1, r"WT, measured:\\multi-task\\learning"))
    ]
    assert " & ".join(heads) in latex
    assert f"| *{kd}* |" in text and rf"\textit{{{mt}}}" in (out / "table_means.tex").read_text()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f'colspan="2">WT, {kd}</th>' in page and f">{mt}</th></tr>" in page


def test_across_protocols_tables_are_marked_and_the_best_is_found_within_one(tmp_path):
    files = [
        write_table(tmp_path / "a.csv", "ccsd", run="a"),
        write_table(tmp_path / "b.csv", "uhved", run="b", shift=0.1, protocol="nnunet"),
        write_table(tmp_path / "c.csv", "ccsd", run="a", shift=0.05, protocol="nnunet"),
    ]
    write_report(files, tmp_path / "apart", bootstrap=FEW)
    assert (tmp_path / "apart" / "table_means_2.csv").exists()
    write_report(files, tmp_path / "out", across_protocols=True, bootstrap=FEW)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for title in ("Dice", "Means over subsets", "Paired tests", "Area under the robustness curve"):
        assert f"**{title}, phantoms, across protocols anymri and nnunet**" in text
    assert "a difference between them may be one of the rules alone" in text and "by the protocol nnunet: " in text
    assert {r["methods"] for r in cells(tmp_path / "out" / "table_tests.csv")} == {
        "ccsd [anymri] − ccsd [nnunet]",
        "ccsd [anymri] − uhved [nnunet]",
        "ccsd [nnunet] − uhved [nnunet]",
    }
    (mean,) = (x for x in text[text.index("**Dice, phantoms") :].split("**Means")[0].splitlines() if x.startswith("| mean"))
    assert mean.count("**") == 6  # One of two in each region; the third stands alone under its rules.


def test_one_source_on_two_data_sets_stands_under_two_headings():
    tables = [t for t in published_tables() if t.kind == "methods"]
    groups = {t.name: PublishedSeries(t, t.methods[0]).group for t in tables}
    assert len({t.data for t in tables}) > 1
    assert all(t.data in groups[t.name] for t in tables)


def test_splits_with_cases_in_common_have_a_mean_without_intervals(tmp_path):
    for name, cases in (("split1", range(4)), ("split2", range(3, 6))):
        write_scored_run(tmp_path / name, fold=None, cases=cases)
    write_report([tmp_path], tmp_path / "out", bootstrap=FEW)
    rows = cells(tmp_path / "out" / "table_splits.csv")
    tables = [read_scores(tmp_path / f"{name}.csv") for name in ("split1", "split2")]
    values = [[r.value for r in t if (r.metric, r.region, r.subset) == ("dice", "TC", "T1c")] for t in tables]
    (found,) = (float(row["TC"]) for row in rows if row["modalities"] == "T1c")
    assert found == pytest.approx(100 * sum(sum(v) / len(v) for v in values) / 2)
    assert len(rows) == 16 and not any("low" in name for name in rows[0])
