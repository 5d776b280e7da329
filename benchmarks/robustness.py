"""How weights stand what hospitals do to images: raw studies are disturbed, prepared, segmented and scored against their reference.

    python benchmarks/robustness.py STUDIES --weights ccsd-small --out robustness
    python benchmarks/robustness.py STUDIES --splits splits.json --fold 4 --subsets FLAIR+T1c T1c --only noise_5 --out noise
    python benchmarks/robustness.py STUDIES --weights runs/ccsd_fold0 runs/ccsd_fold1 --out robustness

STUDIES is anything that ``anymri prepare`` reads. Of several weights each case is taken by the first that was not trained on it.
Without --cases or --fold all cases with a reference are taken that some weights were not trained on. Every image is disturbed
before it is prepared (disturbances.py); masks are brought to the reference's grid, also of patients who were moved, and scored by
protocol ``anymri``. What a case has is prepared and encoded together, and decoded for every subset, as ``anymri evaluate`` does.

* What happens to one image alone happens to each modality in turn, from case to case of the cohort, or to that of --turn in all
  of them, and is scored for subsets that hold it.
* Where a third is missing in all images only what is left counts, also in the undisturbed images beside it; where it is missing in
  one, the whole reference counts.

In OUT: NAME.csv, the scores under one disturbance; dice/NAME.csv, Dice of it to five decimals; summary.md; what cases/ holds is not
computed again. A case that the package refuses to prepare so is counted and named.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from disturbances import DISTURBANCES, UNDISTURBED, Disturbance, Disturbed, Images, axis_along, heights_left, slab

from anymri.cohorts import AUTO, find_cohort
from anymri.cohorts.phantom_shapes import generator
from anymri.domain.case import Cohort, Study
from anymri.domain.modality import Subset
from anymri.domain.task import Task
from anymri.engine.inference import device_named, native_masks, region_logits_of
from anymri.engine.model import Model
from anymri.errors import AnymriError, UsageError
from anymri.metrics.protocol import ANYMRI, DICE, CaseReference, prepare_case, score_case
from anymri.metrics.scores import Origin, Score, ScoreTable, joined, read_scores, selected, tabulated, write_scores
from anymri.metrics.statistics import Estimate, differences
from anymri.metrics.tables import TextTable, markdown, plain
from anymri.nn.processor import keep_memory
from anymri.preparation.pipeline import prepare_study
from anymri.segment.visit import Visit, opened_images, read_images
from anymri.volumes.store import make_folder, parsed_json, read_split, write_json
from anymri.volumes.volume import Array, Box, Grid, Volume
from anymri.volumes.writing import write_text
from anymri.weights import load_model

BESIDE = {d.name: f"{UNDISTURBED.name}_{d.name}" for d in DISTURBANCES if d.name in ("no_top", "no_bottom")}
SUBSETS = ("FLAIR+T1+T1c+T2", "FLAIR+T1c", "T1c", "FLAIR")


@dataclass(frozen=True)
class Settings:
    """What is measured; kept beside the scores, so that nothing else is added to them.

    Attributes:
        weights: Names and SHA-256.
        cohort: Name of the cohort.
        subsets: As a Subset prints.
        seed: Of all draws.
        turn: Modality that is disturbed where one is; None if each in turn.
    """

    weights: tuple[tuple[str, str], ...]
    cohort: str
    subsets: tuple[str, ...]
    seed: int
    turn: str | None = None


@dataclass(frozen=True, eq=False)
class Patient:
    """One case with all that its disturbances share.

    Attributes:
        study: Its files.
        images: Modality name → image as it was read.
        truth: Region → mask on the patient's own grid.
        grid: That grid.
        turn: Modality that is disturbed where one is.
    """

    study: Study
    images: dict[str, Volume]
    truth: dict[str, Array]
    grid: Grid
    turn: str

    def reference(self, heights: slice | None) -> tuple[CaseReference, Box]:
        """Return the reference between two heights and the box of the grid that it is of."""
        height = self.grid.shape[axis_along(self.grid, "IS")]
        box = slab(self.grid, heights or slice(0, height))
        found = {r: np.ascontiguousarray(m[box]) for r, m in self.truth.items()}
        return prepare_case(found, self.grid.spacing_mm, ANYMRI), box


def parsed(subset: str, task: Task) -> Subset:
    """Return a subset from its names with a plus between them.

    Raises:
        UsageError: If the task has no such modality.
    """
    return task.modalities.subset(subset.split("+"))


def read_patient(study: Study, task: Task, number: int, *, turn: str | None = None) -> Patient:
    """Return a case; where one image is disturbed it is ``turn``, or follows from the place of the case among all, ``number``."""
    prepared = prepare_study(study, task)
    assert prepared.truth is not None
    names, bits = prepared.case.modalities, prepared.truth.array
    truth = {r: (bits >> i & 1).astype(bool) for i, r in enumerate(task.region_names) if r in prepared.case.known_regions}
    images = read_images({n: study.images[n] for n in names})
    return Patient(study, images, truth, prepared.truth.grid, turn or names[number % len(names)])


def disturbed(patient: Patient, disturbance: Disturbance, seed: int) -> Disturbed:
    """Return the images of a patient after a disturbance."""
    images: Images = {n: v for n, v in patient.images.items() if n == patient.turn or not disturbance.single}
    if not images:
        return Disturbed(patient.images)
    found = disturbance.apply(images, generator(seed, patient.study.name, disturbance.name))
    return replace(found, images={**patient.images, **found.images})


def kept_subsets(patient: Patient, disturbance: Disturbance, subsets: Sequence[Subset]) -> list[Subset]:
    """Return the subsets that the patient has and that a disturbance touches."""
    return [
        s
        for s in subsets
        if set(s.names) <= set(patient.images)
        and len(s.names) >= disturbance.least
        and (not disturbance.single or patient.turn in s.names)
    ]


def masks_of(model: Model, patient: Patient, found: Disturbed, subsets: Sequence[Subset]) -> Iterator[Array]:
    """Yield the masks (R, D, H, W) of every subset on the patient's own grid.

    Raises:
        AnymriError: If the images are refused.
    """
    opened = opened_images(Visit(patient.study.name, patient.study.images), found.images, model.method.task)
    keeps = [s.mask for s in subsets]
    grid = Grid(opened.grid.shape, found.back @ opened.grid.affine)
    for logits in region_logits_of(model, opened.image_MDHW, opened.subset.mask, keeps, device=device_named("auto")):
        yield native_masks(logits, grid, patient.grid)


def scored(
    model: Model, patient: Patient, disturbance: Disturbance, origin: Origin, settings: Settings
) -> dict[str, tuple[Score, ...]]:
    """Return the scores of one case under one disturbance by the name of their table: of the parts, too, if there is none.

    Raises:
        AnymriError: If the images are refused.
    """
    task = model.method.task
    subsets = kept_subsets(patient, disturbance, [parsed(s, task) for s in settings.subsets])
    found = disturbed(patient, disturbance, settings.seed)
    parts = {disturbance.name: patient.reference(found.heights)}
    if disturbance is UNDISTURBED:
        parts |= {BESIDE["no_top"]: patient.reference(heights_left(patient.images, "top"))}
        parts |= {BESIDE["no_bottom"]: patient.reference(heights_left(patient.images, "bottom"))}
    rows: dict[str, tuple[Score, ...]] = {name: () for name in parts}
    for subset, masks in zip(subsets, masks_of(model, patient, found, subsets) if subsets else (), strict=True):
        for name, (reference, box) in parts.items():
            within = {r: np.ascontiguousarray(m[box]) for r, m in zip(task.region_names, masks, strict=True)}
            rows[name] += tabulated(origin, str(subset), score_case(within, reference))
    return rows


def measure(models: Mapping[str, Model], cohort: Cohort, settings: Settings, chosen: Sequence[Disturbance], *, out: Path) -> None:
    """Score every case, by its model, under every disturbance that lies not there yet, one file each."""
    numbers = {s.name: i for i, s in enumerate(cohort.studies)}
    for done, (name, model) in enumerate(models.items(), start=1):
        seed, run = model.header.training.seed, model.sha256[:12]
        started, folder = time.perf_counter(), out / "cases" / name
        make_folder(folder)
        todo = [d for d in chosen if not (folder / f"{d.name}.csv").is_file()]
        number = numbers[name]
        patient = read_patient(cohort.studies[number], model.method.task, number, turn=settings.turn) if todo else None
        for disturbance in todo:
            assert patient is not None
            origin = Origin(model.header.method, settings.cohort, name, seed, run, ANYMRI.name)
            refusal = folder / f"{disturbance.name}.txt"
            try:
                tables = scored(model, patient, disturbance, origin, settings)
                refusal.unlink(missing_ok=True)
            except AnymriError as error:
                if disturbance is UNDISTURBED:
                    raise
                tables = {disturbance.name: ()}
                write_text(refusal, f"{error}\n")
            for table, rows in reversed(tables.items()):  # The one that is looked for last.
                write_scores(folder / f"{table}.csv", ScoreTable(rows))
        print(f"{done}/{len(models)} {name}: {len(todo)} in {time.perf_counter() - started:.0f} s", flush=True)


def collected(cases: Sequence[str], names: Sequence[str], out: Path) -> dict[str, ScoreTable]:
    """Join the scores of all cases to one table per name, and write it whole, and Dice alone."""
    make_folder(out / "dice")
    found: dict[str, ScoreTable] = {}
    for name in names:
        found[name] = joined(read_scores(out / "cases" / case / f"{name}.csv") for case in cases)
        write_scores(out / f"{name}.csv", found[name])
        dice = (replace(row, value=round(row.value, 5)) for row in found[name] if row.metric == DICE)
        write_scores(out / "dice" / f"{name}.csv", ScoreTable(tuple(dice)))
    return found


def subset_table(tables: dict[str, ScoreTable], chosen: Sequence[Disturbance], subset: str, regions: Sequence[str]) -> TextTable:
    """Return one row per disturbance: cases, and per region mean Dice and its paired difference to the undisturbed images."""
    rows: list[tuple[str, ...]] = []
    for disturbance in chosen:
        own = selected(tables[disturbance.name], lambda row: row.subset == subset)
        if not own.rows:
            continue
        beside = selected(tables[BESIDE.get(disturbance.name, UNDISTURBED.name)], lambda row: row.subset == subset)
        found = {d.region: d.estimate for d in differences(own, beside, DICE)}
        cells = [disturbance.title, str(len({row.case for row in own}))]
        for region in regions:
            values = [row.value for row in own if row.region == region and row.metric == DICE]
            cells += [
                f"{100 * float(np.mean(values)):.1f}" if values else "–",
                "" if disturbance is UNDISTURBED else _shown(found[region]),
            ]
        rows.append(tuple(cells))
    header = ("", "cases", *(cell for r in regions for cell in (r, "difference")))
    return TextTable(subset, header, tuple(rows))


def _shown(estimate: Estimate) -> str:
    value, low, high = (f"{100 * v:+.1f}".replace("-", "−") for v in (estimate.value, estimate.low, estimate.high))
    return value if np.isnan(estimate.low) else f"{value} [{low}, {high}]"


def _left(table: ScoreTable, subsets: Sequence[str], regions: Sequence[str]) -> list[tuple[str, str]]:
    """Return mean Dice per region of each subset, of what is left of undisturbed images."""
    found = []
    for subset in subsets:
        rows = [row for row in table if row.subset == subset and row.metric == DICE]
        means = [[row.value for row in rows if row.region == region] for region in regions]
        found.append((subset, " / ".join(f"{100 * float(np.mean(m)):.1f}" if m else "–" for m in means)))
    return found


def summary(
    settings: Settings, cases: Sequence[str], chosen: Sequence[Disturbance], regions: Sequence[str], *, out: Path
) -> tuple[list[TextTable], list[str]]:
    """Return a table per subset and what must be known to read them; written to summary.md as well."""
    tables = collected(cases, [d.name for d in chosen] + list(BESIDE.values()), out)
    shown = [subset_table(tables, chosen, s, regions) for s in settings.subsets]
    weights = ", ".join(f"{name} ({sha256[:12]})" for name, sha256 in settings.weights)
    notes = [
        f"{weights}, {len(cases)} cases of {settings.cohort}, seed {settings.seed}",
        "Dice in percent, protocol anymri; difference to the undisturbed images of the same cases, with a bootstrap 95 % interval",
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}",
    ]
    if settings.turn:
        notes.append(f"what happens to one image happens to {settings.turn}")
    for disturbance in chosen:
        if (beside := BESIDE.get(disturbance.name)) is not None:
            notes.append(
                f"{disturbance.title}: what is left is scored, and the difference is to the undisturbed images scored there"
            )
            notes += [
                f"… {title}: Dice of these {' / '.join(regions)} {means}"
                for title, means in _left(tables[beside], settings.subsets, regions)
            ]
        refused = [p for n in cases if (p := out / "cases" / n / f"{disturbance.name}.txt").is_file()]
        if refused:
            notes.append(
                f"{disturbance.title}: {len(refused)} cases refused, the first: {refused[0].read_text(encoding='utf-8').strip()}"
            )
    write_text(out / "summary.md", "\n".join([*(markdown(t) for t in shown), *(f"* {n}" for n in notes)]) + "\n")
    return shown, notes


def chosen_cases(cohort: Cohort, models: Sequence[Model], given: argparse.Namespace) -> dict[str, Model]:
    """Return the cases to score, each with the first of the models that was not trained on it.

    Raises:
        UsageError: If one is not there or has no reference, or there is none.
    """
    able = [s.name for s in cohort.studies if s.labels is not None]
    unseen = {n: next((m for m in models if n not in m.header.training.cases), None) for n in able}
    if given.cases:
        names = tuple(given.cases)
    elif given.fold is not None:
        split = read_split(given.splits) if given.splits else cohort.split
        if split is None:
            raise UsageError("--fold: no folds came with these studies; name a splits.json with --splits")
        names = split.test(given.fold)
    else:
        names = tuple(n for n in able if unseen[n] is not None)
    lacking = [n for n in names if n not in able]
    if lacking:
        raise UsageError(f"{given.studies}: has no case {lacking[0]} with a reference; it has {len(able)}")
    if not names:
        raise UsageError(f"{given.studies}: all cases were in the training of these weights; name some with --cases")
    if seen := [n for n in names if unseen[n] is None]:
        print(f"note: {len(seen)} of these {len(names)} cases were in the training of these weights", file=sys.stderr)
    return {n: unseen[n] or models[0] for n in names}


def check_same(settings: Settings, out: Path) -> None:
    """Make sure that what lies in the folder was measured alike.

    Raises:
        UsageError: If it was not.
    """
    path, content = out / "settings.json", json.loads(json.dumps(asdict(settings)))
    if path.is_file():
        before = parsed_json(path)
        if unlike := [k for k in content if before.get(k) != content[k]]:
            raise UsageError(f"{out}: holds a measurement with other {', '.join(unlike)}; choose another folder")
    make_folder(out)
    write_json(path, content)


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path)
    parser.add_argument(
        "--weights", nargs="+", default=[None], help="Names, files or run folders; the default weights if not given."
    )
    parser.add_argument("--layout", default=AUTO)
    parser.add_argument("--scheme", help="Label scheme of the references, if not what the layout says.")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--fold", type=int)
    parser.add_argument("--splits", type=Path, help="The splits.json that --fold means, if the studies bring none.")
    parser.add_argument("--subsets", nargs="+", default=list(SUBSETS))
    parser.add_argument("--only", nargs="+", choices=[d.name for d in DISTURBANCES], help="Disturbances; all if none are given.")
    parser.add_argument("--turn", metavar="MODALITY", help="The image that is disturbed where one is; each in turn if not given.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and print a table per subset."""
    given = options().parse_args(words)
    keep_memory()
    try:
        models = [load_model(name) for name in given.weights]
        task = models[0].method.task
        cohort = find_cohort(given.studies, task, layout=given.layout, scheme=given.scheme)
        subsets = tuple(str(parsed(s, task)) for s in given.subsets)
        chosen = [d for d in DISTURBANCES if d is UNDISTURBED or not given.only or d.name in given.only]
        cases = chosen_cases(cohort, models, given)
        turn = None if given.turn is None else task.modalities[given.turn].name
        settings = Settings(tuple((m.header.name, m.sha256) for m in models), cohort.name, subsets, given.seed, turn)
        check_same(settings, given.out)
        measure(cases, cohort, settings, chosen, out=given.out)
        tables, notes = summary(settings, tuple(cases), chosen, task.region_names, out=given.out)
    except AnymriError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print("\n".join(plain(t) for t in tables))
    print("\n".join(notes))


if __name__ == "__main__":
    main()
