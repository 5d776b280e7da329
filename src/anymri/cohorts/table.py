"""A table of files: one row for each case, one column for each modality, an empty cell where it is absent.

    case,flair,t1,t1c,t2,labels,scheme,fold
    p1,p1/flair.nii.gz,,p1/post.nii.gz,p1/t2.mha,p1/mask.nii.gz,brats2021,0
    p2,all.nii.gz[0],all.nii.gz[1],,,,,

Separated by commas, semicolons or tabs; UTF-8. Paths are relative to the table; FILE[2] is channel 2 of a 4-D file, counted from 0.
Columns may be called by any word that is known for a modality; labels, scheme and fold may be missing.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from anymri.cohorts.folders import LeftOut, first_reason, stem_of
from anymri.cohorts.vocabulary import folded, modality_called
from anymri.domain.case import Cohort, Source, Split, Study
from anymri.domain.task import Task
from anymri.errors import CaseError, InputFileError, LabelSchemeError
from anymri.volumes.images import ENDINGS, unreadable
from anymri.volumes.store import case_folder

ENDINGS_OF_TABLES = (".csv", ".tsv")
_CASE = ("case", "caseid", "casename", "name", "id", "subject", "subjectid", "patient", "patientid")
_OTHERS = {
    **dict.fromkeys(("labels", "label", "seg", "segmentation", "reference", "mask"), "labels"),
    **{"scheme": "scheme", "labelscheme": "scheme", "fold": "fold"},
}
_TRAIN = "train"
_SEPARATORS = (",", ";", "\t")
_LARGEST = 2**26


@dataclass
class _Reading:
    """The table and what reading it gathers.

    Attributes:
        path: The table.
        columns: What each column is: "case", "labels", "scheme", "fold", a modality, or None.
        rows: (number of the line in the file, cells).
        scheme: The scheme named on the command line.
        folds: Case → its fold as written.
    """

    path: Path
    task: Task
    columns: list[str | None]
    rows: list[tuple[int, list[str]]]
    scheme: str | None
    left_out: LeftOut = field(default_factory=list[tuple[Path, str]])
    folds: dict[str, str] = field(default_factory=dict[str, str])

    def leave_out(self, row: int, reason: str) -> None:
        self.left_out.append((self.path, f"row {row}: {reason}"))


def find_table(source: Path, task: Task, *, scheme: str | None = None) -> Cohort:
    """Return the cases that the rows of a table name.

    Args:
        source: A .csv or .tsv file, or a folder with one table of cases in it.
        task: What the cases are for.
        scheme: Label scheme of the references where the table does not name one.

    Raises:
        InputFileError: If there is no table, it cannot be understood, or no row of it can be used.
        LabelSchemeError: If the task has no such scheme.
    """
    given = task.scheme(scheme).name if scheme else None
    reading = _read(table_in(source, task), task, given)
    twice = {name for name, n in Counter(_cell(reading, cells, "case") for _, cells in reading.rows).items() if n > 1}
    studies = [s for row, cells in reading.rows if (s := _study(reading, row, cells, twice)) is not None]
    if not studies:
        raise InputFileError(f"{reading.path}: none of its {len(reading.rows)} rows can be used{first_reason(reading.left_out)}")
    notes = []
    silent = [s.name for s in studies if s.labels is not None and s.scheme is None]
    if silent:
        notes.append(f"{reading.path}: names no scheme for the labels of {len(silent)} cases; name it in a column, or as --scheme")
    split = _split(reading, [s.name for s in studies])
    return Cohort(reading.path.stem, tuple(studies), tuple(reading.left_out), split=split, layout="table", notes=tuple(notes))


def table_in(source: Path, task: Task) -> Path:
    """Return the table that a source is, or the one table of cases in a folder.

    Raises:
        InputFileError: If there is none, or several.
    """
    if not source.is_dir():
        if source.is_file() and source.suffix.lower() in ENDINGS_OF_TABLES:
            return source
        found = "is no table" if source.is_file() else "not found"
        raise InputFileError(f"{source}: {found}; expected a .csv or .tsv file, or a folder with one in it")
    tables = [p for p in sorted(source.iterdir()) if p.suffix.lower() in ENDINGS_OF_TABLES and p.is_file() and _fits(p, task)]
    if len(tables) > 1:
        raise InputFileError(f"{source}: holds {len(tables)} tables of cases ({', '.join(p.name for p in tables)}); give one")
    if not tables:
        example = f"case,{','.join(m.option for m in task.modalities)}"
        raise InputFileError(f"{source}: holds no table of cases; expected a .csv file with the columns {example}")
    return tables[0]


def _fits(path: Path, task: Task) -> bool:
    try:
        _read(path, task, None)
    except InputFileError:
        return False
    return True


def _read(path: Path, task: Task, scheme: str | None) -> _Reading:
    text = _text(path)
    headers = {s: next(csv.reader(io.StringIO(text), delimiter=s), []) for s in _SEPARATORS}
    fitting = [s for s, cells in headers.items() if len(cells) > 1 and any(folded(c) in _CASE for c in cells)]
    if len(fitting) != 1:
        shown = text.partition("\n")[0].strip()[:80]
        raise InputFileError(
            f"{path}: its first line is no header with a column 'case' ({shown or 'empty'}); expected columns such as "
            f"case,{','.join(m.option for m in task.modalities)}, separated by one of comma, semicolon or tab"
        )
    reader = csv.reader(io.StringIO(text), delimiter=fitting[0], strict=True)
    rows: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if any(c.strip() for c in cells):
                rows.append((start, [c.strip() for c in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputFileError(f"{path}: row {start}: cannot be read ({error}); correct it") from error
    reading = _Reading(path, task, [], rows[1:], scheme)
    for number, name in enumerate(rows[0][1], start=1):
        column = _column(name, task)
        if column is not None and column in reading.columns:
            raise InputFileError(f"{path}: row 1: two columns are {column} ({', '.join(rows[0][1])}); leave one")
        reading.columns.append(column)
        if column is None:
            known = "no modality of task " + task.name + ", and none of case, labels, scheme, fold"
            reading.leave_out(1, f"column {number} '{name}' is {known}; it is not used")
    if not set(task.modalities.names) & set(reading.columns):
        expected = ", ".join(task.modalities.names)
        raise InputFileError(f"{path}: has no column for a modality of task {task.name}; expected some of {expected}")
    return reading


def _text(path: Path) -> str:
    try:
        content = path.read_bytes() if path.stat().st_size <= _LARGEST else None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error
    if content is None:
        raise InputFileError(f"{path}: is longer than {_LARGEST} bytes; expected a table of cases")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise InputFileError(f"{path}: is not UTF-8 ({found}); save it as CSV UTF-8") from error
    if "\0" in text:
        raise InputFileError(f"{path}: holds zero bytes, as UTF-16 does; save it as CSV UTF-8")
    return text


def _column(name: str, task: Task) -> str | None:
    modality = modality_called(name, task)
    if modality is not None:
        return modality.name
    return "case" if folded(name) in _CASE else _OTHERS.get(folded(name))


def _cell(reading: _Reading, cells: list[str], column: str) -> str:
    index = reading.columns.index(column) if column in reading.columns else len(cells)
    return cells[index] if index < len(cells) else ""


def _study(reading: _Reading, row: int, cells: list[str], twice: set[str]) -> Study | None:
    """Return the case of a row, or say why it cannot be used."""
    if len(cells) != len(reading.columns):
        return reading.leave_out(row, f"has {len(cells)} cells; the header has {len(reading.columns)}")
    name = _cell(reading, cells, "case")
    if not name:
        return reading.leave_out(row, "gives no name of the case")
    if name in twice:
        return reading.leave_out(row, f"another row is called '{name}', too; rename or remove one")
    try:
        case_folder(reading.path, name)
    except CaseError as error:
        return reading.leave_out(row, str(error))
    images: dict[str, Source] = {}
    for modality in reading.task.modalities.names:
        if text := _cell(reading, cells, modality):
            source = _source(reading, row, modality, text)
            if source is None:
                return None
            if source in images.values():
                return reading.leave_out(row, f"{text} stands there for two modalities")
            images[modality] = source
    if not images:
        return reading.leave_out(row, f"{name} has no image")
    labels, scheme = None, _cell(reading, cells, "scheme") or reading.scheme
    if text := _cell(reading, cells, "labels"):
        labels = _source(reading, row, "labels", text)
        if labels is None:
            return None
        try:
            scheme = reading.task.scheme(scheme).name if scheme else None
        except LabelSchemeError as error:
            return reading.leave_out(row, str(error))
    if fold := _cell(reading, cells, "fold"):
        if not re.fullmatch(rf"\d{{1,3}}|{_TRAIN}", fold):
            return reading.leave_out(row, f"its fold is '{fold}'; expected a number from 0, '{_TRAIN}' or nothing")
        if labels is None:
            return reading.leave_out(row, f"{name} is in fold {fold} but has no labels; leave the fold empty")
        reading.folds[name] = fold
    return Study(name, images, labels, scheme if labels else None)


def _source(reading: _Reading, row: int, what: str, text: str) -> Source | None:
    match = re.fullmatch(r"(?P<file>.+)\[(?P<channel>\d{1,4})\]", text)
    file, channel = (match["file"], int(match["channel"])) if match else (text, None)
    path = reading.path.parent / file
    try:
        there = path.is_file()
    except OSError:  # A name that no file can have.
        there = False
    if not there:
        return reading.leave_out(row, f"{what}: {path} is not there")
    if stem_of(path) is None:
        return reading.leave_out(row, f"{what}: {path}: {unreadable(path.name) or 'is none of ' + ', '.join(ENDINGS)}")
    return Source(path, channel)


def _split(reading: _Reading, names: list[str]) -> Split | None:
    """Return the folds of the column "fold", if any case is in one."""
    numbered = {n: int(reading.folds[n]) for n in names if reading.folds.get(n, _TRAIN) != _TRAIN}
    if not numbered:
        return None
    count = max(numbered.values()) + 1
    if empty := [k for k in range(count) if k not in numbered.values()]:
        raise InputFileError(f"{reading.path}: no case is in fold {empty[0]}, but one is in fold {count - 1}; number them from 0")
    folds = tuple(tuple(n for n in names if numbered.get(n) == k) for k in range(count))
    return Split(folds, tuple(n for n in names if reading.folds.get(n) == _TRAIN))
