"""Score tables and run folders → the methods that a report is about, each with its seeds and folds as one.

A score knows by which weights it was made. If their run folder is at hand, runs that differ in seed or fold alone are one method;
others are told apart by the settings in which they differ. Without a run folder the scores of a file are all there is: those of one
method in one file are one method, unless they contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anymri.errors import InputFileError
from anymri.metrics.protocol import DICE
from anymri.metrics.scores import COLUMNS, Score, ScoreTable, joined, read_scores
from anymri.report.trainings import Training, described, differing, is_run, read_training
from anymri.volumes.store import parsed_json

ORDER = "set.json"  # Beside the run folders of a set: {"runs": [names in order]}.
_MOST_FIELDS = 4  # A label with more would be longer than a folder's name.


@dataclass(frozen=True, eq=False)
class Measured:
    """One method, or one variant of it, on one cohort by one protocol.

    Attributes:
        label: What it is called; distinct within an arena.
        method: Name of the method.
        cohort: Name of the cohort.
        protocol: Name of the rules it was scored by.
        by_seed: Seed → all scores of that seed, its folds joined.
        trainings: Run folders of its weights, as far as they are at hand.
        origin: Where the scores were found, for telling apart what has no record.
    """

    label: str
    method: str
    cohort: str
    protocol: str
    by_seed: Mapping[int | None, ScoreTable]
    trainings: tuple[Training, ...]
    origin: str


@dataclass(frozen=True, eq=False)
class Arena:
    """What may be compared: methods scored on one cohort by one protocol, or by several if that was asked for.

    Attributes:
        cohort: Name of the cohort.
        protocols: Names of the rules.
        methods: In the order in which they were given.
    """

    cohort: str
    protocols: tuple[str, ...]
    methods: tuple[Measured, ...]


@dataclass(frozen=True, eq=False)
class Material:
    """All that was found.

    Attributes:
        arenas: Scores by cohort and protocol.
        trainings: Run folders, with and without scores.
        files: Score tables that were read.
    """

    arenas: tuple[Arena, ...]
    trainings: tuple[Training, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class _Piece:
    """The scores of one file that were made by the same weights on one cohort by one protocol."""

    file: Path
    key: tuple[str, str, str]  # method, cohort, protocol
    seed: int | None
    run: str
    table: ScoreTable
    training: Training | None

    @property
    def cases(self) -> frozenset[str]:
        return frozenset(row.case for row in self.table)

    @property
    def kind(self) -> str:
        return self.training.kind if self.training else str(self.file)


def gather(paths: Sequence[Path], *, across_protocols: bool = False) -> Material:
    """Read score tables and run folders, and folders that hold such.

    Args:
        paths: Score tables; run folders, whose scores lie in them as scores.csv or beside them under their name; folders of these.
        across_protocols: Bring together what was scored by different rules; labels then name them.

    Raises:
        InputFileError: If a path is none of these, or a file is damaged.
    """
    folders: dict[Path, Training] = {}
    files: dict[Path, Path] = {}
    for path in paths:
        found_folders, found_files = _found(path)
        for folder in found_folders:
            if folder.resolve() not in folders:
                folders[folder.resolve()] = read_training(folder)
        files |= {file.resolve(): file for file in found_files if file.resolve() not in files}
    by_weights = {t.weights: t for t in folders.values() if t.weights}
    pieces = [piece for file in files.values() for piece in _pieces(file, by_weights)]
    arenas: dict[tuple[str, str], list[Measured]] = {}
    for method in _methods(pieces):
        arenas.setdefault((method.cohort, method.protocol), []).append(method)
    apart = tuple(Arena(cohort, (protocol,), _labelled(methods)) for (cohort, protocol), methods in arenas.items())
    return Material(
        _across(apart) if across_protocols else apart,
        tuple(folders.values()),
        tuple(files.values()),
    )


def _across(arenas: Sequence[Arena]) -> tuple[Arena, ...]:
    """Return one arena for each cohort; where it was scored by several protocols, labels name them."""
    found: list[Arena] = []
    for cohort in dict.fromkeys(a.cohort for a in arenas):
        own = [a for a in arenas if a.cohort == cohort]
        methods = (replace(m, label=f"{m.label} [{m.protocol}]") if len(own) > 1 else m for a in own for m in a.methods)
        found.append(Arena(cohort, tuple(p for a in own for p in a.protocols), tuple(methods)))
    return tuple(found)


def is_score_table(file: Path) -> bool:
    """Return whether a file begins as a score table does."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            return stream.readline().strip() == ",".join(COLUMNS)
    except (OSError, UnicodeDecodeError):
        return False


def _found(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the run folders and the score tables that a path stands for."""
    if path.is_file():
        beside = [f for f in (path.with_suffix(""), path.parent) if is_run(f)]
        return beside, [path]
    if not path.is_dir():
        raise InputFileError(f"{path}: not found; expected a score table (.csv) or a run folder")
    if is_run(path):
        inside, beside = path / "scores.csv", path.parent / f"{path.resolve().name}.csv"
        return [path], [f for f in (inside, beside) if is_score_table(f)][:1]
    place = {name: i for i, name in enumerate(_order(path))}
    listed = sorted(path.rglob("*"), key=lambda p: (place.get(p.relative_to(path).parts[0], len(place)), p))
    visible = [p for p in listed if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    folders, files = (
        [p for p in visible if p.is_dir() and is_run(p)],
        [p for p in visible if p.suffix == ".csv" and is_score_table(p)],
    )
    if not folders and not files:
        raise InputFileError(
            f"{path}: holds neither a run folder nor a score table; expected what 'anymri evaluate' or 'train' wrote"
        )
    return folders, files


def _order(path: Path) -> list[str]:
    """Return the runs of a folder in the order in which their set names them; empty if it is no set."""
    if not (path / ORDER).is_file():
        return []
    try:
        runs = parsed_json(path / ORDER).get("runs")
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path / ORDER}: cannot be read ({error}); remove it to take the runs by name") from None
    return [n for n in runs if isinstance(n, str)] if isinstance(runs, list) else []


def _pieces(file: Path, by_weights: Mapping[str, Training]) -> list[_Piece]:
    parts: dict[tuple[str, str, str, int | None, str], list[Score]] = {}
    for row in read_scores(file):
        parts.setdefault((row.method, row.cohort, row.protocol, row.seed, row.run), []).append(row)
    if not parts:
        raise InputFileError(f"{file}: holds no score; expected at least one line below the header")
    for (method, *_), rows in parts.items():
        if not any(row.metric == DICE for row in rows):
            raise InputFileError(f"{file}: has no {DICE} of {method}; expected a table as 'anymri evaluate' writes it")
    return [
        _Piece(file, (method, cohort, protocol), seed, run, ScoreTable(tuple(rows)), by_weights.get(run))
        for (method, cohort, protocol, seed, run), rows in parts.items()
    ]


def _methods(pieces: Iterable[_Piece]) -> list[Measured]:
    """Return methods, unlabelled: pieces of one kind are one, in so far as no case was scored twice under one seed."""
    groups: dict[tuple[object, ...], list[_Piece]] = {}
    for piece in pieces:
        again = 0
        while True:
            group = groups.setdefault((piece.key, piece.kind, again), [])
            alike = [p for p in group if p.seed == piece.seed and p.cases & piece.cases]
            if not alike:
                group.append(piece)
            elif not any(p.run == piece.run for p in alike):
                again += 1
                continue
            break  # The same weights on the same cases are the same scores, given twice.
    found = []
    for group in groups.values():
        seeds: dict[int | None, list[ScoreTable]] = {}
        for piece in group:
            seeds.setdefault(piece.seed, []).append(piece.table)
        trainings = {p.training.folder: p.training for p in group if p.training}
        origin = " and ".join(dict.fromkeys(p.training.name if p.training else p.file.stem for p in group))
        by_seed = {seed: joined(tables) for seed, tables in sorted(seeds.items(), key=lambda s: (s[0] is None, s[0] or 0))}
        found.append(Measured("", *group[0].key, by_seed, tuple(trainings.values()), origin))
    return found


def _labelled(methods: Sequence[Measured]) -> tuple[Measured, ...]:
    """Return methods with distinct labels: the name, with as many particulars as are needed to tell them apart."""
    labels: list[str] = []
    for own in methods:
        family = [m for m in methods if m.method == own.method]
        labels.append(own.method if len(family) == 1 else f"{own.method}: {_particulars(own, family)}")
    twice = {label for label in labels if labels.count(label) > 1}
    labels = [f"{label} ({m.origin})" if label in twice else label for label, m in zip(labels, methods, strict=True)]
    # Files of one name in different folders, or one file that contradicts itself: numbered, for want of anything better.
    numbered = [f"{label} #{labels[: i + 1].count(label)}" if labels.count(label) > 1 else label for i, label in enumerate(labels)]
    return tuple(replace(m, label=label) for m, label in zip(methods, numbered, strict=True))


def _particulars(own: Measured, family: Sequence[Measured]) -> str:
    recorded = [m.trainings[0] for m in family if m.trainings]
    fields = differing(recorded)
    if not own.trainings or not fields or len(fields) > 2 * _MOST_FIELDS:
        return own.origin
    told = described(own.trainings[0], fields)
    return (told if told.count(",") < _MOST_FIELDS else own.origin) or "as by default"
