"""The trust file: what is to be believed of some weights, how far it held, and which weights it belongs to. JSON, nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anymri.domain.modality import ModalitySet, subsets
from anymri.domain.task import task_named
from anymri.engine.run import first_fault
from anymri.errors import AnymriError, WeightsError
from anymri.trust.checks import Checks
from anymri.trust.fitting import Belief, EmptyMasks
from anymri.volumes.store import parsed_json
from anymri.volumes.writing import write_text

FORMAT = "anymri-trust/4"  # 1 had one calibration for all subsets, 2 no chance of a poor outline, 3 no share of best gains.
CHECK_FORMAT = "anymri-trust-check/2"
_ENDING = ".trust.json"
_DIGITS = 5


class Measured(BaseModel):
    """One region: what is to be believed, and how far it held on cases that it was not fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    belief: Belief
    checks: Checks


class TrustRecord(BaseModel):
    """What a trust file says.

    Attributes:
        format: Version of this layout.
        task: Name of the task.
        method: Name of the method.
        weights: SHA-256 of every weights file that it belongs to.
        measured: SHA-256 of those that said something of a case here.
        cohort: Name of the cohort.
        cases: How many cases it rests on; none was in the training of the weights that were asked about it.
        level: Share of patients whose Dice, or gain, is to lie in a range.
        regions: Region → what was measured, outermost first.
        version: Of anymri.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: str = FORMAT
    task: str
    method: str
    weights: tuple[str, ...]
    measured: tuple[str, ...]
    cohort: str
    cases: int = Field(gt=0)
    level: float = Field(gt=0, lt=1)
    regions: dict[str, Measured]
    version: str


class Held(BaseModel):
    """One region: how far a trust file held on cases that it does not rest on, and the empty masks among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checks: Checks
    empty: EmptyMasks


class TrustCheck(BaseModel):
    """How far a trust file held on other cases than it rests on.

    Attributes:
        format: Version of this layout.
        trust: SHA-256 of the trust file.
        weights: SHA-256 of those that said something of a case here.
        cohort: Name of the cohort.
        cases: How many cases were asked about.
        level: Share of patients whose Dice, or gain, is to lie in a range.
        regions: Region → what was found, outermost first.
        version: Of anymri.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: str = CHECK_FORMAT
    trust: str
    weights: tuple[str, ...]
    cohort: str
    cases: int
    level: float
    regions: dict[str, Held]
    version: str


@dataclass(frozen=True)
class Trust:
    """A trust file that was read, and found to belong to the weights.

    Attributes:
        record: What it says.
        sha256: Of the file.
    """

    record: TrustRecord
    sha256: str


def beside(weights: Path) -> Path:
    """Return where the trust file of a weights file lies: beside it, with the ending .trust.json."""
    return weights.with_name(weights.name.removesuffix(".safetensors") + _ENDING)


def copy_weights(weights: Path, to: Path) -> None:
    """Copy a weights file, and the trust file beside it if there is one."""
    shutil.copyfile(weights, to)
    if beside(weights).is_file():
        shutil.copyfile(beside(weights), beside(to))


def write_trust(path: Path, record: TrustRecord | TrustCheck) -> None:
    """Write a trust file, or what came of one, whole or not at all; numbers have five significant digits.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, json.dumps(_rounded(record.model_dump(mode="json")), indent=1, ensure_ascii=False) + "\n")


def read_trust(path: Path, *, weights: str | None, sha256: str | None = None) -> Trust:
    """Return what a trust file says of some weights.

    Args:
        path: The file.
        weights: SHA-256 of the weights; it must be one of those that the file belongs to. None if it need not.
        sha256: What the file must hash to, if that is known.

    Raises:
        WeightsError: If it is missing, damaged or changed, or belongs to other weights.
    """
    advice = "measure it again with 'anymri calibrate', or remove it"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        content = parsed_json(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); expected a trust file; {advice}") from error
    except ValueError as error:
        raise WeightsError(f"{path}: damaged ({error}); expected a trust file; {advice}") from None
    if sha256 is not None and found != sha256:
        raise WeightsError(f"{path}: SHA-256 is {found}, expected {sha256}; it was changed or damaged: install it again")
    if content.get("format") != FORMAT:
        raise WeightsError(f"{path}: format '{content.get('format')}', expected {FORMAT}; {advice}")
    try:
        record = TrustRecord.model_validate(content)
        task = task_named(record.task)
    except ValidationError as error:
        raise WeightsError(f"{path}: damaged ({first_fault(error)}); expected a trust file; {advice}") from None
    except AnymriError as error:
        raise WeightsError(f"{path}: does not fit this version of anymri ({error}); {advice}") from None
    if tuple(record.regions) != task.region_names:
        told, regions = ", ".join(record.regions) or "no region", ", ".join(task.region_names)
        raise WeightsError(f"{path}: tells of {told}, expected {regions}; {advice}")
    if strange := _strange(record, task.modalities):
        raise WeightsError(f"{path}: tells of '{strange}', which task {task.name} has not; {advice}")
    if weights is not None and weights not in record.weights:
        raise WeightsError(f"{path}: belongs to other weights than those of SHA-256 {weights or '(none)'}; {advice}")
    return Trust(record, found)


def _strange(record: TrustRecord, modalities: ModalitySet) -> str | None:
    """Return a subset or modality that the task has not, spelt as it has them; what is spelt otherwise would be passed over."""
    known = {*map(str, subsets(modalities))}  # A modality alone is a subset.
    for belief in (region.belief for region in record.regions.values()):
        added = belief.expectation.modalities if belief.expectation else {}
        named = (*belief.calibration.subsets, *belief.gains, *added, *(name for gains in belief.gains.values() for name in gains))
        if found := next((name for name in named if name not in known), None):
            return found
    return None


def _rounded(content: Any) -> Any:
    if isinstance(content, float):
        return float(f"{content:.{_DIGITS}g}")
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    return [_rounded(value) for value in content] if isinstance(content, list) else content
