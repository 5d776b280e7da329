from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anymri.domain.task import GLIOMA
from anymri.errors import WeightsError
from anymri.trust.record import beside, read_trust, write_trust

from .made import OWN, made_record

WEIGHTS = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_trust(tmp_path / "w.trust.json", made_record(GLIOMA, WEIGHTS))
    return tmp_path / "w.trust.json"


def test_what_is_written_is_read(file: Path) -> None:
    trust = read_trust(file, weights=WEIGHTS)
    assert trust.record == made_record(GLIOMA, WEIGHTS)
    assert trust.record.regions["TC"].belief.calibration.of("T1") == OWN
    assert read_trust(file, weights=WEIGHTS, sha256=trust.sha256) == trust


def test_it_lies_beside_its_weights() -> None:
    assert beside(Path("a/ccsd-small.safetensors")) == Path("a/ccsd-small.trust.json")
    assert beside(Path("run/weights.safetensors")) == Path("run/weights.trust.json")


def _changed(change: Callable[[Any], Any]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return changed


DAMAGE = {
    "cut": (lambda text: text[:100], "damaged"),
    "no object": (lambda text: "[]", "damaged"),
    "of an earlier version": (_changed(lambda c: c.update(format="anymri-trust/3")), "expected anymri-trust/4"),
    "of a later version": (_changed(lambda c: c.update(format="anymri-trust/5")), "expected anymri-trust/4"),
    "of no known task": (_changed(lambda c: c.update(task="lumbago")), "lumbago"),
    "without a region": (_changed(lambda c: c["regions"].pop("TC")), "tells of WT, ET, expected WT, TC, ET"),
    "in another order": (_changed(lambda c: c.update(regions=dict(reversed(c["regions"].items())))), "expected WT, TC, ET"),
    "a negative temperature": (
        _changed(lambda c: c["regions"]["WT"]["belief"]["calibration"]["subsets"]["T1"].update(temperature=-1.0)),
        "temperature",
    ),
    "no number": (_changed(lambda c: c["regions"]["WT"]["belief"]["expectation"].update(slope=float("nan"))), "slope"),
    "without residuals": (_changed(lambda c: c["regions"]["WT"]["belief"]["expectation"].pop("residuals")), "residuals"),
    "residuals upside down": (
        _changed(lambda c: c["regions"]["WT"]["belief"]["expectation"]["residuals"].reverse()),
        "must not fall",
    ),
    "of no case": (_changed(lambda c: c.update(cases=0)), "cases"),
    "a subset spelt otherwise": (
        _changed(lambda c: c["regions"]["WT"]["belief"]["calibration"]["subsets"].update({"T1+FLAIR": {}})),
        "tells of 'T1+FLAIR', which task glioma has not",
    ),
    "a modality of another task": (
        _changed(lambda c: c["regions"]["ET"]["belief"]["expectation"]["modalities"].update(DWI=1.0)),
        "'DWI'",
    ),
    "a gain by another task's": (
        _changed(
            lambda c: next(iter(c["regions"]["TC"]["belief"]["gains"].values())).update(
                DWI=dict(mean=0, low=0, high=0, error=0, best=0)
            )
        ),
        "'DWI'",
    ),
    "something more": (_changed(lambda c: c.update(colour="red")), "colour"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_refused_in_one_line(file: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    file.write_text(damage(file.read_text()))
    with pytest.raises(WeightsError) as refused:
        read_trust(file, weights=WEIGHTS)
    assert words in str(refused.value) and str(file) in str(refused.value) and "\n" not in str(refused.value)


def test_what_belongs_to_other_weights_is_refused(file: Path) -> None:
    with pytest.raises(WeightsError, match="belongs to other weights"):
        read_trust(file, weights="cd" * 32)


def test_what_is_not_as_the_manifest_says_is_refused(file: Path) -> None:
    with pytest.raises(WeightsError, match="SHA-256 is .*, expected 0000"):
        read_trust(file, weights=WEIGHTS, sha256="0" * 64)


def test_what_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_trust(tmp_path / "nothing.trust.json", weights=WEIGHTS)
