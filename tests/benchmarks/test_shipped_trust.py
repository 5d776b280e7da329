"""What the documents say of trust is what the trust files say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from anymri.trust.record import read_trust

from ..material import benchmark

ROOT = Path(__file__).parents[2]
benchmark("shipped_scores")
script = benchmark("shipped_trust")


@pytest.mark.parametrize("name", script.NAMES)
def test_documents_hold_every_table_as_it_is_printed(name: str) -> None:
    printed = script.tables(name)
    texts = {
        "measurements": (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8"),
        "card": (script.WEIGHTS / f"{name}.md").read_text(encoding="utf-8"),
    }
    where = {heading: "card" if heading.startswith("card") else "measurements" for heading in printed}
    assert len(printed) == 7 and [heading for heading, table in printed.items() if table not in texts[where[heading]]] == []


@pytest.mark.parametrize("name", script.HELD)
def test_what_held_on_others_is_as_it_is_stored(name: str) -> None:
    assert script.held(name) in (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    stored = script.STORED / f"{name.partition('_on_')[0]}.trust.json"
    check = json.loads((script.STORED / f"{name}.check.json").read_text(encoding="utf-8"))
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == check["trust"]
    trust = read_trust(stored, weights=None).record
    assert set(check["weights"]).isdisjoint(trust.measured) and check["cases"] + trust.cases == 85


def test_a_warning_is_right_or_in_vain() -> None:
    for name in script.NAMES:
        for row in script.tables(name)["card, warnings"].splitlines()[2:]:
            poor, warned, silent, vain = (int(cell) for cell in row.strip("| ").split(" | ")[1:])
            assert warned + silent == poor and vain >= 0
