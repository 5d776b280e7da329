"""A table as Markdown, LaTeX and CSV. HTML is the template's."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence

from anymri.report.table import Cell, Row, Table

FILLED, EMPTY = "●", "○"
_JOINT = "+"  # Between the names in a printed subset: anymri.domain.modality.
# Characters in a cell from which on LaTeX breaks it into lines, and how wide these are.
_BROKEN = ((100, "p{7cm}"), (40, "p{4cm}"))
_HEADING = 16  # Characters of a heading on one line in LaTeX, for each column that it is over.
_TALLEST = 44  # Lines of one table in LaTeX; a longer one goes on in the next.
# A table that is wider than the page is scaled down to it; none is scaled up.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# What pdfLaTeX has no sign for, or takes for a command.
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # The font that LaTeX begins with has other signs in the places of these three.
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    FILLED: r"$\bullet$",
    EMPTY: r"$\circ$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
}


def dots(table: Table, label: str) -> tuple[str, ...]:
    """Return one dot per modality of the table, filled if it is at hand; nothing if the label is no subset of them."""
    at_hand = label.split(_JOINT)
    if not set(at_hand) <= set(table.modalities):
        return ()
    return tuple(FILLED if m in at_hand else EMPTY for m in table.modalities)


def lettered(table: Table) -> tuple[tuple[str, str], ...]:
    """Return letter and text of every footnote."""
    return tuple(zip(_LETTERS, table.footnotes, strict=False))


def letter(place: int) -> str:
    """Return the letter of a footnote by its place."""
    return _LETTERS[place]


def markdown(table: Table) -> str:
    """Return a table as Markdown, with its notes below."""
    lines = [[plain(table.corner), *map(plain, _flat_header(table))]]
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            lines.append([f"*{plain(section)}*", *[""] * len(table.header)])
        lines.append([_marked(plain(row.label), row.marks), *map(_markdown_cell, row.cells)])
    rule = ["---", *("---:" if _numeric(table, i) else "---" for i in range(len(table.header)))]
    body = ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]
    notes = [*(f"* {plain(n)}" for n in table.notes), *(f"* ({key}) {plain(text)}" for key, text in lettered(table))]
    return "\n".join([f"**{plain(table.title)}**", "", *body, "", *notes]) + "\n"


def comma_separated(table: Table) -> str:
    """Return a table as CSV: every number with all its digits; two more columns where a column has intervals.

    A file is read without what stands around its table: cohort and protocol are columns, the last ones.
    """
    wide = [any(not math.isnan(row.cells[i].low) for row in table.rows) for i in range(len(table.header))]
    sections = any(row.section for row in table.rows)
    header = ["section"] * sections + [table.corner]
    for name, spread in zip(_flat_header(table), wide, strict=True):
        header += [name, f"{name}, low", f"{name}, high"] if spread else [name]
    origins = [row.origin or table.origin for row in table.rows]
    told = any(origins)
    header += ["cohort", "protocol"] * told
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row, origin in zip(table.rows, origins, strict=True):
        line = [row.section] * sections + [row.label]
        for cell, spread in zip(row.cells, wide, strict=True):
            line.append(cell.text if math.isnan(cell.value) else _digits(cell.value))
            line += [_digits(v) for v in (cell.low, cell.high)] if spread else []
        line += [origin.cohort if origin else "", origin.protocol if origin else ""] * told
        writer.writerow(line)
    return stream.getvalue()


def latex(table: Table) -> str:
    """Return a table for LaTeX with the packages booktabs and graphicx, in ASCII; it is to stand inside a document.

    One that is longer than a page is several, the notes under the last.
    """
    parts = _pages(table.rows)
    made = ["% needs \\usepackage{booktabs} \\usepackage{graphicx}"]
    for i, rows in enumerate(parts, start=1):
        called = f"{table.title} ({i} of {len(parts)})" if len(parts) > 1 else table.title
        label = re.sub("[^a-z0-9]+", "-", f"{table.name} {i}" if i > 1 else table.name)
        made += [r"\begin{table}", r"\centering", f"\\caption{{{_escaped(called)}}}", f"\\label{{tab:{label}}}"]
        made += [f"{_FITTED}{{{_tabular(table, rows)}}}"]
        if i == len(parts):
            made += [f"\\par\\footnotesize {_escaped(n)}" for n in table.notes]
            made += [f"\\par\\footnotesize \\textsuperscript{{{key}}}~{_escaped(text)}" for key, text in lettered(table)]
        made.append(r"\end{table}")
    return "\n".join(made) + "\n"


def _pages(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows in parts that a page can hold each; one with intervals has two lines."""
    parts: list[list[Row]] = [[]]
    lines = 0
    for row in rows:
        own = 2 if any(cell.interval for cell in row.cells) else 1
        if lines + own > _TALLEST:
            parts.append([])
            lines = 0
        parts[-1].append(row)
        lines += own
    return parts


def _tabular(table: Table, rows: Iterable[Row]) -> str:
    lead = max(len(table.modalities), 1)
    columns = [_alignment(table, i) for i in range(len(table.header))]
    head: list[str] = []
    if table.groups:
        cells, rules, at = [""] * lead, [], lead + 1
        for name, span in table.groups:
            cells.append(f"\\multicolumn{{{span}}}{{c}}{{{_heading(name, span)}}}")
            rules.append(f"\\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        head += [" & ".join(cells) + r" \\", " ".join(rules)]
    head.append(" & ".join([*(map(_escaped, table.modalities or (table.corner,))), *map(_heading, table.header)]) + r" \\")
    body: list[str] = []
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            body.append(f"\\multicolumn{{{lead + len(table.header)}}}{{l}}{{\\textit{{{_escaped(section)}}}}} \\\\")
        body += [r"\midrule"] * row.ruled + [" & ".join([_latex_label(table, row, lead), *_latex_cells(row, columns)]) + r" \\"]
    opening = f"\\begin{{tabular}}{{{'c' * lead if table.modalities else 'l'}{''.join(columns)}}}"
    return "\n".join([opening, r"\toprule", *head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"])


def _flat_header(table: Table) -> list[str]:
    """Return the headings of columns with that of their group in front."""
    over = [name for name, span in table.groups for _ in range(span)] or [""] * len(table.header)
    return [f"{group}: {name}" if group else name for group, name in zip(over, table.header, strict=True)]


def _digits(value: float) -> str:
    """Return a number with what a float can be trusted for; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.12g}"


def _numeric(table: Table, column: int) -> bool:
    return any(not math.isnan(row.cells[column].value) for row in table.rows)


def _alignment(table: Table, column: int) -> str:
    """Return how LaTeX sets a column: sentences are broken into lines, or they would run off the page."""
    if _numeric(table, column):
        return "r"
    longest = max((len(row.cells[column].text) for row in table.rows), default=0)
    return next((wide for length, wide in _BROKEN if longest > length), "l")


def plain(text: str) -> str:
    """Return text that Markdown takes as it is."""
    return re.sub(r"([\\|*_<>`])", r"\\\1", " ".join(text.split()))


def _marked(text: str, marks: str) -> str:
    return f"{text} ({', '.join(marks)})" if marks else text


def _markdown_cell(cell: Cell) -> str:
    text = f"**{plain(cell.text)}**" if cell.best else plain(cell.text)
    return _marked(text + (f" [{cell.interval}]" if cell.interval else ""), cell.marks)


def _escaped(text: str) -> str:
    replaced = "".join(_LATEX.get(c, c) for c in " ".join(text.split()))
    return "".join(c if c.isascii() else "?" for c in replaced)


def _heading(text: str, span: int = 1) -> str:
    """Return a heading over some columns for LaTeX, in several lines if it would be wider than their cells."""
    lines = textwrap.wrap(text, _HEADING * span, break_long_words=False, break_on_hyphens=False)
    return _stacked([_escaped(line) for line in lines], "c") if len(lines) > 1 else _escaped(text)


def _stacked(lines: Iterable[str], side: str) -> str:
    joint = r"\\"
    return f"\\shortstack[{side}]{{{joint.join(lines)}}}"


def _superscript(marks: Iterable[str]) -> str:
    found = ",".join(marks)
    return f"\\textsuperscript{{{found}}}" if found else ""


def _latex_label(table: Table, row: Row, lead: int) -> str:
    drawn = dots(table, row.label)
    if drawn:
        return " & ".join(map(_escaped, drawn)) + _superscript(row.marks)
    text = _escaped(row.label) + _superscript(row.marks)
    return f"\\multicolumn{{{lead}}}{{l}}{{{text}}}" if lead > 1 else text


def _latex_cells(row: Row, columns: Iterable[str]) -> list[str]:
    # Narrow lines of equal length would have gaps between their words.
    broken = [of.startswith("p") for of in columns]
    texts = map(_latex_cell, row.cells)
    return [f"{{\\raggedright {text}\\par}}" if long else text for text, long in zip(texts, broken, strict=True)]


def _latex_cell(cell: Cell) -> str:
    text = f"\\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)
    marked = text + _superscript(cell.marks)
    return _stacked([marked, f"{{\\scriptsize [{_escaped(cell.interval)}]}}"], "r") if cell.interval else marked
