"""Lists of cases by which the field trains and tests on BraTS, as data: identifiers alone, no image."""

from __future__ import annotations

import json
from pathlib import Path

from anymri.engine.run import Parts
from anymri.errors import UsageError

FOLDER = Path(__file__).parent


def split_lists(cohort: str, number: int = 1) -> Parts:
    """Return which cases of a BraTS edition are for training, validation and test.

    BraTS 2018 has three such splits (199, 29 and 57 cases), whose test parts overlap by 14, 9 and 14 cases; 2020 (219, 50, 100)
    and 2021 (876, 125, 250) have one. Each file says where its lists are from: those of 2018 from U-HVED (2019), those of the later
    editions from M2FTrans, whoever drew them. Lists of 2020 mark the grade before each name (HG_, LG_) there; here they do not.

    Args:
        cohort: "brats2018", "brats2020" or "brats2021".
        number: Which split of it, from 1.

    Raises:
        UsageError: If there is no such split.
    """
    known = sorted(p.stem for p in FOLDER.glob("*.json"))
    if cohort not in known:
        raise UsageError(f"no split lists for '{cohort}'; expected one of {', '.join(known)}")
    splits = json.loads((FOLDER / f"{cohort}.json").read_text(encoding="utf-8"))["splits"]
    if not 1 <= number <= len(splits):
        raise UsageError(f"{cohort} has no split {number}; expected 1 to {len(splits)}")
    return Parts.model_validate(splits[number - 1])
