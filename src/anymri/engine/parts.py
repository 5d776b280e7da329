"""Which cases of a cohort serve what in a training."""

from __future__ import annotations

from collections.abc import Collection

from anymri.domain.case import Split
from anymri.engine.run import Parts, Run
from anymri.errors import UsageError


def parts_of(run: Run, split: Split) -> Parts:
    """Return which case serves what: as the run itself lists them, else by its fold.

    Without a list, validation cases are spread evenly over the complete training cases.

    Raises:
        UsageError: If a listed case is not there, the fold does not exist or too few cases are left.
    """
    if run.cases is not None:
        if missing := missing_cases(run, split):
            raise UsageError(
                f"{len(missing)} of {len(run.cases.all)} cases that this run lists are not among the prepared ones with a "
                f"reference: {', '.join(missing)}; prepare them, or take them out"
            )
        if not run.cases.train:
            raise UsageError("this run lists no case to train on; prepare cases of its split")
        return run.cases
    test = split.test(run.fold) if run.fold is not None else ()
    names = split.train(run.fold) if run.fold is not None else tuple(n for f in split.folds for n in f) + split.train_only
    whole = [n for n in names if n not in set(split.train_only)]
    if run.validation and len(whole) <= run.validation:
        raise UsageError(
            f"{len(whole)} complete training cases are too few to take {run.validation} out for validation; lower --set validation"
        )
    if not names:
        raise UsageError("no case is left to train on; choose another fold, or prepare more cases")
    step = len(whole) // run.validation if run.validation else 1
    validation = tuple(whole[step // 2 :: step][: run.validation]) if run.validation else ()
    return Parts(train=tuple(n for n in names if n not in validation), validation=validation, test=test)


def missing_cases(run: Run, split: Split) -> tuple[str, ...]:
    """Return the cases that the run lists and the cohort does not have, in the run's order."""
    there = {n for names in (*split.folds, split.train_only) for n in names}
    return tuple(n for n in run.cases.all if n not in there) if run.cases is not None else ()


def left_out_by(trained: Collection[str], fold: int | None, split: Split) -> int | None:
    """Return the fold of a cohort that weights left out of their training; None if they were not trained on this cohort.

    Cohorts are often called alike. It is the same one if it has every case that they were trained on, and they were trained on
    every other fold of it.

    Args:
        trained: Names of those cases.
        fold: The one that they left out of theirs, if any.
        split: Folds of the cohort.
    """
    if not trained or fold is None or fold >= len(split.folds):
        return None
    there = {n for names in (*split.folds, split.train_only) for n in names}
    others = {n for k, names in enumerate(split.folds) if k != fold for n in names}
    return fold if others.issubset(trained) and there.issuperset(trained) else None


def without_missing(parts: Parts, missing: Collection[str]) -> Parts:
    """Return the parts with what is missing taken out."""
    return Parts(**{part: tuple(n for n in names if n not in missing) for part, names in parts.model_dump().items()})
