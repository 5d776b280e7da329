"""A report as a folder: one page that stands by itself, the same as Markdown, every table as LaTeX and CSV, every figure."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from anymri.errors import UsageError
from anymri.metrics.statistics import DEFAULT, Bootstrap
from anymri.published.reading import published_named
from anymri.report.case_figure import CaseRequest, case_figure
from anymri.report.contents import Section, sections_of
from anymri.report.figures import Picture
from anymri.report.formats import comma_separated, dots, latex, lettered, markdown, plain
from anymri.report.measured import Material, gather
from anymri.report.table import Table
from anymri.report.trainings import Training
from anymri.volumes.writing import replacing

PAGE, TEXT = "index.html", "report.md"
_OURS = re.compile(r"index\.html|report\.md|table_.+\.(tex|csv)|figure_.+\.(svg|png)")


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    published: Sequence[str] = (),
    case: CaseRequest | None = None,
    across_protocols: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> Path:
    """Write a report on score tables, run folders and published numbers; any of them may be absent, but not all.

    Args:
        paths: Score tables, run folders, or folders of such.
        out: Folder to write; an older report in it is replaced whole.
        published: Names of data sets or tables of published numbers.
        case: A case to draw with the weights of the run folders.
        across_protocols: Set side by side what was scored by different rules, and say so.
        bootstrap: How intervals are drawn.

    Returns:
        The page.

    Raises:
        UsageError: If there is nothing to report on, a published table does not exist, or ``out`` holds other things.
        InputFileError: If a path is no score table and no run folder.
        OutputError: If the report cannot be written.
    """
    if not paths and not published:
        raise UsageError("nothing to report on: give score tables or run folders, or --published NAME; see 'anymri list published'")
    _check_replaceable(out)
    tables = tuple({t.name: t for name in published for t in published_named(name)}.values())
    material = gather(paths, across_protocols=across_protocols)
    picture = case_figure(case, _one_of_each(material)) if case else None
    sections = sections_of(material, tables, case=picture, bootstrap=bootstrap)
    with replacing(out, what="the report") as folder:
        folder.mkdir()
        for part in (p for section in sections for p in section.parts):
            if isinstance(part, Picture):
                (folder / part.name).write_bytes(part.content)
            else:
                (folder / f"{part.name}.tex").write_text(latex(part), encoding="utf-8")
                (folder / f"{part.name}.csv").write_text(comma_separated(part), encoding="utf-8")
        (folder / TEXT).write_text(_text(sections), encoding="utf-8")
        (folder / PAGE).write_text(_page(sections, material), encoding="utf-8")
    return out / PAGE


def _check_replaceable(out: Path) -> None:
    """Refuse a folder whose content is not a report: it would be lost."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out {out}: is not a folder; choose a new one")
    foreign = [p.name for p in sorted(out.iterdir()) if p.is_dir() or not _OURS.fullmatch(p.name)] if out.exists() else []
    if foreign:
        raise UsageError(
            f"--out {out}: holds '{foreign[0]}', which is no part of a report; choose a new folder, or that of a report"
        )


def _one_of_each(material: Material) -> list[tuple[str, Training]]:
    """Return one run folder with weights for each method, its first, under the method's label; then those without scores."""
    found: dict[str, tuple[str, Training]] = {}
    for method in (m for arena in material.arenas for m in arena.methods):
        for training in method.trainings[:1]:
            found.setdefault(training.kind, (method.label, training))
    for training in material.trainings:
        if training.weights:
            found.setdefault(training.kind, (f"{training.method} ({training.name})", training))
    return list(found.values())


def _text(sections: Sequence[Section]) -> str:
    lines = ["# Report", "", "Research use only. Not a medical device.", ""]
    for section in sections:
        lines += [f"## {plain(section.title)}", ""]
        for paragraph in section.paragraphs:
            lines += [plain(paragraph), ""]
        for part in section.parts:
            if isinstance(part, Picture):
                lines += [f"![{plain(_bracketless(part.alternative))}]({quote(part.name)})", "", f"**{plain(part.title)}**", ""]
                lines += [*(f"* {plain(note)}" for note in part.notes), ""]
            else:
                lines += [markdown(part)]
    return "\n".join(lines).rstrip() + "\n"


def _page(sections: Sequence[Section], material: Material) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("anymri.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        sections=sections,
        files=[f.name for f in material.files],
        version=version("anymri"),
        is_table=lambda part: isinstance(part, Table),
        address=lambda part: f"data:{part.media_type};base64,{base64.b64encode(part.content).decode('ascii')}",
        dots=dots,
        lettered=lettered,
        numeric=_numeric,
        first_of_section=_first_of_section,
    )


def _numeric(table: Table) -> list[bool]:
    """Return for each column whether it holds numbers."""
    return [any(row.cells[i].value == row.cells[i].value for row in table.rows) for i in range(len(table.header))]


def _first_of_section(table: Table) -> list[bool]:
    """Return for each row whether a section begins with it."""
    before = ["", *(row.section for row in table.rows)]
    return [row.section != last for row, last in zip(table.rows, before, strict=False)]


def _bracketless(text: str) -> str:
    return " ".join(text.replace("[", "(").replace("]", ")").split())
