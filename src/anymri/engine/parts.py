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
        return _listed(run.cases, split)
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


def without_missing(parts: Parts, there: Collection[str]) -> Parts:
    """Return the parts with what is not there taken out."""
    return Parts(**{part: tuple(n for n in names if n in there) for part, names in parts.model_dump().items()})


def _listed(parts: Parts, split: Split) -> Parts:
    there = {n for names in (*split.folds, split.train_only) for n in names}
    listed = [n for names in parts.model_dump().values() for n in names]
    missing = [n for n in listed if n not in there]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(listed)} cases that this run lists are not among the prepared ones with a "
            f"reference: {', '.join(missing)}; prepare them, or add --allow-missing to go on without them"
        )
    if not parts.train:
        raise UsageError("this run lists no case to train on; prepare cases of its split")
    return parts
