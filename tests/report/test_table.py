from __future__ import annotations

import csv
import io
import math
import re
import shutil
import subprocess

import pytest

from anymri.metrics.statistics import Estimate
from anymri.report.formats import comma_separated, dots, latex, markdown
from anymri.report.table import MILLIMETRES, PERCENT, Cell, Row, Table, column_best, known, number, with_best

TABLE = Table(
    "table_x",
    "Dice & more, 50 % of_it",
    "modalities",
    ("m_1", "n"),
    (
        Row("A", (number(Estimate(0.5, 0.4, 0.6, 3, 0), PERCENT), number(known(0.7), PERCENT, marks="a"))),
        Row("A+B", (Cell("–"), number(known(0.70004), PERCENT)), marks="b"),
        Row("mean", (Cell("x | y"), Cell("1", 1.0, best=True)), ruled=True),
    ),
    groups=(("measured", 1), ("published", 1)),
    notes=("a − b ≥ 0 × 2",),
    footnotes=("first.", "second."),
    modalities=("A", "B"),
)


def test_numbers_have_the_digits_of_the_field_and_intervals_one_less():
    cell = number(Estimate(0.12345, 0.1, 0.2, 5, 0), PERCENT)
    assert (cell.text, cell.interval) == ("12.35", "10.0 to 20.0") and cell.value == pytest.approx(12.345)
    assert number(known(5.9), MILLIMETRES).text == "5.90" and number(known(5.9), MILLIMETRES).interval == ""
    assert number(known(None), PERCENT) == Cell("–") or number(known(None), PERCENT).text == "–"


def test_what_rounds_to_zero_has_no_sign():
    cell = number(Estimate(-1e-6, -2e-6, 1e-6, 5, 0), PERCENT)
    assert (cell.text, cell.interval, cell.value) == ("0.00", "0.0 to 0.0", pytest.approx(-1e-4))


def test_the_best_is_marked_within_its_group_as_printed():
    cells = [number(known(v), PERCENT) for v in (0.5, 0.700001, 0.7, 0.9, None)]
    marked = with_best(cells, ["x", "x", "x", "y", "x"])
    assert [c.best for c in marked] == [False, True, True, False, False]  # alone in its group nothing is the best
    assert [c.best for c in with_best(cells[:3], ["x"] * 3, higher=False)] == [True, False, False]


def test_the_best_of_a_column_is_that_of_its_group():
    rows = [Row(str(v), (number(known(v), PERCENT),)) for v in (0.1, 0.2, 0.3, 0.4)]
    assert [r.cells[0].best for r in column_best(rows, among="xxyy", columns=[0], higher=[True])] == [False, True, False, True]


def test_dots_are_drawn_for_subsets_alone():
    assert dots(TABLE, "A") == ("●", "○") and dots(TABLE, "A+B") == ("●", "●") and dots(TABLE, "mean") == ()


def test_markdown_is_one_table_with_notes_and_letters():
    lines = markdown(TABLE).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}
    assert table[2] == "| A | 50.00 [40.0 to 60.0] | 70.00 (a) |" and table[3].startswith("| A+B (b) | – |")
    assert "**1**" in table[4] and lines[-3:] == ["* a − b ≥ 0 × 2", "* (a) first.", "* (b) second."]


def test_csv_has_all_digits_and_columns_for_intervals():
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows[0] == ["modalities", "measured: m_1", "measured: m_1, low", "measured: m_1, high", "published: n"]
    assert rows[1] == ["A", "50", "40", "60", "70"] and rows[2] == ["A+B", "–", "", "", "70.004"]


# Scales down what is wider than the page, and nothing up.
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def check_latex(text: str) -> None:
    """Check what LaTeX would stumble over: signs it lacks, braces and environments that do not close, rows of other widths."""
    assert text.isascii()
    *tables, end = text.split("\n", 1)[1].split("\\end{table}\n")
    assert tables and end == ""
    for table in tables:
        _check_one(table + "\\end{table}\n")


def _check_one(text: str) -> None:
    bare = re.sub(r"\\[\\&%$#_{}]", lambda m: "\\\\" if m[0] == "\\\\" else "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not set("%#^~_") & set(re.sub(r"\\label\{[^}]*\}|\}~", "", bare))
    bare = bare.replace(FITTED, "")
    assert not set("<>|") & set(re.sub(r"\$[^$]*\$", "", bare))
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", bare)
    assert opened == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    columns = len(re.findall(r"[lrc]|p\{\dcm\}", re.search(r"\\begin\{tabular\}\{((?:[lrc]|p\{\dcm\})+)\}", bare)[1]))  # type: ignore[index]
    inside = bare[bare.index("\\toprule") : bare.index("\\bottomrule")]
    for line in (part for part in inside.splitlines() if part.endswith("\\\\")):
        spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert line.count("&") + 1 + spans == columns, line
    for rule in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", bare):
        assert 1 <= int(rule[0]) <= int(rule[1]) <= columns


def test_latex_is_well_formed():
    text = latex(TABLE)
    check_latex(text)
    assert r"$\bullet$ & $\circ$ & \shortstack[r]{50.00\\{\scriptsize [40.0 to 60.0]}} & 70.00\textsuperscript{a} \\" in text
    assert r"\multicolumn{2}{l}{mean}" in text and r"\textbf{1}" in text and r"Dice \& more, 50 \% of\_it" in text


def test_latex_stays_on_the_page():
    long = "a sentence of more than forty characters in a cell"
    texts = ("short", long, 3 * long)
    rows = (Row("r", (*map(Cell, texts), Cell("1", 1.0))), Row("s", (*[Cell("x")] * 3, Cell("2", 2.0))))
    text = latex(Table("t", "T", "x", ("a", "b", "c", "a long heading over a number"), rows, groups=((long, 1), ("g", 3))))
    check_latex(text)
    assert FITTED + r"{\begin{tabular}{llp{4cm}p{7cm}r}" in text and r"\end{tabular}}" in text
    assert rf"& {{\raggedright {long}\par}} &" in text and "& short &" in text
    assert r"\shortstack[c]{a long heading\\over a number}" in text and r"\multicolumn{1}{c}{\shortstack[c]{a sentence of\\" in text


def test_what_is_longer_than_a_page_goes_on_in_a_next_table():
    cells = (number(Estimate(0.5, 0.4, 0.6, 3, 0), PERCENT),)
    rows = tuple(Row(f"row {i}", cells, section="first" if i < 30 else "second") for i in range(50))
    text = latex(Table("table_t", "T", "x", ("a",), rows, notes=("said once.",)))
    check_latex(text)
    parts = text.split(r"\end{table}")[:-1]
    assert [part.count("row ") for part in parts] == [22, 22, 6]
    assert [f"caption{{T ({i} of 3)}}" in part for i, part in enumerate(parts, start=1)] == [True] * 3
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:table-t", "tab:table-t-2", "tab:table-t-3"]
    assert [part.count("said once.") for part in parts] == [0, 0, 1]
    assert [re.findall(r"textit\{(\w+)\}", part) for part in parts] == [["first"], ["first", "second"], ["second"]]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_finds_nothing_too_wide(tmp_path):
    columns = 12
    cells = (
        Cell("a sentence of more than forty characters in a cell"),
        *[number(Estimate(0.5, 0.4, 0.6, 3, 0), PERCENT)] * columns,
    )
    table = Table("t", "T", "x", ("said", *["a method with a long name"] * columns), (Row("< 3", cells),), notes=("a | b",))
    packages = r"\usepackage{booktabs}\usepackage{graphicx}"
    for name, part in (("wide", table), ("narrow", TABLE)):
        text = rf"\documentclass{{article}}{packages}\begin{{document}}{latex(part)}\end{{document}}"
        (tmp_path / f"{name}.tex").write_text(text)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout.decode("latin1")
        assert "Overfull" not in said and "Missing character" not in said, said


def test_latex_prints_less_than_as_it_is_meant():
    text = latex(Table("t", "a | b", "x", ("y > 1",), (Row("r", (Cell("< 0.0001", 1e-6),)),)))
    check_latex(text)
    assert r"& $<$ 0.0001 \\" in text and r"a \textbar{} b" in text and "y $>$ 1" in text
    for sign in "<>|":
        with pytest.raises(AssertionError):
            check_latex(text.replace("0.0001", sign))


def test_an_unknown_sign_does_not_stop_latex():
    check_latex(latex(Table("t", "é\\~^{}", "x", ("y",), (Row("ü", (Cell("∞", math.nan),), section="s"),))))
