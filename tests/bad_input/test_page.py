"""The page lists the kinds of bad input with their numbers, as the corpus has them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from .corpus import ENTRIES
from .entry import Harmless, Refused, Unread
from .test_corpus import parameters

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
LEAST = 200


def counted() -> dict[str, tuple[int, int, int]]:
    """Return for each kind how many entries a command refuses, how many a reader refuses, and how many change nothing."""
    counts = Counter((entry.kind, type(entry)) for entry in ENTRIES)
    kinds = dict.fromkeys(entry.kind for entry in ENTRIES)
    return {kind: (counts[kind, Refused], counts[kind, Unread], counts[kind, Harmless]) for kind in kinds}


def test_the_page_counts_what_the_corpus_holds() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) \| (\d+) \| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = {kind: (int(a), int(b), int(c)) for kind, a, b, c in rows}
    expected = counted()
    total = tuple(sum(column) for column in zip(*expected.values(), strict=True))
    assert found == expected | {"together": total}, f"expected the rows {expected} and together {total}"


def test_there_are_enough_and_no_name_twice() -> None:
    names = Counter((entry.kind, entry.name) for entry in ENTRIES)
    assert [name for name, count in names.items() if count > 1] == []
    always = [p for p in parameters(Refused) if not p.marks]
    assert len(always) >= LEAST
